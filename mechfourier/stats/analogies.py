"""Word analogies on a cycle: a is to b as c is to d, with d = c + (b − a) steps round the cycle.

The parallelogram test b − a + c (Mikolov et al. 2013, "Linguistic Regularities in Continuous Space Word
Representations") with two cautions of the later literature: the three given words are excluded from the
candidates (Linzen 2016, arXiv 1606.07736: the nearest word to b − a + c is mostly c itself; the share where
that happens is reported), and cosines are taken in the centred space, since a common mean makes every pair
look alike. Analogies that wrap round the end of the cycle stand apart from those that do not: an ordered line
answers the second kind only.

A circle does not pass the parallelogram test, and need not: an inscribed parallelogram is a rectangle, so b −
a + c misses d for almost every triple. What a circle obeys is the *rotation* analogy, z_d = z_b z_c / z_a
with z the position in the plane of the first two principal components (which know nothing of the labels).
Both are given, with what an ideal circle and an ideal line would score.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int
from numpy import ndarray

from mechfourier.errors import OutOfRange
from mechfourier.fourier.waves import harmonic_waves
from mechfourier.results.base import Result
from mechfourier.stats.null import check_permutations
from mechfourier.stats.permutation import permutation_p


@dataclass(frozen=True)
class AnalogyScore(Result, kind="analogy-score"):
    """Accuracy of one rule over all analogies, in [0, 1]; the given words are no candidates.

    ``wrap``, ``no_wrap``: analogies that leave the end of the list, and those that do not. ``null_mean``,
    ``p_value``: the words relabelled at random. ``circle``, ``line``: what evenly spaced points on each would
    score.
    """

    accuracy: float
    wrap: float
    no_wrap: float
    null_mean: float
    p_value: float
    circle: float
    line: float


@dataclass(frozen=True)
class AnalogyResult(Result, kind="analogy"):
    """Both rules over all analogies of a cycle. ``given_word_nearest``: share of parallelograms where a given
    word is nearer than any candidate; ``chance``: 1 / (n − 3)."""

    site: str
    n: int
    analogies: int
    chance: float
    given_word_nearest: float
    parallelogram: AnalogyScore
    rotation: AnalogyScore

    def __str__(self) -> str:
        lines = [f"{self.site}: {self.analogies} analogies among {self.n} values, chance {self.chance:.1%}"]
        for name, score in (("parallelogram", self.parallelogram), ("rotation", self.rotation)):
            lines.append(
                f"  {name}: {score.accuracy:.1%} (wrapping {score.wrap:.1%}, others {score.no_wrap:.1%}; "
                f"words permuted "
                f"{score.null_mean:.1%}, p = {score.p_value:.3g}; a circle scores {score.circle:.1%}, a "
                f"line {score.line:.1%})"
            )
        return "\n".join(lines)

    def frame(self) -> pd.DataFrame:
        rows = [
            {"rule": "parallelogram", **self.parallelogram.to_dict()},
            {"rule": "rotation", **self.rotation.to_dict()},
        ]
        return pd.DataFrame(rows).assign(site=self.site, n=self.n)


def analogies(
    vectors: Float[ndarray, "value d"], *, site: str = "", permutations: int = 1000, seed: int = 0
) -> AnalogyResult:
    """Answer every analogy a : b :: c : ? of a cycle by the parallelogram and by the rotation; see
    ``AnalogyResult``.

    ``vectors``: mean activation of each of n values in cyclic order. Raises ``OutOfRange`` for n < 5 or n >
    64 (n³ analogies) and for vectors that are not finite or all alike.
    """
    check_permutations(permutations)
    vectors = np.asarray(vectors, np.float64)
    n = len(vectors)
    if not 5 <= n <= 64:
        raise OutOfRange(f"analogies need 5 to 64 values, not {n}")
    centred = vectors - vectors.mean(0)
    if not np.isfinite(centred).all() or np.abs(centred).max() == 0:
        raise OutOfRange(f"the vectors at {site or 'this site'} are not finite, or all alike")
    triples = _analogies(n)
    labels = np.stack([np.random.default_rng((seed, i)).permutation(n) for i in range(permutations)])
    return AnalogyResult(
        site=site,
        n=n,
        analogies=len(triples[0]),
        chance=1 / (n - 3),
        given_word_nearest=float(_nearest(_cosines(centred, *triples), *triples)[1].mean()),
        parallelogram=_score(_cosines, centred, triples, labels),
        rotation=_score(_turned, centred, triples, labels),
    )


Rule = Callable[..., ndarray]
Triples = tuple[ndarray, ndarray, ndarray]


def _score(
    rule: Rule, centred: Float[ndarray, "value d"], triples: Triples, labels: Int[ndarray, "draw value"]
) -> AnalogyScore:
    a, b, c = triples
    n = len(centred)
    wraps = _wraps(a, b, c, n)
    line = np.arange(n) - (n - 1) / 2
    answer = _nearest(rule(centred, a, b, c), a, b, c)[0]
    right = _right(answer, triples, n)
    null = _null(answer, a, b, c, labels)

    def ideal(points: ndarray) -> float:
        return float(_right(_nearest(rule(points, a, b, c), a, b, c)[0], triples, n).mean())

    return AnalogyScore(
        accuracy=float(right.mean()),
        wrap=float(right[wraps].mean()),
        no_wrap=float(right[~wraps].mean()),
        null_mean=float(null.mean()),
        p_value=permutation_p(float(right.mean()), null),
        circle=ideal(harmonic_waves(n, 1).numpy()),
        line=ideal(np.stack([line, np.zeros(n)], -1)),
    )


def _right(answer: Int[ndarray, " m"], triples: Triples, n: int) -> Bool[ndarray, " m"]:
    a, b, c = triples
    return (c + b - a) % n == answer


def _analogies(n: int) -> tuple[Int[ndarray, " m"], Int[ndarray, " m"], Int[ndarray, " m"]]:
    """All (a, b, c) of three different values whose answer d is a fourth; one of (a,b,c) and (a,c,b), which
    ask the same."""
    a, b, c = (axis.ravel() for axis in np.meshgrid(*[np.arange(n)] * 3, indexing="ij"))
    d = (c + b - a) % n
    kept = (a != b) & (b < c) & (a != c) & (d != a) & (d != b) & (d != c)
    return a[kept], b[kept], c[kept]


def _wraps(
    a: Int[ndarray, " m"], b: Int[ndarray, " m"], c: Int[ndarray, " m"], n: int
) -> Bool[ndarray, " m"]:
    """Whether the straight parallelogram c + b − a leaves 0 … n − 1."""
    straight = c + b - a
    return (straight < 0) | (straight >= n)


def _cosines(
    centred: Float[ndarray, "value d"], a: Int[ndarray, " m"], b: Int[ndarray, " m"], c: Int[ndarray, " m"]
) -> Float[ndarray, "m value"]:
    """Cosine (up to the positive norm of the query) of b − a + c with every value; a value at the centre has
    no direction."""
    gram = centred @ centred.T
    norm = np.sqrt(np.maximum(np.diag(gram), 1e-30))
    return (gram[b] - gram[a] + gram[c]) / norm


def _nearest(
    scores: Float[ndarray, "m value"], a: Int[ndarray, " m"], b: Int[ndarray, " m"], c: Int[ndarray, " m"]
) -> tuple[Int[ndarray, " m"], Bool[ndarray, " m"]]:
    """The nearest candidate with the given words excluded, and whether a given word would have been
    nearer."""
    row = np.arange(len(scores))
    allowed = scores.copy()
    for given in (a, b, c):
        allowed[row, given] = -np.inf
    return allowed.argmax(1), scores.max(1) > allowed.max(1)


def _turned(
    centred: Float[ndarray, "value d"], a: Int[ndarray, " m"], b: Int[ndarray, " m"], c: Int[ndarray, " m"]
) -> Float[ndarray, "m value"]:
    """Closeness of every value to z_b z_c / z_a in the plane of the first two principal components (minus
    squared distance)."""
    u, s, _ = np.linalg.svd(centred, full_matrices=False)
    z = u[:, 0] * s[0] + 1j * u[:, 1] * s[1]
    safe = np.where(np.abs(z) > 1e-12, z, 1e-12)
    return -(np.abs((z[b] * z[c] / safe[a])[:, None] - z) ** 2)


def _null(
    answer: Int[ndarray, " m"],
    a: Int[ndarray, " m"],
    b: Int[ndarray, " m"],
    c: Int[ndarray, " m"],
    labels: Int[ndarray, "draw value"],
) -> Float[ndarray, " draw"]:
    """Accuracy when the words are relabelled. The answers stay (they do not depend on the labels); askable is
    what, under the new labels, has a fourth word for its right answer."""
    n = labels.shape[1]
    la, lb, lc, ld = labels[:, a], labels[:, b], labels[:, c], labels[:, answer]
    target = (lc + lb - la) % n
    askable = (target != la) & (target != lb) & (target != lc)
    return (askable & (target == ld)).sum(1) / np.maximum(askable.sum(1), 1)
