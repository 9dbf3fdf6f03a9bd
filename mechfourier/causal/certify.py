"""Certificates: what must hold of an edit on the model in hand before its effect means anything.

A change at the hook point arrives at what reads it next (some hook points only show an activation), and edits
that are none (a turn by 0, a whole turn, a step of 0, a patch from the prompt itself) leave every score as it
was, up to float error, on the very passes that the edits run on.
"""

from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechfourier.causal.edits import EditedRows, EditOf
from mechfourier.causal.experiment import Experiment, SiteActivations
from mechfourier.causal.subspaces import HarmonicSubspace
from mechfourier.errors import EngineDiffers, UsageError
from mechfourier.hooks.capture import capture
from mechfourier.hooks.interventions import edit_add, edit_patch, intervene
from mechfourier.hooks.site import Site, model_name

PROMPTS = 2
STEP = 0.1  # length of the change that is followed, relative to the activation
ARRIVES = 1e-3  # largest relative difference of a change of the residual stream where it is read
NOTHING = 1e-4  # largest change of a score by an edit that is none, relative to the largest score


@dataclass(frozen=True)
class Idle:
    """The largest change of a score by an edit that is none, relative to the largest score."""

    edit: str
    change: float


@dataclass(frozen=True)
class Certificate:
    """``reader``: the hook point where a change at ``site`` was looked for ("scores": none was there).
    ``arrived``: the change there relative to the one made: 1 where the stream passes it on as it is.
    ``idle``: edits that are none."""

    site: str
    position: str
    reader: str
    arrived: float
    idle: tuple[Idle, ...]

    def __str__(self) -> str:
        worst = max((each.change for each in self.idle), default=0.0)
        names = ", ".join(each.edit for each in self.idle)
        return (
            f"edits certified on this model: a change at {self.site} arrives at {self.reader} "
            f"({self.arrived:.4g} of it); {names}: scores change by {worst:.1g} at most"
        )


def certified(asked: Experiment, place: SiteActivations, turn: HarmonicSubspace | None = None) -> Certificate:
    """The certificate of edits at ``place`` (and of turns of ``turn``), checked once for an experiment.

    Raises ``UsageError`` for a hook point that the model does not read, ``EngineDiffers`` where an edit that
    is none changes scores.
    """
    known, key = asked.measured.certificates, (place.site, place.position, None if turn is None else turn.ks)
    if key not in known:
        reader, arrived = _arrival(asked, place)
        idle = tuple(_idle(asked, place, name, rows) for name, rows in _nothings(asked, place, turn))
        known[key] = Certificate(str(place.site), place.position, reader, arrived, idle)
    return known[key]


def _few(asked: Experiment) -> Int[Tensor, " prompt"]:
    return torch.arange(min(PROMPTS, len(asked)))


def _reader(asked: Experiment, site: Site) -> Site | None:
    """The next hook point that holds what ``site`` is changed to, or what is made of it."""
    following = Site("resid_post", site.layer)
    if site.kind == "embed":
        following = Site("resid_pre", 0)
    elif site.kind == "resid_post" and site.layer is not None:
        following = Site("resid_pre", site.layer + 1)
    elif site.kind == "resid_pre":
        following = Site("resid_post", site.layer)
    return following if str(following) in asked.model.hook_dict else None


def _arrival(asked: Experiment, place: SiteActivations) -> tuple[str, float]:
    """Where a change at ``place`` arrives, and how much of it."""
    few, site = _few(asked), place.site
    vectors = asked.vectors(place)[few]
    noise = torch.randn(vectors.shape, generator=torch.Generator().manual_seed(0))
    step = noise * (STEP * vectors.norm(dim=1) / noise.norm(dim=1))[:, None]
    edit = edit_add(site, step, positions=place.at[few])
    reader = _reader(asked, site)
    if reader is None:
        rows = EditedRows(
            site, few, lambda r: edit_add(site, step[r], positions=place.at[few][r]), place.at[few]
        )
        after = asked.engine.scores(rows, "certificate", must_change=False)
        return "scores", _seen(asked, site, "the answers", _change(asked, few, after))
    encodings = [asked.task.encodings[i] for i in few.tolist()]
    read = partial(capture, asked.model, encodings, [reader], place.at[few])
    before = read()[reader].flatten(1)
    with intervene(asked.model, [edit], must_change=False):
        after = read()[reader].flatten(1)
    arrived = after - before
    share = float(arrived.norm() / step.norm())
    _seen(asked, site, str(reader), share)
    same_stream = site.kind == "resid_post"
    if same_stream and float((arrived - step).norm() / step.norm()) > max(ARRIVES, _rounding(before, step)):
        raise EngineDiffers(
            f"a change at {site} of {model_name(asked.model)} arrives at {reader} as another one "
            f"({share:.3g} times as long); take another site, or engine='hooked'"
        )
    return str(reader), share


def _rounding(value: Tensor, step: Tensor) -> float:
    """The rounding of the stream relative to a step (large in half precision)."""
    return 4 * torch.finfo(value.dtype).eps * float(value.norm() / step.norm())


def _seen(asked: Experiment, site: Site, where: str, share: float) -> float:
    if share <= 1e-7:
        raise UsageError(
            f"a change at {site} of {model_name(asked.model)} does not arrive at {where}: the model does not "
            "read this hook point; edit resid_post, attn_out or mlp_out instead"
        )
    return share


def _nothings(
    asked: Experiment, place: SiteActivations, turn: HarmonicSubspace | None
) -> list[tuple[str, EditedRows]]:
    """Edits that are none."""
    few, own = _few(asked), asked.vectors(place)
    at = place.at[few]

    def rows(edit_of: EditOf) -> EditedRows:
        return EditedRows(place.site, few, edit_of, at)

    found = [
        ("step of 0", rows(lambda r: edit_add(place.site, torch.zeros_like(own)[few[r]], positions=at[r]))),
        ("patch from itself", rows(lambda r: edit_patch(place.site, own[few[r]], positions=at[r]))),
    ]
    if turn is not None:
        n = len(place.means)
        for name, delta in (("turn by 0", 0), ("whole turn", n)):
            step = _turned(own[few] - place.centre, turn, delta, n)
            found.append((name, rows(lambda r, step=step: edit_add(place.site, step[r], positions=at[r]))))
    return found


def _turned(
    vectors: Float[Tensor, "row d"], turn: HarmonicSubspace, delta: int, n: int
) -> Float[Tensor, "row d"]:
    """What turning by ``delta`` steps adds, by its own angle (a whole turn is not taken for none)."""
    inside = vectors @ turn.basis
    return (inside @ turn.map(delta, n).T - inside) @ turn.basis.T


def _idle(asked: Experiment, place: SiteActivations, name: str, rows: EditedRows) -> Idle:
    change = _change(asked, rows.prompt, asked.engine.scores(rows, "certificate", must_change=False))
    if not change <= NOTHING:
        raise EngineDiffers(
            f"{name} at {place.site} ({place.position} token) of {model_name(asked.model)} changes a score by "
            f"{change:.2g} of the largest, and it must change none; take another site, or engine='hooked'"
        )
    return Idle(name, change)


def _change(asked: Experiment, prompt: Int[Tensor, " row"], scores: Float[Tensor, "row candidate"]) -> float:
    """The largest change of a score, relative to the largest: both around the mean of their row, up to which
    scores are known."""
    before = asked.baseline.scores[prompt]
    before, after = before - before.mean(dim=1, keepdim=True), scores - scores.mean(dim=1, keepdim=True)
    return float((after - before).abs().max() / before.abs().max().clamp(min=1e-30))
