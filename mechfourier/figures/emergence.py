"""Stills of an animation: the same panel at a few checkpoints, side by side."""

from typing import TYPE_CHECKING

import numpy as np

from mechfourier.drawing.marks import dots, line
from mechfourier.drawing.template import GRID, VERMILION, panels, stacked, styled
from mechfourier.figures.scene import by_phase

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from mechfourier.toys.one_layer import Evolution


def stills(evolution: "Evolution", count: int = 4) -> list[int]:
    """Checkpoints at equal steps between the first and the last value of what emerges (circularity, or R² of
    the sine)."""
    values = evolution.r2[:, 0] if len(evolution.neurons) else evolution.circularity
    highest = np.maximum.accumulate(np.maximum(values, values[0]))
    wanted = np.linspace(highest[0], highest[-1], count)[1:-1]
    between = [int(np.argmax(highest >= value)) for value in wanted]
    return sorted({0, *between, len(values) - 1})


def circle_stills(evolution: "Evolution", count: int = 4) -> "go.Figure":
    """The embedding's circle at ``count`` checkpoints, from ``evolution(run, "circle")``."""
    chosen = stills(evolution, count)
    titles = [f"step {evolution.step[t]}: circularity {evolution.circularity[t]:.2f}" for t in chosen]
    figure = panels(titles, columns=len(chosen), square=True, shared_yaxes=True, horizontal_spacing=0.03)
    order = by_phase(evolution.n, evolution.k)
    closed = np.append(order, order[0])
    bound = 1.08 * float(np.abs(evolution.circle).max())
    look = {"color": np.arange(evolution.n) * evolution.k % evolution.n, "colorscale": "phase", "size": 5}
    values = [str(v) for v in range(evolution.n)]
    for column, t in enumerate(chosen, 1):
        points = evolution.circle[t]
        path = line(points[closed, 0], points[closed, 1], colour=GRID)
        place = dots(points[:, 0], points[:, 1], text=values, marker=look, hover="value %{text}")
        figure.add_traces([path, place], rows=1, cols=column)
        figure.update_xaxes(range=[-bound, bound], title="cosine direction", row=1, col=column)
        figure.update_yaxes(range=[-bound, bound], row=1, col=column)
    figure.update_yaxes(title=f"sine direction of k = {evolution.k}", row=1, col=1)
    figure.update_layout(meta={"narrow": stacked(len(chosen), height=230)})
    return styled(figure, title=f"A circle emerges in W_E (mod {evolution.n})", height=290)


def sine_stills(evolution: "Evolution", count: int = 4) -> "go.Figure":
    """One neuron's mean activation over a + b at ``count`` checkpoints, from ``evolution(run, "sine")``."""
    chosen, k = stills(evolution, count), evolution.neuron_freqs[0]
    titles = [f"step {evolution.step[t]}: R² {evolution.r2[t, 0]:.2f}" for t in chosen]
    figure = panels(titles, columns=len(chosen), shared_yaxes=True, horizontal_spacing=0.03)
    order = by_phase(evolution.n, k)
    x = order * k % evolution.n
    for column, t in enumerate(chosen, 1):
        measured = dots(x, evolution.profile[t, 0, order], marker={"size": 5})
        wave = line(x, evolution.fitted[t, 0, order], colour=VERMILION)
        figure.add_traces([measured, wave], rows=1, cols=column)
        figure.update_xaxes(title=f"{k}·(a + b) mod {evolution.n}", row=1, col=column)
    figure.update_yaxes(title="mean activation", row=1, col=1)
    figure.update_layout(meta={"narrow": stacked(len(chosen))})
    return styled(figure, title=f"Neuron {evolution.neurons[0]} becomes a sine", height=300)
