"""The residual stream of any block kind as a sum of parts, and the way from what a head or a neuron writes
to that sum."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from mechfourier.causal.norm import EXACT, FrozenNorm, freeze, no_norm, output_scale
from mechfourier.domains.prepare import Questions
from mechfourier.errors import UsageError
from mechfourier.hooks.capture import Activations, capture
from mechfourier.hooks.site import Site, layer_ranges, model_name
from mechfourier.models.interface import Encoding

CHECKED_PROMPTS = 16
# norms that may stand between what heads or neurons write and the residual stream (Gemma 2 and 3, GLM 4;
# OLMo 2, EXAONE 4)
OUTER_NORMS = ("ln1_post", "ln2_post", "ln1", "ln2")


def part_sites(model: Any) -> dict[str, Site]:
    """The sites whose activations add up to the residual stream after the last layer, by name."""
    named = {"embed": Site("resid_pre", 0)}
    for layer in range(int(model.cfg.n_layers)):
        for kind in ("attn", "mlp"):
            site = Site(f"{kind}_out", layer)
            if str(site) in model.hook_dict:
                named[f"{kind} {layer}"] = site
    return named


def block_ends(model: Any) -> list[Site]:
    """The residual stream after every block."""
    return [Site("resid_post", layer) for layer in range(int(model.cfg.n_layers))]


def add_up(
    parts: dict[str, Float[Tensor, "prompt d"]], found: Activations, ends: Sequence[Site]
) -> tuple[dict[str, Float[Tensor, "prompt d"]], list[int]]:
    """The parts, with ``block L`` in place of the attention and MLP of every block whose sum is not what the
    block adds; and
    which blocks those are."""
    kept, whole, before = {"embed": parts["embed"]}, [], parts["embed"]
    for layer, end in enumerate(ends):
        after = found[end].double()
        inner = {name: parts[name] for name in (f"attn {layer}", f"mlp {layer}") if name in parts}
        gap = after - before - sum(inner.values(), torch.zeros_like(after))
        if float(gap.norm()) > EXACT * float((after - before).norm().clamp(min=1e-12)):
            inner = {f"block {layer}": after - before}
            whole.append(layer)
        kept, before = {**kept, **inner}, after
    return kept, whole


def reach(
    model: Any, block: Any, written: Float[Tensor, "prompt d"], part: Float[Tensor, "prompt d"]
) -> FrozenNorm | None:
    """The linear way from what heads or neurons write together to the part of the stream they make: the
    identity, a multiple
    (Granite), or one of the block's norms with its scale frozen; None where it is none of them."""
    scale = float((written * part).sum() / written.square().sum().clamp(min=1e-300))
    same = no_norm(written, gain=scale)
    if _close(scale * written, part):
        return same
    for name in OUTER_NORMS:
        norm = getattr(block, name, None)
        frozen = freeze(model, norm, written) if isinstance(norm, torch.nn.Module) else None
        if frozen is not None and _close(frozen.apply(written), part):
            return frozen
    return None


def _close(ours: Float[Tensor, "prompt d"], part: Float[Tensor, "prompt d"]) -> bool:
    return float((ours - part).norm()) <= EXACT * max(float(part.norm()), 1e-12)


def output_factor(model: Any, asked: Questions, linear: Float[Tensor, "prompt choice"]) -> float:
    """What the model multiplies its logits by after the unembedding, held against its own logits of some
    prompts.

    Raises ``UsageError`` where its logits are no such multiple: then the parts would add up to something
    that it does not answer with.
    """
    # what the choices share follows the prompt without text of its own, and the logits after it are the ones
    # to judge
    few = [Encoding(e.ids, ((0, 1),) * len(e.ids)) for e in asked.encodings[:CHECKED_PROMPTS]]
    last = torch.tensor([len(e.ids) - 1 for e in few])
    final = Site("resid_post", int(model.cfg.n_layers) - 1)
    logits = capture(model, few, [final], last, logits=True).logits
    if logits is None:
        return 1.0
    own = _uncapped(model, logits[:, list(asked.choices)].double())
    factor = output_scale(linear[: len(few)], own)
    if factor is None:
        raise UsageError(
            f"the logits of {model_name(model)} are not its final norm times its unembedding (it has a "
            f"projection or another step "
            "between them), so the answer is no sum of parts; ablate and patch work on it"
        )
    return 1.0 if abs(factor - 1) < EXACT else factor


def logit_cap(model: Any) -> float:
    """The model's cap on its logits (Gemma 2); not positive where it has none."""
    return float(getattr(model.cfg, "output_logits_soft_cap", -1.0) or -1.0)


def _uncapped(model: Any, logits: Float[Tensor, "prompt choice"]) -> Float[Tensor, "prompt choice"]:
    """Logits before the model's cap · tanh(logit / cap)."""
    cap = logit_cap(model)
    return logits if cap <= 0 else cap * torch.atanh((logits / cap).clamp(-1 + 1e-12, 1 - 1e-12))


def inner_sites(model: Any) -> list[Site]:
    """The sites of heads and neurons of all layers."""
    layers = range(int(model.cfg.n_layers))
    every = [Site(kind, layer) for layer in layers for kind in ("z", "mlp_post")]
    return [site for site in every if str(site) in model.hook_dict]


def whole_note(layers: list[int]) -> str | None:
    """Which blocks are one part each, and why."""
    if not layers:
        return None
    return (
        f"blocks {layer_ranges(layers)} are one part each: what their attention and MLP write does not add "
        "up "
        "to what the block adds "
        "(it normalises the sum, as post-norm blocks do, mixes the stream itself, or has no hook points for "
        "them)"
    )


def rest_note(parts: dict[str, Tensor]) -> str | None:
    """Where the parts do not add up."""
    if "rest" not in parts:
        return None
    return (
        "the known parts do not add up to the residual stream of this model; what is missing is called rest"
    )


def cap_note(model: Any) -> str | None:
    """Where the model caps its logits."""
    cap = logit_cap(model)
    return f"logits are taken before the model's cap of {cap:g}" if cap > 0 else None
