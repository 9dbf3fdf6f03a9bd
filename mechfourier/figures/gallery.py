"""Every figure once, as PNG with a page of captions: ``mechfourier gallery``."""

import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mechfourier.figures.png import write_pngs
from mechfourier.files import write_text, write_with

if TYPE_CHECKING:
    import plotly.graph_objects as go

README_PICTURES = ("circle-emerges", "progress", "probe-circle")
Picture = tuple[str, "go.Figure"]  # caption, figure


def write_gallery(run: str | Path, out: str | Path, *, readme: Path | None = None) -> list[Path]:
    """PNGs of every figure and a README.md with their captions in ``out``; ``readme`` also gets the three of the front page.

    ``run`` is a one-layer training run with checkpoints; the probes and interventions are made on the packaged ``calendar``
    model, the rest on the packaged ``adder`` and ``miras`` (several minutes of processor time in all). Raises ``MissingExtra`` without a browser (see ``png``), and what ``evolution`` and ``probe`` raise.
    """
    pictures = {**one_layer_pictures(run), **calendar_pictures(), **arithmetic_pictures()}
    written = write_pngs({name: figure for name, (_, figure) in pictures.items()}, out)
    text = [
        "# Gallery",
        "",
        "Every figure of mechfourier, made by `mechfourier gallery RUN --out docs/gallery`.",
        "",
    ]
    for name, (caption, figure) in pictures.items():
        title = figure.layout.title.text or name  # pyright: ignore[reportAttributeAccessIssue]
        text += [f"## {title}", "", caption, "", f"![{title}]({name}.png)", ""]
    written.append(write_text(Path(out) / "README.md", "\n".join(text)))
    if readme is not None:
        for name in README_PICTURES:
            written.append(
                write_with(readme / f"{name}.png", partial(shutil.copyfile, Path(out) / f"{name}.png"))
            )
    return written


def one_layer_pictures(run: str | Path) -> Mapping[str, Picture]:
    """The figures of a training run."""
    from mechfourier.figures import emergence
    from mechfourier.figures.animation import player
    from mechfourier.figures.report import analysis_of
    from mechfourier.figures.scene import scene
    from mechfourier.toys.one_layer import evolution, portrait
    from mechfourier.toys.one_layer import figures as one_layer
    from mechfourier.toys.one_layer import progress_figures as progress
    from mechfourier.training import figures as training
    from mechfourier.training.run_folder import RunFolder

    result, faces = analysis_of(Path(run)), portrait(run)
    history = RunFolder(run).read_metrics()
    made: dict[str, Picture] = {
        "circle-emerges": (
            "The rows of W_E on the cosine and sine direction of the strongest frequency, at four checkpoints.",
            emergence.circle_stills(evolution(run, "circle")),
        ),
        "sine-emerges": ("A neuron's mean activation over a + b, and the best sine.", emergence.sine_stills(evolution(run, "sine"))),
        "training": ("Losses and accuracies with the three phases of grokking.", training.curves_figure(history, result.phases)),
    }  # fmt: skip
    if result.curves is not None:
        made["progress"] = (
            "The excluded loss rises while the circuit forms, long before the test loss falls.",
            progress.progress_figure(result.curves, result.phases),
        )
        made["power"] = (
            "Shares of the power of W_E at every checkpoint.",
            progress.power_figure(result.curves),
        )
    made |= {
        "embedding": ("Power of W_E per frequency, with the bar that untrained models stay under.", one_layer.embed_figure(result)),
        "neuron-logit": ("The same for W_L = W_out W_U.", one_layer.neuron_logit_figure(result)),
        "circles": ("Every key frequency has its own plane.", one_layer.circles_figure(faces)),
        "neurons": ("The purest neuron of each key frequency.", one_layer.neuron_figure(faces)),
        "attention": ("From the last position to the first operand.", one_layer.attention_figure(faces)),
        "logits": ("Variance of the logits per pair of frequencies.", one_layer.logit_figure(faces)),
        "clusters": ("A neuron reads and writes one frequency.", one_layer.cluster_figure(faces)),
        "cluster-effects": ("What the neurons of each frequency add to the right logit.", one_layer.cluster_effect_figure(result)),
        "clock-pizza": ("The two measures of Zhong et al. (2023).", one_layer.clock_pizza_figure([result])),
    }  # fmt: skip
    for what in ("circle", "sines", "logits"):
        made[f"player-{what}"] = (
            f"The player of `mechfourier animate RUN --what {what}`, at its last frame.",
            player(scene(evolution(run, what, max_frames=40))),
        )
    return made


def calendar_pictures() -> Mapping[str, Picture]:
    """The figures of probes and interventions, on the packaged calendar model."""
    from mechfourier.causal.study import study
    from mechfourier.domains.definition import domain
    from mechfourier.figures import causal, inside
    from mechfourier.figures import probe as draw
    from mechfourier.models.registry import load
    from mechfourier.probes.attention import attention
    from mechfourier.probes.lens import lens
    from mechfourier.probes.probe import probe

    model: Any = load("calendar")
    months, days = domain("months"), domain("days")
    found, tested = probe(model, months), study(model, days)
    made: dict[str, Picture] = {
        "probe-circle": ("Held-out positions of the months; ellipses are one standard deviation over templates.", draw.circle_figure(found)),
        "probe-spectrum": ("Share of the between-value power at every harmonic and hook point.", draw.spectrum_figure(found)),
        "probe-null": ("The best score under permuted labels, and the one observed.", draw.null_figure(found)),
        "probe-closure": ("Open and closed curves on values they were not fitted to.", inside.closure_figure(found)),
        "probe-seam": ("What a circle and an arc differ in.", inside.seam_figure(found)),
        "lens": ("Where in the model the answer arises.", inside.lens_figure(lens(model, days))),
        "attention-roles": ("Which words the answering position looks at.", inside.roles_figure(attention(model, days))),
    }  # fmt: skip
    if tested.rotation is not None:
        made["rotation"] = (
            "Turning the planes by δ moves the answer by δ.",
            causal.rotation_figure(tested.rotation),
        )
        made["rotation-controls"] = (
            "The same displacement in random planes.",
            causal.random_turns_figure(tested.rotation),
        )
    if tested.arms is not None:
        made["arms"] = ("The causal arms of the study.", causal.arms_figure(tested.arms))
    if tested.ablation is not None:
        made["ablation"] = (
            "The change of the logit difference among matched controls.",
            causal.ablation_figure(tested.ablation),
        )
    return made


def arithmetic_pictures() -> Mapping[str, Picture]:
    """The figures of the packaged adder and of the packaged model of every modulus."""
    from mechfourier.toys import adder as adders
    from mechfourier.toys import universal
    from mechfourier.toys.adder import analysis_figures as adder_analysis
    from mechfourier.toys.adder import figures as adder
    from mechfourier.toys.universal import analysis_figures as miras_analysis
    from mechfourier.toys.universal import figures as miras

    lengths = adders.sweep_accuracy("adder", samples=10, max_digits=30, category_samples=50)
    sums, moduli = adders.analyze("adder"), universal.analyze("miras")
    made: dict[str, Picture] = {
        "adder-lengths": ("Exact match for every pair of lengths; the frame holds what was trained on.", adder.lengths_figure(lengths)),
        "adder-carries": ("Where the carry is: the share of it that a patch brings along.", adder_analysis.carry_figure(sums)),
        "adder-attention": ("Which source digit every head reads, by significance.", adder_analysis.heads_figure(sums)),
        "adder-digits": ("Each digit in the plane of the other nine: in the plane of all ten any ten vectors lie on a circle.", adder_analysis.digits_figure(sums)),
        "adder-positions": ("Accuracy and margin in the order in which the answer is written.", adder_analysis.positions_figure(sums)),
        "miras-extrapolation": ("Questions that wrap and that do not, apart.", miras.extrapolation_figure(moduli.accuracy)),
        "miras-neurons": ("The same neurons at several moduli.", miras_analysis.adaptation_figure(moduli)),
        "miras-attention": ("Where every position looks.", miras_analysis.flow_figure(moduli)),
    }  # fmt: skip
    if moduli.algorithm is not None:
        made["miras-effects"] = (
            "Waves and sizes changed apart from each other.",
            miras_analysis.effects_figure(moduli.algorithm),
        )
        made["miras-tipping"] = (
            "The size of m alone is moved.",
            miras_analysis.thresholds_figure(moduli.algorithm),
        )
    return made
