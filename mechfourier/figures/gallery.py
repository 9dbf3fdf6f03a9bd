"""Every figure once, as PNG with a page of captions: ``mechfourier gallery``."""

import re
import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mechfourier.drawing.html import Part
from mechfourier.errors import UsageError
from mechfourier.figures.paper import COLUMN, paper
from mechfourier.figures.png import write_pngs
from mechfourier.figures.report import saved_results
from mechfourier.files import slug, write_text, write_with
from mechfourier.results.saved import read

if TYPE_CHECKING:
    import plotly.graph_objects as go

# pictures of the front page, and which of the gallery they are
SHARP = 3.0
"""Pixels of a picture per CSS pixel: 963 across a column of 8.5 cm."""
README_PICTURES = {
    "circle-emerges": "circle-emerges",
    "progress": "run-progress-measures",
}
Picture = tuple[str, str, "go.Figure"]  # title, caption, figure


def write_gallery(
    run: str | Path, out: str | Path, *, results: Path | None = None, readme: Path | None = None
) -> list[Path]:
    """PNGs of every figure and a README.md with their captions in ``out``; ``readme`` also gets two of
    the front page.

    ``run`` is a one-layer training run with checkpoints. The rest is drawn of the saved results in ``results``, or
    measured: probes and interventions on the packaged ``calendar`` model, arithmetic on the packaged ``adder``
    and ``miras`` (several minutes of processor time in all). Raises ``MissingExtra`` without a browser (see ``png``), and what ``evolution``
    and ``probe`` raise.
    """
    others = {**calendar_pictures(), **arithmetic_pictures()} if results is None else saved_pictures(results)
    pictures = {**one_layer_pictures(run), **others}
    written = write_pngs(
        {name: paper(figure, title=title) for name, (title, _, figure) in pictures.items()},
        out,
        width=COLUMN,
        scale=SHARP,
        margin=0,
    )
    text = [
        "# Gallery",
        "",
        "Every figure of mechfourier, made by `mechfourier gallery RUN --results RESULTS --out docs/gallery`, as `mechfourier report "
        "SOURCE --style paper` prints them: one column (8.5 cm) wide, text of 7 points or more, what is seen as the title.",
        "",
    ]
    for name, (title, caption, _) in pictures.items():
        text += [f"## {title}", "", *([caption, ""] if caption else []), f"![{title}]({name}.png)", ""]
    written.append(write_text(Path(out) / "README.md", "\n".join(text)))
    if readme is not None:
        for name, source in README_PICTURES.items():
            written.append(
                write_with(readme / f"{name}.png", partial(shutil.copyfile, Path(out) / f"{source}.png"))
            )
    return written


def drawn(name: str, part: Part) -> dict[str, Picture]:
    """The figures of a chapter, with their headings and what stands under those."""
    figures: list[Any] = [section for section in part.sections if hasattr(section.body, "to_plotly_json")]
    return {
        re.sub("-+", "-", f"{name}-{slug(section.heading)}"): (section.title, section.lead, section.body)
        for section in figures
    }


def saved_pictures(folder: str | Path) -> Mapping[str, Picture]:
    """The figures of every saved result in a folder. Raises ``UsageError`` where there is none."""
    found: dict[str, Picture] = {}
    for path in saved_results(Path(folder)):
        result = read(path).result
        if not isinstance(result, dict):
            part = result.part()
            named = drawn(path.stem, part)
            found |= {
                key: (title, f"{part.title}. {lead}".strip(), made)
                for key, (title, lead, made) in named.items()
            }
    if not found:
        raise UsageError(f"{folder} holds no saved result that is drawn; give what commands left in --out")
    return found


def one_layer_pictures(run: str | Path) -> Mapping[str, Picture]:
    """The figures of a training run."""
    from mechfourier.figures import emergence
    from mechfourier.figures.animation import player
    from mechfourier.figures.report import run_part
    from mechfourier.figures.scene import scene
    from mechfourier.toys.one_layer import evolution

    circle, sine = (
        emergence.circle_stills(evolution(run, "circle")),
        emergence.sine_stills(evolution(run, "sine")),
    )
    rows = "The rows of W_E on the cosine and sine direction of the strongest frequency, at four checkpoints."
    made: dict[str, Picture] = {
        "circle-emerges": ("A circle emerges", rows, circle),
        "sine-emerges": (
            "A neuron becomes a sine",
            "A neuron's mean activation over a + b, and the best sine.",
            sine,
        ),
        **drawn("run", run_part(Path(run))),
    }
    for what in ("circle", "sines", "logits"):
        shown = scene(evolution(run, what, max_frames=40))
        caption = f"The player of `mechfourier animate RUN --what {what}`, at its last frame."
        still: Any = player(shown)
        still.layout.updatemenus, still.layout.sliders = (
            (),
            (),
        )  # what is pressed and drawn has no place in a picture
        made[f"player-{what}"] = (shown.title, caption, still)
    return made


def calendar_pictures() -> Mapping[str, Picture]:
    """The figures of probes and interventions, on the packaged calendar model."""
    from mechfourier.causal.study import study
    from mechfourier.domains.definition import domain
    from mechfourier.models.registry import load
    from mechfourier.probes.attention import attention
    from mechfourier.probes.lens import lens
    from mechfourier.probes.probe import probe

    model, days = load("calendar"), domain("days")
    results = {
        "probe": probe(model, domain("months")),
        "study": study(model, days),
        "lens": lens(model, days),
        "attention": attention(model, days),
    }
    return {
        key: picture
        for name, result in results.items()
        for key, picture in drawn(name, result.part()).items()
    }


def arithmetic_pictures() -> Mapping[str, Picture]:
    """The figures of the packaged adder and of the packaged model of every modulus."""
    from mechfourier.toys import adder, universal

    lengths = adder.sweep_accuracy("adder", samples=10, max_digits=30, category_samples=50)
    parts = {
        "adder-accuracy": lengths.part(),
        "adder": adder.analyze("adder").part(),
        "universal": universal.analyze("miras").part(),
    }
    return {key: picture for name, part in parts.items() for key, picture in drawn(name, part).items()}
