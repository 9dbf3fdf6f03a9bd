"""The one place that draws results: which function makes the figure of which kind. Nothing is imported until it draws."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mechfourier.results.base import Result

# class of a result -> "module:function" that draws it; a class of somebody else's is added by ``register``
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
    "ProgressCurves": "mechfourier.figures.training:progress_figure",
    "AdderAnalysis": "mechfourier.toys.adder.analysis_figures:quantities_figure",
    "AdderAccuracy": "mechfourier.toys.adder.figures:lengths_figure",
    "MirasAnalysis": "mechfourier.toys.universal.analysis_figures:adaptation_figure",
    "AccuracySweep": "mechfourier.toys.universal.figures:extrapolation_figure",
}


def register(result_class: str, figure: str) -> None:
    """Let ``draw`` use ``figure`` ("module:function") for results of that class; for packages that bring their own."""
    FIGURES[result_class] = figure


def draw(result: "Result") -> Any:
    """The Plotly figure of a result; raises ``NotImplementedError`` where its class has none."""
    name = FIGURES.get(type(result).__name__)
    if name is None:
        raise NotImplementedError(f"there is no figure of a {type(result).__name__}; its table is .frame()")
    module, _, function = name.partition(":")
    return getattr(importlib.import_module(module), function)(result)
