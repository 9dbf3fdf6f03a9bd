"""``mechfourier probe``: is this quantity on a circle, and what is that worth?"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mechfourier.cli.common import (
    COUNT,
    CYCLES,
    PERIOD,
    SEED,
    domain_of,
    emit_json,
    note,
    quiet_libraries,
)
from mechfourier.cli.options import Device, Json
from mechfourier.cli.probe_arrays import (
    of_arrays,
    refuse_array_options,
    refuse_model_options,
    write_planes,
)
from mechfourier.errors import UsageError

if TYPE_CHECKING:
    import pandas as pd

    from mechfourier.probes.arrays.grid import GridProbe
    from mechfourier.probes.result import ProbeResult


Model = Annotated[
    str | None,
    typer.Argument(help="A name (mechfourier models), a folder, or a GGUF file; none with --acts."),
]
Domain = Annotated[
    str | None,
    typer.Option(
        help="A domain (mechfourier domains), mod-N, or a .toml file (default: the model's own task, "
        "else months)."
    ),
]
Sites = Annotated[
    str | None,
    typer.Option(
        help="Kinds of hook points, joined by commas (default: resid_post); with --acts, the arrays."
    ),
]
Position = Annotated[str | None, typer.Option(help="Read value prompts at the 'value' or the 'last' token.")]
Design = Annotated[str, typer.Option(help="'value' (in sentences), 'operation' (value + offset) or 'auto'.")]
Controls = Annotated[
    bool,
    typer.Option("--controls/--no-controls", help="Also run the untrained model (weights re-initialised)."),
]
ShowTokens = Annotated[
    bool,
    typer.Option("--show-tokens", help="Print the tokens of one prompt per template, the one read marked."),
]
Acts = Annotated[
    Path | None,
    typer.Option(
        help="A file of activations instead of a model: npz, npy, safetensors, PyTorch, Parquet, datasets."
    ),
]
Layout = Annotated[
    str | None, typer.Option(help="Axes of the arrays: 'site value template d', 'a o d', 'row d' …")
]
Labels = Annotated[
    str | None, typer.Option(help="Column of the labels (two, joined by a comma, for two cycles).")
]
Period = Annotated[
    float | None,
    typer.Option(help="Period of labels that are angles (or --domain degrees).", **PERIOD),
]
Control = Annotated[Path | None, typer.Option(help="The same file from an untrained model (with --acts).")]
Out = Annotated[Path, typer.Option(help="Folder of the HTML figure and the JSON result.")]
Probabilities = Annotated[
    bool,
    typer.Option("--probabilities", help="The arrays are answer distributions: take square roots."),
]


def probe(
    model: Model = None,
    domain: Domain = None,
    sites: Sites = None,
    layers: Annotated[str | None, typer.Option(help="Layers, like 0-3,7 (default: all).")] = None,
    position: Position = None,
    design: Design = "auto",
    cycles: Annotated[int, typer.Option(help="Cycles of offsets in operation designs.", **CYCLES)] = 4,
    permutations: Annotated[int, typer.Option(help="Permutations of the family-wise null.", **COUNT)] = 1000,
    seed: Annotated[int, typer.Option(help="Seed of permutations, bootstrap and control.", **SEED)] = 0,
    controls: Controls = True,
    engine: Annotated[str, typer.Option(help="'hooked', 'bridge' or 'auto'.")] = "auto",
    device: Device = "auto",
    cache: Annotated[bool, typer.Option("--cache/--no-cache", help="Keep activations on disk.")] = True,
    show_tokens: ShowTokens = False,
    acts: Acts = None,
    layout: Layout = None,
    labels: Labels = None,
    templates: Annotated[str | None, typer.Option(help="Column of the templates.")] = None,
    period: Period = None,
    control: Control = None,
    probabilities: Probabilities = False,
    json_: Json = False,
    out: Out = Path("mechfourier-out"),
) -> None:
    """Probe a domain for circular features: verdict, evidence at every hook point, HTML figure."""
    quiet_libraries()
    arrays: dict[str, Any] = dict(
        layout=layout, labels=labels, templates=templates, period=period, control=control
    )
    if acts is not None:
        refuse_model_options(
            model,
            dict(layers=layers, position=position, show_tokens=show_tokens, engine=engine, device=device),
        )
        arrays |= dict(sites=sites, design=design, probabilities=probabilities, seed=seed)
        result = of_arrays(acts, domain, **arrays, n_permutations=permutations)
        return write_and_show(result, out, json_=json_)
    refuse_array_options(arrays | dict(probabilities=probabilities))
    name = _named(model)
    from mechfourier.hooks.store import ActivationStore
    from mechfourier.models.registry import load
    from mechfourier.probes.probe import probe as run

    wanted = domain_of(domain, name)  # before the model: a wrong name should not wait for its weights
    result = run(
        load(name, engine=engine, device=device),
        wanted,
        sites=sites or "resid_post",
        layers=layers,
        position=position,
        design=design,
        cycles=cycles,
        n_permutations=permutations,
        seed=seed,
        store=ActivationStore() if cache else None,
        controls=controls,
    )
    return write_and_show(result, out, json_=json_, tokens=show_tokens)


def _named(model: str | None) -> str:
    if model is None:
        raise UsageError(
            "give a model (mechfourier models lists them), or a file of activations (--acts FILE)"
        )
    return model


def write_and_show(
    result: "ProbeResult | GridProbe", out: Path, *, json_: bool, tokens: bool = False
) -> None:
    """The page and the JSON, then the result in words, or as JSON."""
    from mechfourier.figures.probe import write_probe

    figure = write_probe(result, out)
    saved = result.save(figure.with_suffix(".json"))
    planes = write_planes(result, figure)
    if json_:
        note(f"wrote {figure} and {saved}{f' and {planes}' if planes else ''}")
        return emit_json(result.to_dict())
    show(result, tokens=tokens)
    typer.echo(f"figure: {figure}")
    return None


def show(result: "ProbeResult | GridProbe", *, tokens: bool = False) -> None:
    """The verdict first, then the evidence, then what it would take to believe more."""
    from mechfourier.cli.tables import print_frame, say

    for line in str(result).splitlines():
        say(line)
    from mechfourier.probes.result import ProbeResult

    parts = (result,) if isinstance(result, ProbeResult) else result.factors
    say(f"read: {what_is_read(parts[0])}")
    if tokens and parts[0].tokens is not None:
        for row in parts[0].tokens.templates:
            say(f"  {row}")
    for text in result.notes:
        say(f"note: {text}")
    typer.echo("")
    for part in parts:
        if len(part.sites) and part.verdict != "not testable":
            other = "" if part is result else f"{part.domain}: "
            print_frame(short_frame(part), title=f"{other}evidence at every hook point")
            say(legend(part))
            typer.echo("")
    for step in result.next_steps():
        typer.echo(step)


def what_is_read(result: "ProbeResult") -> str:
    """How many prompts, at which token, after which beginning."""
    if result.arrays is not None:
        return str(result.arrays)
    where = "the value's last token" if result.position == "value" else "the prompt's last token"
    told = f"{where} in {result.prompts} prompts"
    if result.tokens is None:
        return told
    count = len(result.tokens.templates)
    return (
        f"{told} of {count} template{'s' * (count != 1)}; {result.tokens.beginning()} (--show-tokens shows "
        f"them)"
    )


def short_frame(result: "ProbeResult") -> "pd.DataFrame":
    """The evidence in columns that fit a terminal of 80: hook points without their common words, p-values
    beside what they belong to."""
    from mechfourier.cli.tables import short_sites

    frame = result.frame().rename(columns=SHORT)
    frame["site"] = short_sites(frame["site"].tolist())
    if "word" in frame.columns:
        frame["word"] = [_short_word(word) for word in frame["word"]]
    return frame.loc[:, [name for name in COLUMNS if name in frame.columns]]


def _short_word(word: str) -> str:
    """ "undecided: circle or open curve" as "circle or open curve?"."""
    left = word.removeprefix("undecided: ")
    return left if left == word else f"{left}?"


SHORT = {
    "control_error": "control",
    "best_dim": "dim",
    "dim_r2": "R²",
    "partial_r2": "R²",
    "p_dim": "p dim",
    "specificity": "ratio",
    "a_only": "a only",
    "offset_only": "o only",
}
COLUMNS = (
    "site",
    "word",
    "k",
    "share",
    "p",
    "error",
    "control",
    "ratio",
    "surrogates",
    "a only",
    "o only",
    "dim",
    "R²",
    "p dim",
)


def legend(result: "ProbeResult") -> str:
    """What the columns mean, in one line under the title."""
    from mechfourier.hooks.site import Site

    kinds = {Site.parse(row.site).kind for row in result.sites}
    layers = (
        f"site: layer of {next(iter(kinds))}; "
        if len(kinds) == 1 and Site.parse(result.sites[0].site).layer is not None
        else ""
    )
    if result.design == "operation":
        return (
            f"{layers}share: of the variance that the confounds leave, in the plane of the sum at k (p "
            f"family-wise); ratio: period "
            "specificity, and the share of surrogates that reach it; a, o only: shares of one operand; dim: "
            "best single dimension, its partial R² and family-wise p"
        )
    return (
        f"{layers}word: from the contest of shapes (A or B?: undecided); share: of the between-value power, "
        f"at k (p family-wise); error: held out, beside the label-permuted control, in "
        f"{result.unit}; dim: best single dimension, its R² and family-wise p"
    )


def register(app: typer.Typer) -> None:
    app.command(name="probe")(probe)
