"""An animation as panels of arrays, drawn by Plotly (``animation``) and by Matplotlib (``video``) alike.

Everything comes from an ``Evolution``; nothing is measured here.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from mechfourier.toys.one_layer import Evolution

Box = tuple[float, float, float, float]  # left, right, bottom, top, as shares of the drawing


@dataclass(frozen=True)
class Panel:
    """One pair of axes. ``titles[t]`` is what stands over it at checkpoint t; ``box`` its place, ``narrow``
    that on a small screen."""

    titles: tuple[str, ...]
    x_label: str
    y_label: str
    box: Box
    narrow: Box


@dataclass(frozen=True)
class Circle(Panel):
    """``points[t, v]`` joined in the order ``walk``, coloured by ``k``·v, their place on a perfect circle."""

    points: np.ndarray = field(default_factory=lambda: np.empty(0))
    k: int = 1
    walk: tuple[int, ...] = ()


@dataclass(frozen=True)
class Wave(Panel):
    """Dots ``y[t, i]`` over ``x[i]`` and the curve ``fit[t, i]`` (x ascending)."""

    x: np.ndarray = field(default_factory=lambda: np.empty(0))
    y: np.ndarray = field(default_factory=lambda: np.empty(0))
    fit: np.ndarray = field(default_factory=lambda: np.empty(0))


@dataclass(frozen=True)
class Bars(Panel):
    """``y[t, k − 1]``; the bars in ``key`` stand out."""

    y: np.ndarray = field(default_factory=lambda: np.empty(0))
    key: tuple[int, ...] = ()


@dataclass(frozen=True)
class Heat(Panel):
    """Shares ``z[t, y, x]`` on a logarithmic scale from 10⁻⁶ to 1."""

    z: np.ndarray = field(default_factory=lambda: np.empty(0))


@dataclass(frozen=True)
class Curves(Panel):
    """Lines over the steps (logarithmic) that stay, and a cursor at the step shown: ``series[name] = (x, y)``
    in 0..1."""

    series: dict[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)


@dataclass(frozen=True)
class Scene:
    """``steps[t]`` and the panels."""

    title: str
    caption: str
    steps: np.ndarray
    panels: tuple[Panel, ...]


def scene(evolution: "Evolution") -> Scene:
    """The panels for what the evolution is of."""
    make = {"circle": _circle, "sine": _sine, "sines": _sines, "spectrum": _spectrum, "logits": _logits}
    panels, caption = make[evolution.what](evolution)
    return Scene(f"{evolution.name}: {TITLES[evolution.what]}", caption, evolution.step, tuple(panels))


TITLES: dict[str, str] = {
    "circle": "a circle emerges in the embedding",
    "sine": "a neuron becomes a sine",
    "sines": "neurons become sines",
    "spectrum": "the spectrum of the embedding",
    "logits": "the 2-D spectrum of the logits",
}
WHAT = tuple(TITLES)
# Where a panel lies, and where on a small screen, one below the other: of three a large one and two beside
# it, or two
Place = tuple[Box, Box]
LARGE: Place = ((0.0, 0.44, 0.0, 0.93), (0.0, 1.0, 0.62, 0.96))
UPPER: Place = ((0.56, 1.0, 0.56, 0.93), (0.0, 1.0, 0.34, 0.51))
LOWER: Place = ((0.56, 1.0, 0.0, 0.37), (0.0, 1.0, 0.0, 0.14))
TOP: Place = ((0.0, 1.0, 0.46, 0.93), (0.0, 1.0, 0.46, 0.93))
BOTTOM: Place = ((0.0, 1.0, 0.0, 0.28), (0.0, 1.0, 0.0, 0.28))


def by_phase(n: int, k: int) -> np.ndarray:
    """The values in the order in which a circle of frequency k meets them."""
    v = np.arange(n)
    return np.lexsort((v, v * k % n))


def _circle(e: "Evolution") -> tuple[list[Panel], str]:
    titles = tuple(f"circularity {c:.2f} (random: {e.circularity_chance:.2f})" for c in e.circularity)
    circle = Circle(
        titles,
        f"cosine direction of k = {e.k}",
        f"sine direction of k = {e.k}",
        *LARGE,
        points=e.circle,
        k=e.k,
        walk=tuple(by_phase(e.n, e.k).tolist()),
    )
    caption = (
        f"The {e.n} rows of W_E, projected on the cosine and the sine direction of the strongest frequency, "
        f"k = {e.k}. PCA would not show "
        "it: it mixes the planes of several frequencies. Lines join values that are neighbours on this "
        "circle."
    )
    curves = _curves(e, LOWER, {"circularity": e.circularity})
    return [circle, _bars(e, UPPER), curves], caption


def _spectrum(e: "Evolution") -> tuple[list[Panel], str]:
    caption = (
        f"Share of the power of W_E at each frequency; those that the trained model uses stand out "
        f"({_keys(e)})."
    )
    return [_bars(e, TOP), _curves(e, BOTTOM, {})], caption


def _logits(e: "Evolution") -> tuple[list[Panel], str]:
    unit = f"cycles per {e.n} values"
    on = [int(k) for k in e.key_freqs]
    at_key = e.logit_power[:, on, on].sum(1) if on else np.zeros(len(e.step))
    titles = tuple(f"at the key frequencies: {share:.1%} of the variance" for share in at_key)
    heat = Heat(
        titles,
        f"frequency of a ({unit})",
        f"frequency of b ({unit})",
        *LARGE,
        z=np.swapaxes(e.logit_power, 1, 2),
    )
    caption = (
        "Variance of the logits over (a, b) per pair of frequencies. Memorising spreads it everywhere; a "
        "network that adds on circles "
        "leaves a few dots on the diagonal."
    )
    curves = _curves(e, LOWER, {"share at key frequencies": at_key})
    return [heat, _bars(e, UPPER), curves], caption


def _sine(e: "Evolution") -> tuple[list[Panel], str]:
    curves = _curves(e, LOWER, {"R² of the sine": e.r2[:, 0], "share of all its variance": e.sum_share[:, 0]})
    return [_wave(e, 0, LARGE), _bars(e, UPPER), curves], _wave_caption(e)


def _sines(e: "Evolution") -> tuple[list[Panel], str]:
    panels: list[Panel] = []
    count = len(e.neurons)
    for i in range(count):
        column, row = i % 3, i // 3
        left = column * 0.36
        box = (left, left + 0.28, *((0.72, 0.94) if row == 0 else (0.39, 0.61)))
        # on a small screen: two columns above the curves
        side, down = i % 2, i // 2
        narrow_left, high = side * 0.58, 0.96 - down * 0.25
        narrow = (narrow_left, narrow_left + 0.42, high - 0.15, high)
        panels.append(_wave(e, i, (box, narrow), labelled=i + 3 >= count))
    median = np.median(e.r2, axis=1)
    curves = _curves(e, ((0.0, 1.0, 0.0, 0.2), (0.0, 1.0, 0.0, 0.13)), {"median R² of the sines": median})
    return [*panels, curves], _wave_caption(e)


def _wave_caption(e: "Evolution") -> str:
    return (
        f"Mean activation over the {e.n} pairs with equal a + b, placed by k·(a + b) mod {e.n}, so that a "
        f"wave of frequency k is one "
        "period, with the least-squares sine. Averaging over a + b hides what depends on a and b otherwise: "
        "the share of all the "
        "neuron's variance says how much is left."
    )


def _wave(e: "Evolution", i: int, place: Place, *, labelled: bool = True) -> Wave:
    k = e.neuron_freqs[i]
    order = by_phase(e.n, k)
    titles = tuple(
        f"neuron {e.neurons[i]}, k = {k}: R² {r2:.2f}, {share:.0%} of all"
        if place == LARGE
        else f"#{e.neurons[i]}, k = {k}: R² {r2:.2f}"
        for r2, share in zip(e.r2[:, i], e.sum_share[:, i], strict=True)
    )
    x_label = f"k·(a + b) mod {e.n}" if labelled else ""
    return Wave(
        titles,
        x_label,
        "mean activation" if i % 3 == 0 else "",
        *place,
        x=order * k % e.n,
        y=e.profile[:, i, order],
        fit=e.fitted[:, i, order],
    )


def _bars(e: "Evolution", place: Place) -> Bars:
    share = e.embed_power[:, [k - 1 for k in e.key_freqs]].sum(1) if e.key_freqs else e.embed_power.max(1)
    titles = tuple(f"W_E: {s:.0%} of its power at {_keys(e)}" for s in share)
    return Bars(
        titles,
        f"frequency k (cycles per {e.n} values)",
        "share of power",
        *place,
        y=e.embed_power,
        key=e.key_freqs,
    )


def _keys(e: "Evolution") -> str:
    shown = ", ".join(map(str, e.key_freqs[:6])) + ("…" if len(e.key_freqs) > 6 else "")
    return f"k = {shown}" if e.key_freqs else "one frequency"


def _curves(e: "Evolution", place: Place, own: dict[str, np.ndarray]) -> Curves:
    series = {name: (e.step, values) for name, values in own.items()}
    names = {"test_accuracy": "test accuracy", "train_accuracy": "train accuracy"}
    for column, name in names.items():
        if column in e.history.columns and bool(e.history[column].notna().any()):
            series[name] = (e.history["step"].to_numpy(), e.history[column].to_numpy())
    return Curves(tuple(f"step {s}" for s in e.step), "step", "share", *place, series=series)
