"""Drawing addition problems: random lengths, planted carry chains, named categories, every pair of small
numbers."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from mechfourier.errors import OutOfRange, UsageError, nearest
from mechfourier.toys.adder.task import Problems, held_out, join, problems


def draw(
    count: int,
    generator: torch.Generator,
    *,
    len_a: int | Int[Tensor, " problem"],
    len_b: int | Int[Tensor, " problem"],
) -> Problems:
    """``count`` random problems whose operands have these numbers of digits; every number of that length is
    as likely."""
    la, lb = (torch.as_tensor(x).expand(count).clone() for x in (len_a, len_b))
    n = int(torch.maximum(la, lb).max())
    return Problems(_number(la, n, generator), _number(lb, n, generator), la, lb)


def _number(length: Int[Tensor, " problem"], n: int, generator: torch.Generator) -> Int[Tensor, "problem n"]:
    digits = torch.randint(10, (len(length), n), generator=generator)
    top = torch.randint(1, 10, (len(length), 1), generator=generator)
    place = torch.arange(n)[None]
    leads = (place == length[:, None] - 1) & (length[:, None] > 1)  # 0 itself is a number of one digit
    return torch.where(place < length[:, None], torch.where(leads, top, digits), 0)


def plant_chains(
    p: Problems,
    generator: torch.Generator,
    *,
    start: Int[Tensor, " problem"],
    length: Int[Tensor, " problem"],
) -> Problems:
    """The same problems with a carry that begins at digit ``start`` and passes through ``length`` digits in
    all.

    A chain that begins where only one operand has a digit begins at the units instead; it ends at the longer
    operand's last digit.
    """
    place = torch.arange(p.a.shape[1])[None]
    start = torch.where(start < torch.minimum(p.len_a, p.len_b), start, 0)[:, None]
    last = torch.minimum(start[:, 0] + length, p.longest)[:, None]
    in_a, in_b = place < p.len_a[:, None], place < p.len_b[:, None]
    least_a, least_b = ((place == size[:, None] - 1) & (size[:, None] > 1) for size in (p.len_a, p.len_b))
    first_a = torch.randint(1, 10, p.a.shape, generator=generator)
    first_b = 10 - first_a + (torch.rand(p.a.shape, generator=generator) * first_a).long()
    low, high = (
        least_a.long(),
        9 - least_b.long(),
    )  # both digits of a pass sum to 9, and no number begins with 0
    pass_a = low + (torch.rand(p.a.shape, generator=generator) * (high - low + 1)).long()
    pass_a = torch.where(in_a & in_b, pass_a, torch.where(in_a, 9, 0))
    pass_b = torch.where(in_a & in_b, 9 - pass_a, torch.where(in_b, 9, 0))
    begins, passes = place == start, (place > start) & (place < last)
    a = torch.where(begins, first_a, torch.where(passes, pass_a, p.a))
    b = torch.where(begins, first_b, torch.where(passes, pass_b, p.b))
    return Problems(a, b, p.len_a, p.len_b)


def train_batch(
    count: int, generator: torch.Generator, *, digits: Sequence[int] = (1, 2, 3, 4, 5), chains: float = 0.5
) -> Problems:
    """Fresh problems for one step: each operand's length uniform over ``digits``, a share ``chains`` of them
    with a planted carry chain (start and length uniform), none of them held out."""
    parts: list[Problems] = []
    while sum(map(len, parts)) < count:
        found = candidates(count + count // 4, generator, digits, chains)
        parts.append(found[~held_out(found)])
    return join(parts)[slice(0, count)]


def candidates(count: int, generator: torch.Generator, digits: Sequence[int], chains: float) -> Problems:
    """Problems as ``train_batch`` draws them, held-out ones among them."""
    choice = torch.tensor(digits)
    la, lb = (choice[torch.randint(len(digits), (count,), generator=generator)] for _ in range(2))
    p = draw(count, generator, len_a=la, len_b=lb)
    start = (torch.rand(count, generator=generator) * torch.minimum(la, lb)).long()
    length = 1 + (torch.rand(count, generator=generator) * (p.longest - start)).long()
    planted = plant_chains(p, generator, start=start, length=length)
    chosen = torch.rand(count, generator=generator) < chains
    return _either(chosen, planted, p)


def _either(chosen: Bool[Tensor, " problem"], x: Problems, y: Problems) -> Problems:
    a, b = (torch.where(chosen[:, None], u, v) for u, v in ((x.a, y.a), (x.b, y.b)))
    return Problems(a, b, x.len_a, x.len_b)


def unseen_batch(
    count: int, generator: torch.Generator, *, len_a: int, len_b: int, unseen: bool = True
) -> Problems:
    """Held-out problems of these lengths (any, with ``unseen=False``, which is enough beyond the training
    lengths).

    Raises ``OutOfRange`` where the hash class holds no pair of these lengths.
    """
    if not unseen:
        return draw(count, generator, len_a=len_a, len_b=len_b)
    parts: list[Problems] = []
    for _ in range(200):
        found = draw(max(64, 2 * count), generator, len_a=len_a, len_b=len_b)
        parts.append(found[held_out(found)])
        if sum(map(len, parts)) >= count:
            return join(parts)[slice(0, count)]
    raise OutOfRange(f"too few pairs of {len_a} and {len_b} digits are held out to draw {count} of them")


def every_pair(digits: int) -> Problems:
    """All pairs of numbers of up to ``digits`` digits (0 included): 100 for one digit, 10,000 for two.

    Raises ``OutOfRange`` above three digits.
    """
    if not 1 <= digits <= 3:
        raise OutOfRange(f"every pair of {digits} digits is too many (or none); use 1, 2 or 3")
    size = 10**digits
    return problems([(x, y) for x in range(size) for y in range(size)])


def mixed_carries(count: int, n: int, generator: torch.Generator, *, share: float | None = None) -> Problems:
    """Problems of two n-digit numbers in which a digit pair sums to 10 or more with probability ``share``
    (None: drawn anew for every problem, uniform in 0..1), so that few and many carries are as common. Pairs
    that sum to 9 pass carries on."""
    chance = torch.rand(count, 1, generator=generator) if share is None else torch.full((count, 1), share)
    pairs = torch.cartesian_prod(torch.arange(10), torch.arange(10))
    total = pairs.sum(1)
    big = torch.rand(count, n, generator=generator) < chance
    top = torch.arange(n)[None] == n - 1
    digits = torch.zeros(count, n, 2, dtype=torch.long)
    for carry, leads in ((True, True), (True, False), (False, True), (False, False)):
        allowed = pairs[((total >= 10) == carry) & ((pairs.amin(1) > 0) | (not leads or n == 1))]
        drawn = allowed[torch.randint(len(allowed), (count, n), generator=generator)]
        digits = torch.where(((big == carry) & (top == leads))[..., None], drawn, digits)
    length = torch.full((count,), n)
    return Problems(digits[..., 0], digits[..., 1], length, length)


# Categories: problems that go wrong for a reason of their own. Each draws ``count`` problems of n-digit
# operands.


def _full_chain(count: int, n: int, generator: torch.Generator) -> Problems:
    p = draw(count, generator, len_a=n, len_b=n)
    return plant_chains(p, generator, start=torch.zeros(count).long(), length=torch.full((count,), n))


def _no_carry(count: int, n: int, generator: torch.Generator) -> Problems:
    p = draw(count, generator, len_a=n, len_b=n)
    room = (torch.rand(p.a.shape, generator=generator) * (10 - p.a)).long()
    top = torch.arange(n)[None] == n - 1
    a = torch.where(top & (n > 1), p.a.clamp(max=8), p.a)  # so that b need not begin with 0
    b = torch.where(
        top & (n > 1), 1 + (room * (9 - a) // (10 - p.a).clamp(min=1)), torch.minimum(room, 9 - a)
    )
    return Problems(a, torch.minimum(b, 9 - a), p.len_a, p.len_b)


def _nines_plus_one(count: int, n: int, generator: torch.Generator) -> Problems:
    nines = problems([(10**n - 1, 1), (1, 10**n - 1)])
    return nines[torch.randint(2, (count,), generator=generator)]


def _zero(count: int, n: int, generator: torch.Generator) -> Problems:
    p = draw(count, generator, len_a=n, len_b=1)
    p = Problems(p.a, torch.zeros_like(p.b), p.len_a, p.len_b)
    swapped = Problems(p.b, p.a, p.len_b, p.len_a)
    first = torch.randperm(count, generator=generator) < count // 2
    return join([p[first], swapped[~first]])


def _equal(count: int, n: int, generator: torch.Generator) -> Problems:
    p = draw(count, generator, len_a=n, len_b=n)
    return Problems(p.a, p.a.clone(), p.len_a, p.len_a)


def _one_and_long(count: int, n: int, generator: torch.Generator) -> Problems:
    half = count // 2
    parts = [draw(half, generator, len_a=1, len_b=n), draw(count - half, generator, len_a=n, len_b=1)]
    return join([part for part in parts if len(part)])


def _unequal(count: int, n: int, generator: torch.Generator) -> Problems:
    short = torch.randint(1, max(n, 2), (count,), generator=generator)
    other = torch.full((count,), n)
    swap = torch.rand(count, generator=generator) < 0.5
    la, lb = torch.where(swap, short, other), torch.where(swap, other, short)
    return draw(count, generator, len_a=la, len_b=lb)


def _unequal_full_chain(count: int, n: int, generator: torch.Generator) -> Problems:
    p = _unequal(count, n, generator)
    return plant_chains(p, generator, start=torch.zeros(count).long(), length=p.longest)


def _inner_zeros(count: int, n: int, generator: torch.Generator) -> Problems:
    p = draw(count, generator, len_a=n, len_b=n)
    inner = torch.arange(n)[None] < n - 1
    keep = torch.rand(2, count, n, generator=generator) < 0.2
    a, b = (torch.where(inner & ~keep[i], 0, x) for i, x in enumerate((p.a, p.b)))
    return Problems(a, b, p.len_a, p.len_b)


def _random(count: int, n: int, generator: torch.Generator) -> Problems:
    return draw(count, generator, len_a=n, len_b=n)


CATEGORIES: dict[str, Callable[[int, int, torch.Generator], Problems]] = {
    "equal lengths": _random,
    "unequal lengths": _unequal,
    "full-length carry chain": _full_chain,
    "full chain, unequal lengths": _unequal_full_chain,
    "no carry": _no_carry,
    "9…9 + 1": _nines_plus_one,
    "zero": _zero,
    "equal operands": _equal,
    "one digit + n digits": _one_and_long,
    "zeros inside": _inner_zeros,
}


def category(name: str, count: int, n: int, generator: torch.Generator) -> Problems:
    """``count`` problems of a named category with n-digit operands; raises ``UsageError`` for an unknown
    name."""
    if name not in CATEGORIES:
        raise UsageError(f"no category {name!r}; closest: {nearest(name, CATEGORIES)}")
    return CATEGORIES[name](count, n, generator)
