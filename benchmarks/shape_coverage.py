"""How often the 95 % intervals of the contest of shapes hold the value of the noise-free table."""

import itertools
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy import ndarray

from benchmarks.shape_kinds import KINDS, noise, unit
from mechfourier.stats.shapes.decide import best_design, by_shape
from mechfourier.stats.shapes.evidence import Estimate, aspect, gap, predicted_share, share_of
from mechfourier.stats.shapes.families import Family, family
from mechfourier.stats.shapes.scores import design_scores, read_gram
from mechfourier.stats.shapes.tables import Table, canonical_frame, cross_gram, table, unbiased_mean

COVERED = ("circle", "ellipse .5", "circle, identity 1", "arc 240", "arc 300", "smooth path, 3 dims")
SHARES = ("circle", "arc", "line", "wave", "clusters")


def coverage(draws: int) -> dict[str, dict[str, list[int]]]:
    """How often the 95 % intervals hold the value of the noise-free table: [held, asked] per setting and
    number."""
    out: dict[str, dict[str, list[int]]] = {}
    for templates, snr, kind in itertools.product((6, 8, 12), (0.25, 1.0), ("white", "by value", "massive")):
        counts: dict[str, list[int]] = {}
        for name, i in itertools.product(COVERED, range(draws)):
            for number, held in _held(name, templates, snr, kind, i).items():
                row = counts.setdefault(number, [0, 0])
                row[0], row[1] = row[0] + held, row[1] + 1
        out[f"T {templates}, snr {snr:g}, {kind}"] = counts
        print(templates, snr, kind, {k: f"{100 * a / b:.0f}" for k, (a, b) in counts.items()}, flush=True)
    return out


def _held(name: str, templates: int, snr: float, noise_kind: str, i: int) -> dict[str, bool]:
    rng, n, d = np.random.default_rng([i, *name.encode(), templates]), 12, 64
    kind = KINDS[name]
    y = unit(kind.make(n, rng)) * np.sqrt(kind.power * snr)
    y = y @ np.linalg.qr(rng.standard_normal((d, y.shape[1])))[0].T
    gram = cross_gram(y[:, None] + noise(noise_kind, (n, templates, d), rng))
    own = table(gram, canonical_frame(unbiased_mean(gram)))
    z = y[own.frame.order] - y.mean(0)
    free, designs = replace(own, mean=z @ z.T), family(n)
    scores = design_scores(read_gram(own.groups, own.group_sizes, designs.places), designs)
    best = {shape: best_design(own, designs, scores, shape) for shape in (*SHARES, "nearly closed")}
    held = {}
    for shape in SHARES:
        found, truth = (
            predicted_share(own, designs, best[shape]),
            share_of(designs.weights[best[shape]], free.mean),
        )
        held[f"evidence of {shape}"] = _inside(found, truth)
    asked: dict[str, Callable[[Table], Estimate]] = {}
    if kind.circular:
        asked["aspect" + (" of 1" if name == "circle" else "")] = lambda t: aspect(t, 1)
    if name.startswith("arc"):
        cut = int(designs.designs[best["arc" if name == "arc 240" else "nearly closed"]].params["cut"])
        asked["gap"] = lambda t: gap(t, cut)
    return held | {number: _inside(of(own), of(free).value) for number, of in asked.items()}


def _inside(found: Estimate, truth: float) -> bool:
    assert found.low is not None and found.high is not None
    return found.low - 1e-9 <= truth <= found.high + 1e-9


PATHS = tuple(name for name in KINDS if name.startswith(("smooth", "random walk", "fading")))


def floor(draws: int, n: int = 12) -> dict[str, list[int]]:
    """How often a random path without any noise is nearer to a circle (or one beside a line) than to any open curve of
    a few columns: [nearer, asked]. (The kernel that it was drawn from fits it exactly.)"""
    designs = family(n)
    out = {}
    for name in PATHS:
        rng = np.random.default_rng([n, *name.encode()])
        hits = sum(_closes(unit(KINDS[name].make(n, rng)), designs) for _ in range(draws))
        out[name] = [int(hits), draws]
    return out


def _closes(y: ndarray, designs: Family) -> bool:
    gram = (y - y.mean(0)) @ (y - y.mean(0)).T
    grams = np.stack([gram, gram])
    best = by_shape(design_scores(grams, designs), grams, designs)[0]
    return (
        best[designs.closed].min()
        < best[[designs.names.index(name) for name in designs.open_names if name != "smooth path"]].min()
    )
