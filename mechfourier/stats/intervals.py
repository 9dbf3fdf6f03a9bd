"""Intervals of proportions."""

from mechfourier.errors import OutOfRange


def wilson(count: int, trials: int) -> tuple[float, float]:
    """95 % score interval of a proportion (Wilson 1927). Raises ``OutOfRange`` without a trial."""
    from scipy.stats import binomtest

    if trials < 1:
        raise OutOfRange(f"{trials} trials have no proportion; use at least 1")
    interval = binomtest(count, trials).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)


def clopper_pearson(count: int, trials: int) -> tuple[float, float]:
    """95 % exact interval of a proportion (Clopper & Pearson 1934). Raises ``OutOfRange`` without a trial."""
    from scipy.stats import binomtest

    if trials < 1:
        raise OutOfRange(f"{trials} trials have no proportion; use at least 1")
    interval = binomtest(count, trials).proportion_ci(method="exact")
    return float(interval.low), float(interval.high)


def binomial_p(count: int, trials: int, chance: float) -> float:
    """p that at least ``count`` of ``trials`` come by ``chance`` (exact, one-sided)."""
    from scipy.stats import binomtest

    return float(binomtest(count, trials, chance, alternative="greater").pvalue)
