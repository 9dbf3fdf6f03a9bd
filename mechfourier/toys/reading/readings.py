"""Every reading of a state dict: which tensor is which, how it is turned, how questions are written, and how
the network computes."""

import dataclasses
import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor
from torch.nn.functional import cross_entropy

from mechfourier.toys.modular.config import ModularConfig, parameter_shapes
from mechfourier.toys.modular.forward import last_logits
from mechfourier.toys.reading.axes import Ours, choices, in_our_axes
from mechfourier.toys.reading.questions import Question, questions
from mechfourier.toys.reading.settings import Hints, changed, settings_of
from mechfourier.toys.reading.tensors import Assigned, completed, d_model

MOST_READINGS = 6_000
MOST_LAYOUTS, MOST_QUESTIONS = 16, 8
SPREAD = 3.0


@dataclass(frozen=True)
class Reading:
    """One way of reading the file: ``weights`` in our order of tokens, ``config`` without its task."""

    ours: Ours
    assigned: Assigned
    question: Question
    config: ModularConfig
    weights: dict[str, Tensor]
    settings: dict[str, Any] = field(default_factory=dict)

    def loss(self, pairs: Int[Tensor, "pair 2"], table: Int[Tensor, "p p"]) -> tuple[float, float]:
        """Accuracy on the questions about ``pairs``, and the loss (nats) of logits brought to a standard
        deviation of ``SPREAD``, so that it does not tell how large they are."""
        with torch.no_grad():
            found = last_logits(self.config, self.weights, self.question.form.tokens(pairs)).double()
        wanted = table[pairs[:, 0], pairs[:, 1]]
        right = float((found.argmax(1) == wanted).double().mean())
        centred = found - found.mean(1, keepdim=True)
        spread = centred.square().mean().sqrt().clamp_min(1e-30)
        return right, float(cross_entropy(centred * (SPREAD / spread), wanted))

    def answers(self, pairs: Int[Tensor, "pair 2"]) -> Int[Tensor, " pair"]:
        """The answer to every pair (a, b)."""
        tokens = self.question.form.tokens(pairs)
        with torch.no_grad():
            parts = [last_logits(self.config, self.weights, part).argmax(-1) for part in tokens.split(4096)]
        return torch.cat(parts)


def readings(tensors: Mapping[str, Tensor], assigned: Assigned, hints: Hints) -> Iterator[Reading]:
    """Every reading, the likeliest first: of how the network computes, which tensor is which and how it is
    turned, and how questions are written, the first of each list, then the first two, four, eight …"""
    layouts = list(itertools.islice(_layouts(tensors, assigned, hints), MOST_READINGS))
    if not layouts:
        return
    settings = list(settings_of(layouts[0][0], hints))
    asked = [_questions(ours, hints) for ours, _ in layouts]
    sizes = (len(settings), max(map(len, asked)), len(layouts))
    misfits: set[tuple[int, int]] = set()  # whether tensors fit does not depend on the question
    # where names say nothing, which tensor is which comes first: each way, asked and computed as usual
    usual = MOST_READINGS // 2 if len(layouts) > MOST_LAYOUTS else 0
    first = ((0, 0, at) for at in range(min(usual, len(layouts))))
    rest = (each for each in _likeliest(sizes) if each[:2] != (0, 0) or each[2] >= usual)
    for s, q, at in itertools.chain(first, rest):
        if q < len(asked[at]) and (s, at) not in misfits:
            reading = _reading(*layouts[at], asked[at][q], settings[s])
            if reading is None:
                misfits.add((s, at))
            else:
                yield reading


def neighbours(
    reading: Reading, tensors: Mapping[str, Tensor], assigned: Assigned, hints: Hints
) -> Iterator[Reading]:
    """The readings that differ from one in one thing: how the network computes, which tensor is which and how
    it is turned, or how questions are written."""
    ours, plan, question = reading.ours, reading.assigned, reading.question
    others = [(ours, plan, question, each) for each in settings_of(ours, hints)]
    layouts = list(itertools.islice(_layouts(tensors, assigned, hints), MOST_LAYOUTS))
    others += [(*each, question, reading.settings) for each in layouts]
    others += [(ours, plan, each, reading.settings) for each in _questions(ours, hints)[:MOST_QUESTIONS]]
    for other in others:
        if (found := _reading(*other)) is not None:
            yield found


def usual_question(reading: Reading, hints: Hints) -> Reading | None:
    """The same network with its questions written in the likeliest way; None where they are."""
    first = _questions(reading.ours, hints)[0]
    if first == reading.question:
        return None
    return _reading(reading.ours, reading.assigned, first, reading.settings)


def _likeliest(sizes: tuple[int, int, int]) -> Iterator[tuple[int, int, int]]:
    """Every index of a grid by the product of its ordinals, in shells of 1, 2, 4 …: what is rare in one way
    comes early where it is usual in the others."""
    done, bound = 0, 1
    while done < math.prod(sizes):
        for first in range(min(sizes[0], bound)):
            for second in range(min(sizes[1], bound // (first + 1))):
                pair = (first + 1) * (second + 1)
                for third in range(max(0, done // pair), min(sizes[2], bound // pair)):
                    yield first, second, third
        done, bound = bound, bound * 2


def _layouts(
    tensors: Mapping[str, Tensor], assigned: Assigned, hints: Hints
) -> Iterator[tuple[Ours, Assigned]]:
    for plan in completed(tensors, assigned):
        d = d_model(tensors, plan)
        for axes in choices(tensors, plan, d, hints.heads):
            ours = in_our_axes(tensors, plan, d, axes)
            if ours is not None and (tied := _tied(ours)) is not None:
                yield tied, plan


def _tied(ours: Ours) -> Ours | None:
    """An unembedding that is not in the file is the embedding's; None without either."""
    if "embed.W_E" not in ours.weights:
        return None
    if "unembed.W_U" in ours.weights:
        return ours
    theirs, _ = ours.how["embed.W_E"]
    weights = ours.weights | {"unembed.W_U": ours.weights["embed.W_E"].T}
    return Ours(weights, {**ours.how, "unembed.W_U": (theirs, "tied to the embedding")})


def _questions(ours: Ours, hints: Hints) -> tuple[Question, ...]:
    weights = ours.weights
    embed, two = weights["embed.W_E"], "embed.W_E2" in weights
    positions = len(weights["pos_embed.W_pos"]) if "pos_embed.W_pos" in weights else None
    return questions(
        len(embed) * (1 + two), weights["unembed.W_U"].shape[1], positions, hints.questions, two_tables=two
    )


def _reading(ours: Ours, plan: Assigned, question: Question, settings: dict[str, Any]) -> Reading | None:
    """The network of a reading; None where its tensors do not make one."""
    rest = dict(settings)
    form, weights = question.form, changed(question.cut(ours.weights), rest)
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
        gated="blocks.0.mlp.W_gate" in weights,
        n_ctx=len(form.words),
        form=" ".join(form.words),
        vocabularies=form.vocabularies,
        **({"attention": "none"} if first is None else {}),
        **{"final_norm": "ln_final.w" in weights, **rest},
    )
    return fitted(Reading(ours, plan, question, config, weights, settings))


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
