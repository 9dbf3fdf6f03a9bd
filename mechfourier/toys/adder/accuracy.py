"""Where an adder answers right: exact match by greedy decoding, over lengths, categories, carries and answer
positions."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Int
from torch import Tensor

from mechfourier.errors import OutOfRange
from mechfourier.progress import progress
from mechfourier.stats.intervals import wilson
from mechfourier.toys.adder.decode import decode_all
from mechfourier.toys.adder.draw import (
    CATEGORIES,
    category,
    draw,
    every_pair,
    mixed_carries,
    plant_chains,
    unseen_batch,
)
from mechfourier.toys.adder.source import open_adder, trained_digits
from mechfourier.toys.adder.task import Problems, held_out, join
from mechfourier.toys.result import WrittenResult

if TYPE_CHECKING:
    import pandas as pd

MAX_DIGITS = 50
SAMPLES = 20
BEYOND = (6, 8, 10, 15, 20, 30, 50)
CARRY_DIGITS = (
    20  # length at which carries and answer positions are looked at (the longest known, where that is less)
)
WORST = 8  # shares of a group that are printed; the files hold all of them
GROUPS = (
    "lengths",
    "categories",
    "longest carry chain",
    "number of carries",
    "answer position",
    "exhaustive",
)


@dataclass(frozen=True)
class Share:
    """How many of ``total`` were right, with the 95 % Wilson interval (Wilson 1927). ``group`` is one of
    ``GROUPS``; ``a`` and ``b`` are the operands' digits (−1 where they vary); ``held_out``: no pair of it was
    ever trained on."""

    group: str
    label: str
    a: int
    b: int
    right: int
    total: int
    low: float
    high: float
    held_out: bool

    @property
    def accuracy(self) -> float:
        return self.right / self.total


def share(group: str, label: str, right: Bool[Tensor, " problem"], *, a: int, b: int, unseen: bool) -> Share:
    """A ``Share`` of these outcomes (at least one)."""
    count, total = int(right.sum()), len(right)
    return Share(group, label, a, b, count, total, *wilson(count, total), unseen)


@dataclass(frozen=True)
class AdderAccuracy(
    WrittenResult,
    kind="adder-accuracy",
    figure="mechfourier.toys.adder.figures:lengths_figure",
    part="mechfourier.toys.adder.figures:accuracy_part",
):
    """Everything measured. ``samples`` problems per pair of lengths; ``limit``: the longest operand the model
    has positions for (0: any). ``notes`` say what was left out."""

    stem = "accuracy"

    model: str
    trained_digits: int
    limit: int
    samples: int
    seed: int
    shares: tuple[Share, ...]
    notes: tuple[str, ...]

    def of(self, group: str) -> tuple[Share, ...]:
        """The shares of one group."""
        return tuple(s for s in self.shares if s.group == group)

    def within(self, low: int, high: int) -> tuple[int, int]:
        """Right and total over the length pairs whose longer operand has ``low`` to ``high`` digits."""
        cells = [s for s in self.of("lengths") if low <= max(s.a, s.b) <= high]
        return sum(s.right for s in cells), sum(s.total for s in cells)

    def frame(self) -> "pd.DataFrame":
        """One row per share."""
        import pandas as pd

        columns = ("group", "label", "a", "b", "right", "total", "low", "high", "held_out")
        frame = pd.DataFrame(
            [{c: getattr(s, c) for c in columns} for s in self.shares], columns=list(columns)
        )
        return frame.assign(accuracy=frame["right"] / frame["total"])

    def summary(self) -> dict[str, Any]:
        """What ``--json`` prints: the model, accuracy within and beyond the training lengths, and every
        group's worst share."""
        inside, beyond = self.within(1, self.trained_digits), self.within(self.trained_digits + 1, 10**9)
        worst = {g: min(self.of(g), key=lambda s: s.accuracy, default=None) for g in GROUPS}
        return {
            "model": self.model,
            "trained_digits": self.trained_digits,
            "limit": self.limit or None,
            "accuracy": inside[0] / inside[1],
            "accuracy_beyond": beyond[0] / beyond[1] if beyond[1] else None,
            "problems": sum(s.total for s in self.shares),
            "worst": {
                g: {"label": s.label, "accuracy": s.accuracy, "low": s.low, "high": s.high, "total": s.total}
                for g, s in worst.items()
                if s is not None
            },
            "notes": list(self.notes),
        }

    def __str__(self) -> str:
        inside, beyond = self.within(1, self.trained_digits), self.within(self.trained_digits + 1, 10**9)
        lines = [
            f"{self.model}: exact match by greedy decoding, 95 % Wilson intervals; trained on 1 to "
            f"{self.trained_digits} digits",
            f"1 to {self.trained_digits} digits     {_rate(*inside)}",
        ]
        if beyond[1]:
            longest = max(max(s.a, s.b) for s in self.of("lengths"))
            lines.append(f"{self.trained_digits + 1} to {longest} digits    {_rate(*beyond)}")
        lines += _category_table(self.of("categories"))
        for group in GROUPS[2:]:
            lines += _group_lines(group, self.of(group))
        return "\n".join([*lines, *(f"note: {n}" for n in self.notes)])


def _category_table(shares: Sequence[Share]) -> list[str]:
    """Exact match, category by length; ``–`` where a category has no held-out problem of that length."""
    lengths = sorted({s.a for s in shares})
    rates = {(s.label.rsplit(", ", 1)[0], s.a): f"{s.accuracy:.1%}" for s in shares}
    names = dict.fromkeys(name for name, _ in rates)
    lines = ["", f"{'categories, by digits':<30}" + "".join(f"{n:>8}" for n in lengths)]
    return lines + [
        f"  {name:<28}" + "".join(f"{rates.get((name, n), '–'):>8}" for n in lengths) for name in names
    ]


def _group_lines(group: str, shares: Sequence[Share]) -> list[str]:
    """A group in a line where everything is right, else its worst shares."""
    if not shares:
        return []
    right, total = sum(s.right for s in shares), sum(s.total for s in shares)
    worst = sorted((s for s in shares if s.right < s.total), key=lambda s: s.accuracy)[:WORST]
    return [
        "",
        f"{group:<30}{_rate(right, total)}, {len(shares)} kinds",
        *(f"  {s.label:<28}{_rate(s.right, s.total)}" for s in worst),
    ]


def _rate(right: int, total: int) -> str:
    low, high = wilson(right, total)
    return f"{right / total:7.2%}  [{low:.2%}, {high:.2%}]  {right} of {total}"


def correct_characters(model: Any, p: Problems) -> Bool[Tensor, "problem step"]:
    """Whether each character of the answer, in the order it is written, is right; True beyond the answer's
    own end.

    Problems of one length are decoded together, and with cached encoder states and keys.
    """
    form = model.cfg.format
    target = form.target(p)
    right = torch.ones(len(p), target.shape[1], dtype=torch.bool)
    for size in p.longest.unique().tolist():
        rows = (p.longest == size).nonzero()[:, 0]
        part = p[rows]
        part = Problems(part.a[:, :size], part.b[:, :size], part.len_a, part.len_b)
        wanted = form.target(part)
        written = decode_all(model, form.source(part).to(model.W_E.device), max_steps=form.steps(size)).cpu()
        written = F.pad(written, (0, max(0, wanted.shape[1] - written.shape[1])), value=-1)[
            :, : wanted.shape[1]
        ]
        right[rows[:, None], torch.arange(wanted.shape[1])] = written == wanted
    return right


def exact(model: Any, p: Problems) -> Bool[Tensor, " problem"]:
    """Whether the whole answer, its end included, is right."""
    return correct_characters(model, p).all(1)


def sweep_accuracy(
    run: Any,
    *,
    samples: int = SAMPLES,
    max_digits: int = MAX_DIGITS,
    category_samples: int = 200,
    lengths: Sequence[int] | None = None,
    seed: int = 0,
) -> AdderAccuracy:
    """Measure an adder (a run folder, a checkpoint, a packaged name or a model) over every pair of lengths up
    to ``max_digits``, every category at ``lengths``, carries, answer positions, and all problems of one and
    two digits.

    Problems no longer than the training's are held out (where a category has such ones). ``samples`` per pair
    of lengths, ``category_samples`` per category and length. Raises ``OutOfRange`` for fewer than one sample
    or digit, and ``UsageError`` where the run is no adder.
    """
    if samples < 1 or max_digits < 1:
        raise OutOfRange(f"samples = {samples}, max_digits = {max_digits}; both must be at least 1")
    model, config = open_adder(run)
    known, limit = trained_digits(config), model.cfg.max_digits or 0
    longest = min(max_digits, limit) if limit else max_digits
    notes = []
    if longest < max_digits:
        notes.append(
            f"{model.mechfourier_name} has positions for {limit} digits: no longer problem can be asked"
        )
    at = [n for n in (lengths or (known, *BEYOND)) if n <= longest] or [longest]
    work = [
        *_length_work(longest, known, samples, seed),
        *_category_work(at, known, category_samples, seed),
        *_carry_work(min(CARRY_DIGITS, longest), known, category_samples, seed),
        *_exhaustive_work(min(2, longest)),
    ]
    shares: list[Share] = []
    with progress("problems", total=sum(len(w.problems) for w in work)) as bar:
        for w in work:
            shares += w.measure(model)
            bar.advance(len(w.problems))
    return AdderAccuracy(model.mechfourier_name, known, limit, samples, seed, tuple(shares), tuple(notes))


@dataclass(frozen=True, eq=False)
class _Work:
    """Problems to decode together, and how their outcomes become shares."""

    problems: Problems
    shares: Callable[[Bool[Tensor, "problem step"], Problems], list[Share]]

    def measure(self, model: Any) -> list[Share]:
        return self.shares(correct_characters(model, self.problems), self.problems)


def _generator(seed: int, *place: int) -> torch.Generator:
    number = seed
    for part in place:
        number = (number * 1_000_003 + part + 1) % 2**62
    return torch.Generator().manual_seed(number)


def _length_work(longest: int, known: int, samples: int, seed: int) -> Iterator[_Work]:
    """Every (len_a, len_b), those of one longer operand together."""
    for n in range(1, longest + 1):
        cells = [(a, b) for a, b in itertools.product(range(1, n + 1), repeat=2) if max(a, b) == n]
        unseen = n <= known
        parts = [
            unseen_batch(samples, _generator(seed, a, b), len_a=a, len_b=b, unseen=unseen) for a, b in cells
        ]

        def shares(
            right: Tensor, p: Problems, cells: list[tuple[int, int]] = cells, unseen: bool = unseen
        ) -> list[Share]:
            del p
            whole = right.all(1).split(samples)
            return [
                share("lengths", f"{a} + {b} digits", r, a=a, b=b, unseen=unseen)
                for (a, b), r in zip(cells, whole, strict=True)
            ]

        yield _Work(join(parts), shares)


def _category_work(lengths: Sequence[int], known: int, samples: int, seed: int) -> Iterator[_Work]:
    for n, (i, name) in itertools.product(lengths, enumerate(CATEGORIES)):
        found = category(name, samples * (12 if n <= known else 1), n, _generator(seed, 1000 + i, n))
        unseen = n <= known
        if unseen:
            found = found[held_out(found)][slice(0, samples)]
        if not len(found):
            continue  # 9…9 + 1 of a length trained on is one pair, and mostly none of the held-out ones

        def shares(
            right: Tensor, p: Problems, name: str = name, n: int = n, unseen: bool = unseen
        ) -> list[Share]:
            del p
            return [share("categories", f"{name}, {n} digits", right.all(1), a=n, b=-1, unseen=unseen)]

        yield _Work(found, shares)


def _carry_work(n: int, known: int, samples: int, seed: int) -> Iterator[_Work]:
    """Problems of n-digit operands by what their carries do, and by answer position."""
    generator = _generator(seed, 2000)
    per_length = max(1, samples // 4)
    wanted = torch.arange(n + 1).repeat_interleave(per_length)
    base = mixed_carries(len(wanted), n, generator, share=0.1)
    start = (torch.rand(len(wanted), generator=generator) * (n - wanted + 1)).long().clamp(max=n - 1)
    chains = plant_chains(base, generator, start=start, length=wanted)
    chains = _either(wanted > 0, chains, base)
    yield _Work(
        _unseen(chains, n, known), _grouped("longest carry chain", lambda p: p.chain, "chain of {}", n, known)
    )
    counts = mixed_carries(samples * 10, n, generator)
    yield _Work(
        _unseen(counts, n, known),
        _grouped("number of carries", lambda p: p.carries.sum(1), "{} carries", n, known),
    )
    yield _Work(
        _unseen(draw(samples * 5, generator, len_a=n, len_b=n), n, known),
        lambda right, p: [
            share("answer position", f"character {i + 1} written", right[:, i], a=n, b=n, unseen=n <= known)
            for i in range(right.shape[1])
        ],
    )


def _either(chosen: Tensor, x: Problems, y: Problems) -> Problems:
    a, b = (torch.where(chosen[:, None], u, v) for u, v in ((x.a, y.a), (x.b, y.b)))
    return Problems(a, b, x.len_a, x.len_b)


def _unseen(p: Problems, n: int, known: int) -> Problems:
    """Only held-out problems where the length was trained on (all of them where none is)."""
    kept = p[held_out(p)] if n <= known else p
    return kept if len(kept) else p


def _grouped(
    group: str, key: Callable[[Problems], Int[Tensor, " problem"]], label: str, n: int, known: int
) -> Callable[[Tensor, Problems], list[Share]]:
    def shares(right: Tensor, p: Problems) -> list[Share]:
        values, whole = key(p), right.all(1)
        return [
            share(group, label.format(v), whole[values == v], a=n, b=n, unseen=n <= known)
            for v in values.unique().tolist()
        ]

    return shares


def _exhaustive_work(digits: int) -> Iterator[_Work]:
    """Every pair of one and of two digits, those trained on apart from those held out."""
    for n in range(1, digits + 1):

        def shares(right: Tensor, p: Problems, n: int = n) -> list[Share]:
            whole, unseen = right.all(1), held_out(p)
            names = (("trained on", ~unseen, False), ("held out", unseen, True))
            return [
                share("exhaustive", f"all pairs below {10**n}, {name}", whole[chosen], a=n, b=n, unseen=flag)
                for name, chosen, flag in names
            ]

        yield _Work(every_pair(n), shares)
