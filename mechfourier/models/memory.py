"""How much memory can still be had, and a sentence where that will not do. No torch: it is asked before
anything is loaded."""

import contextlib
import os
from pathlib import Path

from mechfourier.errors import MechFourierError

WORKING_ROOM = 256 * 2**20  # libraries, the tokenizer, a batch of activations
CGROUP = Path("/sys/fs/cgroup")
NO_LIMIT = 2**60  # version 1 of cgroups writes "no limit" as a number of this size


def available_memory(meminfo: Path = Path("/proc/meminfo"), cgroup: Path = CGROUP) -> int | None:
    """Bytes that this process can still use: free, reclaimable and swap, within the limit of its container.
    None where the system does not say."""
    found = [value for value in (_of_machine(meminfo), _of_container(cgroup)) if value is not None]
    return min(found, default=None)


def _of_machine(meminfo: Path) -> int | None:
    with contextlib.suppress(OSError, ValueError, LookupError):
        lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines() if ":" in line)
        return sum(int(lines[key].split()[0]) * 1024 for key in ("MemAvailable", "SwapFree"))
    with contextlib.suppress(OSError, ValueError, AttributeError):
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        return free if free > 0 else None
    return None


def _of_container(root: Path) -> int | None:
    """What a container's limit leaves (version 2 of cgroups, then version 1); cached files in it can be
    dropped."""
    for limit, used, stat in (
        ("memory.max", "memory.current", "memory.stat"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat"),
    ):
        with contextlib.suppress(OSError, ValueError):
            most, now = int((root / limit).read_text()), int((root / used).read_text())
            if most >= NO_LIMIT:
                return None
            return max(0, most - now + _reclaimable(root / stat))
    return None


def _reclaimable(stat: Path) -> int:
    with contextlib.suppress(OSError, ValueError):
        for line in stat.read_text().splitlines():
            name, _, value = line.partition(" ")
            if name in ("inactive_file", "total_inactive_file"):
                return int(value)
    return 0


def need_memory(what: str, needed: int, advice: str) -> None:
    """Raise ``MechFourierError`` where ``needed`` bytes (the working room included) are more than can be
    had."""
    available = available_memory()
    if available is not None and needed > available:
        raise MechFourierError(
            f"{what} needs {gigabytes(needed)} of memory and {gigabytes(available)} are available; {advice}"
        )


def gigabytes(size: int) -> str:
    """Bytes for people: ``1.1 GB``, ``870 MB``, ``12 kB``."""
    for unit, letter in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if size >= 0.95 * unit:
            return f"{size / unit:.{1 if unit == 1e9 else 0}f} {letter}"
    return f"{size} bytes"
