"""The numbers in a configuration that count something: at least one of each, and not so many layers that
listing them never ends."""

from typing import Any

from mechfourier.errors import OutOfRange

MOST_LAYERS = 1000  # the names of all layers' tensors are listed before a file of weights is looked at


def check_sizes(config: Any, *names: str) -> None:
    """Raise ``OutOfRange`` where a field of ``config`` is below 1 or, for a number of layers, above
    ``MOST_LAYERS``."""
    for name in names:
        value = getattr(config, name)
        if value < 1:
            raise OutOfRange(f"{name} = {value}; it must be at least 1")
        if name.endswith("layers") and value > MOST_LAYERS:
            raise OutOfRange(f"{name} = {value}; it may be at most {MOST_LAYERS}")
