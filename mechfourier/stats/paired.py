"""Paired comparisons: what changed between two runs of the same prompts, and how surely."""

import numpy as np
from jaxtyping import Bool, Float
from scipy.stats import binomtest
from torch import Tensor

RESAMPLES = 2000
LEAST = 1e-9  # a denominator smaller than this is 0


def mcnemar(before: Bool[Tensor, " prompt"], after: Bool[Tensor, " prompt"]) -> tuple[float, int, int]:
    """McNemar's exact two-sided p on the discordant prompts, with how many became wrong and how many right.

    Under the null a discordant prompt goes either way with probability ½; without any, p = 1.
    """
    lost, gained = int((before & ~after).sum()), int((~before & after).sum())
    p = float(binomtest(lost, lost + gained, 0.5).pvalue) if lost + gained else 1.0
    return p, lost, gained


def bootstrap_mean(
    values: Float[Tensor, " unit"] | np.ndarray, *, seed: int, resamples: int = RESAMPLES
) -> tuple[float, float]:
    """95 % percentile bootstrap interval of the mean, resampling units (prompts, or sentences) with
    replacement.

    For paired comparisons ``values`` are the differences. Prompts that share an operand are not independent,
    so the interval speaks of this grid of prompts and not of other values.
    """
    flat = np.asarray(values, dtype=np.float64)
    return bootstrap_means(flat[:, None], seed=seed, resamples=resamples)[0]


def bootstrap_means(
    values: Float[Tensor, "unit column"] | np.ndarray, *, seed: int, resamples: int = RESAMPLES
) -> list[tuple[float, float]]:
    """``bootstrap_mean`` of every column, with the same resampled units for all."""
    table = np.asarray(values, dtype=np.float64)
    rng, even = np.random.default_rng(seed), np.full(len(table), 1 / len(table))
    sizes = [min(200, resamples - start) for start in range(0, resamples, 200)]  # 200 at a time: memory
    means = np.concatenate([rng.multinomial(len(table), even, size=size) @ table for size in sizes])
    low, high = np.quantile(means / len(table), [0.025, 0.975], axis=0)
    return list(zip(low.tolist(), high.tolist(), strict=True))


def ratio(gain: Float[Tensor, " unit"], span: Float[Tensor, " unit"]) -> float:
    """mean(gain) / mean(span); 0 where the span is 0."""
    whole = float(span.double().mean())
    return float(gain.double().mean()) / whole if abs(whole) > LEAST else 0.0


def ratio_interval(
    gain: Float[Tensor, " unit"], span: Float[Tensor, " unit"], *, seed: int
) -> tuple[float, float]:
    """95 % percentile bootstrap interval of mean(gain) / mean(span), resampling units."""
    rng, both = np.random.default_rng(seed), np.stack([gain.double().numpy(), span.double().numpy()])
    sums = np.array([both[:, rng.integers(len(gain), size=len(gain))].sum(axis=1) for _ in range(RESAMPLES)])
    shares = sums[:, 0] / np.where(np.abs(sums[:, 1]) > LEAST, sums[:, 1], np.inf)
    low, high = np.quantile(shares, [0.025, 0.975])
    return float(low), float(high)


def standardised(change: Float[Tensor, " unit"], base: Float[Tensor, " unit"]) -> float:
    """Mean change in units of the standard deviation of ``base`` over its units; 0 where nothing changed."""
    mean = float(change.double().mean())
    spread = float(base.double().std()) if len(base) > 1 else 0.0
    return 0.0 if mean == 0.0 else mean / max(spread, 1e-12)


def chance_note(right: Bool[Tensor, " prompt"], n: int) -> str | None:
    """A sentence where the share of right answers is not above 1/n (one-sided binomial test at 5 %)."""
    hits, count = int(right.sum()), len(right)
    p = float(binomtest(hits, count, 1 / n, alternative="greater").pvalue)
    if p < 0.05:
        return None
    return (
        f"the model answers at chance ({hits} of {count} right, 1 in {n} expected, p = {p:.2g}): "
        "an ablation of a task that it cannot do means nothing"
    )
