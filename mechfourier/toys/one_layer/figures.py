"""Figures of one checkpoint of the one-layer transformer: spectra, neurons, attention, logits, circles, Clock
or Pizza."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mechfourier.drawing.marks import LYING
from mechfourier.drawing.template import (
    BLUE,
    GRID,
    PALETTE,
    SCALE,
    SKY,
    TEXT,
    VERMILION,
    cell,
    panels,
    plain_text,
    stacked,
    styled,
)
from mechfourier.fourier.clock_pizza import (
    CLOCK_DISTANCE,
    CLOCK_SYMMETRICITY,
    PIZZA_DISTANCE,
    PIZZA_SYMMETRICITY,
)

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from mechfourier.toys.one_layer import OneLayerAnalysis, Portrait


def spectrum_bars(
    analysis: "OneLayerAnalysis", column: str, *, title: str, threshold: float | None = None
) -> "go.Figure":
    """Share of power per frequency, one ``column`` of the analysis's frame; key frequencies stand out."""
    import plotly.graph_objects as go

    frame = analysis.frame()
    figure = go.Figure()
    for key, colour, name in ((True, VERMILION, "key frequency"), (False, SKY, "other")):
        part = frame[frame["key"] == key]
        figure.add_trace(
            go.Bar(
                x=part["frequency"],
                y=part[column],
                name=name,
                marker_color=colour,
                width=0.8,
                hovertemplate="k = %{x}: %{y:.2%}<extra></extra>",
            )
        )
    if threshold is not None:
        figure.add_trace(
            go.Scatter(
                x=[0.5, len(frame) + 0.5],
                y=[threshold, threshold],
                mode="lines",
                name="95 % of untrained models stay under",
                line=dict(color=TEXT, width=1.5, dash="dot"),
                hovertemplate=f"{threshold:.2%}<extra></extra>",
            )
        )
    figure.update_xaxes(title=f"frequency k (cycles per {analysis.n} values)", range=[0, len(frame) + 1])
    figure.update_yaxes(title="share of power", tickformat=".0%", rangemode="tozero")
    return styled(figure, title=title, height=360)


def embed_figure(analysis: "OneLayerAnalysis") -> "go.Figure":
    """The spectrum of W_E."""
    return spectrum_bars(
        analysis, "embed_power", title="Embedding spectrum (W_E)", threshold=analysis.embed_threshold
    )


def neuron_logit_figure(analysis: "OneLayerAnalysis") -> "go.Figure":
    """The spectrum of W_L = W_out W_U, which takes neurons to logits."""
    return spectrum_bars(
        analysis, "w_l_power", title="Neuron–logit spectrum (W_L)", threshold=analysis.w_l_threshold
    )


def neuron_figure(portrait: "Portrait") -> "go.Figure":
    """Activation of the purest neuron of every key frequency over the grid of (a, b)."""
    titles = [
        f"neuron {m}, k = {k}" for m, k in zip(portrait.neuron_index, portrait.neuron_freq, strict=True)
    ]
    frame = portrait.neuron_frame()
    hover = "a = %{x}, b = %{y}: %{customdata:.3f}<extra></extra>"
    grids = _grids(frame, "neuron", "activation", portrait.neuron_index)
    return _grid_panels(
        grids,
        titles,
        hover,
        title="Neurons over the grid of (a, b)",
        bar="share of its maximum",
        own_scale=True,
    )


def attention_figure(portrait: "Portrait") -> "go.Figure":
    """Attention of the last position to the first operand, per head, over the grid of (a, b)."""
    heads = tuple(range(len(portrait.attention)))
    hover = "a = %{x}, b = %{y}: %{z:.1%}<extra></extra>"
    return _grid_panels(
        _grids(portrait.attention_frame(), "head", "attention", heads),
        [f"head {h}" for h in heads],
        hover,
        title="Attention to a, over the grid of (a, b)",
        bar="attention",
    )


def _grids(frame: Any, by: str, value: str, names: Sequence[int]) -> list[np.ndarray]:
    """The frame's rows of every name as a grid with a across and b down (Plotly wants rows of constant b)."""
    return [
        frame[frame[by] == name].pivot(index="b", columns="a", values=value).to_numpy(np.float32)
        for name in names
    ]


def _grid_panels(
    grids: list[np.ndarray],
    titles: list[str],
    hover: str,
    *,
    title: str,
    bar: str,
    own_scale: bool = False,
) -> "go.Figure":
    import plotly.graph_objects as go

    columns = 3 if len(grids) > 4 else min(2, len(grids))
    figure = panels(titles, columns=columns, square=True)
    for i, grid in enumerate(grids):
        top = float(np.abs(grid).max()) or 1.0
        figure.add_trace(
            go.Heatmap(
                z=grid / top if own_scale else grid,
                customdata=grid,
                coloraxis="coloraxis",
                hovertemplate=hover,
            ),
            **cell(i, columns),
        )
    figure.update_layout(
        coloraxis=dict(
            colorscale=SCALE, cmin=0, cmax=1, colorbar=dict(title=dict(text=bar, side="right"), thickness=12)
        )
    )
    _outer_titles(figure, len(grids), columns, "a", "b")
    rows = -(-len(grids) // columns)
    figure.update_layout(meta={"narrow": stacked(len(grids))})
    return styled(figure, title=title, height=70 + 240 * rows)


def _outer_titles(figure: "go.Figure", count: int, columns: int, x: str, y: str) -> None:
    """Axis titles at the left and lower edge only."""
    for i in range(count):
        if i % columns == 0:
            figure.update_yaxes(title=y, **cell(i, columns))
        if i + columns >= count:
            figure.update_xaxes(title=x, **cell(i, columns))


def logit_figure(portrait: "Portrait") -> "go.Figure":
    """The 2-D spectrum of the logits: a network that adds on circles leaves a few dots on the diagonal."""
    import plotly.graph_objects as go

    share = portrait.logit_frame().pivot(index="k_b", columns="k_a", values="share").to_numpy(np.float32)
    heat = go.Heatmap(
        z=np.log10(np.maximum(share, 1e-8)),
        zmin=-6,
        zmax=0,
        customdata=share,
        colorscale=SCALE,
        colorbar=dict(
            LYING | {"len": 0.5},
            title=dict(text="share of the variance", side="top"),
            thickness=12,
            tickvals=[0, -2, -4, -6],
            ticktext=["1", "10⁻²", "10⁻⁴", "10⁻⁶"],
        ),
        hovertemplate="k_a = %{x}, k_b = %{y}: %{customdata:.3%}<extra></extra>",
    )
    figure = go.Figure(heat)
    unit = f"cycles per {portrait.n} values"
    figure.update_xaxes(title=f"frequency of a ({unit})", constrain="domain")
    figure.update_yaxes(title=f"frequency of b ({unit})", scaleanchor="x", constrain="domain")
    return styled(figure, title="2-D spectrum of the logits", height=560)


def cluster_figure(portrait: "Portrait") -> "go.Figure":
    """Every neuron (across, sorted by cluster) and frequency (down): what it reads above, what it writes
    below."""
    import plotly.graph_objects as go

    figure = panels(
        ["reads: share of the neuron's variance", "writes: share of its column of W_L"],
        columns=1,
        shared_xaxes=True,
    )
    ks = list(range(1, len(portrait.neuron_share) + 1))
    for row, share in enumerate((portrait.neuron_share, portrait.write_share), 1):
        heat = go.Heatmap(
            y=ks,
            z=share,
            coloraxis="coloraxis",
            hovertemplate="neuron %{x} in this order, k = %{y}: %{z:.1%}<extra></extra>",
        )
        figure.add_trace(heat, row=row, col=1)
        figure.update_yaxes(title="frequency k", row=row, col=1)
    figure.update_xaxes(title="neuron, sorted by its frequency and its purity", row=2, col=1)
    bar = dict(title=dict(text="share", side="right"), thickness=12, tickformat=".0%")
    figure.update_layout(coloraxis=dict(colorscale=SCALE, cmin=0, cmax=1, colorbar=bar))
    return styled(figure, title="Neuron clusters", height=620)


def circles_figure(portrait: "Portrait") -> "go.Figure":
    """The rows of W_E in the plane of every key frequency, coloured by k·v mod n, their place on a perfect
    circle; lines join values one step of the circle apart."""
    import plotly.graph_objects as go

    frame, n = portrait.circle_frame(), portrait.n
    titles = [
        f"k = {k}: circularity {c:.2f}"
        for k, c in zip(portrait.circle_freqs, portrait.circularity, strict=True)
    ]
    columns = 3 if len(titles) > 4 else min(2, len(titles))
    figure = panels(titles, columns=columns, square=True)
    for i, k in enumerate(portrait.circle_freqs):
        points = frame[frame["frequency"] == k].set_index("value").loc[walk(n, k)].reset_index()
        closed = np.append(np.arange(len(points)), 0)
        figure.add_trace(
            go.Scatter(
                x=points["x"].to_numpy(np.float32)[closed],
                y=points["y"].to_numpy(np.float32)[closed],
                mode="lines",
                line=dict(color=GRID, width=1),
                hoverinfo="skip",
                showlegend=False,
            ),
            **cell(i, columns),
        )
        figure.add_trace(
            go.Scatter(
                x=points["x"].to_numpy(np.float32),
                y=points["y"].to_numpy(np.float32),
                mode="markers",
                showlegend=False,
                marker=dict(color=points["value"].to_numpy() * k % n, coloraxis="coloraxis", size=6),
                customdata=points["value"].to_numpy(),
                hovertemplate="value %{customdata}: (%{x:.3f}, %{y:.3f})<extra></extra>",
            ),
            **cell(i, columns),
        )
    # a cyclic scale, since the values are a cycle
    figure.update_layout(
        coloraxis=dict(
            colorscale="phase",
            cmin=0,
            cmax=n,
            colorbar=dict(title=dict(text=f"k·v mod {n}", side="right"), thickness=12),
        )
    )
    _outer_titles(figure, len(titles), columns, "cosine direction", "sine direction")
    rows = -(-len(titles) // columns)
    figure.update_layout(meta={"narrow": stacked(len(titles))})
    return styled(figure, title="Circles of the key frequencies in W_E", height=70 + 240 * rows)


def walk(n: int, k: int) -> list[int]:
    """The values in the order in which the circle of frequency k meets them (all of them where k has an
    inverse mod n)."""
    return sorted(range(n), key=lambda v: (v * k % n, v))


def clock_pizza_figure(analyses: Sequence["OneLayerAnalysis"]) -> "go.Figure":
    """Gradient symmetricity against distance irrelevance, with the regions of Clocks and Pizzas (Zhong et al.
    2023, figure 7) and the same for untrained weights."""
    import plotly.graph_objects as go

    figure = go.Figure()
    for i, each in enumerate(analyses):
        colour = PALETTE[i % (len(PALETTE) - 1)]
        figure.add_trace(
            go.Scatter(
                x=[each.distance_irrelevance],
                y=[each.gradient_symmetricity],
                mode="markers",
                name=plain_text(each.name),
                error_y=dict(array=[each.symmetricity_error], color=colour),
                marker=dict(color=colour, size=12),
                hovertemplate=f"{plain_text(each.algorithm)}<br>irrelevance %{{x:.3f}}, symmetricity "
                f"%{{y:.4f}}<extra></extra>",
            )
        )
    baseline = [each.untrained for each in analyses]
    figure.add_trace(
        go.Scatter(
            x=[b.distance_irrelevance for b in baseline],
            y=[b.gradient_symmetricity for b in baseline],
            mode="markers",
            name="untrained",
            marker=dict(color=TEXT, symbol="x", size=9),
            hovertemplate="untrained<extra></extra>",
        )
    )
    regions = (
        ("Clock", CLOCK_DISTANCE, 1.0, 0.0, CLOCK_SYMMETRICITY),
        ("Pizza", 0.0, PIZZA_DISTANCE, PIZZA_SYMMETRICITY, 1.0),
    )
    for name, x0, x1, y0, y1 in regions:
        figure.add_shape(
            type="rect", x0=x0, x1=x1, y0=y0, y1=y1, fillcolor=SKY, opacity=0.2, line_width=0, layer="below"
        )
        figure.add_annotation(
            x=(x0 + x1) / 2, y=(y0 + y1) / 2, text=name, showarrow=False, font=dict(size=14)
        )
    figure.update_xaxes(title="distance irrelevance", range=[-0.05, 1.05])
    figure.update_yaxes(title="gradient symmetricity", range=[-0.05, 1.05])
    return styled(figure, title="Clock or Pizza", height=420)


def cluster_effect_figure(analysis: "OneLayerAnalysis") -> "go.Figure":
    """What every cluster of neurons adds to the right logit."""
    import plotly.graph_objects as go

    frame = cluster_table(analysis)
    bars = go.Bar(
        x=frame["cluster"],
        y=frame["right logit"],
        marker_color=BLUE,
        customdata=frame[["neurons", "loss without"]],
        hovertemplate="%{x}: %{y:+.2f} from %{customdata[0]} neurons; loss without them "
        "%{customdata[1]:.3g}<extra></extra>",
    )
    figure = go.Figure(bars)
    figure.update_xaxes(type="category", title="neurons of")
    figure.update_yaxes(title="right logit above the mean (nats)")
    return styled(figure, title="What the clusters write", height=340)


def cluster_table(analysis: "OneLayerAnalysis") -> Any:
    """The clusters as a frame."""
    import pandas as pd

    rows = [
        (f"k = {c.frequency}" if c.frequency else "no cluster", c.size, c.right_logit, c.loss_without)
        for c in analysis.clusters
    ]
    return pd.DataFrame(rows, columns=["cluster", "neurons", "right logit", "loss without"])
