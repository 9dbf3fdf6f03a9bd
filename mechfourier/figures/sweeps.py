"""Figures of sweeps over settings: the phase diagram of grokking, and one number over the axes of any sweep."""

from typing import TYPE_CHECKING, Any

from mechfourier.drawing.template import SCALE, TEXT, panels, styled

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from mechfourier.sweep.phase import PhaseDiagram
    from mechfourier.sweep.run import Sweep


def phase_figure(diagram: "PhaseDiagram") -> "go.Figure":
    """Left: the share of seeds that generalise; right: the median epochs to 99 % test accuracy (empty where most never do)."""
    import plotly.graph_objects as go

    frame = diagram.frame()
    frame["generalised"] = frame["comprehended"] + frame["grokked"]
    figure = panels(["runs that generalise", "median epochs to 99 % test accuracy"], columns=2)
    for column, (name, unit) in enumerate((("generalised", "share"), ("generalised_at", "epochs")), 1):
        table = frame.pivot(index=diagram.y, columns=diagram.x, values=name).astype(float)
        details = frame.set_index([diagram.y, diagram.x])
        hover = [
            [_hover(details.loc[(y, x)], diagram) for x in table.columns]  # pyright: ignore[reportArgumentType]
            for y in table.index
        ]
        figure.add_trace(
            go.Heatmap(
                x=[f"{v:g}" for v in table.columns], y=[f"{v:g}" for v in table.index], z=table.to_numpy(),
                text=[[_label(v, unit) for v in row] for row in table.to_numpy()], texttemplate="%{text}",
                customdata=hover, hovertemplate="%{customdata}<extra></extra>", colorscale=SCALE,
                zmin=0 if unit == "share" else None, zmax=1 if unit == "share" else None, showscale=False,
                hoverongaps=False,
            ),
            row=1, col=column,
        )  # fmt: skip
        figure.update_xaxes(title=_title(diagram.x), type="category", row=1, col=column)
    figure.update_yaxes(type="category")
    figure.update_yaxes(title=_title(diagram.y), col=1)
    return styled(figure, title=f"Grokking over {_title(diagram.x)} and {_title(diagram.y)}", height=430)


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
        f"{_title(diagram.x)} {cell.name[1]:g}, {_title(diagram.y)} {cell.name[0]:g}: {cell['runs']:.0f} runs<br>{shares}<br>"
        f"generalised 95 % interval {low:.0%} to {high:.0%}"
    )


def sweep_figure(result: "Sweep") -> "go.Figure":
    """A one-layer sweep over two numbers (beside seeds) as its phase diagram; any other sweep as points: its first number over its
    first axis, a panel per value of the second axis, coloured by it."""
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
    import plotly.graph_objects as go

    figure, colour = go.Figure(), axes[1] if len(axes) > 1 else None
    for value, group in frame.groupby(colour) if colour else (("", frame),):
        figure.add_trace(
            go.Scatter(
                x=group[axes[0]],
                y=group[number],
                mode="markers",
                name=f"{_title(colour)} {value}" if colour else _title(number),
            )
        )
    figure.update_xaxes(title=_title(axes[0]))
    figure.update_yaxes(title=_title(number))
    figure.update_layout(showlegend=colour is not None, font_color=TEXT)
    return styled(figure, title=f"{_title(number).capitalize()} over {_title(axes[0])}", height=430)
