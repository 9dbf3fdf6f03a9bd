"""``mechfourier capture``: the activations of a data set, on disk."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mechfourier.cli.common import PROCESSES, SEED, emit_json, note, quiet_libraries
from mechfourier.cli.options import Context, Device, Engine, Json, Layers, Positions, Runner, Skip, former

if TYPE_CHECKING:
    from mechfourier.harvest.result import CaptureResult

Model = Annotated[str | None, typer.Argument(help="A name (mechfourier models), a folder, or a GGUF file.")]
Dataset = Annotated[
    str,
    typer.Option(help="own (the model's task), a file, a folder saved by datasets, or name:split:column."),
]
Sites = Annotated[
    str, typer.Option(help="Kinds of hook point or full names, joined by commas (mechfourier hooks).")
]
ShardTokens = Annotated[
    str | None, typer.Option(help="Tokens per shard (default: what fills about 256 MiB).")
]
Address = Annotated[
    str | None, typer.Option(help="The Ray cluster: auto, or host:port (default: one is started here).")
]
Resume = Annotated[bool, typer.Option("--resume", help="Fail where --out holds nothing to go on with.")]
Plan = Annotated[
    bool, typer.Option("--plan", "--dry-run", help="Only say how many bytes, shards and hours it takes.")
]
Verify = Annotated[
    Path | None, typer.Option(help="Instead: check every shard of this folder against its checksum.")
]


def capture(
    model: Model = None,
    dataset: Dataset = "own",
    sites: Sites = "resid_post",
    layers: Layers = None,
    tokens: Annotated[str, typer.Option(help="Activations per site: 10M, 500k, 1_000_000.")] = "1M",
    dtype: Annotated[str, typer.Option(help="float32, float16 or bfloat16.")] = "float32",
    shard_tokens: ShardTokens = None,
    positions: Positions = "auto",
    skip: Skip = 0,
    context: Context = 128,
    workers: Annotated[int, typer.Option(help="Processes, each with a copy of the model.", **PROCESSES)] = 1,
    runner: Runner = "joblib",
    address: Address = None,
    engine: Engine = "auto",
    model_engine: Annotated[str | None, typer.Option(hidden=True)] = None,
    device: Device = "auto",
    seed: Annotated[int, typer.Option(help="Seed of the order of the model's own task.", **SEED)] = 0,
    resume: Resume = False,
    plan: Plan = False,
    verify: Verify = None,
    json_: Json = False,
    out: Annotated[Path, typer.Option(help="Folder of the shards.")] = Path("mechfourier-capture"),
) -> None:
    """Activations of a data set as sharded safetensors. The same command again goes on, and repairs damaged
    shards."""
    from mechfourier.errors import UsageError

    if verify is not None:
        return _verify(verify, as_json=json_)
    if model is None:
        raise UsageError("name a model (mechfourier models), or a folder to check with --verify")
    from mechfourier.harvest.engines import ENGINES
    from mechfourier.harvest.jobs import parse_tokens

    wanted = parse_tokens(tokens)
    if engine in ENGINES:  # what --engine said before
        runner, engine = former(engine, f"--engine {engine}", f"--runner {engine}", runner), "auto"
    quiet_libraries()
    from mechfourier.harvest import capture_dataset
    from mechfourier.harvest import plan as make_plan
    from mechfourier.sae.rows import Reading

    asked: dict[str, Any] = dict(
        dataset=dataset,
        sites=sites,
        layers=layers,
        tokens=wanted,
        dtype=dtype,
        shard_tokens=shard_tokens,
        reading=Reading(positions=positions, skip=skip, context=context, seed=seed),
        workers=workers,
        engine=former(model_engine, "--model-engine", "--engine", engine),
        device=device,
    )
    if plan:
        planned = make_plan(model, out, **asked)
        return emit_json(planned.to_dict()) if json_ else typer.echo(str(planned))
    result = capture_dataset(model, out, **asked, runner=runner, address=address, resume=resume)
    return emit_json(result.to_dict()) if json_ else _show(result, out)


def _show(result: "CaptureResult", out: Path) -> None:
    for line in str(result).splitlines():
        (note if line.startswith("note: ") else typer.echo)(line)
    typer.echo(
        f"next: mechfourier capture --verify {out}, or mechfourier.open_harvest({str(out)!r}) in Python"
    )


def _verify(folder: Path, *, as_json: bool) -> None:
    from mechfourier.harvest import verify

    result = verify(folder)
    if as_json:
        emit_json(result.to_dict())
    else:
        typer.echo(str(result))
    if not result.good:
        raise typer.Exit(1)


def register(app: typer.Typer) -> None:
    app.command(name="capture")(capture)
