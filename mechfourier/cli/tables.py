"""Data frames as terminal tables."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return "–" if value != value else f"{value:.4g}"
    return str(value)


def print_frame(frame: "pd.DataFrame", *, title: str | None = None) -> None:
    """Print a frame on standard output, numbers right-aligned with four significant digits."""
    from pandas.api.types import is_numeric_dtype
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=escape(title) if title else None, title_justify="left", title_style="bold")
    for name in frame.columns:
        table.add_column(
            escape(str(name)), justify="right" if is_numeric_dtype(frame[name]) else "left", overflow="fold"
        )
    for row in frame.itertuples(index=False):
        table.add_row(*(escape(_cell(value)) for value in row))
    console = Console()
    # a pipe has no width of its own: cutting numbers to 80 columns there would lose them
    Console(width=None if console.is_terminal else 200).print(table)
