"""What a report shows of the one-layer transformer: a card, figures, tables."""

import contextlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mechfourier.drawing.html import Part, Section, half, verdict_card
from mechfourier.drawing.template import GREEN, ORANGE
from mechfourier.errors import BadCheckpoint
from mechfourier.files import read_text
from mechfourier.models.folder import WEIGHTS
from mechfourier.toys.one_layer import figures as draw
from mechfourier.toys.one_layer.analysis import analyze
from mechfourier.toys.one_layer.checkpoint_tables import Portrait, portrait
from mechfourier.toys.one_layer.curve_figures import power_figure, progress_figure
from mechfourier.toys.one_layer.curves import ProgressCurves
from mechfourier.toys.one_layer.result import OneLayerAnalysis
from mechfourier.training.figures import curves_figure

if TYPE_CHECKING:
    import pandas as pd


def page(source: str | Path, history: "pd.DataFrame | None" = None) -> Part:
    """Everything inside a run (or a model by name), with its losses where there is a ``history``."""
    result = analysis_of(source)
    part = analysis_part(result, portrait(source))
    if history is None or "test_loss" not in history.columns:
        return part
    lead = "Losses over the pairs trained on and the others."
    if result.phases is not None:
        lead += f" Verdict on the phases: {result.phases.verdict}."
    return replace(
        part, sections=[Section("Training", curves_figure(history, result.phases), lead), *part.sections]
    )


def analysis_of(source: str | Path) -> OneLayerAnalysis:
    """The analysis saved in a run folder where it is newer than the weights, else a new one."""
    saved, weights = Path(source) / "analysis.json", Path(source) / WEIGHTS
    if saved.is_file() and weights.is_file() and saved.stat().st_mtime >= weights.stat().st_mtime:
        with contextlib.suppress(
            BadCheckpoint, UnicodeDecodeError
        ):  # another result, or a damaged one: it is made again
            result = OneLayerAnalysis.from_json(read_text(saved))
            if result.name == Path(source).name:
                return result
    return analyze(source)


def analysis_part(result: OneLayerAnalysis, portrait: Portrait | None = None) -> Part:
    """Everything of one checkpoint; with a ``Portrait`` also the pictures that need the weights."""
    sections: list[Section] = []
    if (curves := result.curves) is not None:
        sections += _curve_sections(curves, result)
        sections.append(
            half(
                "Spectrum over training",
                power_figure(curves),
                "Shares of the power of W_E at every checkpoint.",
            )
        )
    sections += [
        half("Embedding spectrum", draw.embed_figure(result), "Power of W_E over the values, per frequency."),
        half(
            "Neuron–logit spectrum",
            draw.neuron_logit_figure(result),
            "Power of W_L = W_out W_U over the answers.",
        ),
    ]
    if portrait is not None:
        sections += portrait_sections(portrait)
    lead = (
        "What the neurons of every frequency add to the right logit, and the loss with them held at their "
        "mean."
    )
    sections += [
        half("What the clusters write", draw.cluster_effect_figure(result), lead),
        half(
            "Clock or Pizza",
            draw.clock_pizza_figure([result]),
            "Clock: the right logit depends on the sum alone. Pizza: it depends on how far apart the "
            "operands are, and both are treated alike.",
        ),
        Section("Frequencies", result.frame(), "Click a heading to sort."),
        half("Clusters", draw.cluster_table(result), "Loss without: each neuron held at its mean (nats)."),
    ]
    word = result.algorithm + ("" if result.algorithm == "not learned" else f", {result.accuracy:.1%} right")
    reasons = str(result).splitlines()[1:]
    keys = ", ".join(map(str, result.key_freqs)) or "none"
    card = verdict_card(
        word, f"key frequencies {keys}", reasons, accent=GREEN if result.accuracy > 0.99 else ORANGE
    )
    return Part(f"One layer: {result.name}", sections, f"{result.task} mod {result.p}", card)


def _curve_sections(curves: ProgressCurves, result: Any) -> list[Section]:
    lead = (
        "Restricted: only the key frequencies are kept; excluded: only they are taken away. The circuit "
        "forms while the "
        "excluded loss rises and the test loss has not fallen yet."
    )
    return [Section("Progress measures", progress_figure(curves, getattr(result, "phases", None)), lead)]


def portrait_sections(portrait: Portrait) -> list[Section]:
    """The pictures that need the weights."""
    circles = (
        "The rows of W_E projected on the cosine and sine direction of each key frequency (PCA would mix "
        "them). Neighbours on the line "
        "are values whose difference turns the circle by the least step."
    )
    return [
        half("Circles", draw.circles_figure(portrait), circles),
        half(
            "Neurons over the grid", draw.neuron_figure(portrait), "The purest neuron of each key frequency."
        ),
        half(
            "Attention over the grid",
            draw.attention_figure(portrait),
            "From the last position to the first operand.",
        ),
        half(
            "Logit spectrum",
            draw.logit_figure(portrait),
            "Variance of the logits over (a, b), per pair of frequencies.",
        ),
        Section("Neuron clusters", draw.cluster_figure(portrait), "A neuron reads and writes one frequency."),
    ]


def curves_part(result: ProgressCurves) -> Part:
    """Progress measures alone."""
    sections = _curve_sections(result, None)
    sections += [
        Section("Spectrum over training", power_figure(result)),
        Section("Checkpoints", result.frame()),
    ]
    return Part(f"Progress: {result.name}", sections, str(result))
