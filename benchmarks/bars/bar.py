"""A bar, and how the figures that are compared with it are told."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Data = dict[str, Any]
Figure = tuple[float, str]  # what is compared with the bar, and how it is told


@dataclass(frozen=True)
class Bar:
    """``figure(data)`` of ``results/FILE.json`` must be at least (``>=``) or at most (``<=``) ``limit``."""

    part: str
    what: str
    file: str
    limit: float
    sense: str
    held_to: str
    figure: Callable[[Data], Figure]

    def met(self, data: Data) -> bool:
        value = self.figure(data)[0]
        return value >= self.limit if self.sense == ">=" else value <= self.limit


def as_times(value: float) -> Figure:
    return value, f"{value:,.0f} times" if value >= 1000 else f"{value:.3g} times"


def as_mib(value: float) -> Figure:
    return value, f"{value:.0f} MiB"


def as_share(value: float) -> Figure:
    return value, f"{100 * value:.4g} %"


def as_seconds(processor: float, clock: float | None = None) -> Figure:
    told = f"{processor:.3g} s of processor time"
    return processor, told if clock is None else f"{told} ({clock:.3g} s by the clock)"


def as_clock(value: float) -> Figure:
    return value, f"{value:.3g} s by the clock"
