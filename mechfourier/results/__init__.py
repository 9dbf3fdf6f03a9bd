"""Results: what every one of them can do, and where it came from."""
