"""Whether a network answers a task as it was read, or only seems to.

Three things are asked of the answers on all p² questions. *Far above chance*: the task's table is relabelled
at random (a, b and the answers, each by a permutation of its own), which keeps all of its structure and
destroys the reading; the accuracy must lie so far out in that distribution that p < 1e-6, times the number of
readings tried. *Far above every simpler rule*: never wrapping, another modulus, an operand alone, the larger
of both. *No systematic residue*: below 90 %, where the network is right must not depend on which side of a
line the operands lie, and its errors must not be off by one number. A wrong reading that answers a quarter is
right on one corner of the table; a network that has memorised a quarter is right anywhere.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

LEVEL = 1e-6
SURE = 0.9
WARNED = 0.99
"""Accuracy below which what else was tried is said."""
DRAWS = 200
EXPLAINED = 0.15
"""Part of the variance of being right that one line, or which row it is, may explain."""
OFF_BY = 0.2
"""Part of the errors that one offset may make up before they are systematic."""


@dataclass(frozen=True)
class Acceptance:
    """``p_value``: corrected for the readings tried. ``reason``: why it is none; empty where it is
    accepted."""

    accuracy: float
    p_value: float
    reason: str


def accept(found: Int[Tensor, "p p"], table: Int[Tensor, "p p"], *, tried: int, seed: int = 0) -> Acceptance:
    """Judge the answers ``found[a, b]`` against the task's ``table``, the best of ``tried`` readings."""
    accuracy = float((found == table).double().mean())
    p_value = min(1.0, tried * _chance(found, table, accuracy, seed))
    if p_value >= LEVEL:
        return Acceptance(accuracy, p_value, f"which relabelled tables reach as well (p = {p_value:.2g})")
    name, share = simpler_rule(found, table)
    if share > accuracy or (accuracy < SURE and not _clearly_above(found, table, name)):
        return Acceptance(accuracy, p_value, f"and {share:.1%} as {name!r}")
    residue = systematic(found, table) if accuracy < SURE else ""
    return Acceptance(accuracy, p_value, residue)


def _chance(found: Tensor, table: Tensor, accuracy: float, seed: int) -> float:
    """Bound on the probability that a relabelled table is answered that well.

    Relabellings give the mean μ and variance σ² of the accuracy; μ(1 − μ)/σ² is the number of independent
    questions that this spread is worth, and Chernoff's bound of a binomial of that many the tail.
    """
    p, generator = len(table), torch.Generator().manual_seed(seed)
    scores = []
    for _ in range(DRAWS):
        a, b, c = (torch.randperm(p, generator=generator) for _ in range(3))
        scores.append((c[table[a][:, b]] == found).double().mean())
    drawn = torch.stack(scores)
    mean, variance = float(drawn.mean()), float(drawn.var())
    if accuracy <= mean or mean <= 0:
        return 1.0 if mean > 0 or accuracy == 0 else 0.0
    worth = p * p if variance <= 0 else min(float(p * p), mean * (1 - mean) / variance)
    return math.exp(-worth * _divergence(accuracy, mean))


def _divergence(x: float, mean: float) -> float:
    """KL of two Bernoulli variables, in nats."""
    one = x * math.log(x / mean)
    other = (1 - x) * math.log((1 - x) / (1 - mean)) if x < 1 else 0.0
    return one + other


def simple_rules(p: int) -> Mapping[str, Int[Tensor, "p p"]]:
    """Answers that need no reading of the task."""
    a, b = torch.arange(p)[:, None].expand(p, p), torch.arange(p)[None, :].expand(p, p)
    rules = {
        "a": a,
        "b": b,
        "a + b without a modulus": a + b,
        "a - b without a modulus": a - b,
        "b - a": (b - a) % p,
        "|a - b|": (a - b).abs(),
        "max(a, b)": torch.maximum(a, b),
        "min(a, b)": torch.minimum(a, b),
        "min(a + b, p - 1)": (a + b).clamp_max(p - 1),
    }
    return rules | {f"a + b mod {q}": (a + b) % q for q in range(2, 2 * p) if q != p}


def simpler_rule(found: Int[Tensor, "p p"], table: Int[Tensor, "p p"]) -> tuple[str, float]:
    """The rule of `simple_rules` that agrees best with the answers, and how often; the task itself is none."""
    rules = {name: rule for name, rule in simple_rules(len(table)).items() if not torch.equal(rule, table)}
    shares = {name: float((found == rule).double().mean()) for name, rule in rules.items()}
    best = max(shares, key=lambda name: shares[name])
    return best, shares[best]


def shifted_rule(found: Int[Tensor, "p p"]) -> tuple[str, float]:
    """The rule (a + b + k) mod p, k ≠ 0, that agrees best with the answers, and how often: another numbering of
    the tokens may turn it into the sum nearly everywhere."""
    p = len(found)
    a, b = torch.arange(p)[:, None], torch.arange(p)[None, :]
    counts = torch.bincount(((found - a - b) % p).flatten(), minlength=p)
    k = 1 + int(counts[1:].argmax())
    return f"a + b + {k} mod {p}", float(counts[k]) / p**2


def _clearly_above(found: Tensor, table: Tensor, name: str) -> bool:
    """Where the task and the rule disagree, the network must side with the task (sign test at the level)."""
    rule = simple_rules(len(table))[name]
    ours, theirs = (
        int(((found == table) & (rule != table)).sum()),
        int(((found == rule) & (rule != table)).sum()),
    )
    n = ours + theirs
    return n > 0 and ours > theirs and math.exp(-n * _divergence(ours / n, 0.5)) < LEVEL


def systematic(found: Int[Tensor, "p p"], table: Int[Tensor, "p p"]) -> str:
    """What the errors have in common; empty where that is nothing."""
    right = found == table
    p = len(table)
    a, b = torch.arange(p)[:, None].expand(p, p), torch.arange(p)[None, :].expand(p, p)
    sides = {
        "a": a,
        "b": b,
        "a + b": a + b,
        "a - b": a - b,
        "max(a, b)": torch.maximum(a, b),
        "the answer": table,
    }
    for name, value in sides.items():
        explained, at = _best_split(right, value)
        if explained > EXPLAINED:
            return f"and where it is right follows from whether {name} is below {at}"
    for name, value in (("a", a), ("b", b)):
        if _by_group(right, value) > 2 * EXPLAINED:
            return f"and where it is right follows from {name}"
    off = (found - table)[~right] % p
    counts = torch.bincount(off, minlength=p).double()
    most = int(counts.argmax())
    n, mirrored = float(counts[most]), float(counts[-most % p])
    if (
        n > OFF_BY * len(off)
        and n > mirrored
        and math.exp(-(n + mirrored) * _divergence(n / (n + mirrored), 0.5)) < LEVEL
    ):
        return f"and {n / len(off):.0%} of its errors are off by {most if most <= p // 2 else most - p}"
    return ""


def _best_split(right: Bool[Tensor, "p p"], value: Int[Tensor, "p p"]) -> tuple[float, int]:
    """The largest part of the variance of being right that ``value`` < t explains, and that t; both sides
    hold a twentieth of the questions."""
    low, high = int(value.min()), int(value.max())
    size = torch.bincount((value - low).flatten(), minlength=high - low + 1).double()
    hits = torch.bincount((value - low).flatten(), weights=right.double().flatten(), minlength=len(size))
    return _between(size.cumsum(0)[:-1], hits.cumsum(0)[:-1], right, low)


def _between(
    size: Float[Tensor, " cut"], hits: Float[Tensor, " cut"], right: Tensor, low: int
) -> tuple[float, int]:
    n, total = right.numel(), float(right.sum())
    mean = total / n
    spread = mean * (1 - mean)
    allowed = (size >= n / 20) & (size <= n * 19 / 20)
    if spread <= 0 or not bool(allowed.any()):
        return 0.0, low
    below, above = hits / size.clamp_min(1), (total - hits) / (n - size).clamp_min(1)
    explained = torch.where(allowed, size / n * (1 - size / n) * (below - above) ** 2 / spread, 0.0)
    at = int(explained.argmax())
    return float(explained[at]), low + at + 1


def _by_group(right: Bool[Tensor, "p p"], value: Int[Tensor, "p p"]) -> float:
    """The part of the variance of being right that lies between the values, above what chance gives."""
    size = torch.bincount(value.flatten()).double()
    hits = torch.bincount(value.flatten(), weights=right.double().flatten(), minlength=len(size))
    size, hits = size[size > 0], hits[size > 0]
    n, mean = right.numel(), float(right.double().mean())
    if mean in (0.0, 1.0):
        return 0.0
    between = float((size * (hits / size - mean) ** 2).sum() / (n * mean * (1 - mean)))
    return between - len(size) / n
