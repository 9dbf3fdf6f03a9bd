"""Networks that bring a task of their own: one `Architecture` each, those of this package and of other
installed packages.

A part of a record is a dotted path, "module:name": nothing is imported before it is used. Other packages add
records by the entry point group ``mechfourier.architectures`` (CONTRIBUTING.md, "Add a network").
"""

import functools
import importlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from mechfourier.errors import MechFourierError, UnknownModel, UsageError, nearest
from mechfourier.models.folder import CONFIG, read_config

GROUP = "mechfourier.architectures"
BUILT_IN = (
    "calendar",
    "adder",
    "universal",
    "one_layer",
    "modular",
)  # folders of mechfourier/toys, in the order of lists


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """A kind of network. Only ``name``, ``title`` and ``load`` are needed; a command that needs another part
    says so.

    A folder is of this kind where its config.json says ``"architecture": name`` or has the key
    ``config_key``; a model in memory where its attribute ``mechfourier_architecture`` is ``name`` (``load``
    of the registry sets it) or ``recognise`` says so. What each part is:

    - ``load``: (folder, *, device, dtype) -> Model; "" for a Hugging Face folder.
    - ``recognise``: (model) -> bool.
    - ``package``: an installed package whose folder ``model`` holds the weights that ``name`` loads;
      ``licence`` of these.
    - ``own_domain``: the name of the domain that it was trained on, or (config) -> name | None.
    - ``domains``: regular expression of domain names -> (name) -> Domain.
    - ``rows``: (model, reading) -> rows of its training data (`mechfourier.sae.rows.Row`); a list is
      shuffled, an iterator is not.
    - ``text``: () -> held-out sentences. ``readout``: (model, site, tokens) -> Float[Tensor, "d token"] |
      None, the logits of ``tokens`` per unit of the site where the rest of the model is linear.
    - ``train``: (*, out, seed, …) -> Result; its keywords become the options of ``mechfourier train NAME``.
    - ``analyze``, ``sweep_accuracy``: (run, *, seed, …) -> Result with ``summary()`` and ``write(folder) ->
      files``.
    - ``sweep``: (folder, *, …) -> row of numbers, for ``mechfourier sweep NAME``.
    - ``page``: (run) -> Part, what a report shows of a run beside its metrics.
    - ``experiments``: a tuple of `mechfourier.reproduce.experiment.Experiment`.
    - ``is_foreign``: (tensors) -> bool, and ``import_checkpoint``: (path, out, *, …) -> Result, for other
      people's files.
    """

    name: str
    title: str
    licence: str = "MIT"
    load: str = ""
    config_key: str = ""
    recognise: str = ""
    package: str | None = None
    own_domain: str = ""
    domains: Mapping[str, str] = field(default_factory=dict)
    rows: str = ""
    text: str = ""
    readout: str = ""
    train: str = ""
    analyze: str = ""
    sweep_accuracy: str = ""
    sweep: str = ""
    page: str = ""
    experiments: str = ""
    is_foreign: str = ""
    import_checkpoint: str = ""

    def part(self, what: str, key: str | None = None) -> Any:
        """The object that the part ``what`` names, imported now; raises ``UsageError`` where there is none or
        it cannot be imported."""
        value = getattr(self, what)
        path = value.get(key, "") if key is not None else value
        if not path:
            raise UsageError(f"the architecture {self.name!r} has no {what.replace('_', ' ')}")
        return imported(path, f"the architecture {self.name!r} names {{}} as its {what.replace('_', ' ')}")

    def domain_of(self, config: Mapping[str, Any]) -> str | None:
        """The name of the domain that a network with this config.json was trained on."""
        return self.part("own_domain")(config) if ":" in self.own_domain else self.own_domain or None


def imported(path: str, sentence: str = "{} is needed here") -> Any:
    """What the dotted path "module:name" names. Raises ``UsageError`` where it cannot be imported:
    ``sentence`` about the path, and why."""
    module, _, name = path.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except MechFourierError:
        raise
    except Exception as error:
        raise UsageError(
            f"{sentence.format(repr(path))}, which cannot be imported ({_told(error)}); mend that package "
            f"or uninstall it"
        ) from error


def _told(error: BaseException) -> str:
    first = next(iter(str(error).strip().splitlines()), "")
    return f"{type(error).__name__}: {first[:120]}"


@functools.cache
def built_in() -> tuple[Architecture, ...]:
    """The records of this package."""
    return tuple(importlib.import_module(f"mechfourier.toys.{name}.record").RECORD for name in BUILT_IN)


@dataclass(frozen=True)
class Installed:
    """What other packages add, and a sentence for each entry point that cannot be used, by its name."""

    records: tuple[Architecture, ...]
    broken: Mapping[str, str]


@functools.cache
def installed() -> Installed:
    """The records of other installed packages; one that cannot be used is left out, and ``broken`` says
    why."""
    taken = {record.name: "mechfourier" for record in built_in()}
    records, broken = [], {}
    for entry in sorted(entry_points(group=GROUP), key=lambda e: (e.name, e.value)):
        package = entry.dist.name if entry.dist is not None else entry.value
        try:
            record = _checked(entry, taken)
        except (Exception, SystemExit) as error:
            reason = str(error) if isinstance(error, UsageError) else _told(error)
            broken[entry.name] = (
                f"the architecture {entry.name!r} of the package {package} cannot be used ({reason})"
            )
        else:
            records.append(record)
            taken[record.name] = package
    return Installed(tuple(records), broken)


def _checked(entry: EntryPoint, taken: Mapping[str, str]) -> Architecture:
    record = entry.load()
    if not isinstance(record, Architecture):
        raise UsageError(f"{entry.value} is a {type(record).__name__}, not an Architecture")
    if record.name in taken:
        raise UsageError(f"the name {record.name!r} is taken by the package {taken[record.name]}")
    for part in fields(record):
        value = getattr(record, part.name)
        if not isinstance(value, Mapping if part.type == Mapping[str, str] else (str, type(None))):
            raise UsageError(f"its {part.name} is {value!r}, not a dotted path")
    for pattern in record.domains:
        re.compile(pattern)  # a wrong one would stop every search for a domain
    return record


_REGISTERED: list[Architecture] = []


def register(record: Architecture) -> None:
    """Add a record without an entry point, for as long as this process runs (a notebook, a script); it
    replaces one of its name."""
    if any(record.name == ours.name for ours in built_in()):
        raise UsageError(f"the name {record.name!r} is taken by a network of mechfourier; choose another")
    _REGISTERED[:] = [*(each for each in _REGISTERED if each.name != record.name), record]


def architectures() -> tuple[Architecture, ...]:
    """Every record, those of this package first."""
    return (*built_in(), *_REGISTERED, *installed().records)


def named(name: str) -> Architecture | None:
    """The record of that name; None where there is none. Raises ``UsageError`` where its entry point is
    broken."""
    for record in built_in():  # other packages are not looked at for a name of ours
        if record.name == name:
            return record
    found = next((record for record in (*_REGISTERED, *installed().records) if record.name == name), None)
    if found is None and name in installed().broken:
        raise UsageError(installed().broken[name])
    return found


def of_config(config: Mapping[str, Any], where: str | Path = CONFIG) -> Architecture | None:
    """The record of a folder with this config.json (``where`` it lies); None for other people's models.
    Raises ``UnknownModel`` for an ``"architecture"`` that no installed package has."""
    own = config.get("architecture")
    if own is None:
        return next((each for each in architectures() if each.config_key and each.config_key in config), None)
    record = named(own) if isinstance(own, str) else None
    if record is None:
        known = [record.name for record in architectures()]
        raise UnknownModel(
            f"{where} names the architecture {own!r}; closest: {nearest(str(own), known)}. "
            "If it is of another package, install that package"
        )
    return record


def of_folder(folder: str | Path) -> Architecture | None:
    """The record of a run or model folder; None where it is another maker's, or its config.json tells nothing
    that can be used."""
    try:
        return of_config(read_config(folder))
    except (MechFourierError, OSError):
        return None


def run_folder(path: Path) -> Path | None:
    """The folder of a run: ``path`` itself, or the one whose config.json describes the checkpoint ``path``;
    None where it is neither."""
    if path.is_dir():
        return path
    if path.suffix != ".safetensors" or not path.is_file():
        return None
    return next((folder for folder in (path.parent, path.parent.parent) if (folder / CONFIG).is_file()), None)


def architecture_of(model: Any) -> Architecture | None:
    """The record of a model in memory; None for other people's models."""
    name = getattr(model, "mechfourier_architecture", None)
    if isinstance(name, str):
        return named(name)
    return next((record for record in architectures() if record.recognise and _says_so(record, model)), None)


def _says_so(record: Architecture, model: Any) -> bool:
    """Whether the package of ``record`` knows ``model``; one that fails at it never stands in the way of
    another's model."""
    try:
        return bool(record.part("recognise")(model))
    except Exception:
        if record in built_in():
            raise
        return False


def with_part(what: str) -> Iterator[Architecture]:
    """The records that have the part ``what``."""
    return (record for record in architectures() if getattr(record, what))
