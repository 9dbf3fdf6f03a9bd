"""What the measurements of real models share: seconds, and numbers as cells of a table."""

import time
from collections.abc import Callable
from typing import Any

Data = dict[str, Any]


def timed(work: Callable[[], Any]) -> tuple[Any, Data]:
    """What ``work`` gives, and its seconds: by the clock and of the processor."""
    clock, cpu = time.monotonic(), time.process_time()
    value = work()
    return value, {"wall_s": round(time.monotonic() - clock, 1), "cpu_s": round(time.process_time() - cpu, 1)}


def percent(value: float | None, low: float | None, high: float | None) -> str:
    if value is None or low is None or high is None:
        return "–"
    return f"{value:.1%} [{100 * low:.1f}, {100 * high:.1f}]"


def p_value(value: float | None) -> str:
    return "–" if value is None else f"{value:.2g}"
