"""``mechfourier capture``: the activations of a data set, on disk."""

from pathlib import Path
from typing import Annotated

import typer

from mechfourier.cli.common import CONTEXT, FROM_NONE, PROCESSES, SEED, emit_json, note, quiet_libraries


def capture(
    model: Annotated[
        str | None, typer.Argument(help="A name (mechfourier models), a folder, or a GGUF file.")
    ] = None,
    dataset: Annotated[
        str,
        typer.Option(
            help="own (the model's task), a file, a folder saved by datasets, or name:split:column."
        ),
    ] = "own",
    sites: Annotated[
        str, typer.Option(help="Kinds of hook point or full names, joined by commas (mechfourier hooks).")
    ] = "resid_post",
    layers: Annotated[str | None, typer.Option(help="Layers, like 0-3,7 (default: all).")] = None,
    tokens: Annotated[str, typer.Option(help="Activations per site: 10M, 500k, 1_000_000.")] = "1M",
    dtype: Annotated[str, typer.Option(help="float32, float16 or bfloat16.")] = "float32",
    shard_tokens: Annotated[
        str | None, typer.Option(help="Tokens per shard (default: what fills about 256 MiB).")
    ] = None,
    positions: Annotated[
        str, typer.Option(help="all, last, or auto (last where the model's own task answers only there).")
    ] = "auto",
    skip: Annotated[
        int, typer.Option(help="Leave out the first positions of every sequence.", **FROM_NONE)
    ] = 0,
    context: Annotated[
        int, typer.Option(help="Longest sequence; longer documents are cut.", **CONTEXT)
    ] = 128,
    workers: Annotated[int, typer.Option(help="Processes, each with a copy of the model.", **PROCESSES)] = 1,
    engine: Annotated[str, typer.Option(help="joblib (this machine) or ray (a cluster).")] = "joblib",
    address: Annotated[
        str | None, typer.Option(help="The Ray cluster: auto, or host:port (default: one is started here).")
    ] = None,
    model_engine: Annotated[str, typer.Option(help="How the model is run: auto, hooked or bridge.")] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, mps.")] = "auto",
    seed: Annotated[int, typer.Option(help="Seed of the order of the model's own task.", **SEED)] = 0,
    resume: Annotated[
        bool, typer.Option("--resume", help="Fail where --out holds nothing to go on with.")
    ] = False,
    plan: Annotated[
        bool, typer.Option("--plan", "--dry-run", help="Only say how many bytes, shards and hours it takes.")
    ] = False,
    verify: Annotated[
        Path | None, typer.Option(help="Instead: check every shard of this folder against its checksum.")
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    out: Annotated[Path, typer.Option(help="Folder of the shards.")] = Path("mechfourier-capture"),
) -> None:
    """Activations of a data set as sharded safetensors. The same command again goes on, and repairs damaged
    shards."""
    from mechfourier.errors import UsageError

    if verify is not None:
        return _verify(verify, as_json=json_)
    if model is None:
        raise UsageError("name a model (mechfourier models), or a folder to check with --verify")
    from mechfourier.harvest.jobs import parse_tokens

    wanted = parse_tokens(tokens)
    quiet_libraries()
    from mechfourier.harvest import capture_dataset
    from mechfourier.harvest import plan as make_plan
    from mechfourier.sae.rows import Reading

    reading = Reading(positions=positions, skip=skip, context=context, seed=seed)
    if plan:
        planned = make_plan(
            model,
            out,
            dataset=dataset,
            sites=sites,
            layers=layers,
            tokens=wanted,
            dtype=dtype,
            shard_tokens=shard_tokens,
            reading=reading,
            workers=workers,
            engine=model_engine,
            device=device,
        )
        return emit_json(planned.to_dict()) if json_ else typer.echo(str(planned))
    result = capture_dataset(
        model,
        out,
        dataset=dataset,
        sites=sites,
        layers=layers,
        tokens=wanted,
        dtype=dtype,
        shard_tokens=shard_tokens,
        reading=reading,
        workers=workers,
        runner=engine,
        address=address,
        engine=model_engine,
        device=device,
        resume=resume,
    )
    if json_:
        return emit_json(result.to_dict())
    for line in str(result).splitlines():
        (note if line.startswith("note: ") else typer.echo)(line)
    typer.echo(
        f"next: mechfourier capture --verify {out}, or mechfourier.open_harvest({str(out)!r}) in Python"
    )
    return None


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
