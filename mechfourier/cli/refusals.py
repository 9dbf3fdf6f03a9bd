"""What the command line says of a value it cannot take: the value itself, which Typer leaves out of its
sentence."""

import itertools
from typing import Any

import typer
from typer.core import TyperGroup

WORDS = "mechfourier.words"
WHOLE = 1000
"""More characters than any sentence has."""


class Commands(TyperGroup):
    """The group of all commands; it remembers the words of the line until they are parsed."""

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        words = list(args)
        context = super().make_context(info_name, args, parent=parent, **extra)
        context.meta[WORDS] = words
        return context

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except typer.BadParameter as error:
            error.message = with_value(error.message, error.param, ctx.meta.get(WORDS, []))
            raise


class Group(TyperGroup):
    """A group inside it, whose help gives the whole first sentence of every command."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        found = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        rows = [(name, each.get_short_help_str(WHOLE)) for name, each in found if each and not each.hidden]
        if rows:
            with formatter.section("Commands"):
                formatter.write_dl(rows)


def with_value(message: str, option: Any, words: list[str]) -> str:
    """``Input should be …`` as ``'0'; it should be …``: the message with what was given for ``option``, if it
    is not there yet."""
    given = [value for flag in getattr(option, "opts", ()) for value in values_of(flag, words)]
    shown = ", ".join(repr(value[:60]) for value in given)
    said = message.replace("'", " ").split()
    if not given or any(value in said for value in given):
        return message
    return f"{shown}; {message.replace('Input should be', 'it should be', 1)}"


def values_of(flag: str, words: list[str]) -> list[str]:
    """What follows ``flag`` wherever it stands (``--flag value`` or ``--flag=value``)."""
    apart = [value for word, value in itertools.pairwise(words) if word == flag]
    joined = [word.removeprefix(f"{flag}=") for word in words if word.startswith(f"{flag}=")]
    return apart + joined
