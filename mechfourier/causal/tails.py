"""Edited passes of the last tokens only: those from the first edited position on.

In a causal model an edit at position p changes nothing before p, so the keys and values of those tokens are computed once per
prompt and serve every edit. A list of months is edited two tokens before its end: of nine tokens two run. Where every answer
is one token only the logits of the candidates are computed: margins and best candidates do not depend on the others.

The first use at a kind of site of a model compares such passes with whole ones; where they differ everything runs whole.
"""

import contextlib
import contextvars
import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechfourier.causal.branches import PER_TOKEN, start_layer
from mechfourier.causal.suffix import KEPT as KEPT_SUFFIX
from mechfourier.domains.answers import AnswerPlan, Bucket
from mechfourier.errors import MechFourierError
from mechfourier.hooks.cache import empty_cache, fork
from mechfourier.hooks.edit import Edit
from mechfourier.hooks.passes import packing_notes
from mechfourier.hooks.prefix import can_share
from mechfourier.hooks.run import (
    UNEMBED,
    HookFunction,
    StopForward,
    device_of,
    forward,
    has_hooks,
    hooked,
    is_bridge,
    logits_of,
)
from mechfourier.hooks.site import Site, model_name

COMPARED = 2  # sequences of the comparison with whole passes
SAME = 1e-4  # largest difference, relative to the spread of the candidates' logits
KEPT = "_mechfourier_tails"

_REMEMBERED: contextvars.ContextVar[dict[Any, Any] | None] = contextvars.ContextVar(
    "remembered", default=None
)


@contextlib.contextmanager
def remembering() -> Iterator[None]:
    """Keep the keys and values of beginnings, for many sites that are edited in turn; the model must not change meanwhile."""
    token = _REMEMBERED.set({})
    try:
        yield
    finally:
        _REMEMBERED.reset(token)


@dataclass(frozen=True, eq=False)
class Tail:
    """The tokens of some sequences from position ``cut`` on, after the keys and values of those before (``cache``, a row per
    sequence). ``stream``: the unedited residual stream of these tokens in front of block ``start``, where passes begin there."""

    model: Any
    site: Site
    cut: int
    tokens: Int[Tensor, "row rest"]
    cache: Any
    start: int | None = None
    stream: Float[Tensor, "row rest d"] | None = None

    def run(self, place: Int[Tensor, " row"], functions: list[tuple[Site, HookFunction]]) -> Any:
        """The model's output for these of the sequences, with hooks."""
        place = place.to(device_of(self.model))
        with hooked(self.model, functions):
            if is_bridge(self.model):
                cache = copy.deepcopy(self.cache)
                cache.batch_select_indices(place)
                return forward(self.model, self.tokens[place.cpu()], past_key_values=cache, use_cache=True)
            cache = fork(self.model, self.cache, place)
            cache.previous_attention_mask = cache.previous_attention_mask[place]
            if self.stream is not None:
                return forward(self.model, self.stream[place], start_at_layer=self.start, past_kv_cache=cache)
            tokens = self.tokens[place.cpu()]
            return forward(self.model, tokens, past_kv_cache=cache, attention_mask=torch.ones_like(tokens))

    def edited(self, edit: Edit, rows: Int[Tensor, " row"]) -> tuple[Site, HookFunction]:
        """The hook that makes ``edit``, whose positions count from the beginning of the sequences."""
        moved = replace(edit, where=replace(edit.where, positions=_minus(edit.where.positions, self.cut)))
        return self.site, lambda value: moved.apply(value, rows)


def _minus(positions: Any, cut: int) -> Any:
    if positions is None:
        raise MechFourierError("an edit at all positions has no tail")
    return positions - cut


def tail_of(
    model: Any, plan: AnswerPlan, site: Site, bucket: Bucket, at: Int[Tensor, " row"] | None
) -> Tail | None:
    """The bucket's sequences from the first of the positions ``at`` on; None where whole passes are to be run."""
    if at is None or not int(at.min()) or not _can(model, site):
        return None
    tail = _tail(model, site, bucket.tokens, int(at.min()))
    known: dict[tuple[str, bool], bool] = vars(model).setdefault(KEPT, {})
    key = (site.kind, candidates_only(model, plan) is not None)
    if key not in known:
        known[key] = _agrees(model, plan, tail, bucket)
    return tail if known[key] else None


def whole_pass_notes(model: Any) -> tuple[str, ...]:
    """What a result must say where a shorter pass was tried on ``model``, was not the same as a whole one, and so was not used."""
    suffix = vars(model).get(KEPT_SUFFIX)
    notes = [suffix.note] if suffix is not None and suffix.note else []
    known: dict[tuple[str, bool], bool] = vars(model).get(KEPT, {})
    if kinds := sorted({kind for (kind, _), same in known.items() if not same}):
        notes.append(
            f"edits at {', '.join(kinds)} of {model_name(model)} ran whole passes: passes of the last tokens only differ from them"
        )
    return (*notes, *packing_notes(model))


def _can(model: Any, site: Site) -> bool:
    """Causal models that keep keys and values, without other hooks, at sites with a vector per token."""
    per_token = site.stack == "blocks" and (site.kind in PER_TOKEN or site == Site("embed"))
    if not per_token or has_hooks(model):
        return False
    if not is_bridge(model):
        return can_share(model)
    config = getattr(model.original_model, "config", None)
    causal = getattr(model.adapter, "supports_causal_loss", False)
    return bool(causal) and not getattr(config, "is_encoder_decoder", False)


def _tail(model: Any, site: Site, tokens: Int[Tensor, "row pos"], cut: int) -> Tail:
    rest, cache, device = tokens[:, cut:], _beginnings(model, tokens[:, :cut]), device_of(model)
    if is_bridge(model) or site.layer is None:
        return Tail(model, site, cut, rest, cache)
    start, grown = start_layer(site), fork(model, cache)
    stream = model(
        rest.to(device),
        past_kv_cache=grown,
        attention_mask=torch.ones_like(rest),
        stop_at_layer=start,
        return_type=None,
    )
    if start == int(model.cfg.n_layers):
        return Tail(model, site, cut, rest, cache)
    if start and site == Site("resid_post", start - 1):
        site = Site("resid_pre", start)  # the same vectors, in front of the block where passes begin
    return Tail(model, site, cut, rest, cache, start, stream)


def _beginnings(model: Any, tokens: Int[Tensor, "row cut"]) -> Any:
    """The keys and values that these tokens leave behind."""
    kept = _REMEMBERED.get()
    key = (id(model), tuple(map(tuple, tokens.tolist())))
    if kept is None or key not in kept:
        found = _run_beginnings(model, tokens)
        if kept is None:
            return found
        kept[key] = found
    return kept[key]


def _run_beginnings(model: Any, tokens: Int[Tensor, "row cut"]) -> Any:
    if is_bridge(model):
        from transformers import DynamicCache

        cache: Any = DynamicCache(config=model.original_model.config)
        with hooked(model, [(UNEMBED, _stop)] if str(UNEMBED) in model.hook_dict else []):
            forward(model, tokens, past_key_values=cache, use_cache=True)
        return cache
    cache = empty_cache(model, len(tokens))
    # Said outright, as TransformerLens would look for padding by token id.
    model(
        tokens.to(device_of(model)),
        past_kv_cache=cache,
        attention_mask=torch.ones_like(tokens),
        return_type=None,
    )
    return cache


def _stop(value: Tensor) -> None:
    raise StopForward


def tail_logits(
    tail: Tail,
    plan: AnswerPlan,
    bucket: Bucket,
    edit: Edit,
    place: Int[Tensor, " row"],
    rows: Int[Tensor, " row"],
) -> Float[Tensor, "row edge"]:
    """What ``plan.read`` gives for these sequences under ``edit``: log-probabilities of the bucket's edges; up to a number per row
    where every answer is one token."""
    return _read(tail, plan, bucket, place, [tail.edited(edit, rows)])


def _read(
    tail: Tail, plan: AnswerPlan, bucket: Bucket, place: Tensor, functions: list[tuple[Site, HookFunction]]
) -> Float[Tensor, "row edge"]:
    choice = candidates_only(tail.model, plan)
    if choice is not None:
        return choice(lambda extra: tail.run(place, [*functions, *extra]))
    narrow: list[tuple[Site, HookFunction]] = (
        [(UNEMBED, lambda value: value[:, -bucket.keep :])] if str(UNEMBED) in tail.model.hook_dict else []
    )
    output = logits_of(tail.model, tail.run(place, [*functions, *narrow]))
    logits = (output if output.ndim == 3 else output[:, None])[:, -bucket.keep :].float()
    return plan.read(bucket, logits)[1].float().cpu()


Run = Callable[[list[tuple[Site, HookFunction]]], Any]


def candidates_only(model: Any, plan: AnswerPlan) -> Callable[[Run], Float[Tensor, "row edge"]] | None:
    """How to compute no logits but the candidates', where every answer is one token that nothing can continue and the model's
    unembedding is a matrix that its hook points show; None elsewhere."""
    tokens = [edge.token for edge in plan.edges]
    single = plan.deepest == 0 and min(tokens) >= 0
    matrix = getattr(getattr(model, "unembed", None), "W_U", None)
    if not single or not isinstance(matrix, Tensor) or str(UNEMBED) not in model.hook_dict:
        return None
    if float(getattr(model.cfg, "output_logits_soft_cap", -1.0) or -1.0) > 0:
        return None
    columns = matrix[:, tokens].detach()
    bias = getattr(model.unembed, "b_U", None)
    offset = bias[tokens].detach() if isinstance(bias, Tensor) else torch.zeros(len(tokens)).to(columns)

    def read(run: Run) -> Float[Tensor, "row edge"]:
        seen: list[Tensor] = []

        def keep(value: Tensor) -> None:
            seen.append(value[:, -1])
            raise StopForward

        run([(UNEMBED, keep)])
        return (seen[0] @ columns + offset).float().log_softmax(-1).cpu()

    return read


def _agrees(model: Any, plan: AnswerPlan, tail: Tail, bucket: Bucket) -> bool:
    """Whether the unedited tail of a few sequences gives the numbers of their whole passes."""
    few = torch.arange(min(COMPARED, len(bucket.tokens)))
    try:
        ours = _read(tail, plan, bucket, few, [])
    except Exception:  # each architecture fails in its own way; a whole pass always works
        return False
    narrow: list[tuple[Site, HookFunction]] = (
        [(UNEMBED, lambda value: value[:, -bucket.keep :])] if str(UNEMBED) in model.hook_dict else []
    )
    with hooked(model, narrow):
        output = logits_of(model, forward(model, bucket.tokens[few]))
    logits = (output if output.ndim == 3 else output[:, None])[:, -bucket.keep :].float()
    whole = plan.read(bucket, logits)[1].float().cpu()
    if candidates_only(model, plan) is not None:
        whole = whole.log_softmax(-1)
    return bool((ours - whole).abs().max() <= SAME * whole.abs().max().clamp(min=1.0))
