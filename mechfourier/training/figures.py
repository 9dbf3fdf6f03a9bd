"""Figures of a training run: losses and accuracies with the phases of grokking, several runs overlaid, any
metrics."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from mechfourier.drawing.marks import LOG, figure, line
from mechfourier.drawing.template import (
    BLUE,
    GREEN,
    ORANGE,
    PALETTE,
    SKY,
    VERMILION,
    panels,
    plain_text,
    styled,
)

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

PHASE_COLOURS = {"memorisation": SKY, "circuit formation": ORANGE, "clean-up": GREEN}
MAX_POINTS = 2000  # per curve; more cannot be seen and make the page heavy
STEPS = {"title": "step", "type": "log", "dtick": 1}


@runtime_checkable
class Phases(Protocol):
    """The phases of a run: a verdict, and a table of (phase, first step, last step)."""

    @property
    def verdict(self) -> str: ...
    def frame(self) -> "pd.DataFrame": ...


def curves_figure(history: "pd.DataFrame", phases: Phases | None = None) -> "go.Figure":
    """Losses (above) and accuracies (below) over the steps, with the phases as bands where there are any.

    ``history`` has ``step`` and any of ``train_loss``, ``test_loss``, ``train_accuracy``, ``test_accuracy``.
    """
    made = two_rows()
    for row, kind in ((1, "loss"), (2, "accuracy")):
        for part, colour in (("train", BLUE), ("test", VERMILION)):
            if (name := f"{part}_{kind}") not in history.columns:
                continue
            shown = thinned(history.loc[:, ["step", name]].dropna())
            hover, group = (
                f"step %{{x}}: {part} {kind} %{{y:.4g}}",
                {"legendgroup": part, "showlegend": row == 1},
            )
            made.add_trace(
                line(shown["step"], shown[name], part, colour=colour, hover=hover, **group), row=row, col=1
            )
    made.update_yaxes(dtick=_decades(history), row=1, col=1)
    made.update_yaxes(title="accuracy", range=[-0.02, 1.02], tickformat=".0%", row=2, col=1)
    mark_phases(made, phases, first=first_shown(history))
    return styled(made, title="Training", height=520)


def two_rows() -> "go.Figure":
    """Losses on a logarithmic axis above something else, over the same steps."""
    made = panels(["", ""], columns=1, shared_xaxes=True, vertical_spacing=0.06)
    made.update_yaxes(title="loss (nats)", **LOG, row=1, col=1)
    made.update_xaxes(type="log", dtick=1)
    return made.update_xaxes(title="step", row=2, col=1)


def first_shown(frame: "pd.DataFrame") -> float:
    """The first step that a logarithmic axis can show."""
    return max(1.0, float(frame["step"].to_numpy().min()))


def _decades(history: "pd.DataFrame") -> int:
    """Ticks at every decade, or fewer where the losses span many."""
    losses = history[[c for c in ("train_loss", "test_loss") if c in history.columns]].to_numpy(float)
    losses = losses[np.isfinite(losses) & (losses > 0)]
    return 1 if len(losses) == 0 else max(1, round(float(np.log10(losses.max() / losses.min())) / 5))


def thinned(frame: "pd.DataFrame") -> "pd.DataFrame":
    """At most ``MAX_POINTS`` rows, denser at the beginning, where a logarithmic axis is wide."""
    if len(frame) <= MAX_POINTS:
        return frame
    spread = np.geomspace(1, len(frame), MAX_POINTS // 2)
    even = np.linspace(1, len(frame), MAX_POINTS // 2)
    return frame.iloc[np.unique(np.concatenate([spread, even]).round().astype(int)) - 1]


def mark_phases(figure: "go.Figure", phases: Any, *, first: float = 1.0) -> None:
    """The three phases as bands with their names; nothing where the run does not show three phases."""
    if phases is None or phases.verdict != "three phases":
        return
    for row in phases.frame().itertuples(index=False):
        start, end = max(first, float(row[1])), float(row[2])
        colour = PHASE_COLOURS[str(row[0])]
        # named in the legend: a phase may be narrower than its name
        band: dict[str, Any] = {
            "fillcolor": colour,
            "opacity": 0.2,
            "line_width": 0,
            "name": plain_text(row[0]),
        }
        for panel in (1, 2):
            place: dict[str, Any] = {"row": panel, "col": 1, "showlegend": panel == 1}
            figure.add_vrect(x0=start, x1=end, **band, **place)


def overlay_figure(histories: Mapping[str, "pd.DataFrame"], column: str, *, axis: str) -> "go.Figure":
    """One metric of several runs over their steps."""
    dashes, colours = ("solid", "dash", "dot", "dashdot"), PALETTE[:-1]
    traces = []
    for i, (name, history) in enumerate(histories.items()):
        if column not in history.columns:
            continue
        shown = thinned(history.loc[:, ["step", column]].dropna())
        look = {"colour": colours[i % len(colours)], "dash": dashes[i // len(colours) % len(dashes)]}
        traces.append(line(shown["step"], shown[column], name, **look, hover="step %{x}: %{y:.4g}"))
    y = {"title": axis, **(LOG if "loss" in column else {"rangemode": "tozero"})}
    title = f"{axis} of {len(histories)} runs"
    return figure(*traces, x=STEPS, y=y, title=title, height=400, showlegend=True)


def run_figure(result: Any) -> "go.Figure":
    """All metrics of a finished run over its steps: losses above, accuracies below."""
    frame, made = result.frame(), two_rows()
    for i, name in enumerate(frame.columns.drop(["step", "seconds"], errors="ignore")):
        shown = thinned(frame.loc[:, ["step", name]].dropna())
        hover = f"step %{{x}}: {plain_text(name)} %{{y:.4g}}"
        trace = line(shown["step"], shown[name], name, hover=hover, colour=PALETTE[i % len(PALETTE)])
        made.add_trace(trace, row=2 if "accuracy" in name else 1, col=1)
    made.update_yaxes(title="accuracy", range=[-0.02, 1.04], tickformat=".0%", row=2, col=1)
    return styled(made, title="Metrics", height=520)
