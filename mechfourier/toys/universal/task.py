"""Addition in every modulus: which moduli are trained and held out, and questions (m, a, b) of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from mechfourier.errors import OutOfRange, UsageError, nearest

SMALLEST = 2
HELD_OUT = tuple(range(15, 116, 10))
"""The moduli of 2 to 120 that are never trained: 15, 25, …, 115."""
SPARSE = (
    2,
    3,
    5,
    7,
    11,
    13,
    19,
    28,
    37,
    46,
    55,
    64,
    73,
    82,
    91,
    100,
    112,
    125,
    138,
    150,
    163,
    175,
    188,
    199,
)
"""Some 24 moduli spread over 2 to 199; all others are the test."""
SETS = ("primes", "all", "sparse")
UNSEEN_PRIMES = (17, 41, 71, 101)


@dataclass(frozen=True)
class ModuliSplit:
    """Moduli to train on and those held out, both ascending; ``largest`` bounds every number of the
    training."""

    name: str
    train: tuple[int, ...]
    held_out: tuple[int, ...]

    @property
    def largest(self) -> int:
        return max(self.train)

    def up_to(self, cap: int) -> tuple[int, ...]:
        """The training moduli ≤ ``cap`` (a step of a curriculum); raises ``UsageError`` where there are
        none."""
        kept = tuple(m for m in self.train if m <= cap)
        if not kept:
            raise UsageError(
                f"the curriculum is empty: no modulus to train on is ≤ {cap}; the smallest is "
                f"{min(self.train)}"
            )
        return kept


def check_modulus(m: int) -> int:
    """``m`` itself; raises ``OutOfRange`` below 2."""
    if m < SMALLEST:
        raise OutOfRange(f"m = {m} is no modulus; the smallest is {SMALLEST}")
    return m


def moduli(name: str, *, largest: int = 120) -> ModuliSplit:
    """A named split. ``all``: 2..largest without 15, 25, …; ``primes``: the primes ≤ largest without 17, 41,
    71, 101 (the published runs trained on primes ≤ 79); ``sparse``: ``SPARSE`` against all others of 2..199.

    Raises ``UsageError`` for another name, ``OutOfRange`` where nothing would be left to train on.
    """
    if name not in SETS:
        raise UsageError(
            f"no set of moduli {name!r}; closest: {nearest(name, SETS)}; known: {', '.join(SETS)}"
        )
    check_modulus(largest)
    if name == "sparse":
        return ModuliSplit(name, SPARSE, tuple(m for m in range(2, 200) if m not in SPARSE))
    if name == "primes":
        train = tuple(p for p in _primes(largest) if p not in UNSEEN_PRIMES)
        return ModuliSplit(name, train, UNSEEN_PRIMES)
    held_out = tuple(m for m in HELD_OUT if m <= largest)
    return ModuliSplit(name, tuple(m for m in range(SMALLEST, largest + 1) if m not in held_out), held_out)


def _primes(largest: int) -> tuple[int, ...]:
    return tuple(p for p in range(2, largest + 1) if all(p % q for q in range(2, int(p**0.5) + 1)))


def answers(questions: Int[Tensor, "question 3"]) -> Int[Tensor, " question"]:
    """(a + b) mod m of questions (m, a, b)."""
    m, a, b = questions.unbind(1)
    return (a + b) % m


def wraps(questions: Int[Tensor, "question 3"]) -> Tensor:
    """Bool [question]: a + b reaches m, so that the answer is not the plain sum."""
    m, a, b = questions.unbind(1)
    return a + b >= m


def grid(m: int) -> Int[Tensor, "cell 3"]:
    """Every question mod m, row-major in a."""
    check_modulus(m)
    pairs = torch.cartesian_prod(torch.arange(m), torch.arange(m))
    return torch.cat([torch.full((m * m, 1), m), pairs], dim=1)


def boundary(m: int, lowest: int = -1, highest: int = 0) -> Int[Tensor, "cell 3"]:
    """The questions next to the wrap, by a + b − m from ``lowest`` to ``highest`` (2m − 1 of them for −1 and
    0)."""
    check_modulus(m)
    a, over = torch.cartesian_prod(torch.arange(lowest, highest + 1), torch.arange(m)).unbind(1)[::-1]
    b = m + over - a
    questions = torch.stack([torch.full_like(a, m), a, b], dim=1)
    return questions[(b >= 0) & (b < m)]


def random_questions(m: int, count: int, *, seed: int) -> Int[Tensor, "question 3"]:
    """``count`` random questions mod m, with replacement."""
    return sample([check_modulus(m)], count, torch.Generator().manual_seed(seed))


def sample(
    chosen: Sequence[int], count: int, generator: torch.Generator, *, boundary_share: float = 0.0
) -> Int[Tensor, "question 3"]:
    """Random questions: m uniform over ``chosen``, a and b uniform below m, on the generator's device.

    ``boundary_share`` of them are moved next to the wrap (a + b − m is −4..3), where few are by chance.
    Raises ``UsageError`` for no moduli.
    """
    if not chosen:
        raise UsageError("no modulus to draw from; name at least one")
    device = generator.device
    pool = torch.as_tensor(chosen, device=device)
    m = pool[torch.randint(len(pool), (count,), generator=generator, device=device)]
    a, b = (torch.rand(2, count, generator=generator, device=device, dtype=torch.float64) * m).long()
    if boundary_share > 0:
        near = torch.rand(count, generator=generator, device=device) < boundary_share
        over = torch.randint(-4, 4, (count,), generator=generator, device=device)
        b = torch.where(near, (m + over - a).clamp(min=0).minimum(m - 1), b)
    return torch.stack([m, a, b], dim=1)
