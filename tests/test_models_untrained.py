"""The untrained control in place: chance weights inside the block, the trained ones after it, whatever happens."""
