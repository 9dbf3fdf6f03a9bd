"""How many values the statistics take, said before any work starts."""

from mechfourier.errors import OutOfRange
from mechfourier.models.memory import need_memory

MOST_VALUES = 2000
BYTES = 8_000, 400
"""Of memory, per pair of values, and per pair and template (measured at 250, 400 and 1,000 values in 8 templates)."""


def check_size(what: str, n: int, templates: int) -> None:
    """Raise ``OutOfRange`` for more values than are tested, ``MechFourierError`` where their statistics do not fit into memory."""
    if n > MOST_VALUES:
        raise OutOfRange(
            f"{what} has {n:,} values, and at most {MOST_VALUES:,} are tested; take some of them"
        )
    need_memory(
        f"the statistics of {n:,} values in {templates} templates",
        n * n * (BYTES[0] + BYTES[1] * templates),
        "take a domain of fewer values",
    )
