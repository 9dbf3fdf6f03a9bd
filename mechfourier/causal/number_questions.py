"""Questions whose answers are numbers of one token each: what a period of the answer can be asked of."""

import itertools
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy import ndarray
from torch import Tensor

from mechfourier.causal.number_fit import check_numbers
from mechfourier.domains.answers import answer_tokens
from mechfourier.domains.definition import Domain
from mechfourier.domains.prepare import Questions, questions
from mechfourier.domains.sampling import balanced_sample
from mechfourier.errors import UsageError
from mechfourier.hooks.site import model_name
from mechfourier.models.interface import Model
from mechfourier.stats.intervals import binomial_p

FEWEST = 5  # answers, below which a circle fits anything


@dataclass(frozen=True, eq=False)
class NumberQuestions:
    """``asked``: the prompts whose right answer is one of ``numbers`` (ascending), with their tokens as the choices in
    the same order, so that ``asked.right`` is the place of the right number."""

    asked: Questions
    numbers: Float[ndarray, " n"]

    def __len__(self) -> int:
        return len(self.asked.encodings)

    @property
    def cyclic(self) -> bool:
        """Whether the answers start again after the last number."""
        return self.asked.design.wraps_at is not None

    @cached_property
    def counts(self) -> Int[ndarray, " n"]:
        """How many prompts each answer has."""
        return np.bincount(self.asked.right.numpy(), minlength=len(self.numbers))

    @cached_property
    def weights(self) -> Float[Tensor, " prompt"]:
        """What each prompt counts, so that all answers count alike and the mean is 1."""
        count = torch.from_numpy(self.counts).double()
        return len(self) / (len(self.numbers) * count[self.asked.right])

    def subset(self, prompts: Int[Tensor, " chosen"]) -> "NumberQuestions":
        """The same on some of the prompts."""
        asked = self.asked
        kept = replace(
            asked,
            rows=asked.rows[prompts],
            encodings=tuple(asked.encodings[i] for i in prompts.tolist()),
            right=asked.right[prompts],
        )
        return NumberQuestions(kept, self.numbers)


def number_questions(
    model: Model, domain: Domain, task: str | None, n_prompts: int | None, most: int, seed: int
) -> NumberQuestions:
    """The prompts of a task whose right answer is a number of one token (after what all answers begin with), at most
    ``most`` of them where ``n_prompts`` is None. Raises ``UsageError`` where the answers are no numbers, or too few
    of them are of one token."""
    check_numbers(domain.values, domain.name)
    asked = questions(model, domain, task=task, seed=seed)
    design = asked.design
    prompts = [design.prompts[i] for i in asked.rows[: min(len(asked.rows), 64)].tolist()]
    tokens = answer_tokens(model, prompts, design.candidates)
    shared = sum(1 for _ in itertools.takewhile(lambda c: len(set(c)) == 1, zip(*tokens, strict=False)))
    label = design.label[asked.rows]
    met = set(label.tolist())
    number = {
        int(text.strip()): i
        for i, text in enumerate(design.candidates)
        if i in met and text.strip().isdecimal() and len(tokens[i]) == shared + 1
    }
    if len(number) < FEWEST:
        raise UsageError(
            f"{len(number)} answers of {domain.name}, task {asked.task}, are numbers of one token for "
            f"{model_name(model)}; a period of the answer needs {FEWEST}"
        )
    kept = [number[each] for each in sorted(number)]
    place = torch.full((len(design.candidates),), -1)
    place[kept] = torch.arange(len(kept))
    of_kept = (place[label] >= 0).nonzero()[:, 0]
    wanted = min(most, len(of_kept)) if n_prompts is None else n_prompts
    of_kept = of_kept[balanced_sample(label[of_kept], wanted, seed=seed)]
    of_kept = of_kept if n_prompts is None else _of_every(of_kept, place[label[of_kept]], len(kept))
    note = None
    if len(kept) < len(set(label.tolist())):
        note = (
            f"of the {len(set(label.tolist()))} different answers the {len(kept)} are asked that are one token "
            f"({min(number)} to {max(number)}), on {len(of_kept)} of {len(label)} prompts"
        )
    words = [text for text in asked.notes if not text.startswith("the tokenizer splits")]
    restricted = replace(
        asked,
        rows=asked.rows[of_kept],
        encodings=tuple(asked.encodings[i] for i in of_kept.tolist()),
        choices=tuple(tokens[i][shared] for i in kept),
        choice_of=tuple(place.tolist()),
        right=place[label[of_kept]],
        notes=(*words, *([note] if note else [])),
    )
    return NumberQuestions(restricted, np.array(sorted(number), dtype=np.float64))


def _of_every(rows: Int[Tensor, " row"], place: Int[Tensor, " row"], n: int) -> Int[Tensor, " row"]:
    if len(place.unique()) < n:
        raise UsageError(
            f"{len(rows)} prompts do not hold each of the {n} answers; ask {n} or more, or leave n_prompts out"
        )
    return rows


def at_chance(right: Tensor, n: int) -> bool:
    """Whether the share of right answers is not above 1/n (one-sided binomial test at 5 %)."""
    return binomial_p(int(right.sum()), len(right), 1 / n) >= 0.05
