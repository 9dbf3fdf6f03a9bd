"""The one place that draws results: which function makes the figure of which kind. Nothing is imported until it draws."""

import importlib
from typing import TYPE_CHECKING, Any

from mechfourier.models.architectures import lookup

if TYPE_CHECKING:
    from mechfourier.results.base import Result

# class of a result -> "module:function" that draws it; those of a network are in its `Architecture`, one of somebody else's is
# added by ``register``
FIGURES: dict[str, str] = {
    "AblationResult": "mechfourier.figures.causal:ablation_figure",
    "ArmsResult": "mechfourier.figures.causal:arms_figure",
    "PatchResult": "mechfourier.figures.causal:patch_figure",
    "RotationResult": "mechfourier.figures.causal:rotation_figure",
    "StudyResult": "mechfourier.figures.causal:study_figure",
    "LensResult": "mechfourier.figures.inside:lens_figure",
    "AttentionResult": "mechfourier.figures.inside:roles_figure",
    "ProbeResult": "mechfourier.figures.probe:probe_figure",
    "AttributionResult": "mechfourier.figures.sweep:attribution_figure",
    "CausalPlane": "mechfourier.figures.sweep:plane_figure",
    "SweepResult": "mechfourier.figures.sweep:sweep_figure",
    "PhaseDiagram": "mechfourier.figures.sweeps:phase_figure",
    "Sweep": "mechfourier.figures.sweeps:sweep_figure",
    "TasksResult": "mechfourier.figures.tasks:tasks_figure",
}


def register(result_class: str, figure: str) -> None:
    """Let ``draw`` use ``figure`` ("module:function") for results of that class; for packages that bring their own."""
    FIGURES[result_class] = figure


def draw(result: "Result") -> Any:
    """The Plotly figure of a result; raises ``NotImplementedError`` where its class has none."""
    kind = type(result).__name__
    if kind in FIGURES:
        module, _, name = FIGURES[kind].partition(":")
        return getattr(importlib.import_module(module), name)(result)
    figure = lookup("figures", kind)
    if figure is None:
        raise NotImplementedError(f"there is no figure of a {kind}; its table is .frame()")
    return figure(result)
