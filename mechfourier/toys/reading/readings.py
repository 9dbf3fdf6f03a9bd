"""Every reading of a state dict: which tensor is which, how it is turned, how questions are written, and how
the network computes."""

import dataclasses
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from mechfourier.toys.modular.config import ModularConfig, parameter_shapes
from mechfourier.toys.modular.forward import logits
from mechfourier.toys.reading.axes import Ours, choices, in_our_axes
from mechfourier.toys.reading.questions import Known, Question, questions
from mechfourier.toys.reading.tensors import Assigned, completed, d_model

MOST_READINGS = 20_000


@dataclass(frozen=True)
class Hints:
    """What the user or the configuration beside the file says; None and empty where nothing does."""

    questions: Known = Known()
    heads: int | None = None
    act: str | None = None
    attn_coeff: float | None = None
    norm: str | None = None
    tasks: tuple[str, ...] = ()
    table: Tensor | None = None


@dataclass(frozen=True)
class Reading:
    """One way of reading the file: ``weights`` in our order of tokens, ``config`` without its task."""

    ours: Ours
    assigned: Assigned
    question: Question
    config: ModularConfig
    weights: dict[str, Tensor]

    def answers(self, pairs: Int[Tensor, "pair 2"]) -> Int[Tensor, " pair"]:
        """The answer to every pair (a, b)."""
        tokens = self.question.form.tokens(pairs)
        with torch.no_grad():
            parts = [logits(self.config, self.weights, part)[:, -1].argmax(-1) for part in tokens.split(4096)]
        return torch.cat(parts)


def readings(tensors: Mapping[str, Tensor], assigned: Assigned, hints: Hints) -> Iterator[Reading]:
    """Every reading, the likeliest first: how the network computes varies slowest, then how questions are
    written, then which tensor is which and how it is turned."""
    layouts = list(itertools.islice(_layouts(tensors, assigned, hints), MOST_READINGS))
    for settings in _settings(layouts, hints):
        for ours, plan in layouts:
            for question in _questions(ours, hints):
                if (reading := _reading(ours, plan, question, settings)) is not None:
                    yield reading


def _layouts(
    tensors: Mapping[str, Tensor], assigned: Assigned, hints: Hints
) -> Iterator[tuple[Ours, Assigned]]:
    for plan in completed(tensors, assigned):
        d = d_model(tensors, plan)
        for axes in choices(tensors, plan, d, hints.heads):
            ours = in_our_axes(tensors, plan, d, axes)
            if ours is not None and {"embed.W_E", "unembed.W_U"} <= set(ours.weights):
                yield ours, plan


def _questions(ours: Ours, hints: Hints) -> list[Question]:
    weights = ours.weights
    embed, two = weights["embed.W_E"], "embed.W_E2" in weights
    positions = len(weights["pos_embed.W_pos"]) if "pos_embed.W_pos" in weights else None
    return questions(
        len(embed) * (1 + two), weights["unembed.W_U"].shape[1], positions, hints.questions, two_tables=two
    )


def _settings(layouts: list[tuple[Ours, Assigned]], hints: Hints) -> Iterator[dict[str, Any]]:
    """How the network may compute, the usual first."""
    if not layouts:
        return
    weights = layouts[0][0].weights
    norms = any(".ln1." in name or ".ln2." in name for name in weights)
    attention = any(".attn." in name for name in weights)
    biased = any(name.endswith("ln1.b") or name.endswith("ln2.b") for name in weights)
    deep = sum(name.endswith((".W_Q", ".mlp.W_in")) for name in weights) > 2
    encoder = any("norm1" in name or "self_attn" in name for name in (theirs for theirs, _ in layouts[0][0].how.values()))
    places = [hints.norm] if hints.norm else [["pre", "post"], ["post", "pre"]][encoder] if norms else ["none"]
    acts = [hints.act] if hints.act else ["relu", "gelu", "square", "tanh", "silu"]
    coefficients = [hints.attn_coeff] if hints.attn_coeff is not None else [1.0, 0.0]
    masks = [not encoder, encoder] if deep else [not encoder]
    usual = list(itertools.product(acts, places, coefficients if attention else [1.0], masks))
    for act, norm, coefficient, causal in usual:
        yield {"act": act, "norm": norm, "attn_coeff": coefficient, "causal": causal, "rms": norms and not biased}
    for act, causal in itertools.product(acts[:2], masks) if attention else ():
        yield {"act": act, "norm": places[0], "causal": causal, "attention": "linear", "rms": norms and not biased}
        if not norms:
            yield {"act": act, "norm": "pre", "causal": causal, "norm_weights": False, "final_norm": True}
        yield {"act": act, "norm": places[0], "causal": False, "pool": "mean", "rms": norms and not biased}


def _reading(ours: Ours, plan: Assigned, question: Question, settings: dict[str, Any]) -> Reading | None:
    """The network of a reading; None where its tensors do not make one."""
    form, weights = question.form, question.cut(ours.weights)
    first = weights.get("blocks.0.attn.W_Q")
    into = weights.get("blocks.0.mlp.W_in")
    heads, d, e = first.shape if first is not None else (1, weights["embed.W_E"].shape[1], 1)
    config = ModularConfig(
        p=form.p,
        d_model=d,
        n_heads=heads,
        d_head=e,
        d_mlp=0 if into is None else into.shape[1],
        n_layers=plan.layers or 1,
        n_ctx=len(form.words),
        form=" ".join(form.words),
        vocabularies=form.vocabularies,
        **({"attention": "none"} if first is None else {}),
        **{"final_norm": "ln_final.w" in weights, **settings},
    )
    return fitted(Reading(ours, plan, question, config, weights))


def fitted(reading: Reading) -> Reading | None:
    """The reading with zeros for the biases that the file lacks; None where a tensor is missing or left
    over."""
    shapes, weights = parameter_shapes(reading.config), dict(reading.weights)
    like = weights["embed.W_E"]
    for name, shape in shapes.items():
        last = name.rsplit(".", 1)[-1]
        if name not in weights and last.startswith("b"):
            weights[name] = like.new_zeros(shape)
        if name not in weights or tuple(weights[name].shape) != shape:
            return None
    if set(weights) - set(shapes):
        return None
    dtype = torch.promote_types(like.dtype, torch.float32)
    ordered = {name: weights[name].to(dtype) for name in shapes}
    return dataclasses.replace(reading, weights=ordered)
