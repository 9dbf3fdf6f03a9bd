"""Paired comparisons: what changed between two runs of the same prompts, and how surely."""

import numpy as np
from jaxtyping import Bool, Float
from torch import Tensor

from mechfourier.stats.intervals import binomial_p

RESAMPLES = 2000
ROUNDING = 1e-5  # effects smaller than this share of the largest are float error of the scores
LEAST = 1e-9  # a denominator smaller than this is 0


def mcnemar(before: Bool[Tensor, " prompt"], after: Bool[Tensor, " prompt"]) -> tuple[float, int, int]:
    """McNemar's exact two-sided p on the discordant prompts, with how many became wrong and how many right.

    Under the null a discordant prompt goes either way with probability ½; without any, p = 1.
    """
    from scipy.stats import binomtest

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
    means = resampled_means(values, seed=seed, resamples=resamples)
    low, high = np.quantile(means, [0.025, 0.975], axis=0)
    return list(zip(low.tolist(), high.tolist(), strict=True))


def resampled_means(
    values: Float[Tensor, "unit column"] | np.ndarray, *, seed: int, resamples: int = RESAMPLES
) -> np.ndarray:
    """[resample, column]: the means of every column over resampled units, the same for all columns."""
    table = np.asarray(values, dtype=np.float64)
    rng, even = np.random.default_rng(seed), np.full(len(table), 1 / len(table))
    sizes = [min(200, resamples - start) for start in range(0, resamples, 200)]  # 200 at a time: memory
    return np.concatenate([rng.multinomial(len(table), even, size=size) @ table for size in sizes]) / len(
        table
    )


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


def share_interval(
    gain: Float[Tensor, " unit"], whole: Float[Tensor, " unit"], *, seed: int, counts: bool = False
) -> tuple[float, float]:
    """95 % studentised bootstrap interval of mean(gain) / mean(whole), resampling units.

    With a dozen units it covers where percentiles do not (`tests/test_causal_share.py`). ``counts``: the
    effects are shares of things counted, so that where no unit with an effect of the whole has any of the
    part, or every one all of it, the far end is what so many units can tell (1 − 0.025^(1/units)).
    """
    g, w = gain.double().numpy(), whole.double().numpy()
    rounding = ROUNDING * np.abs(w).max()
    count, told = len(g), 0.025 ** (1 / max(1, int((np.abs(w) > rounding).sum()))) if counts else 1.0
    if (np.abs(g) <= rounding).all():
        return 0.0, 1.0 - told
    if (np.abs(g - w) <= rounding).all():
        return told, 1.0
    share = g.mean() / w.mean()
    error = float(_ratio_error(np.full((1, count), 1.0), g, w)[0])
    if error <= ROUNDING:  # the same share of every unit
        return float(share), float(share)
    weights = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=RESAMPLES)
    weights = weights[np.abs(weights @ w) > LEAST]
    drawn = (weights @ g) / (weights @ w)
    # a resample of nearly equal units has no spread of its own
    scaled = (drawn - share) / np.maximum(_ratio_error(weights, g, w), 0.2 * error)
    low, high = np.quantile(scaled, [0.025, 0.975])
    return float(share - high * error), float(share - low * error)


def _ratio_error(weights: np.ndarray, gain: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Standard error of Σ gain / Σ whole under each row of weights (delta method)."""
    count = len(gain)
    top, base = weights @ gain / count, weights @ whole / count
    share = top / base
    square = weights @ gain**2 - 2 * share * (weights @ (gain * whole)) + share**2 * (weights @ whole**2)
    return np.sqrt(np.maximum(square / count, 0.0) / max(1, count - 1)) / np.abs(base)


def standardised(change: Float[Tensor, " unit"], base: Float[Tensor, " unit"]) -> float:
    """Mean change in units of the standard deviation of ``base`` over its units; 0 where nothing changed."""
    mean = float(change.double().mean())
    spread = float(base.double().std()) if len(base) > 1 else 0.0
    return 0.0 if mean == 0.0 else mean / max(spread, 1e-12)


def chance_note(right: Bool[Tensor, " prompt"], n: int) -> str | None:
    """A sentence where the share of right answers is not above 1/n (one-sided binomial test at 5 %)."""
    hits, count = int(right.sum()), len(right)
    p = binomial_p(hits, count, 1 / n)
    if p < 0.05:
        return None
    return (
        f"the model answers at chance ({hits} of {count} right, 1 in {n} expected, p = {p:.2g}): "
        "an ablation of a task that it cannot do means nothing"
    )
