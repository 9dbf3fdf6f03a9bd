"""The memory of the faithful model: silenced, mixed between questions of other moduli, or taken from another
modulus."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from mechfourier.hooks.interventions import patch, zero
from mechfourier.toys.universal.task import answers, sample

SITE = "memory.hook_state"


@dataclass(frozen=True)
class MemoryEffect:
    """``accuracy`` for the question asked, ``follows_donor``: share of answers right for the modulus whose
    state was put in (NaN where there is none)."""

    what: str
    accuracy: float
    follows_donor: float


@torch.no_grad()
def memory_effects(
    model: Any, moduli: tuple[int, ...], *, count: int = 600, seed: int = 0
) -> tuple[MemoryEffect, ...]:
    """Accuracy with the state intact, zero, permuted over questions, and swapped with that of the next
    modulus.

    Empty for a model without a memory.
    """
    if SITE not in model.hook_dict:
        return ()
    generator = torch.Generator().manual_seed(seed)
    asked = sample(moduli, count, generator)
    order = torch.randperm(count, generator=generator)
    state = _states(model, asked)
    other = asked.clone()
    other[:, 0] = _next(asked, moduli)
    results = [MemoryEffect("intact", _share(model, asked, answers(asked)), float("nan"))]
    with zero(model, _site()):
        results.append(MemoryEffect("zero", _share(model, asked, answers(asked)), float("nan")))
    for what, donors, m in (
        ("permuted between questions", state[order], asked[order, 0]),
        ("swapped with the next modulus", _states(model, other), other[:, 0]),
    ):
        donor_answer = (asked[:, 1] + asked[:, 2]) % m
        with patch(model, _site(), donors):
            found = _answers(model, asked)
        changed = donor_answer != answers(asked)
        hit = (found == answers(asked)).double().mean()
        results.append(
            MemoryEffect(what, float(hit), float((found == donor_answer)[changed].double().mean()))
        )
    return tuple(results)


def _site() -> Any:
    from mechfourier.hooks.site import Site

    return Site.parse(SITE)


def _next(asked: Int[Tensor, "question 3"], moduli: tuple[int, ...]) -> Int[Tensor, " question"]:
    """The next larger modulus of the list for every question (so that a and b stay residues); the last keeps
    its own."""
    known = torch.tensor(sorted(moduli))
    place = torch.searchsorted(known, asked[:, 0].contiguous()) + 1
    return known[place.clamp(max=len(known) - 1)]


def _answers(model: Any, questions: Int[Tensor, "question 3"]) -> Int[Tensor, " question"]:
    return model(model.tokens(questions))[:, -1].argmax(-1)


def _share(model: Any, questions: Int[Tensor, "question 3"], right: Tensor) -> float:
    return float((_answers(model, questions) == right).double().mean())


def _states(model: Any, questions: Int[Tensor, "question 3"]) -> Tensor:
    _, cache = model.run_with_cache(model.tokens(questions), names_filter=SITE)
    return cache[SITE]
