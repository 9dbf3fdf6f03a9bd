"""``mechfourier sae``: train sparse dictionaries, measure them, and look for circles in them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mechfourier.cli.common import (
    BATCH,
    COUNT,
    FROM_NONE,
    SEED,
    SHARE,
    TOKENS,
    emit_json,
    finite,
    note,
    number_list,
    quiet_libraries,
)
from mechfourier.cli.options import Context, Device, Engine, Json, Permutations, Positions, Skip
from mechfourier.cli.refusals import Group

if TYPE_CHECKING:
    from mechfourier.models.interface import Model
    from mechfourier.sae.text import Source

MODEL = typer.Argument(help="A name (mechfourier models), a folder, or a GGUF file.")
FOLDER = typer.Argument(help="A folder with a dictionary, or a release of SAELens (release:sae_id).")
OF_MODEL = typer.Option("--model", help="The model it belongs to (default: the one it was trained on).")
TEXT = typer.Option(
    help="Where text comes from: own (the model's task), a file, or a data set (name:split:column); with "
    "=WEIGHT. Repeat to mix."
)
SAE = typer.Option(
    help="Instead: features of a sparse dictionary (a folder, or release:sae_id), with --feature."
)
FEATURE = typer.Option(
    help="With --sae: its features, like 12 or 12,40; their decoder directions are what is changed."
)
OUT = typer.Option(help="Folder of the HTML page and the JSON result.")

sae = typer.Typer(
    name="sae",
    cls=Group,
    help="Sparse autoencoders (SAELens) on any hook point, scored for Fourier structure.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


def register(app: typer.Typer) -> None:
    """Add the group."""
    app.add_typer(sae)


Site = Annotated[
    list[str], typer.Option(help="A hook point, like blocks.7.hook_resid_post. Repeat for several.")
]
Architecture = Annotated[
    list[str] | None,
    typer.Option(help="standard, topk, batchtopk, jumprelu or gated. Repeat for several (default: topk)."),
]
Width = Annotated[
    list[str] | None,
    typer.Option(help="Features: 4x the site's dimensions, or a number. Repeat for several (default: 4x)."),
]
K = Annotated[
    list[int] | None,
    typer.Option("--k", "-k", help="Active features (topk, batchtopk). Repeat for several.", **COUNT),
]
Penalty = Annotated[
    list[float] | None,
    typer.Option(
        help="Coefficient of the L1 (standard, gated) or L0 (jumprelu) penalty. Repeat for several.",
        min=0,
        max=1e9,
        callback=finite,
    ),
]
Tokens = Annotated[int, typer.Option(help="Activations to train on, repetitions included.", **TOKENS)]
Rows = Annotated[
    int | None,
    typer.Option(
        help="Different activations to keep on disk (default: as many as needed, at most 16 GiB).",
        **TOKENS,
    ),
]
Control = Annotated[
    bool, typer.Option("--control/--no-control", help="Train the same on the re-initialised model too.")
]
KeepActivations = Annotated[
    bool, typer.Option("--keep-activations", help="Leave the captured activations on disk.")
]


@sae.command("train")
def train_command(
    model: Annotated[str, MODEL],
    site: Site,
    architecture: Architecture = None,
    width: Width = None,
    k: K = None,
    penalty: Penalty = None,
    text: Annotated[list[str] | None, TEXT] = None,
    tokens: Tokens = 1_000_000,
    rows: Rows = None,
    batch: Annotated[int, typer.Option(help="Activations per step.", **BATCH)] = 512,
    lr: Annotated[float, typer.Option(help="Learning rate.", **SHARE)] = 1e-3,
    positions: Positions = "auto",
    skip: Skip = 0,
    context: Context = 128,
    held_out: Annotated[float, typer.Option(help="Share of the sequences never trained on.", **SHARE)] = 0.1,
    control: Control = True,
    keep_activations: KeepActivations = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with what is in --out.")] = False,
    seed: Annotated[int, typer.Option(help="Seed of weights, shuffling and the held-out share.", **SEED)] = 0,
    engine: Engine = "auto",
    device: Device = "auto",
    as_json: Json = False,
    out: Annotated[Path, typer.Option(help="Folder of the dictionaries.")] = Path("mechfourier-sae"),
) -> None:
    """Train dictionaries; every combination of sites, architectures, widths and sparsities goes through one
    pass of the model."""
    quiet_libraries()
    from mechfourier.models.registry import load
    from mechfourier.sae.rows import Reading
    from mechfourier.sae.settings import Schedule, product
    from mechfourier.sae.training import train

    schedule = Schedule(tokens=tokens, batch=batch, lr=lr, seed=seed)
    reading = Reading(positions=positions, skip=skip, context=context, held_out=held_out, seed=seed)
    dictionaries = product(site, architecture or ["topk"], width or ["4x"], k or [], penalty or [])
    result = train(
        load(model, engine=engine, device=device),
        dictionaries,
        out,
        sources=_sources(text) or _sources(["own"]),
        reading=reading,
        schedule=schedule,
        rows=rows,
        control=control,
        keep_activations=keep_activations,
        resume=resume,
    )
    if as_json:
        return emit_json(result.to_dict())
    _show(str(result))
    typer.echo(f"next: mechfourier sae eval {result.dictionaries[0].folder}")
    return None


@sae.command("eval")
def eval_command(
    folder: Annotated[str, FOLDER],
    model: Annotated[str | None, OF_MODEL] = None,
    text: Annotated[list[str] | None, TEXT] = None,
    activations: Annotated[int, typer.Option(help="Held-out activations to read.", **COUNT)] = 16_384,
    engine: Engine = "auto",
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """L0, explained variance, dead and dense features, and the loss recovered, on held-out activations."""
    quiet_libraries()
    from mechfourier.sae.evaluation import evaluate

    loaded, of = _loaded(folder, model, engine, device)
    result = evaluate(of, loaded, sources=_sources(text) or None, activations=activations)
    if as_json:
        return emit_json(result.to_dict())
    _show(str(result))
    return None


@sae.command("score")
def score_command(
    folder: Annotated[str, FOLDER],
    domain: Annotated[
        str, typer.Option(help="A domain (mechfourier domains), mod-N, or a .toml file.")
    ] = "months",
    model: Annotated[str | None, OF_MODEL] = None,
    control: Annotated[
        str | None,
        typer.Option(help="A dictionary of the re-initialised model (default: the one beside it)."),
    ] = None,
    permutations: Permutations = 1000,
    pages: Annotated[int, typer.Option(help="Features to show in full on the HTML page.", **FROM_NONE)] = 4,
    seed: Annotated[int, typer.Option(help="Seed of permutations and random directions.", **SEED)] = 0,
    engine: Engine = "auto",
    device: Device = "auto",
    as_json: Json = False,
    out: Annotated[Path, OUT] = Path("mechfourier-out"),
) -> None:
    """Does the dictionary hold cleaner circles than the basis, on prompts it was not trained on?"""
    from mechfourier.domains.definition import domain as find_domain

    wanted = find_domain(domain)
    quiet_libraries()
    from mechfourier.figures.sae import write_score
    from mechfourier.sae.features import feature_pages
    from mechfourier.sae.scoring import score

    loaded, of = _loaded(folder, model, engine, device)
    result = score(of, loaded, wanted, control=control, n_permutations=permutations, seed=seed)
    best = [each.feature for each in result.scores[: max(pages, 0)]]
    shown = feature_pages(of, loaded, best, domain=wanted) if best and loaded.sources else ()
    page = write_score(result, shown, out)
    saved = result.save(page.with_suffix(".json"))
    if as_json:
        note(f"wrote {page} and {saved}")
        return emit_json(result.to_dict())
    _show(str(result))
    from mechfourier.cli.tables import print_frame

    print_frame(result.frame(), title="one harmonic, the best of each kind")
    if result.clusters:
        print_frame(result.cluster_frame(), title="groups of features that draw a circle")
    typer.echo(f"figure: {page}")
    return None


@sae.command("feature")
def feature_command(
    folder: Annotated[str, FOLDER],
    features: Annotated[str, typer.Argument(help="Features, like 12 or 12,40.")],
    domain: Annotated[str | None, typer.Option(help="A domain to show the activation of its values.")] = None,
    model: Annotated[str | None, OF_MODEL] = None,
    text: Annotated[list[str] | None, TEXT] = None,
    engine: Engine = "auto",
    device: Device = "auto",
    as_json: Json = False,
    out: Annotated[Path, OUT] = Path("mechfourier-out"),
) -> None:
    """What features stand for: where they fire, on which values, beside which others, and what they write."""
    from mechfourier.domains.definition import domain as find_domain

    numbers, wanted = feature_numbers(features), None if domain is None else find_domain(domain)
    quiet_libraries()
    from mechfourier.figures.sae import write_features
    from mechfourier.sae.features import feature_pages

    loaded, of = _loaded(folder, model, engine, device)
    pages = feature_pages(of, loaded, numbers, domain=wanted, sources=_sources(text) or None)
    page = write_features(pages, out)
    if as_json:
        note(f"wrote {page}")
        return emit_json({"features": [each.to_dict() for each in pages]})
    for each in pages:
        typer.echo(str(each))
    typer.echo(f"figure: {page}")
    return None


def feature_numbers(text: str) -> list[int]:
    """``"12"`` or ``"12,40"`` as numbers."""
    return number_list(text, "--feature", "features", "12, or 12,40")


def feature_subspace(model: "Model", folder: str | None, feature: str | None, site: Any) -> Any:
    """The directions of ``--sae FOLDER --feature N`` as a basis, or None without them; for ablate, patch and
    rotate."""
    from mechfourier.errors import UsageError

    if (folder is None) != (feature is None):
        raise UsageError("--sae and --feature go together: --sae FOLDER --feature 12")
    if folder is None or feature is None:
        return None
    numbers = feature_numbers(feature)
    from mechfourier.sae.load import feature_basis

    return feature_basis(folder, numbers, site=site, model=model)


def _sources(texts: list[str] | None) -> "tuple[Source, ...]":
    from mechfourier.sae.text import Source

    return tuple(Source.parse(text) for text in texts or ())


def _loaded(folder: str, model: str | None, engine: str, device: str) -> tuple[Any, Any]:
    """A dictionary and its model; a wrong folder is reported before a model is loaded."""
    from mechfourier.errors import UsageError
    from mechfourier.models.registry import load
    from mechfourier.sae.load import load_sae

    loaded = load_sae(folder)
    name = model or loaded.model
    if not name:
        raise UsageError(f"{folder} does not say which model it belongs to; name it with --model")
    of: Any = load(name, engine=engine, device=device)
    parameter = next(iter(of.parameters()), None)
    if parameter is not None:
        loaded.sae.to(parameter.device)
    return loaded, of


def _show(text: str) -> None:
    for line in text.splitlines():
        (note if line.startswith("note: ") else typer.echo)(line)
