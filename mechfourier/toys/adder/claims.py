"""The published claims about the adder, measured."""

from collections.abc import Sequence

from mechfourier.reproduce.result import Claim
from mechfourier.reproduce.session import Session
from mechfourier.reproduce.trained import at_least, compare, present, share_right
from mechfourier.stats.intervals import wilson
from mechfourier.toys.adder.accuracy import Share, sweep_accuracy


def adder(session: Session) -> tuple[Claim, ...]:
    """Exact match on the lengths of the training and one digit beyond."""
    source = session.source("adder", "adder")
    present(source)
    per_cell = max(1, session.settings.problems // 25)
    found = sweep_accuracy(
        source, samples=per_cell, max_digits=6, category_samples=1, lengths=(1,), seed=session.settings.seed
    )
    cells = [share for share in found.shares if share.group == "lengths"]
    known = [s for s in cells if max(s.a, s.b) <= found.trained_digits]
    longer = [s for s in cells if max(s.a, s.b) == 6]
    return (
        _summed("problems of the trained lengths, never trained on", known, 0.962, success=True),
        _summed("problems of six digits fail", longer, 0.0, success=False),
    )


def _summed(text: str, cells: Sequence[Share], published: float, *, success: bool) -> Claim:
    if not cells:
        return share_right(
            text, "not measured", "this network has no positions for such problems", published=published
        )
    right, total = sum(s.right for s in cells), sum(s.total for s in cells)
    interval = wilson(right, total)
    word = at_least(interval, published) if success else compare(right / total, interval, published)
    return share_right(
        text,
        word,
        f"{right} of {total} exactly right",
        published=published,
        measured=right / total,
        interval=interval,
    )
