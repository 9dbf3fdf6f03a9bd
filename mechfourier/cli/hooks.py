"""``mechfourier hooks``: the places in a model where activations are read and changed."""

import shlex
from typing import TYPE_CHECKING, Any

import typer

from mechfourier.cli.common import emit_json, quiet_libraries
from mechfourier.cli.options import Engine, Json, Model

if TYPE_CHECKING:
    from mechfourier.hooks.site import Site


def hooks(
    model: Model,
    engine: Engine = "auto",
    json_: Json = False,
) -> None:
    """List a model's hook points in the order of a forward pass: the kind is what --sites takes, {} is the
    layer. No weights are loaded."""
    quiet_libraries()
    from mechfourier.hooks.site import sites
    from mechfourier.models.outline import outline

    found = sites(outline(model, engine=engine))
    if json_:
        return emit_json({"model": model, "n": len(found), "sites": [_plain(site) for site in found]})
    rows = [("kind", "layers", "hook point"), *_grouped(found)]
    widths = [max(len(row[column]) for row in rows) for column in range(2)]
    for kind, layers, name in rows:
        typer.echo(f"{kind:<{widths[0]}}  {layers:<{widths[1]}}  {name}")
    typer.echo(
        f"{len(found)} hook points. Next: mechfourier probe {shlex.quote(model)} --sites {_suggested(found)}"
    )
    return None


def _plain(site: "Site") -> dict[str, Any]:
    stack = site.stack if site.layer is not None else None
    return {"name": str(site), "kind": site.kind, "layer": site.layer, "stack": stack}


def _grouped(found: "tuple[Site, ...]") -> list[tuple[str, str, str]]:
    """One row per kind and stack, with its layers joined."""
    from mechfourier.hooks.site import layer_ranges

    groups: dict[tuple[str, str, bool], list[Site]] = {}
    for site in found:
        groups.setdefault((site.stack, site.kind, site.layer is None), []).append(site)
    stacks = {site.stack for site in found if site.layer is not None}
    rows = []
    for (stack, kind, outside), group in groups.items():
        label = kind if outside or len(stacks) == 1 else f"{stack}.{kind}"
        layers = "" if outside else layer_ranges([site.layer for site in group if site.layer is not None])
        rows.append((label, layers, group[0].path if outside else f"{stack}.{{}}.{group[0].path}"))
    return rows


def _suggested(found: "tuple[Site, ...]") -> str:
    kinds = [site.kind for site in found if site.layer is not None]
    return "resid_post" if "resid_post" in kinds or not kinds else kinds[-1]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(hooks)
