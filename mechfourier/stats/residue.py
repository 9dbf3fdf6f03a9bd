"""Functions of the residue class: are they one harmonic, and do they close?

Works on the n class effects of an operation grid, estimated with the confounds partialled out.
"""

import itertools
import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mechfourier.fourier.waves import harmonic_waves, waves
from mechfourier.stats.confounds import Grid, orthonormal
from mechfourier.stats.permutation import permutation_p

MIN_CLASSES = 6
"""Fewer points on a circle are always concentrated on one harmonic: nothing to tell."""
EXACT_CLASSES = 7
ARCS = (0.45, 0.6, 0.75)
"""Turns of the open arcs that a full turn is compared with."""


@dataclass(frozen=True)
class Concentration:
    """Share of the power between the ``classes`` = n / gcd(k, n) residue classes that lies on harmonic k, with its p."""

    classes: int
    share: float
    p: float


@dataclass(frozen=True)
class Curve:
    """Energy that the closed curve (cos, sin) and the best open one (line and parabola from some cut) take up."""

    closed: float
    open: float


def class_effects(
    columns: Float[Tensor, "cell n"], residual: Float[Tensor, "cell d"]
) -> Float[Tensor, "n d"]:
    """Effects of the residue classes in the residual space, in symmetrically orthonormalised coordinates (Löwdin).

    ``columns``: class indicators, confounds removed. Noise stays equal and independent over classes; a harmonic that
    the confounds overlap comes out weaker, not noisier (least-squares effects beside the confounds would show noise
    concentrated on it).
    """
    values, vectors = torch.linalg.eigh(columns.T @ columns)
    kept = values > 1e-9 * values[-1].clamp_min(1e-300)
    root = vectors[:, kept] / values[kept].sqrt() @ vectors[:, kept].T
    effects = root @ (columns.T @ residual.double())
    return effects - effects.mean(0)


def harmonic_power(effects: Float[Tensor, "n d"]) -> Float[Tensor, " k"]:
    """Power of the class effects at k = 1 … n // 2, summed over dimensions; sums to the total (Parseval)."""
    n = effects.shape[0]
    power = torch.fft.rfft(effects, dim=0).abs().pow(2).sum(1)[1:] * 2 / n
    if n % 2 == 0:
        power[-1] = power[-1] / 2
    return power


def concentration(effects: Float[Tensor, "n d"], k: int, *, permutations: int, seed: int) -> Concentration:
    """The power share of the strongest harmonic of the curve that k belongs to, against permuted classes.

    With g = gcd(k, n) only n / g classes differ, so the comparison is among the multiples of g: a random vector per
    class modulo n / g is not concentrated, though all its power lies on few harmonics of n.
    """
    n = effects.shape[0]
    classes = n // math.gcd(k, n)
    folded = effects.reshape(n // classes, classes, -1).mean(0)
    gram = folded @ folded.T
    share = _largest_share(gram[None])[0]
    if classes < MIN_CLASSES:
        return Concentration(classes, float(share), 1.0)
    order = _orders(classes, permutations, seed)
    drawn = _largest_share(gram[order[:, :, None], order[:, None, :]])
    p = permutation_p(float(share), drawn, exact=classes <= EXACT_CLASSES)
    return Concentration(classes, float(share), p)


def _orders(classes: int, permutations: int, seed: int) -> Int[Tensor, "draw n"]:
    """All orders of few classes that differ by more than a shift, or random ones."""
    if classes <= EXACT_CLASSES:
        return torch.tensor([(0, *rest) for rest in itertools.permutations(range(1, classes))])
    return torch.rand(permutations, classes, generator=torch.Generator().manual_seed(seed)).argsort(1)


def _largest_share(grams: Float[Tensor, "batch n n"]) -> Float[Tensor, " batch"]:
    n = grams.shape[-1]
    wave = torch.view_as_complex(harmonic_waves(n, range(1, n // 2 + 1)))
    power = torch.einsum("ck,bcd,dk->bk", wave, grams.to(wave.dtype), wave.conj()).real.clamp_min(0)
    weight = torch.full((n // 2,), 2.0, dtype=torch.float64)
    if n % 2 == 0:
        weight[-1] = 1.0
    power = power * weight
    return power.amax(1) / power.sum(1).clamp_min(1e-300)


def curve_contest(
    grid: Grid, activations: Float[Tensor, "cell d"], residual: Float[Tensor, "cell d"], k: int
) -> Curve:
    """Do the residue classes lie on a closed curve or on an open one (a ramp, an arc), in the order of harmonic k?

    The plane in which harmonic k turns, and the place where an open curve would be cut, come from one half of the cycles
    (0, 3, 4, 7, … against 1, 2, 5, 6, …), the class means in that plane from the other, and the other way round. Means
    over whole cycles are orthogonal to every function of one operand. Over a single cycle both come from the same cells.
    ``activations`` and ``residual`` are in the same units.
    """
    cycle = (grid.offset - grid.first_offset) // grid.n
    whole = cycle < grid.full_cycles
    first = ((cycle % 4 == 0) | (cycle % 4 == 3)) & whole
    halves = [first, ~first & whole] if grid.full_cycles >= 2 else [whole, whole]
    sides = [(_turning_plane(grid, residual, k, half), _along(grid, activations, k, half)) for half in halves]
    closed, opened = 0.0, 0.0
    for (directions, train), (_, test) in (sides, sides[::-1]):
        curve = closed_or_open(train @ directions.T, test @ directions.T)
        closed, opened = closed + curve.closed, opened + curve.open
    return Curve(closed, opened)


def _turning_plane(
    grid: Grid, residual: Tensor, k: int, cells: Bool[Tensor, " cell"]
) -> Float[Tensor, "two d"]:
    wave = grid.residual(waves(k * grid.raw_sum.double() / grid.n) * cells[:, None])
    return torch.linalg.qr((wave.T @ residual).T).Q.T


def _along(
    grid: Grid, activations: Tensor, k: int, cells: Bool[Tensor, " cell"]
) -> Float[Tensor, "classes d"]:
    """Class means in the order in which harmonic k passes them, centred; classes it cannot tell apart are averaged."""
    n, g = grid.n, math.gcd(k, grid.n)
    place = ((k * grid.label) % n) // g
    sums = torch.zeros(n // g, activations.shape[1], dtype=torch.float64)
    means = sums.index_add_(0, place[cells], activations[cells].double()) / (int(cells.sum()) * g / n)
    return means - means.mean(0)


def closed_or_open(train: Float[Tensor, "classes two"], test: Float[Tensor, "classes two"]) -> Curve:
    """Energy of ``test`` on one full turn, and on the open curve (and its cut) that suits ``train`` best.

    Open curves: a line and a parabola, and arcs of ``ARCS`` turns. Two parameters per direction each, so that the
    energies are comparable (equal penalty under AIC and BIC).
    """
    curves = _curves(train.shape[0])
    fitted = torch.einsum("xcp,cd->xpd", curves, train).pow(2).sum((1, 2))
    best = int(fitted[1:].argmax()) + 1
    seen = torch.einsum("xcp,cd->xpd", curves[[0, best]], test).pow(2).sum((1, 2))
    return Curve(float(seen[0]), float(seen[1]))


@lru_cache(maxsize=8)
def _curves(classes: int) -> Float[Tensor, "curve classes two"]:
    """Orthonormal centred bases: the circle first, then every open curve at every cut."""
    u = torch.arange(classes, dtype=torch.float64)
    centred = u - u.mean()
    shapes = [torch.stack([centred, centred**2], 1)]
    for turns in (1.0, *ARCS):
        shapes.append(waves(turns * u / classes))
    bases = [orthonormal(shape - shape.mean(0)) for shape in shapes]
    opened = [bases[0], *bases[2:]]
    return torch.stack([bases[1], *(basis.roll(cut, 0) for basis in opened for cut in range(classes))])


def wrap_transfer(grid: Grid, activations: Float[Tensor, " cell"], k: int) -> float:
    """R² on the cells past the first wrap of a constant and harmonic k fitted before it (a + o < n).

    1 for a pure modular cosine, below 0 for a function of the raw sum; reported, not decisive.
    """
    wave = waves(k * grid.raw_sum.double() / grid.n)
    design = torch.cat([torch.ones_like(wave[:, :1]), wave], 1)
    before = grid.raw_sum < grid.n
    if int(before.sum()) < 4 or int((~before).sum()) < 4:
        return math.nan
    y = activations.double()
    fit = torch.linalg.lstsq(design[before], y[before, None]).solution
    rest = y[~before]
    total = float((rest - rest.mean()).pow(2).sum())
    return 1 - float((rest - (design[~before] @ fit)[:, 0]).pow(2).sum()) / total if total > 0 else math.nan
