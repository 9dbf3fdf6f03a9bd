"""The forward passes of a capture: packed where the model is causal, in batches of equal length where it is
not.

Packed passes (`packing`) run several times fewer tokens. Their numbers are those of whole prompts within
float error in a causal model that gives positions and attention as its kind does; since no list of
architectures could promise that, one prompt of the first packed pass is also run alone, and where the two
differ the prompts run whole instead.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechfourier.hooks.cache import numbers_per_token
from mechfourier.hooks.collect import Collector, packed, whole
from mechfourier.hooks.packing import PASS_TOKENS, Pack, lines_of, packs
from mechfourier.hooks.prefix import can_pack, pass_options, shortest_window
from mechfourier.hooks.run import (
    SCORES_PER_BATCH,
    batches,
    forward,
    hooked,
    inference,
    last_logits,
    serving,
    tokens_per_batch,
)
from mechfourier.hooks.site import Site, model_name
from mechfourier.models.check_memory import CHECK_KEY, packing_remembered, remember_packing
from mechfourier.models.folder import out_of_memory
from mechfourier.models.interface import Model
from mechfourier.progress import progress

if TYPE_CHECKING:
    from mechfourier.hooks.capture import Request

Values = Mapping[Site, Tensor]
Found = tuple[Values, Float[Tensor, "prompt vocab"] | None]
Advance = Callable[[int], None]

# Kinds with one entry per token after the prompt's axis, in both engines, and the attention pattern.
PER_TOKEN = frozenset(
    {
        "embed",
        "full_embed",
        "resid_pre",
        "resid_mid",
        "resid_post",
        "normalized_resid_post",
        "attn_out",
        "mlp_out",
        "mlp_in",
        "attn_in",
        "q_input",
        "k_input",
        "v_input",
        "q",
        "k",
        "v",
        "z",
        "result",
        "pattern",
        "mlp_pre",
        "mlp_pre_linear",
        "mlp_mid",
        "mlp_post",
        "ln1_scale",
        "ln1_normalized",
        "ln2_scale",
        "ln2_normalized",
        "ln1_post_scale",
        "ln1_post_normalized",
        "ln2_post_scale",
        "ln2_post_normalized",
        "ln_final_scale",
        "ln_final_normalized",
    }
)
CACHE_BYTES = 2**29  # of keys and values that the lines of one pass continue
WORTHWHILE = 0.9  # share of the cost of whole prompts, above which packing is not worth its complications
# Mean difference from a prompt run alone, of its mean size: float error stays a hundred times below, another
# computation above.
TOLERANCE = {torch.float64: 1e-4, torch.float32: 2e-4}
COARSE_TOLERANCE = 0.05
_CHECKED = "_mechfourier_packing"
_LONGEST = "_mechfourier_packing_longest"  # tokens of the longest prompt that was compared


class _Refused(Exception):
    """Packed passes do not give this model's numbers."""


def run_request(model: Model, request: "Request", batch_size: int | None) -> Found:
    """Every wanted activation of every prompt, and the logits where they are wanted."""
    with inference(model), progress("capture", total=len(request.ids)) as bar:
        for share, plan in _plans(model, request, batch_size):
            try:
                return _run_packed(model, request, plan, bar.advance)
            except _Refused:
                _remember(model, share, False)
                bar.advance(-bar.done)
        return _run_whole(model, request, batch_size, bar.advance)


def _run_whole(model: Model, request: "Request", batch_size: int | None, advance: Advance) -> Found:
    """Whole prompts in batches of equal length."""
    collector, logits = Collector(request), _Logits(len(request.ids))
    with hooked(model, collector.hooks()):
        for batch in batches(model, request.ids, batch_size=batch_size):
            collector.start(whole(request, batch))
            with serving(batch.rows):
                logits.keep(batch.rows, _pass(model, request, batch.tokens, request.last[batch.rows], {}))
            collector.finish(model)
            advance(len(batch.rows))
    return collector.values, logits.values


def _run_packed(model: Model, request: "Request", plan: list[Pack], advance: Advance) -> Found:
    collector, logits = Collector(request), _Logits(len(request.ids))
    for pack in plan:
        try:
            _run_pack(model, request, pack, collector, logits)
        except Exception as error:  # what an architecture without such a cache raises is its own affair
            if out_of_memory(error):
                raise
            raise _Refused from error
        # a pack without beginnings says nothing of those with them, nor short prompts of long ones (scaled
        # rotary positions)
        kind, length = pack.beginnings is not None, max(len(request.ids[row]) for row in pack.rows.tolist())
        if not _trusted(model, kind, length):
            _check(model, request, pack, (collector.values, logits.values))
            _remember(model, kind, True, length)
        advance(len(pack.rows))
    return collector.values, logits.values


def _run_pack(model: Model, request: "Request", pack: Pack, collector: Collector, logits: "_Logits") -> None:
    with hooked(model, collector.hooks()):
        options = pass_options(model, pack, n_layers=_layers_needed(request))
        collector.start(packed(request, pack))
        last = torch.zeros(len(pack.tokens), dtype=torch.long)
        last[pack.line] = request.last[pack.rows] - pack.start[pack.line]
        found = _pass(model, request, pack.tokens, last, options)
        logits.keep(pack.rows, None if found is None else found[pack.line])
        collector.finish(model)


def _pass(
    model: Model,
    request: "Request",
    tokens: Int[Tensor, "line pos"],
    last: Int[Tensor, " line"],
    options: dict[str, Any],
) -> Float[Tensor, "line vocab"] | None:
    """One forward pass through the collector's hooks; its logits at the positions ``last``, where they are
    wanted."""

    def run() -> Any:
        return forward(model, tokens, logits=request.logits, **options)

    if not request.logits:
        run()
        return None
    slim = not any(site.path.startswith("unembed") for site in request.sites)
    return last_logits(model, run, last, slim_unembed=slim)


class _Logits:
    """The logits of every prompt, in the order of the prompts."""

    def __init__(self, prompts: int) -> None:
        self.prompts = prompts
        self.values: Tensor | None = None

    def keep(self, rows: Int[Tensor, " row"], found: Float[Tensor, "row vocab"] | None) -> None:
        if found is not None:
            if self.values is None:
                self.values = torch.empty(self.prompts, found.shape[1])
            self.values[rows] = found


def _layers_needed(request: "Request") -> int | None:
    """How many layers the wanted sites need: 0 for embeddings, None for all of them and what follows."""
    after = any(site.layer is None and "embed" not in site.path.removeprefix("un") for site in request.sites)
    if request.logits or after or any("unembed" in site.path for site in request.sites):
        return None
    return max((site.layer + 1 for site in request.sites if site.layer is not None), default=0)


def _plans(model: Model, request: "Request", batch_size: int | None) -> Iterator[tuple[bool, list[Pack]]]:
    """Packed plans that are worth trying, the cheapest first; ``share`` says whether beginnings are
    shared."""
    if not _packable(model, request):
        return
    read = [list(row) for row in request.positions.tolist()]  # type: ignore[union-attr]
    if request.logits:
        read = [[*row, last] for row, last in zip(read, request.last.tolist(), strict=True)]
    lines = lines_of(request.ids, read)
    fits, longest = _fits(model, batch_size), max(len(line.ids) for line in lines)
    plain = sum(b.tokens.numel() + PASS_TOKENS for b in batches(model, request.ids, batch_size=batch_size))
    modes = [share for share in (True, False) if _known(model, share) is not False]
    if longest > shortest_window(
        model
    ):  # keys beyond a window are counted by place, and a gap would count too
        modes = [share for share in modes if not share]
    found = [(share, packs(lines, fits, share=share)) for share in modes]
    costs = [sum(pack.cost for pack in plan) for _, plan in found]
    for place in sorted(range(len(found)), key=costs.__getitem__):
        share, plan = found[place]
        check = 0 if _known(model, share) else PASS_TOKENS + longest
        if costs[place] + check < WORTHWHILE * plain:
            yield share, plan


def _packable(model: Model, request: "Request") -> bool:
    sites = all(site.kind in PER_TOKEN and site.stack == "blocks" for site in request.sites)
    return request.positions is not None and sites and _layers_needed(request) != 0 and can_pack(model)


def _fits(model: Model, batch_size: int | None) -> Callable[[int, int, int], bool]:
    """Whether so many lines of so many tokens, after so many others, are one pass."""
    heads, kept = getattr(model.cfg, "n_heads", None) or 1, 4 * numbers_per_token(model)
    limit = tokens_per_batch(model)

    def fits(lines: int, length: int, before: int) -> bool:
        every = before + length
        return (
            lines <= (batch_size or lines)
            and lines * length <= limit
            and lines * length * every * heads <= SCORES_PER_BATCH
            and (not before or lines * every * kept <= CACHE_BYTES)
        )

    return fits


def _known(model: Model, share: bool) -> bool | None:
    """Whether packed passes were seen to give this model's numbers; None where nobody looked yet."""
    kept = getattr(model, _CHECKED, {})
    if share not in kept and (length := packing_remembered(getattr(model, CHECK_KEY, ""), share)):
        _keep_known(model, share, True, length)
        return True
    return kept.get(share)


def _trusted(model: Model, share: bool, length: int) -> bool:
    """Whether packed passes were seen to give this model's numbers for prompts of this length."""
    return bool(_known(model, share)) and length <= getattr(model, _LONGEST, {}).get(share, 0)


def _remember(model: Model, share: bool, right: bool, length: int = 0) -> None:
    """For this session; that it is right for every session with these weights, while the weights are those of
    the file."""
    _keep_known(model, share, right, length)
    if right:
        remember_packing(getattr(model, CHECK_KEY, ""), share, length)


def _keep_known(model: Model, share: bool, right: bool, length: int) -> None:
    object.__setattr__(model, _CHECKED, {**getattr(model, _CHECKED, {}), share: right})
    object.__setattr__(model, _LONGEST, {**getattr(model, _LONGEST, {}), share: length})


def packing_notes(model: Model) -> tuple[str, ...]:
    """What a result must say where packed passes were tried on ``model`` and did not give its numbers."""
    known: dict[bool, bool] = getattr(model, _CHECKED, {})
    ways = {True: "with shared beginnings", False: "of padded prompts"}
    refused = " and ".join(ways[share] for share in sorted(known) if not known[share])
    if not refused:
        return ()
    return (
        f"passes {refused} differ from whole ones in {model_name(model)}: activations were captured without "
        f"them",
    )


def _check(model: Model, request: "Request", pack: Pack, found: Found) -> None:
    """Run the prompt of ``pack`` that is furthest from a prompt run alone: behind the widest gap, or with the
    most padding."""
    padding = pack.tokens.shape[1] - pack.mask.sum(1)
    gap = torch.zeros_like(padding)
    if pack.beginnings is not None:
        gap = pack.beginnings.tokens.shape[1] - pack.start
    row = int(pack.rows[(gap * pack.tokens.shape[1] + padding)[pack.line].argmax()])
    assert request.positions is not None
    at, last = request.positions[row : row + 1], request.last[row : row + 1]
    alone = dataclasses.replace(request, ids=(request.ids[row],), positions=at, last=last)
    expected, logits = _run_whole(model, alone, None, lambda _: None)
    pairs = [(found[0][site][row, ..., : value.shape[-1]], value[0]) for site, value in expected.items()]
    if logits is not None and found[1] is not None:
        pairs.append((found[1][row], logits[0]))
    tolerance = TOLERANCE.get(_dtype(model), COARSE_TOLERANCE)
    if not all(bool((a - b).abs().mean() <= tolerance * b.abs().mean()) for a, b in pairs):
        raise _Refused(f"prompt {row} run alone has other activations")


def _dtype(model: Model) -> torch.dtype:
    return next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
