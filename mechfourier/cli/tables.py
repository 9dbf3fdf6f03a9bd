"""Text and data frames on the terminal: lines that wrap at words, tables that fit its width."""

import os
import sys
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

NARROW = 100
"""Columns below which a table leaves out its frame and a digit."""


def say(text: str) -> None:
    """Print lines; on a terminal wrapped at words under their beginning, elsewhere (a pipe, a file) as it
    is."""
    if not sys.stdout.isatty():
        typer.echo(text)
        return
    from mechfourier.cli.common import wrapped

    typer.echo(wrapped(text))


def _cell(value: Any, digits: int = 4) -> str:
    if isinstance(value, float):
        return "–" if value != value else f"{value:z.{digits}g}"
    return str(value)


def print_frame(frame: "pd.DataFrame", *, title: str | None = None) -> None:
    """Print a frame on standard output, numbers right-aligned with four significant digits (three on a narrow
    terminal)."""
    from pandas.api.types import is_numeric_dtype
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    console = wide_console()
    narrow = console.width < NARROW
    table = Table(
        title=escape(title) if title else None,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD if narrow else box.HEAVY_HEAD,
        padding=(0, 1 if not narrow else 0),
        collapse_padding=True,
    )
    if narrow and "site" in frame.columns:
        frame = frame.assign(site=short_sites([str(name) for name in frame["site"]]))
    for name in frame.columns:
        table.add_column(
            escape(str(name).replace("_", " ")),
            justify="right" if is_numeric_dtype(frame[name]) else "left",
            overflow="fold",
        )
    for row in frame.itertuples(index=False):
        table.add_row(*(escape(_cell(value, 3 if narrow else 4)) for value in row))
    console.print(table)


def wide_console() -> "Console":
    """As wide as the terminal; in a pipe, which has no width of its own, as COLUMNS says, else wide enough for
    every table."""
    from rich.console import Console

    known = Console().is_terminal or os.environ.get("COLUMNS", "").isdecimal()
    return Console(width=None if known else 200)


def short_sites(names: list[str]) -> list[str]:
    """``blocks.7.hook_resid_post`` as ``7`` where every hook point is of that kind, else as ``7 resid_post``;
    other texts as they are."""
    from mechfourier.hooks.site import Site

    if not all("hook_" in name for name in names):
        return names
    sites = [Site.parse(name) for name in names]
    stacks = {site.stack for site in sites if site.layer is not None}
    if (
        len({site.kind for site in sites}) == 1
        and len(stacks) == 1
        and all(s.layer is not None for s in sites)
    ):
        return [str(site.layer) for site in sites]
    shown = []
    for site in sites:
        stack = f"{site.stack} " if len(stacks) > 1 else ""
        shown.append(site.kind if site.layer is None else f"{stack}{site.layer} {site.kind}")
    return shown
