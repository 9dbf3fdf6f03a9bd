"""Which shape do the residue classes take? A closed curve against everything that could pass for one.

The likeness G[v, w] of *different* classes is fitted by named shapes, each with a constant (token identity
on the diagonal and in the mean costs nothing). *closed*: any likeness that depends on the distance round
the cycle alone (one harmonic or many), every harmonic's ellipse at least ``FLATTEST`` as wide as long.
*waves*: the same harmonics, each along a single direction. *open curve*: arcs, lines and likeness that
fades along the list, cut at any class. *clusters*: blocks of neighbouring classes, at any offset. *no
order*: nothing at all.

What confounds have taken from the classes they have taken from every shape: shapes are compared as they are or
as they look through the confounds, whichever suits the closed curve better.

A closed curve has to beat each of them by more than a world would show in which that rival is the truth:
its best fit, and what it leaves over with the classes permuted (a parametric bootstrap that keeps the noise
and the random part of the classes).
"""

import itertools
from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Float, Int
from torch import Tensor

MIN_CLASSES = 6
"""Fewer points lie near some circle in any order: nothing to tell."""
EXACT_CLASSES = 7
FLATTEST = 0.4
FAINT = 0.1  # of the clearest combination of harmonics: what confounds leave no more of is not fitted
TURNS = (0.3, 0.45, 0.6, 0.7, 0.8)
FADES = (0.1, 0.2, 0.4)
CLUSTERS = (2, 3, 4, 6)
MOST_CUTS = 26


@dataclass(frozen=True)
class ShapeContest:
    """``closed``: R² of the closed curve on the likeness of different classes; ``rivals``: of the others by
    name, the best of each; ``rejects``: how often a closed curve would win by as much were each of them the
    truth; ``p``: of the rival that is hardest to reject, ``hardest``.
    """

    classes: int
    closed: float
    rivals: dict[str, float]
    p: float
    hardest: str
    rejects: dict[str, float]

    @property
    def best_rival(self) -> str:
        return max(self.rivals, key=lambda name: self.rivals[name])


def shape_contest(
    gram: Float[Tensor, "n n"],
    *,
    classes: int,
    step: int,
    permutations: int,
    seed: int,
    power: float | None = None,
    through: Float[Tensor, "n n"] | None = None,
) -> ShapeContest:
    """Closed curve or not: ``gram`` of the class effects, folded to ``classes`` classes, in steps of
    ``step`` along the curve. ``power``: of a class, where a part of it has been taken from ``gram``.
    ``through``: what makes class means the effects that ``gram`` is of (None: they are these).
    """
    n = gram.shape[0]
    blocks = (n // classes, classes, n // classes, classes)
    folded = gram.reshape(blocks).mean((0, 2))
    if classes < MIN_CLASSES:
        return ShapeContest(classes, 0.0, {"no order": 0.0}, 1.0, "no order", {"no order": 1.0})
    at = torch.arange(classes) * pow(step, -1, classes) % classes
    y = _pairs(folded[at][:, at])
    power = float(folded.diagonal().mean()) if power is None else power
    orders = _orders(classes, permutations, seed)
    views = [torch.eye(classes, dtype=torch.float64)]
    if through is not None:
        views.append(through.reshape(blocks).sum((0, 2))[at][:, at] * classes / n)
    known = [_Shapes.of(view) for view in views]
    misfits = [shapes.misfit(shapes.closed(y[None]), y[None]) for shapes in known]
    closed, shapes = min(zip(misfits, known, strict=True), key=lambda each: float(each[0]))
    fits = {"no order": torch.zeros_like(y), "waves": shapes.waves(y[None])[0]}
    fits |= {name: _best(y, templates) for name, templates in shapes.templates.items()}
    worlds = {name: shapes.permuted(name, y, fit, orders) for name, fit in fits.items()}
    p = {name: _reached(shapes, name, y, fit, closed, worlds[name]) for name, fit in fits.items()}
    smooth = shapes.drawn(y, fits["open curve"], power, len(orders), seed)
    again = _reached(shapes, "open curve", y, fits["open curve"], closed, smooth)
    p["open curve"] = max(p["open curve"], again)
    hardest = max(p, key=lambda name: p[name])
    found = {name: float(1 - shapes.misfit(fit[None], y[None])) for name, fit in fits.items()}
    return ShapeContest(classes, float(1 - closed), found, p[hardest], hardest, p)


def _reached(
    shapes: "_Shapes",
    name: str,
    y: Float[Tensor, " pair"],
    fit: Float[Tensor, " pair"],
    closed: Tensor,
    world: Float[Tensor, "draw pair"],
) -> float:
    """How often the closed curve wins by as much over the rival ``name`` in a world where that rival is the
    truth; 1 where it loses.
    """
    observed = (shapes.misfit(fit[None], y[None]) / closed.clamp_min(1e-12)).log()
    if float(observed) <= 0:
        return 1.0
    reached = int((shapes.margin(name, world) >= observed - 1e-9).sum())
    exact = name == "no order" and shapes.n <= EXACT_CLASSES
    return reached / len(world) if exact else (1 + reached) / (1 + len(world))


@dataclass(frozen=True, eq=False)
class _Shapes:
    """The designs of the shapes over pairs of different classes."""

    n: int
    design: Float[Tensor, "column pair"]
    inverse: Float[Tensor, "pair column"]
    rank: int
    identity: Float[Tensor, "n n"]
    open_grams: Float[Tensor, "template n n"]
    templates: dict[str, Float[Tensor, "template pair"]]

    @staticmethod
    def of(through: Float[Tensor, "n n"]) -> "_Shapes":
        """As they look ``through`` the confounds; a direction of its own per class (``identity``) with power 1."""
        return _shapes(len(through), through.contiguous().numpy().tobytes())

    def permuted(
        self, name: str, y: Float[Tensor, " pair"], fit: Float[Tensor, " pair"], orders: Int[Tensor, "draw n"]
    ) -> Float[Tensor, "draw pair"]:
        """The rival's fit, and what it leaves over with the classes permuted (as large as it was before it
        was fitted to).
        """
        free = len(y) - 1
        spent = self.rank if name == "waves" else 0
        left = _matrix(y - fit, self.n) * (free / max(free - spent, 1)) ** 0.5
        return fit + _pairs(left[orders[:, :, None], orders[:, None, :]])

    def drawn(
        self, y: Float[Tensor, " pair"], fit: Float[Tensor, " pair"], power: float, draws: int, seed: int
    ) -> Float[Tensor, "draw pair"]:
        """Random smooth paths with the likeness of the fitted open curve, beside a random vector per class
        that brings the power of a class to ``power``; in as many dimensions as leave over what the curve
        leaves over.
        """
        best = int((self.templates["open curve"] @ y).argmax())
        kernel = self.open_grams[best] * (fit.norm() / _pairs(self.open_grams[best]).norm())
        kernel = kernel + max(power - float(kernel.diagonal().mean()), 0.0) * self.identity
        values, vectors = torch.linalg.eigh(kernel)
        root = vectors * values.clamp_min(0).sqrt()
        spread = kernel**2 + torch.outer(kernel.diagonal(), kernel.diagonal())
        rows, columns = torch.triu_indices(self.n, self.n, 1)
        size = float(spread[rows, columns].sum() / (y - fit).pow(2).sum().clamp_min(1e-300))
        size = int(min(max(round(size), 1), 64))
        white = torch.randn(draws, self.n, size, generator=torch.Generator().manual_seed(seed), dtype=y.dtype)
        paths = root @ white
        return _pairs(paths @ paths.transpose(1, 2) / size)

    def closed(self, y: Float[Tensor, "draw pair"]) -> Float[Tensor, "draw pair"]:
        """Best likeness that goes round: power a ≥ 0 per harmonic, its ellipse no flatter than
        ``FLATTEST``.
        """
        power, ellipse, size = self._harmonics(y)
        widest = power[:, : size.shape[1]] * (1 - FLATTEST**2) / (1 + FLATTEST**2)
        return self._likeness(power, ellipse * (widest / size.clamp_min(1e-300)).clamp_max(1)[..., None])

    def waves(self, y: Float[Tensor, "draw pair"]) -> Float[Tensor, "draw pair"]:
        """Every harmonic along a single direction."""
        power, ellipse, size = self._harmonics(y)
        flat = (power[:, : size.shape[1]] + size) / 2
        power = torch.cat([flat, power[:, size.shape[1] :]], 1)
        return self._likeness(power, ellipse * (flat / size.clamp_min(1e-300))[..., None])

    def _harmonics(self, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(power of every harmonic above the weakest one, which is identity; both parts of its ellipse,
        their length).
        """
        coefficients = y @ self.inverse
        power = coefficients[:, : self.n // 2]
        ellipse = coefficients[:, self.n // 2 :].unflatten(1, (-1, 2))
        return power - power.amin(1, keepdim=True), ellipse, ellipse.norm(dim=2)

    def _likeness(self, power: Tensor, ellipse: Tensor) -> Tensor:
        return torch.cat([power, ellipse.flatten(1)], 1) @ self.design

    def misfit(
        self, fit: Float[Tensor, "draw pair"], y: Float[Tensor, "draw pair"]
    ) -> Float[Tensor, " draw"]:
        return (y - fit).pow(2).sum(1) / y.pow(2).sum(1).clamp_min(1e-300)

    def margin(self, name: str, y: Float[Tensor, "draw pair"]) -> Float[Tensor, " draw"]:
        """By how much the closed curve fits better than the rival, in units of log misfit."""
        if name == "no order":
            other = torch.ones(len(y), dtype=y.dtype)
        elif name == "waves":
            other = self.misfit(self.waves(y), y)
        else:
            best = (y @ self.templates[name].T).amax(1).clamp_min(0)
            other = 1 - best**2 / y.pow(2).sum(1).clamp_min(1e-300)
        return (other / self.misfit(self.closed(y), y).clamp_min(1e-12)).log()


@lru_cache(maxsize=4)
def _shapes(n: int, known: bytes) -> _Shapes:
    through = torch.frombuffer(bytearray(known), dtype=torch.float64).reshape(n, n)
    identity = through @ through.T
    design = _pairs(_centred(through @ _harmonics(n) @ through.T))
    curves, blocks = (_centred(through @ grams @ through.T) for grams in (_open(n), _clusters(n)))
    return _Shapes(
        n,
        design,
        torch.linalg.pinv(design, rtol=FAINT),
        int(torch.linalg.matrix_rank(design, rtol=FAINT)),
        identity / identity.diagonal().mean(),
        curves,
        {"open curve": _unit(curves), "clusters": _unit(blocks)},
    )


def _best(y: Float[Tensor, " pair"], templates: Float[Tensor, "template pair"]) -> Float[Tensor, " pair"]:
    scores = templates @ y
    best = int(scores.argmax())
    return templates[best] * scores[best].clamp_min(0)


def _pairs(gram: Float[Tensor, "*draw n n"]) -> Float[Tensor, "*draw pair"]:
    """Entries of different classes, their mean taken off."""
    rows, columns = torch.triu_indices(gram.shape[-1], gram.shape[-1], 1)
    entries = gram[..., rows, columns]
    return entries - entries.mean(-1, keepdim=True)


def _matrix(pairs: Float[Tensor, " pair"], n: int) -> Float[Tensor, "n n"]:
    out = torch.zeros(n, n, dtype=pairs.dtype)
    rows, columns = torch.triu_indices(n, n, 1)
    out[rows, columns] = pairs
    return out + out.T


def _orders(classes: int, permutations: int, seed: int) -> Int[Tensor, "draw n"]:
    """All orders of few classes that differ by more than a shift, or random ones."""
    if classes <= EXACT_CLASSES:
        return torch.tensor([(0, *rest) for rest in itertools.permutations(range(1, classes))])
    return torch.rand(permutations, classes, generator=torch.Generator().manual_seed(seed)).argsort(1)


def _harmonics(n: int) -> Float[Tensor, "column n n"]:
    """cos k(v−w) for k = 1 … n // 2, then cos and sin of k(v+w) for k < n / 2. The first sum to a constant:
    identity.
    """
    v = 2 * torch.pi * torch.arange(n, dtype=torch.float64) / n
    gap, total = v[:, None] - v[None], v[:, None] + v[None]
    lags = [(1 if 2 * k == n else 2) * (k * gap).cos() for k in range(1, n // 2 + 1)]
    ellipses = [2 * f(k * total) for k in range(1, (n + 1) // 2) for f in (torch.cos, torch.sin)]
    return torch.stack([*lags, *ellipses])


def _open(n: int) -> Float[Tensor, "template n n"]:
    """Arcs, a line, a line with a bend, and fading likeness; every one cut at every class (of many classes
    at 26).
    """
    u = torch.arange(n, dtype=torch.float64)
    gap = (u[:, None] - u[None]) / n
    line = (u - u.mean()) / u.std()
    bend = line**2 - (line**2).mean()
    grams = [
        torch.outer(line, line),
        *(torch.outer(line, line) + w * torch.outer(bend, bend) for w in (0.3, 1.0)),
    ]
    grams += [(2 * torch.pi * turns * gap).cos() for turns in TURNS]
    grams += [torch.exp(-gap.abs() / length) for length in FADES]
    grams += [torch.exp(-((gap / length) ** 2) / 2) for length in FADES]
    return _everywhere(torch.stack(grams), n)


def _clusters(n: int) -> Float[Tensor, "template n n"]:
    """2, 3, 4 or 6 blocks of neighbours."""
    blocks = [torch.arange(n) * g // n for g in CLUSTERS if g < n - 1]
    return _everywhere(torch.stack([(b[:, None] == b[None]).double() for b in blocks]), n)


def _everywhere(grams: Float[Tensor, "shape n n"], n: int) -> Float[Tensor, "template n n"]:
    """The shapes begun at every class, double-centred as the likeness of centred effects is."""
    cuts = range(0, n, -(-n // MOST_CUTS))
    return _centred(torch.cat([grams.roll((cut, cut), (1, 2)) for cut in cuts]))


def _centred(grams: Float[Tensor, "shape n n"]) -> Float[Tensor, "shape n n"]:
    grams = grams - grams.mean(1, keepdim=True)
    return grams - grams.mean(2, keepdim=True)


def _unit(grams: Float[Tensor, "template n n"]) -> Float[Tensor, "template pair"]:
    pairs = _pairs(grams)
    return pairs / pairs.norm(dim=1, keepdim=True)
