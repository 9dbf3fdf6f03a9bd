"""How a network may compute what its tensors do not say: activation, place of the norms, kind of attention."""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from mechfourier.toys.reading.axes import Ours
from mechfourier.toys.reading.questions import Known

ACTS = ("relu", "gelu", "square", "silu", "gelu_new", "tanh")


@dataclass(frozen=True)
class Hints:
    """What the user or the configuration beside the file says; None and empty where nothing does."""

    questions: Known = field(default_factory=Known)
    heads: int | None = None
    act: str | None = None
    attn_coeff: float | None = None
    norm: str | None = None
    tasks: tuple[str, ...] = ()
    table: Tensor | None = None


@dataclass(frozen=True)
class Seen:
    """What the tensors say: whether there are norms, with biases; attention; more than one layer; and whether
    they are named as PyTorch's encoder is, whose norms stand after the sum and which masks nothing."""

    norms: bool
    biased: bool
    attention: bool
    deep: bool
    encoder: bool

    @classmethod
    def of(cls, ours: Ours) -> "Seen":
        names, theirs = list(ours.weights), [name for name, _ in ours.how.values()]
        return cls(
            norms=any(".ln1." in name or ".ln2." in name for name in names),
            biased=any(name.endswith((".ln1.b", ".ln2.b")) for name in names),
            attention=any(".attn." in name for name in names),
            deep=sum(name.endswith((".W_Q", ".mlp.W_in")) for name in names) > 2,
            encoder=any("norm1" in name or "self_attn" in name for name in theirs),
        )


def settings_of(ours: Ours, hints: Hints) -> Iterator[dict[str, Any]]:
    """Fields of a `ModularConfig`, and what `changed` takes; the usual first."""
    seen = Seen.of(ours)
    rms = {"rms": seen.norms and not seen.biased}
    usual = ("silu", "gelu", "relu") if any(name.endswith("W_gate") for name in ours.weights) else ACTS
    acts = [hints.act] if hints.act else list(usual)
    places = ["none"] if not seen.norms else ["post", "pre"] if seen.encoder else ["pre", "post"]
    if hints.norm in places:
        places = [hints.norm]
    masks = [not seen.encoder, seen.encoder] if seen.deep else [not seen.encoder]
    if not seen.attention:
        yield from ({"act": act, "norm": norm, **rms} for act, norm in itertools.product(acts, places))
        return
    coefficients = [1.0, 0.0] if hints.attn_coeff is None else [hints.attn_coeff]
    for act, norm, coefficient, causal in itertools.product(acts, places, coefficients, masks):
        yield {"act": act, "norm": norm, "attn_coeff": coefficient, "causal": causal, **rms}
    for act, norm, causal in itertools.product(acts[:2], places, masks):
        common = {"act": act, "norm": norm, "causal": causal, "attn_coeff": coefficients[0], **rms}
        yield from (common | rare for rare in _rare(seen, linear=hints.attn_coeff is None))


def _rare(seen: Seen, *, linear: bool) -> Iterator[dict[str, Any]]:
    """``linear``: attention without softmax may be meant."""
    if linear:
        yield {"attention": "linear"}
        yield {"attention": "linear", "unscaled": True}
    yield {"causal": False, "pool": "mean"}
    yield {"causal": False, "pool": "first"}
    yield {"scaled_embedding": True}
    yield {"rotary": True}
    yield {"unscaled": True}
    yield {"sinusoids": True}
    yield {"sinusoids": True, "scaled_embedding": True}
    if not seen.norms:  # layer norms folded into what follows them
        yield {"norm": "pre", "norm_weights": False, "final_norm": True}


def changed(weights: dict[str, Tensor], settings: dict[str, Any]) -> dict[str, Tensor]:
    """The weights of a network that scales its embedding by √d, leaves the scores unscaled, or adds sinusoids
    for positions that the file does not hold; these settings are taken out."""
    embed = weights["embed.W_E"]
    if settings.pop("scaled_embedding", False):
        weights = weights | {"embed.W_E": embed * math.sqrt(embed.shape[1])}
    if settings.pop("unscaled", False):
        queries = {name: value for name, value in weights.items() if name.endswith((".W_Q", ".b_Q"))}
        weights = weights | {name: value * math.sqrt(value.shape[-1]) for name, value in queries.items()}
    if settings.pop("sinusoids", False):
        waves = sinusoids(len(weights["pos_embed.W_pos"]), embed.shape[1])
        weights = weights | {"pos_embed.W_pos": weights["pos_embed.W_pos"] + waves.to(embed)}
    return weights


def sinusoids(positions: int, d: int) -> Tensor:
    """The fixed encoding of Vaswani et al. (2017): sine and cosine in turn."""
    rates = 10000 ** (-torch.arange(0, d, 2).double() / d)
    angles = torch.arange(positions).double()[:, None] * rates
    return torch.stack([angles.sin(), angles.cos()], 2).flatten(1)[:, :d]
