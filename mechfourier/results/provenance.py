"""Where a result comes from: the command, the versions, the machine, how long it took. Saved beside every
result."""

import importlib.metadata
import os
import platform
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mechfourier._version import __version__

PACKAGES = ("torch", "transformer-lens", "numpy", "scipy")
NOT_CHECKED = "not checked against Hugging Face"
_START = time.monotonic()
_COMMAND: list[str] = []
_WEIGHTS: dict[str, str | None] = {}


def remember_command(arguments: Sequence[str]) -> None:
    """Note the arguments of the command line that is being run (the entry point does)."""
    _COMMAND[:] = ["mechfourier", *arguments]


def remember_weights(model: str, weights: str | None) -> None:
    """Note what the weights of a model that was loaded are ("Q4_K_M, dequantised to float32"; None: as
    published)."""
    _WEIGHTS[model] = weights


def weights_of_name(model: object) -> str | None:
    """What was noted of the model of that name: every result that names the model says it."""
    return _WEIGHTS.get(model) if isinstance(model, str) else None


def weights_loaded() -> dict[str, str]:
    """The models of this process whose weights are not as published, and what theirs are."""
    return {model: weights for model, weights in _WEIGHTS.items() if weights}


def provenance() -> dict[str, Any]:
    """Plain values: ``command`` (None where the library was called from Python), ``versions``, ``machine``,
    ``seconds`` since the start of the process, ``finished`` (UTC). It names no user, host or folder but what
    the command itself names."""
    return {**_origin(), "seconds": round(time.monotonic() - _START, 1), "finished": _now()}


def provenance_of_start() -> dict[str, Any]:
    """As ``provenance`` for what has only begun: ``started`` (UTC) in place of the seconds and the end."""
    return {**_origin(), "started": _now()}


def _origin() -> dict[str, Any]:
    command = shlex.join(_COMMAND) if _COMMAND else None
    return {"command": command, "versions": versions(), "machine": machine()}


def _now() -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())


def versions() -> dict[str, str]:
    """The versions of mechfourier, Python and what results depend on."""
    found = {"mechfourier": __version__, "python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def machine() -> dict[str, str]:
    """Operating system, processor, cores, memory, and the GPU where torch is loaded and sees one."""
    found = {"system": f"{platform.system()} {platform.machine()}", "processor": _processor()}
    found["cores"] = str(os.cpu_count())
    try:
        size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        found["memory"] = f"{size / 2**30:.0f} GiB"
    except (ValueError, OSError, AttributeError):
        pass  # not every system says
    torch = sys.modules.get("torch")
    if torch is not None:
        found["threads"] = str(torch.get_num_threads())
        if torch.cuda.is_available():
            found["gpu"] = torch.cuda.get_device_name()
    return found


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
