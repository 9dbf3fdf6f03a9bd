"""Figures of sweeps over settings: the phase diagram of grokking, and one number over the axes of any
sweep."""

from typing import TYPE_CHECKING, Any

from mechfourier.drawing.marks import dots, figure, heat
from mechfourier.drawing.template import PALETTE, panels, stacked, styled

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from mechfourier.sweep.phase import PhaseDiagram
    from mechfourier.sweep.run import Sweep


def phase_figure(diagram: "PhaseDiagram") -> "go.Figure":
    """Left: the share of seeds that generalise; right: the median epochs to 99 % test accuracy (empty where
    most never do)."""
    frame = diagram.frame()
    frame["generalised"] = frame["comprehended"] + frame["grokked"]
    made = panels(["runs that generalise", "median epochs to 99 % test accuracy"], columns=2)
    details: Any = frame.set_index([diagram.y, diagram.x])
    for column, (name, unit) in enumerate((("generalised", "share"), ("generalised_at", "epochs")), 1):
        table = frame.pivot(index=diagram.y, columns=diagram.x, values=name).astype(float)
        hover = [[_hover(details.loc[(y, x)], diagram) for x in table.columns] for y in table.index]
        text = [[_label(v, unit) for v in row] for row in table.to_numpy()]
        limits = {"zmin": 0, "zmax": 1} if unit == "share" else {"zmin": None}
        x, y = ([f"{v:g}" for v in axis] for axis in (table.columns, table.index))
        shown = {"text": text, "texttemplate": "%{text}", "showscale": False, "hoverongaps": False, **limits}
        made.add_trace(
            heat(x, y, table.to_numpy(), hover="%{customdata}", customdata=hover, **shown), row=1, col=column
        )
        made.update_xaxes(title=_title(diagram.x), type="category", row=1, col=column)
    made.update_yaxes(type="category")
    made.update_layout(meta={"narrow": stacked(2, columns=1, height=300)})
    made.update_yaxes(title=_title(diagram.y), col=1)
    return styled(made, title=f"Grokking over {_title(diagram.x)} and {_title(diagram.y)}", height=430)


def _title(name: str) -> str:
    return name.replace("_", " ")


def _label(value: float, unit: str) -> str:
    if value != value:
        return ""
    return f"{value:.0%}" if unit == "share" else f"{value:.0f}"


def _hover(cell: Any, diagram: "PhaseDiagram") -> str:
    low, high = cell["generalised_low"], cell["generalised_high"]
    shares = ", ".join(f"{cell[p]:.0%} {p}" for p in ("confused", "memorised", "comprehended", "grokked"))
    return (
        f"{_title(diagram.x)} {cell.name[1]:g}, {_title(diagram.y)} {cell.name[0]:g}: {cell['runs']:.0f} "
        f"runs<br>{shares}<br>"
        f"generalised 95 % interval {low:.0%} to {high:.0%}"
    )


def sweep_figure(result: "Sweep") -> "go.Figure":
    """A one-layer sweep over two numbers (beside seeds) as its phase diagram; any other sweep as points: its
    first number over its first axis, a panel per value of the second axis, coloured by it."""
    from mechfourier.sweep.phase import phase_diagram

    frame: Any = result.frame()
    settings = [a for a in result.axes if a not in ("seed", "split_seed") and frame[a].nunique() > 1]
    if (
        result.experiment == "one-layer"
        and len(settings) == 2
        and all(frame[a].dtype.kind in "if" for a in settings)
    ):
        return phase_figure(phase_diagram(frame, x=settings[0], y=settings[1]))
    return _points(frame, settings or list(result.axes), _number_of(frame, result))


def _number_of(frame: Any, result: "Sweep") -> str:
    preferred = ["test_accuracy", "power_share", "accuracy_change", "explained_variance", "seconds"]
    return next(name for name in preferred if name in frame and name not in result.axes)


def _points(frame: Any, axes: list[str], number: str) -> "go.Figure":
    colour = axes[1] if len(axes) > 1 else None
    groups = frame.groupby(colour) if colour else [("", frame)]
    traces = [
        dots(
            group[axes[0]],
            group[number],
            f"{_title(colour)} {value}" if colour else "",
            hover="%{x}: %{y:.4g}",
            marker={"color": PALETTE[i % len(PALETTE)]},
        )
        for i, (value, group) in enumerate(groups)
    ]
    title = f"{_title(number).capitalize()} over {_title(axes[0])}"
    return figure(*traces, x=_title(axes[0]), y=_title(number), title=title, height=430)
