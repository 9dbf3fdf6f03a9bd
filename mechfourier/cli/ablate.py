"""``mechfourier ablate``: take dimensions out of a site and see what the model can no longer do."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mechfourier.cli.causal import (
    OUT,
    Controls,
    Cycles,
    Device,
    Engine,
    Json,
    Layer,
    Model,
    Out,
    Samples,
    Seed,
    Task,
    harmonics,
    listed,
    site_of,
)
from mechfourier.cli.common import COUNT, LAYER, domain_of, emit_json, note, quiet_libraries
from mechfourier.cli.sae import FEATURE, SAE, feature_subspace

if TYPE_CHECKING:
    from mechfourier.causal.ablate import AblationResult


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("ablate")(ablate_command)


Dims = Annotated[str | None, typer.Option(help="Dimensions of the site: 8, or 8,35, or 0-63.")]
Head = Annotated[
    int | None, typer.Option(help="Instead of --dim: a whole attention head (of z, or of --site).", **LAYER)
]
Plane = Annotated[
    str | None,
    typer.Option(help="Instead of --dim: the plane of a harmonic of the values, like k=1 (or k=5,37)."),
]
Domain = Annotated[
    str | None,
    typer.Option(
        help="months, mod-23, … or the path of a TOML file (default: the model's own task, else mod-23)."
    ),
]
Kind = Annotated[
    str, typer.Option(help="Kind of site (resid_post, mlp_post, z, …) or a hook point's full name.")
]
Where = Annotated[
    str,
    typer.Option(help="Ablate at 'all' positions, at the prompt's 'last', or at the 'value' asked about."),
]
ControlSamples = Annotated[
    int | None,
    typer.Option(help="As many prompts for the controls (on a CPU: what minutes allow).", **COUNT),
]
Text = Annotated[
    str | None, typer.Option(help="A text file, one sentence per line, to measure perplexity on.")
]


def ablate_command(
    model: Model = "qwen3-0.6b",
    layer: Layer = None,
    dim: Dims = None,
    head: Head = None,
    plane: Plane = None,
    sae: Annotated[str | None, SAE] = None,
    feature: Annotated[str | None, FEATURE] = None,
    domain: Domain = None,
    task: Task = None,
    mode: Annotated[str, typer.Option(help="mean, zero, resample or project-out.")] = "mean",
    site: Kind = "resid_post",
    samples: Samples = None,
    cycles: Cycles = 1,
    position: Where = "all",
    controls: Controls = 200,
    control_samples: ControlSamples = None,
    text: Text = None,
    seed: Seed = 0,
    engine: Engine = "auto",
    device: Device = "auto",
    as_json: Json = False,
    out: Out = OUT,
) -> None:
    """Ablate dimensions of a site: accuracy, logit difference and text perplexity before and after, with
    controls."""
    from mechfourier.errors import UsageError

    if sum(part is not None for part in (dim, head, plane, sae)) != 1:
        raise UsageError(
            "name one thing to ablate, a dimension, a head, a plane or a feature: "
            "--layer 7 --dim 8, --layer 7 --head 3, --layer 7 --plane k=1, or --sae FOLDER --feature 12"
        )
    kind = "z" if head is not None and site == "resid_post" else site
    chosen, dims, ks = domain_of(domain, model, "mod-23", task=task), listed(dim, "--dim"), harmonics(plane)
    where, sentences = site_of(kind, layer), None if text is None else _sentences(text)
    quiet_libraries()
    from mechfourier.causal.ablate import ablate
    from mechfourier.models.registry import load

    loaded = load(model, engine=engine, device=device)
    what = dict(dims=dims, head=head, ks=ks, plane=feature_subspace(loaded, sae, feature, where))
    asked = dict(task=task, n_prompts=samples, cycles=cycles, seed=seed)
    against = dict(n_controls=controls, n_control_prompts=control_samples, text=sentences)
    options: dict[str, Any] = {**what, **asked, **against}
    result = ablate(loaded, chosen, site=where, mode=mode, position=position, **options)
    _show(result, out, as_json)


def _show(result: "AblationResult", out: Path, as_json: bool) -> None:
    from mechfourier.figures.report import write_result

    page = write_result(result, out)
    if as_json:
        note(f"wrote {page} and the result beside it (.json)")
        return emit_json(result.to_dict())
    _print(result)
    typer.echo(f"figure: {page}")
    return None


def _sentences(path: str) -> list[str]:
    from mechfourier.errors import UsageError
    from mechfourier.files import own_path, read_text

    try:
        lines = read_text(own_path(path)).splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"cannot read the text {path!r} ({error}); give a UTF-8 file, one sentence per line"
        ) from error
    return [line for line in lines if line.strip()]


_NAMES = {
    "accuracy": "accuracy (best of the candidates)",
    "greedy_accuracy": "accuracy (greedy decoding)",
    "accuracy_no_wrap": "accuracy without wrap",
    "accuracy_wrap": "accuracy with wrap",
    "logit_diff": "logit difference (nats)",
    "perplexity": "perplexity of held-out text",
}


def _print(result: "AblationResult") -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    console.print(
        f"{result.mode} ablation of {result.what} at {result.site} of {result.model}, domain {result.domain} "
        f"({result.n_prompts} prompts)",
        highlight=False,
    )
    table = Table("", "base", "ablated", "change")
    for row in result.frame().to_dict("records"):
        name = _NAMES[row["measure"]]
        if result.outcome == "similarity":
            name = name.replace("logit difference (nats)", "similarity difference (cosine)")
        numbers = [
            _number(row[key], share="accuracy" in row["measure"]) for key in ("base", "ablated", "change")
        ]
        table.add_row(name, *numbers[:2], numbers[2] if numbers[2].startswith("-") else f"+{numbers[2]}")
    console.print(table)
    low, high = result.logit_diff_ci
    measure = "similarity" if result.outcome == "similarity" else "logit"
    lines = [
        f"change of the {measure} difference {result.logit_diff_change:+.3g}, 95 % interval {low:+.3g} to "
        f"{high:+.3g}",
        f"{result.became_wrong} prompts became wrong, {result.became_right} right (McNemar's exact p = "
        f"{result.mcnemar_p:.2g})",
    ]
    if result.p_controls is not None:
        lines.append(
            f"p = {result.p_controls:.2g} against {result.n_controls} matched controls of the same site "
            f"({result.n_control_dims} other dimensions, {result.n_controls - result.n_control_dims} random "
            "directions)"
        )
    if result.kl is not None and result.kl_ci is not None:
        lines.append(
            f"KL on held-out text {result.kl:.3g} nats per token ({result.kl_ci[0]:.3g} to "
            f"{result.kl_ci[1]:.3g}); "
            f"specificity {result.specificity:+.2f} (task effect minus text effect, in standard deviations)"
        )
    for line in lines:
        console.print(line, highlight=False)
    for sentence in result.notes:
        note(f"note: {sentence}")


def _number(value: float, *, share: bool) -> str:
    return f"{100 * value:.1f} %" if share else f"{value:.3f}" if abs(value) < 1000 else f"{value:.4g}"
