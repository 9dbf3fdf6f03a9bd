"""``mechfourier cache``: the activations kept on disk."""

from typing import TYPE_CHECKING, Any

import typer

from mechfourier.cli.common import emit_json
from mechfourier.cli.options import Json
from mechfourier.cli.refusals import Group

if TYPE_CHECKING:
    from mechfourier.hooks.store import Shard


cache = typer.Typer(
    cls=Group,
    no_args_is_help=True,
    help="What is kept on disk ($MECHFOURIER_CACHE): activations, and models converted from GGUF files.",
)


@cache.command("ls")
def list_shards(json_: Json = False) -> None:
    """List what is kept, the most recently used first: size, days since it was used, model, hook point,
    shape."""
    import time

    from mechfourier.hooks.store import ActivationStore

    store = ActivationStore()
    shards = store.ls()
    total = sum(shard.bytes for shard in shards)
    if json_:
        rows = [_plain(shard) for shard in shards]
        return emit_json({"folder": str(store.folder), "n": len(rows), "bytes": total, "shards": rows})
    for shard in shards:
        shape = "×".join(map(str, shard.shape))
        days = (time.time() - shard.used) / 86400
        typer.echo(
            f"{readable(shard.bytes):>9}  {days:6.1f} d  {shard.model or '?'}  {shard.site or '?'}  {shape}"
        )
    typer.echo(f"{len(shards)} arrays, {readable(total)} of {readable(store.max_bytes)}, in {store.folder}")
    for folder, size in _models():
        typer.echo(f"{readable(size):>9}  model converted from GGUF: {folder}")
    return None


@cache.command()
def clear(json_: Json = False) -> None:
    """Remove the activations that are kept; they are computed again when they are next asked for. Models
    converted from GGUF files stay (``mechfourier cache ls`` names their folders, which can be deleted by
    hand)."""
    from mechfourier.hooks.store import ActivationStore

    store = ActivationStore()
    freed = store.clear()
    if json_:
        return emit_json({"folder": str(store.folder), "freed_bytes": freed})
    typer.echo(f"{readable(freed)} freed in {store.folder}")
    return None


def _models() -> list[tuple[str, int]]:
    """Folders of models that were converted from GGUF files, with their bytes."""
    from mechfourier.models.gguf import CARD, models_folder

    folders = [card.parent for card in sorted(models_folder().glob(f"*/{CARD}"))]
    return [(str(folder), sum(file.stat().st_size for file in folder.iterdir())) for folder in folders]


def _plain(shard: "Shard") -> dict[str, Any]:
    return {
        "key": shard.key,
        "model": shard.model,
        "site": shard.site,
        "shape": list(shard.shape),
        "bytes": shard.bytes,
        "used": shard.used,
    }


def readable(count: float) -> str:
    """Bytes as a person reads them."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} GB"


def register(app: typer.Typer) -> None:
    """Add the group."""
    app.add_typer(cache, name="cache")
