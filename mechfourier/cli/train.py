"""``mechfourier train NAME``: a subcommand per `Architecture` with a ``train`` part, whose keywords become
the options."""

import contextlib
import functools
import inspect
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from mechfourier.cli.common import COUNT, SEED, SHARE, STEPS, emit_json, note, quiet_libraries
from mechfourier.cli.naming import ResultCommand
from mechfourier.cli.options import Json
from mechfourier.cli.refusals import Group
from mechfourier.errors import UsageError
from mechfourier.models.architectures import Architecture, built_in, installed, named

if TYPE_CHECKING:
    from mechfourier.figures.live import LiveView

# keywords that mean the same for every network; a function may annotate others with typer.Option itself
SHARED: dict[str, Any] = {
    "seed": Annotated[int, typer.Option("--seed", help="Seed of the weights and of the data.", **SEED)],
    "steps": Annotated[
        int | None, typer.Option("--steps", help="Optimiser steps (the recipe's number by default).", **STEPS)
    ],
    "split_seed": Annotated[
        int | None, typer.Option(help="Seed of the split alone (--seed by default).", **SEED)
    ],
    "train_fraction": Annotated[
        float | None, typer.Option(help="Share of the questions to train on.", **SHARE)
    ],
    "epochs": Annotated[
        int | None, typer.Option(help="Train for at most so many epochs (the recipe's by default).", **STEPS)
    ],
    "batch": Annotated[
        int | None, typer.Option(help="Questions per step (the recipe's by default).", **COUNT)
    ],
    "out": Annotated[Path | None, typer.Option("--out", help="Folder of the run (below runs/ by default).")],
    "resume": Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")],
    "device": Annotated[str, typer.Option("--device", help="cpu, cuda or mps.")],
}
LIVE = Annotated[
    bool, typer.Option("--live", help="Draw curves, spectrum and circle in the terminal while it trains.")
]
OURS = (
    "say",
    "watch",
)  # keywords that the command line fills in: a function for lines of progress, and for the live view


class Trainings(Group):
    """The group ``train``: the networks of this package, and those of other packages once one of them is
    asked for."""

    def list_commands(self, ctx: Any) -> list[str]:
        return [
            *super().list_commands(ctx),
            *filter(self._theirs, (record.name for record in installed().records)),
        ]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        return super().get_command(ctx, cmd_name) or _command_of_a_package(cmd_name)

    @staticmethod
    def _theirs(name: str) -> bool:
        """Whether the help can list it; asked for by name, a broken one says what is wrong."""
        try:
            return _command_of_a_package(name) is not None
        except UsageError:
            return False


def _command_of_a_package(name: str) -> Any:
    record = named(name)
    if record is None or not record.train:
        return None
    alone = typer.Typer(rich_markup_mode=None)
    _add(alone, record)
    return typer.main.get_command(alone)


train = typer.Typer(
    name="train",
    cls=Trainings,
    help="Train the models that ship with mechfourier, or variants of them, from scratch.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


def register(app: typer.Typer) -> None:
    """Add the group."""
    app.add_typer(train)


def _add(group: typer.Typer, record: Architecture) -> None:
    made = command_of(record.part("train"), analyzed=bool(record.analyze))
    group.command(record.name, cls=ResultCommand)(made)


def _show(result: Any, analyzed: bool) -> None:
    from mechfourier.cli.tables import say

    say(str(result))
    if analyzed and isinstance(folder := getattr(result, "checkpoint", None), str):
        say(f"take it apart: mechfourier analyze {shlex.quote(folder)}")


def command_of(function: Callable[..., Any], *, analyzed: bool = False) -> Callable[..., None]:
    """A command whose options are the keywords of ``function``, which trains and returns a Result; ``analyzed``:
    whether ``mechfourier analyze`` takes what it leaves."""
    signature = inspect.signature(function)
    keywords = {
        n: p for n, p in signature.parameters.items() if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    }
    quoted = SimpleNamespace(
        __annotations__={n: p.annotation for n, p in keywords.items() if p.annotation is not p.empty}
    )
    try:
        hints = get_type_hints(quoted, function.__globals__, include_extras=True)
    except NameError as error:
        raise UsageError(
            f"the options of {function.__module__}:{function.__name__} cannot be read ({error}); import "
            f"what its "
            "annotations name"
        ) from error
    known = [
        p.replace(annotation=_annotated(name, hints.get(name, str)), kind=inspect.Parameter.KEYWORD_ONLY)
        for name, p in keywords.items()
        if name not in OURS
    ]
    added = {"live": LIVE} if "watch" in keywords else {}
    known += [
        inspect.Parameter(n, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=a)
        for n, a in added.items()
    ]
    known.append(inspect.Parameter("as_json", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=Json))

    @functools.wraps(function)
    def command(*, as_json: bool, live: bool = False, **options: Any) -> None:
        quiet_libraries()
        with contextlib.ExitStack() as shown:
            if "say" in keywords:
                options["say"] = note
            if live:
                options["watch"] = shown.enter_context(_live_view())
            result = function(**options)
        if as_json:
            emit_json(result.to_dict())
        else:
            _show(result, analyzed)
        if getattr(result, "succeeded", True) is False:
            raise typer.Exit(1)

    command.__signature__ = inspect.Signature(known)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in known}
    return command


def _annotated(name: str, hint: Any) -> Any:
    """The option of a keyword: as its function annotates it, else as it is for every network."""
    return hint if hasattr(hint, "__metadata__") else SHARED.get(name, hint)


@contextlib.contextmanager
def _live_view() -> "Iterator[LiveView | None]":
    """The picture in the terminal in place of the progress bar; None where standard error is no terminal."""
    if not sys.stderr.isatty():
        note("--live needs a terminal; training without it")
        yield None
        return
    from mechfourier.figures.live import LiveView
    from mechfourier.progress import hidden

    with hidden(), LiveView() as view:
        yield view


for _record in sorted((record for record in built_in() if record.train), key=lambda record: record.name):
    _add(train, _record)
