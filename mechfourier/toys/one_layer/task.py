"""Binary operations on residues: tables of answers, how they are written as text, and seeded train/test
splits."""

import itertools
import re
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from mechfourier.errors import OutOfRange, UsageError, nearest

SMALLEST_MODULUS = 5


@dataclass(frozen=True)
class ModularTask:
    """``operation(a, b, p)`` on integer tensors gives the answers; ``template`` is how a prompt reads."""

    name: str
    title: str
    template: str
    operation: Callable[[Tensor, Tensor, int], Tensor]

    def prompt(self, a: int, b: int, p: int) -> str:
        """The text of one question: ``5 + 9 mod 113 =``."""
        return self.template.format(a=a, b=b, p=p)

    def pattern(self) -> re.Pattern[str]:
        """Matches a prompt with or without an answer; groups ``a``, ``b``, ``p`` (where named), ``equals``,
        ``answer``."""
        words = [re.escape(word) for word in self.template.split()]
        text = (
            r"\s*".join(words)
            .replace(re.escape("{a}"), r"(?P<a>\d+)")
            .replace(re.escape("{b}"), r"(?P<b>\d+)")
        )
        text = text.replace(re.escape("{p}"), r"(?P<p>\d+)")
        return re.compile(rf"\s*{text.removesuffix('=')}(?P<equals>=)\s*(?P<answer>\d+)?\s*")

    def table(self, p: int) -> Int[Tensor, "p p"]:
        """Answers for every pair: ``table[a, b]``. Raises where ``p`` does not suit the task."""
        self.check_modulus(p)
        a, b = torch.arange(p)[:, None], torch.arange(p)[None, :]
        return self.operation(a, b, p).expand(p, p).contiguous()

    def check_modulus(self, p: int) -> None:
        if p < SMALLEST_MODULUS:
            raise OutOfRange(
                f"p = {p} is too small for a train and a test set; choose p >= {SMALLEST_MODULUS}"
            )
        if self.name == "s5" and p != len(S5):
            raise OutOfRange(f"the group S_5 has {len(S5)} elements, not {p}; choose p = {len(S5)}")


S5 = tuple(itertools.permutations(range(5)))
"""The 120 permutations of five things in lexicographic order; token i stands for ``S5[i]``."""


def _compose_s5(a: Tensor, b: Tensor, _p: int) -> Tensor:
    """The index of x∘y, where (x∘y)(i) = x(y(i))."""
    elements = torch.tensor(S5)
    digits = 5 ** torch.arange(4, -1, -1)
    index = torch.full((5**5,), -1)
    index[elements @ digits] = torch.arange(len(S5))
    x, y = torch.broadcast_tensors(a, b)
    return index[torch.gather(elements[x], -1, elements[y]) @ digits]


def _no_operation(_a: Tensor, _b: Tensor, _p: int) -> Tensor:
    raise UsageError("the task 'table' has the table of its network and no formula; choose another task")


TABLE = ModularTask("table", "x∘y by a table", "{a} ∘ {b} =", _no_operation)
"""The task of an imported network with a multiplication table of its own."""

TASKS = {
    task.name: task
    for task in (
        ModularTask("add", "(a + b) mod p", "{a} + {b} mod {p} =", lambda a, b, p: (a + b) % p),
        ModularTask("subtract", "(a − b) mod p", "{a} - {b} mod {p} =", lambda a, b, p: (a - b) % p),
        ModularTask("multiply", "(a · b) mod p", "{a} * {b} mod {p} =", lambda a, b, p: (a * b) % p),
        ModularTask(
            "squares", "(a² + b²) mod p", "{a}^2 + {b}^2 mod {p} =", lambda a, b, p: (a * a + b * b) % p
        ),
        ModularTask("s5", "x∘y in S_5", "{a} ∘ {b} in S_5 =", _compose_s5),
    )
}


def task(name: str) -> ModularTask:
    """The task of that name; raises ``UsageError`` with the nearest names otherwise."""
    if name == TABLE.name:
        return TABLE
    if name not in TASKS:
        raise UsageError(f"no task {name!r}; closest: {nearest(name, TASKS)}; known: {', '.join(TASKS)}")
    return TASKS[name]


@dataclass(frozen=True)
class ModularData:
    """All p² questions and which of them are trained on. Pairs are row-major (a, b); ``answers[i]`` is in
    0..p−1."""

    task: str
    p: int
    train_fraction: float
    seed: int
    train_pairs: Int[Tensor, "train 2"]
    train_answers: Int[Tensor, " train"]
    test_pairs: Int[Tensor, "test 2"]
    test_answers: Int[Tensor, " test"]


def all_pairs(p: int) -> Int[Tensor, "pair 2"]:
    """Every (a, b), row-major in a."""
    return torch.cartesian_prod(torch.arange(p), torch.arange(p))


def tokens_of(pairs: Int[Tensor, "pair 2"], p: int) -> Int[Tensor, "pair 3"]:
    """``[a, b, =]``, the ``=`` being token p."""
    return torch.cat([pairs, torch.full_like(pairs[:, :1], p)], dim=1)


def split(name: str, p: int, *, train_fraction: float = 0.3, seed: int = 0) -> ModularData:
    """A seeded random split of the p² pairs into ``round(train_fraction · p²)`` to train on and the rest to
    test on.

    Raises ``OutOfRange`` where one of the two would be empty, or p does not suit the task.
    """
    chosen = task(name)
    answers = chosen.table(p).flatten()
    count = round(train_fraction * p * p) if 0 < train_fraction < 1 else 0
    if not 0 < count < p * p:
        raise OutOfRange(
            f"a train fraction of {train_fraction} leaves no {'test' if train_fraction >= 0.5 else 'train'} "
            f"set "
            f"of the {p * p} pairs; choose one between 0.2 and 0.9"
        )
    order = torch.randperm(p * p, generator=torch.Generator().manual_seed(seed))
    train, test = order[:count].sort().values, order[count:].sort().values
    pairs = all_pairs(p)
    return ModularData(
        name, p, train_fraction, seed, pairs[train], answers[train], pairs[test], answers[test]
    )
