"""Names of result files: every command's options that differ from their defaults, so that no result replaces
another."""

from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand

from mechfourier.files import check_writable, named_with

# what names the result already, where it goes, and how it is shown: none of them changes a number
SILENT = frozenset(
    {
        "model",
        "acts",
        "domain",
        "out",
        "json",
        "as_json",
        "cache",
        "device",
        "jobs",
        "show_tokens",
        "top",
        "help",
        "debug",
        "check",
        "resume",
    }
)


FILES = frozenset({"report", "animate", "validate"})
"""Commands whose ``--out`` may be a file; that of all others is a folder."""


class ResultCommand(TyperCommand):
    """A command whose results are named after the options that were given, and which finds out that ``--out``
    cannot be written before it works."""

    def invoke(self, ctx: Any) -> Any:
        if isinstance(out := ctx.params.get("out"), Path) and not ctx.params.get("dry_run"):
            check_writable(out, folder=ctx.command.name not in FILES)
        with named_with(options_given(ctx)):
            return super().invoke(ctx)


def options_given(ctx: Any) -> dict[str, Any]:
    """The options of a command's line that differ from their defaults, in the order of its help."""
    given = {}
    for parameter in ctx.command.params:
        value = ctx.params.get(parameter.name)
        file = parameter.name == "domain" and str(value).endswith(".toml")  # its name is not that of the file
        if (str(parameter.name).strip("_") in SILENT and not file) or value in (None, ()):
            continue
        if value != parameter.get_default(ctx):
            given[str(parameter.name)] = value
    return given


def name_results(app: typer.Typer) -> None:
    """Make every command of ``app`` and of its groups name its results."""
    for command in app.registered_commands:
        command.cls = ResultCommand
    for group in app.registered_groups:
        if group.typer_instance is not None:
            name_results(group.typer_instance)
