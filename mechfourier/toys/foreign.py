"""Other people's checkpoints as ours: what is shared by the networks that read them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from mechfourier.errors import BadCheckpoint, UsageError, nearest
from mechfourier.models.checkpoint import load_foreign_tensors, save_checkpoint
from mechfourier.models.folder import CONFIG

ENTRIES = ("model", "model_state_dict", "state_dict")  # where a training checkpoint keeps its weights


@dataclass(frozen=True)
class Foreign:
    """A converted checkpoint. ``accuracy`` is on the questions ``asked``; below ``required`` it answers as
    chance does. ``facts`` are numbers of its configuration, ``sizes`` says them, ``notes`` what was assumed.
    """

    layout: str
    weights: dict[str, Tensor]
    config: Any
    accuracy: float
    required: float
    asked: str
    chance: str
    sizes: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def summary(self) -> dict[str, Any]:
        """What ``mechfourier import --json`` prints."""
        return {"format": self.layout, "accuracy": self.accuracy, **self.facts}

    def __str__(self) -> str:
        return "\n".join(
            [f"{self.layout}: {self.sizes}", f"accuracy {self.accuracy:.2%} {self.asked}", *self.notes]
        )


def bring_in(
    path: str | Path, out: str | Path, convert: Callable[[dict[str, Tensor]], Foreign], *, force: bool
) -> Foreign:
    """Read (``weights_only=True``), convert, verify and write: ``out`` is then a folder like any other.

    Refused (``BadCheckpoint``) below the accuracy that its converter requires, unless ``force``.
    """
    path, out = Path(path), Path(out)
    if (out / CONFIG).exists():
        raise UsageError(f"{out} already holds a checkpoint; choose another --out")
    found = convert(load_foreign_tensors(path))
    if found.accuracy < found.required and not force:
        raise BadCheckpoint(
            f"read as {found.layout}, {path} answers {found.accuracy:.1%} {found.asked} ({found.chance}), "
            f"which is chance or near it: "
            "the layout, --act or --task may be another, or it is untrained; --force takes it all the same"
        )
    metrics = {"accuracy": found.accuracy, "layout": found.layout, "notes": list(found.notes)}
    save_checkpoint(out, found.weights, found.config.to_dict() | {"imported_from": path.name}, metrics)
    return found


def state_dict_of(tensors: Mapping[str, Tensor], entry: str | None = None) -> tuple[dict[str, Tensor], str]:
    """The state dict inside a training checkpoint (flattened names), and where it lay.

    Optimiser states and the like are left behind. Where there are several (a list of snapshots), ``entry``
    chooses; without it ``model``, ``model_state_dict`` or ``state_dict`` is taken. Raises ``UsageError``
    where that does not decide.
    """
    marks = ("embed.W_E", "token_embed.weight")
    roots = sorted({key[: -len(mark)].rstrip(".") for key in tensors for mark in marks if _ends(key, mark)})
    if entry is not None and entry not in roots:
        raise UsageError(f"no weights under {entry!r}; closest: {nearest(entry, roots)}")
    if not roots:
        return dict(tensors), ""
    chosen = (
        entry
        if entry is not None
        else roots[0]
        if len(roots) == 1
        else next((r for r in ("", *ENTRIES) if r in roots), None)
    )
    if chosen is None:
        raise UsageError(
            f"{len(roots)} state dicts in one file ({', '.join(roots[:3])} … {roots[-1]}); choose one with "
            f"--entry"
        )
    prefix = f"{chosen}." if chosen else ""
    inside = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
    return inside, chosen


def _ends(key: str, mark: str) -> bool:
    return key == mark or key.endswith(f".{mark}")
