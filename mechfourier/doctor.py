"""What is installed, what is found, and what to do about what is missing: the logic of ``mechfourier
doctor``.

It reads the package's own metadata, so that a requirement has one home (pyproject.toml). Only the device
section imports torch, and a torch that does not import is a finding, not a crash.
"""

import contextlib
import importlib.metadata
import os
import shutil
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packaging.requirements import Requirement

from mechfourier._version import __version__
from mechfourier.models.catalogue import FOLDERS_VARIABLE, KNOWN, ModelInfo
from mechfourier.results.base import Result
from mechfourier.results.provenance import machine

if TYPE_CHECKING:
    import pandas as pd

# What people ask for first; the other requirements are listed only where something is wrong with them.
SHOWN = ("torch", "transformer-lens", "sae-lens", "transformers")
PURPOSES: dict[str, str] = {
    "minilm": "the model minilm (real pretrained weights)",
    "gguf": "GGUF files (quantised weights)",
    "gemma": "Gemma 3 270M (quantised weights, 253 MB)",
    "real": "both real models that the tests run on (745 MB)",
    "ray": "Ray for work on several machines",
    "video": "animate --mp4 and --gif",
    "png": "pictures of figures: gallery, report --style paper",
    "widgets": "live circles in a notebook",
    "serve": "mechfourier serve",
    "docs": "building the documentation",
    "dev": "tests, linting, types",
}
SLOW_BFLOAT16 = 1.2  # relative time from which bfloat16 is called slower


@dataclass(frozen=True)
class Package:
    """A requirement: ``version`` is None where it is not installed, ``fits`` says whether it is in range."""

    name: str
    version: str | None
    wanted: str
    fits: bool


@dataclass(frozen=True)
class Extra:
    """An optional part: ``missing`` are the packages that it lacks, ``command`` installs them."""

    name: str
    purpose: str
    missing: tuple[str, ...]
    command: str


@dataclass(frozen=True)
class Cache:
    """A folder that fills up: bytes in it, bytes free on its disk, and the variable that moves it."""

    name: str
    folder: str
    bytes: int
    free: int
    writable: bool
    variable: str


@dataclass(frozen=True)
class FoundModel:
    """A named model: ``folder`` where its weights are here, else ``todo``, one sentence on how to get
    them."""

    name: str
    folder: str | None
    source: str
    todo: str | None


@dataclass(frozen=True)
class Devices:
    """What computes: ``bfloat16`` is the time of a matrix product in bfloat16 over that in float32 on
    ``default``."""

    default: str
    cuda: tuple[str, ...]
    mps: bool
    threads: int
    bfloat16: float
    hint: str


@dataclass(frozen=True)
class Doctor(Result, kind="doctor"):
    """The whole report. ``problems`` are things that will fail; what is merely absent is in its own list."""

    mechfourier: str
    python: str
    machine: dict[str, str]
    packages: tuple[Package, ...]
    devices: Devices | None
    caches: tuple[Cache, ...]
    models: tuple[FoundModel, ...]
    extras: tuple[Extra, ...]
    chromium: str | None
    problems: tuple[str, ...]

    @property
    def healthy(self) -> bool:
        """Whether nothing was found that will fail."""
        return not self.problems

    def frame(self) -> "pd.DataFrame":
        """One row per package, model and extra: what kind it is, its name, and what was found (None:
        nothing)."""
        import pandas as pd

        rows = [
            *(("package", p.name, p.version) for p in self.packages),
            *(("model", m.name, m.folder) for m in self.models),
            *(("extra", e.name, None if e.missing else "installed") for e in self.extras),
        ]
        return pd.DataFrame(rows, columns=["what", "name", "found"])


def examine() -> Doctor:
    """Look at everything; nothing is downloaded or changed. Takes about as long as importing torch."""
    packages = required_packages()
    devices, trouble = _devices()
    caches, models = found_caches(), found_models()
    return Doctor(
        mechfourier=__version__,
        python=_python(),
        machine=machine(),
        packages=packages,
        devices=devices,
        caches=caches,
        models=models,
        extras=optional_extras(),
        chromium=_chromium(),
        problems=(*_package_problems(packages), *trouble, *_cache_problems(caches), *_model_problems(models)),
    )


def _python() -> str:
    import platform

    return f"{platform.python_implementation()} {platform.python_version()}"


# packages


def requirements(extra: str = "") -> list[Requirement]:
    """What the installed metadata asks for without extras, or what ``extra`` alone adds."""
    wanted = [Requirement(line) for line in importlib.metadata.requires("mechfourier") or ()]
    return [r for r in wanted if _applies(r, extra) and not (extra and _applies(r, ""))]


def _applies(requirement: Requirement, extra: str) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": extra})


def required_packages(wanted: Iterable[Requirement] | None = None) -> tuple[Package, ...]:
    """Every requirement with the version that is installed."""
    return tuple(_package(r) for r in (requirements() if wanted is None else wanted))


def _package(requirement: Requirement) -> Package:
    try:
        version = importlib.metadata.version(requirement.name)
    except importlib.metadata.PackageNotFoundError:
        return Package(requirement.name, None, str(requirement.specifier), False)
    # a build like 2.13.0+cpu, or a release candidate that somebody chose, counts as its version
    fits = requirement.specifier.contains(version, prereleases=True)
    return Package(requirement.name, version, str(requirement.specifier), fits)


def optional_extras() -> tuple[Extra, ...]:
    """The extras of the package, each with what it lacks here."""
    names = importlib.metadata.metadata("mechfourier").get_all("Provides-Extra") or []
    return tuple(_extra(name) for name in sorted(names))


def _extra(name: str) -> Extra:
    own = [r for r in requirements(name) if r.name != "mechfourier"]
    missing = tuple(p.name for p in required_packages(own) if not p.fits)
    return Extra(name, PURPOSES.get(name, ""), missing, f"pip install 'mechfourier[{name}]'")


def _package_problems(packages: Iterable[Package]) -> Iterator[str]:
    for package in packages:
        if not package.fits:
            have = f"is {package.version}" if package.version else "is not installed"
            yield (
                f"{package.name} {have} and mechfourier needs {package.wanted or 'any version'}; "
                f"run: pip install '{package.name}{package.wanted}'"
            )


# devices


def _devices() -> tuple[Devices | None, tuple[str, ...]]:
    try:
        return look_at_devices(), ()
    except Exception as error:  # a broken torch fails in many ways, and each is a finding
        first = (str(error).splitlines() or [type(error).__name__])[0]
        return None, (
            f"torch cannot be used ({first}); install it again: pip install --force-reinstall torch",
        )


def look_at_devices() -> Devices:
    """The devices torch sees, its threads, and what bfloat16 costs here."""
    import torch

    from mechfourier.models.device import resolve_device

    default = resolve_device("auto")
    cuda = tuple(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
    ratio = bfloat16_ratio(default)
    return Devices(
        default=default,
        cuda=cuda,
        mps=torch.backends.mps.is_available(),
        threads=torch.get_num_threads(),
        bfloat16=ratio,
        hint=bfloat16_hint(ratio, default),
    )


def bfloat16_ratio(device: str, *, size: int = 384, repeats: int = 5) -> float:
    """Time of a matrix product in bfloat16 over float32, the best of ``repeats`` each, taken in turns."""
    import torch

    draw = torch.Generator().manual_seed(0)
    plain = torch.randn(size, size, generator=draw).to(device)
    half = plain.bfloat16()
    times: dict[bool, list[float]] = {False: [], True: []}
    for _ in range(repeats + 1):
        for is_half, matrix in ((False, plain), (True, half)):
            times[is_half].append(_seconds(matrix))
    # the first product of a kind pays for choosing its kernel
    return round(min(times[True][1:]) / min(times[False][1:]), 2)


def _seconds(matrix: Any) -> float:
    start = time.perf_counter()
    (matrix @ matrix).sum().item()  # .item() waits for a GPU
    return time.perf_counter() - start


def bfloat16_hint(ratio: float, device: str) -> str:
    """What the ratio means for the choice of a dtype."""
    if ratio > SLOW_BFLOAT16:
        return f"bfloat16 takes {ratio:.1f} times as long as float32 on this {device}; load models in float32"
    if ratio < 1 / SLOW_BFLOAT16:
        return (
            f"bfloat16 takes {ratio:.2f} of the time of float32 on this {device}; dtype='bfloat16' pays for "
            f"large models"
        )
    return f"bfloat16 is about as fast as float32 on this {device}; it halves the memory of a model"


# caches


def found_caches() -> tuple[Cache, ...]:
    """The activation store and the Hugging Face cache."""
    from huggingface_hub.constants import HF_HUB_CACHE

    return (
        _cache("activations", activation_folder(), "MECHFOURIER_CACHE"),
        _cache("Hugging Face", Path(HF_HUB_CACHE), "HF_HUB_CACHE"),
    )


def activation_folder() -> Path:
    """Where the activation store lies."""
    from mechfourier.hooks.store import ActivationStore

    return ActivationStore().folder


def _cache(name: str, folder: Path, variable: str) -> Cache:
    there = next(place for place in (folder, *folder.parents) if place.exists())
    return Cache(
        name,
        str(folder),
        folder_bytes(folder),
        shutil.disk_usage(there).free,
        os.access(there, os.W_OK),
        variable,
    )


def folder_bytes(folder: Path) -> int:
    """Bytes of the files below ``folder``; links are not followed (the hub's snapshots link to its blobs)."""
    total = 0
    for root, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):  # removed by another process meanwhile
                path = Path(root, name)
                total += 0 if path.is_symlink() else path.stat().st_size
    return total


def _cache_problems(caches: Iterable[Cache]) -> Iterator[str]:
    for cache in caches:
        if not cache.writable:
            yield f"{cache.folder} cannot be written; set {cache.variable} to a folder that can"
        elif cache.free < 1e9:
            yield (
                f"the disk of {cache.folder} has {cache.free / 1e6:.0f} MB left; free some "
                f"(mechfourier cache clear) or set {cache.variable} to another disk"
            )


# models


def found_models(known: Iterable[ModelInfo] = KNOWN) -> tuple[FoundModel, ...]:
    """Every named model with its folder, or with what to do to get it."""
    return tuple(_model(info) for info in known)


def _model(info: ModelInfo) -> FoundModel:
    found = info.found()
    if isinstance(found, Path):
        return FoundModel(info.name, str(found.resolve()), info.source, None)
    if found is not None:
        return FoundModel(info.name, f"installed packages ({found.file})", info.source, None)
    return FoundModel(info.name, None, info.source, _how_to_get(info))


def _how_to_get(info: ModelInfo) -> str:
    if info.repo is None or info.packaged is not None:
        return f"run: {info.source}" if info.extra else "run: pip install --force-reinstall mechfourier"
    by_hand = f"put its folder in ${FOLDERS_VARIABLE}/{info.name}"
    if offline():
        return f"HF_HUB_OFFLINE is set: unset it, or {by_hand}"
    size = f", {info.download_bytes / 1e9:.2g} GB" if info.download_bytes else ""
    return f"fetched on first use from {info.source}{size}; or {by_hand}"


def offline() -> bool:
    """Whether the hub library has been told to stay off the network."""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}


def _model_problems(models: Iterable[FoundModel]) -> Iterator[str]:
    """Only a packaged model can be missing by mistake."""
    for model in models:
        if model.folder is None and model.source == "mechfourier":
            yield f"the packaged model {model.name} is not in the package; {model.todo}"
    root = os.environ.get(FOLDERS_VARIABLE)
    if root and not Path(root).expanduser().is_dir():
        yield f"{FOLDERS_VARIABLE} is {root}, and there is no such folder; make it or unset the variable"


def _chromium() -> str | None:
    """The browser that draws pictures; None where there is none, on PATH or of Playwright (which may be
    absent)."""
    from mechfourier.figures.png import find_chromium

    with contextlib.suppress(ImportError):
        return find_chromium()
    return None
