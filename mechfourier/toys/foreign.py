"""Other people's checkpoints as ours: what is shared by the networks that read them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from mechfourier.errors import BadCheckpoint, UsageError, nearest
from mechfourier.models.checkpoint import save_checkpoint
from mechfourier.models.folder import CONFIG
from mechfourier.models.strangers import load_foreign

ENTRIES = ("model", "model_state_dict", "state_dict", "net", "network", "params", "weights")
FEWEST_TENSORS = 4
"""Tensors of a network, at least."""
TRAINING = ("optimizer", "optim", "opt_state", "scheduler", "rng", "ema", "grad")


@dataclass(frozen=True)
class Foreign:
    """A converted checkpoint. ``accuracy`` is on the questions ``asked``; ``refused`` says why these answers
    are those of no reading (empty: they are). ``facts`` are numbers of its configuration, ``sizes`` says them,
    ``notes`` what was assumed, ``explained`` how every tensor was read, ``tried`` the other readings with
    their accuracy."""

    layout: str
    weights: dict[str, Tensor]
    config: Any
    accuracy: float
    asked: str
    chance: str
    sizes: str
    refused: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    explained: tuple[str, ...] = ()
    tried: tuple[tuple[str, float], ...] = ()

    def summary(self) -> dict[str, Any]:
        """What ``mechfourier import --json`` prints."""
        tried = [{"reading": what, "accuracy": share} for what, share in self.tried]
        tensors = list(self.explained)
        return {
            "format": self.layout,
            "accuracy": self.accuracy,
            **self.facts,
            "tried": tried,
            "tensors": tensors,
        }

    def __str__(self) -> str:
        return "\n".join(
            [f"{self.layout}: {self.sizes}", f"accuracy {self.accuracy:.2%} {self.asked}", *self.notes]
        )


def bring_in(
    path: str | Path,
    out: str | Path,
    convert: Callable[[dict[str, Tensor], dict[str, Any]], Foreign],
    *,
    force: bool,
) -> Foreign:
    """Read (no code is run), convert, verify and write: ``out`` is then a folder like any other.

    ``convert`` gets the tensors and the other values of the file. Refused (``BadCheckpoint``) where the
    answers are those of no reading, unless ``force``.
    """
    path, out = Path(path), Path(out)
    if (out / CONFIG).exists():
        raise UsageError(f"{out} already holds a checkpoint; choose another --out")
    tensors, others = load_foreign(path)
    _refuse_nan(path, tensors)
    found = convert(tensors, others)
    if found.refused and not force:
        others = "".join(f"; as {what}: {share:.1%}" for what, share in found.tried[:2])
        raise BadCheckpoint(
            f"read as {found.layout}, {path} answers {found.accuracy:.1%} {found.asked} ({found.chance}), "
            f"{found.refused}{others}: the layout, --act or --task may be another, its task may have a --table of "
            "its own, or it is untrained; --force takes it all the same"
        )
    metrics = {"accuracy": found.accuracy, "layout": found.layout, "notes": list(found.notes)}
    metrics |= {"tensors": list(found.explained)} if found.explained else {}
    save_checkpoint(out, found.weights, found.config.to_dict() | {"imported_from": path.name}, metrics)
    return found


def _refuse_nan(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Raise where a tensor of the network holds NaN (masks hold infinity)."""
    for name, tensor in tensors.items():
        if not _of_training(name) and tensor.is_floating_point() and bool(tensor.isnan().any()):
            raise BadCheckpoint(
                f"{path} holds NaN in {name}; take a checkpoint from before its training broke"
            )


def state_dict_of(tensors: Mapping[str, Tensor], entry: str | None = None) -> tuple[dict[str, Tensor], str]:
    """The state dict inside a training checkpoint (flattened names), and where it lay.

    Optimiser states and the like are left behind. Where there are several (a list of snapshots), ``entry``
    chooses; without it ``model``, ``model_state_dict`` or ``state_dict`` is taken. Raises ``UsageError``
    where that does not decide.
    """
    roots = _roots(tensors)
    if entry is not None and entry not in roots and not any(key.startswith(f"{entry}.") for key in tensors):
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
            f"{len(roots)} state dicts in one file ({', '.join(roots[:3])}{f' … {roots[-1]}' if len(roots) > 3 else ''}); choose "
            f"one with --entry"
        )
    prefix = f"{chosen}." if chosen else ""
    inside = {
        key.removeprefix(prefix): value
        for key, value in tensors.items()
        if key.startswith(prefix) and (prefix or not _of_training(key))
    }
    return inside, chosen


def _roots(tensors: Mapping[str, Tensor]) -> list[str]:
    """Where state dicts begin: at the tables of embeddings that are known by name, else at the usual keys."""
    marks = ("embed.W_E", "token_embed.weight")
    kept = [key for key in tensors if not _of_training(key)]
    marked = {key[: -len(mark)].rstrip(".") for key in kept for mark in marks if _ends(key, mark)}
    if marked:
        return sorted(marked)
    entries = [entry for entry in ENTRIES if any(key.startswith(f"{entry}.") for key in kept)]
    outside = [key for key in kept if not any(key.startswith(f"{entry}.") for entry in entries)]
    if len(entries) == 1 and (not outside or (entries[0] in ENTRIES[:3] and len(kept) < len(tensors))):
        return entries
    if several := _named_alike(kept):
        return several
    lists = {
        ".".join(key.split(".")[:2]) for key in kept if key.split(".")[1:2] and key.split(".")[1].isdigit()
    }
    several = sorted(lists) if lists and all(".".join(key.split(".")[:2]) in lists for key in kept) else []
    deep = [root for root in several if sum(key.startswith(f"{root}.") for key in kept) > 4]
    return deep if len(deep) > 1 else [] if len(kept) == len(tensors) else [""]


def _named_alike(keys: Sequence[str]) -> list[str]:
    """First parts of the names under which the same names stand, where that is all there is: whole networks side by side."""
    under: dict[str, set[str]] = {}
    for key in keys:
        root, _, rest = key.partition(".")
        under.setdefault(root, set()).add(rest)
    alike = len(under) > 1 and len({frozenset(rests) for rests in under.values()}) == 1
    return sorted(under) if alike and all(len(rests) > FEWEST_TENSORS for rests in under.values()) else []


def _of_training(key: str) -> bool:
    """Whether a tensor is an optimiser's and not the network's."""
    return any(part.startswith(TRAINING) for part in key.lower().split(".")[:1])


def _ends(key: str, mark: str) -> bool:
    return key == mark or key.endswith(f".{mark}")
