"""What passes cost, so that what cannot be afforded is left out before it is begun."""

from collections.abc import Callable
from typing import Any


def block_weights(model: Any, start: int = 0) -> int:
    """Weights of the blocks from ``start`` on, each of which costs two operations per token; of the whole model where it has no list of blocks."""
    blocks = getattr(model, "blocks", None)
    if blocks is None:
        return sum(p.numel() for name, p in model.named_parameters() if "W_E" not in name)
    return sum(p.numel() for block in list(blocks)[start:] for p in block.parameters())


def vocabulary_weights(model: Any) -> int:
    """Weights of the unembedding, each of which costs two operations per position whose logits are made."""
    return int(getattr(model.cfg, "d_vocab", 0) or 0) * int(getattr(model.cfg, "d_model", 0) or 0)


def whole_steps(advance: Callable[[int], None], parts: int) -> Callable[[int], None]:
    """A report of small parts as one of whole steps, of ``parts`` parts each."""
    done = 0

    def report(count: int) -> None:
        nonlocal done
        before, done = done // parts, done + count
        if steps := done // parts - before:
            advance(steps)

    return report
