"""Certificates: what must hold of an edit on the model in hand before its effect means anything.

A change at the hook point arrives at what reads it next (some hook points only show an activation), and edits
that are none (a turn by 0, a whole turn, a step of 0, a patch from the prompt itself) leave every score as it
was, up to float error, on the very passes that the edits run on.
"""

from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechfourier.causal.edits import EditedRows
from mechfourier.causal.experiment import Experiment, SiteActivations
from mechfourier.causal.result import Certificate, Idle
from mechfourier.causal.subspaces import HarmonicSubspace
from mechfourier.errors import EngineDiffers, UsageError
from mechfourier.hooks.capture import capture
from mechfourier.hooks.edit import Edit
from mechfourier.hooks.interventions import edit_add, edit_patch, intervene
from mechfourier.hooks.site import ATTENTION_KINDS, Site, model_name

PROMPTS = 2
STEP = 0.1  # length of the change that is followed, relative to the activation
ARRIVES = 1e-3  # largest relative difference of a change of the residual stream where it is read
NOTHING = 1e-4  # largest change of a score by an edit that is none, relative to the largest score


class _Spot(NamedTuple):
    """A site and a token of some prompts, with the activations there."""

    site: Site
    position: str
    prompt: Int[Tensor, " prompt"]
    at: Int[Tensor, " prompt"]
    vectors: Float[Tensor, "prompt d"]


def certified(asked: Experiment, place: SiteActivations, turn: HarmonicSubspace | None = None) -> Certificate:
    """The certificate of edits at ``place`` (and of turns of ``turn``), checked once for an experiment.

    Raises ``UsageError`` for a hook point that the model does not read, ``EngineDiffers`` where an edit that
    is none changes scores.
    """
    known, key = asked.measured.certificates, (place.site, place.position, None if turn is None else turn.ks)
    if key not in known:
        spot = _spot(asked, place.site, place.position)
        known[key] = _certificate(asked, spot, [*_nothings(spot), *_no_turns(spot, place, turn)])
    return known[key]


def certified_site(asked: Experiment, site: Site) -> Certificate | None:
    """The same for edits of any kind at a site, at the last token; None where its activations are no vectors
    of one width (attention patterns)."""
    if site.kind in ATTENTION_KINDS:
        return None
    known, key = asked.measured.certificates, (site, "last", None)
    if key not in known:
        spot = _spot(asked, site, "last")
        known[key] = _certificate(asked, spot, _nothings(spot))
    return known[key]


def _spot(asked: Experiment, site: Site, position: str) -> _Spot:
    few = torch.arange(min(PROMPTS, len(asked)))
    vectors = asked.measured.vectors([site], [position], asked.task.rows[few])[site, position]
    return _Spot(site, position, few, asked.places(position)[few], vectors)


def _certificate(asked: Experiment, spot: _Spot, nothings: list[tuple[str, EditedRows]]) -> Certificate:
    reader, arrived = _arrival(asked, spot)
    idle = tuple(_idle(asked, spot, name, rows) for name, rows in nothings)
    return Certificate(str(spot.site), spot.position, reader, arrived, idle)


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


def _arrival(asked: Experiment, spot: _Spot) -> tuple[str, float]:
    """Where a change at ``spot`` arrives, and how much of it."""
    few, site, vectors = spot.prompt, spot.site, spot.vectors
    noise = torch.randn(vectors.shape, generator=torch.Generator().manual_seed(0))
    size = vectors.norm(dim=1)
    length = STEP * torch.where(size > 0, size, torch.ones_like(size))  # neurons may all be off
    step = noise * (length / noise.norm(dim=1))[:, None]
    edit = edit_add(site, step, positions=spot.at)
    reader = _reader(asked, site)
    if reader is None:
        # at every token: whether the hook point is read, and not whether this token of it is
        rows = EditedRows(site, few, lambda chosen: edit_add(site, step[chosen]))
        after = asked.engine.scores(rows, "certificate", must_change=False)
        return "scores", _seen(asked, site, "the answers", _change(asked, few, after))
    encodings = [asked.task.encodings[i] for i in few.tolist()]
    read = partial(capture, asked.model, encodings, [reader], spot.at)
    before = read()[reader].flatten(1)
    with intervene(asked.model, [edit], must_change=False):
        after = read()[reader].flatten(1)
    arrived = after - before
    share = float(arrived.norm() / step.norm())
    _seen(asked, site, str(reader), share)
    rounding = _precision(asked) * float(before.norm() / step.norm())
    # behind a block that ends in a norm the next one reads something else, with or without an edit
    same_stream = site.kind == "resid_post" and torch.allclose(
        before, vectors.to(before), rtol=1e-3, atol=1e-4
    )
    if same_stream and float((arrived - step).norm() / step.norm()) > max(ARRIVES, 4 * rounding):
        raise EngineDiffers(
            f"a change at {site} of {model_name(asked.model)} arrives at {reader} as another one "
            f"({share:.3g} times as long); take another site, or engine='hooked'"
        )
    return str(reader), share


def _precision(asked: Experiment) -> float:
    """The rounding of the model's own numbers, relative to their size."""
    first = next(iter(asked.model.parameters()), None)
    return torch.finfo(torch.float32 if first is None else first.dtype).eps


def _seen(asked: Experiment, site: Site, where: str, share: float) -> float:
    if share <= 1e-7:
        raise UsageError(
            f"a change at {site} of {model_name(asked.model)} does not arrive at {where}: the model does not "
            "read this hook point; edit resid_post, attn_out or mlp_out instead"
        )
    return share


def _added(spot: _Spot, step: Float[Tensor, "prompt d"]) -> EditedRows:
    def edit_of(rows: Int[Tensor, " row"]) -> Edit:
        return edit_add(spot.site, step[rows], positions=spot.at[rows])

    return EditedRows(spot.site, spot.prompt, edit_of, spot.at)


def _itself(spot: _Spot) -> EditedRows:
    def edit_of(rows: Int[Tensor, " row"]) -> Edit:
        return edit_patch(spot.site, spot.vectors[rows], positions=spot.at[rows])

    return EditedRows(spot.site, spot.prompt, edit_of, spot.at)


def _nothings(spot: _Spot) -> list[tuple[str, EditedRows]]:
    """Edits that are none."""
    nothing = torch.zeros_like(spot.vectors)
    return [("step of 0", _added(spot, nothing)), ("patch from itself", _itself(spot))]


def _no_turns(
    spot: _Spot, place: SiteActivations, turn: HarmonicSubspace | None
) -> list[tuple[str, EditedRows]]:
    """Turns that are none, each by its own angle: a whole one is not taken for one by 0."""
    if turn is None:
        return []
    n, inside = len(place.means), (spot.vectors - place.centre) @ turn.basis
    return [
        (name, _added(spot, (inside @ turn.map(delta, n).T - inside) @ turn.basis.T))
        for name, delta in (("turn by 0", 0), ("whole turn", n))
    ]


def _idle(asked: Experiment, spot: _Spot, name: str, rows: EditedRows) -> Idle:
    change = _change(asked, rows.prompt, asked.engine.scores(rows, "certificate", must_change=False))
    if not change <= max(NOTHING, 40 * _precision(asked)):
        raise EngineDiffers(
            f"{name} at {spot.site} ({spot.position} token) of {model_name(asked.model)} changes a score by "
            f"{change:.2g} of the largest, and it must change none; take another site, or engine='hooked'"
        )
    return Idle(name, change)


def _change(asked: Experiment, prompt: Int[Tensor, " row"], scores: Float[Tensor, "row candidate"]) -> float:
    """The largest change of a score, relative to the largest: both around the mean of their row, up to which
    scores are known."""
    before = asked.baseline.scores[prompt]
    before, after = before - before.mean(dim=1, keepdim=True), scores - scores.mean(dim=1, keepdim=True)
    return float((after - before).abs().max() / before.abs().max().clamp(min=1e-30))
