"""Numbers on the command line: whatever is given to whichever option, it is said before a model is loaded or
anything begins."""

import contextlib
import io
import sys
import typing
from collections.abc import Iterator
from typing import Any

import pytest
import typer
from test_faults_fuzz import call
from typer.main import get_command

from mechfourier.cli import app as _app  # noqa: F401  (the commands are imported once)
from mechfourier.errors import OutOfRange, UsageError
from mechfourier.hooks.site import parse_layers
from mechfourier.probes.scan import parse_moduli

app = sys.modules["mechfourier.cli.app"].app
number_list = sys.modules["mechfourier.cli.common"].number_list


def commands(group: typer.Typer, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command of the tree with its function."""
    for command in group.registered_commands:
        function: Any = command.callback
        yield (*path, command.name or function.__name__.replace("_", "-")), function
    for inner in group.registered_groups:
        assert inner.typer_instance is not None
        yield from commands(inner.typer_instance, (*path, str(inner.name or inner.typer_instance.info.name)))


def numeric(function: Any) -> Iterator[tuple[str, Any, bool]]:
    """The options of a command that are numbers: name, typer's information, and whether it is a whole
    number."""
    for name, hint in typing.get_type_hints(function, include_extras=True).items():
        if typing.get_origin(hint) is not typing.Annotated:
            continue
        kind, information = typing.get_args(hint)[:2]
        parts = {
            kind,
            *typing.get_args(kind),
            *(inner for part in typing.get_args(kind) for inner in typing.get_args(part)),
        }
        if parts & {int, float}:
            flags = [flag for flag in information.param_decls or () if flag.startswith("--")]
            yield (flags or [f"--{name.replace('_', '-')}"])[0], information, float not in parts


OPTIONS = [(path, *each) for path, function in commands(app) for each in numeric(function)]
WRONG = ["9" * 20, "9" * 5000, "-1", "-" + "9" * 20, "nan", "inf", "-inf", "1e400", "", "x"]


def test_the_walk_sees_the_options_that_it_should() -> None:
    found = {(" ".join(path), name) for path, name, _, _ in OPTIONS}
    assert {
        ("ablate", "--controls"),
        ("sae train", "--penalty"),
        ("train one-layer", "--p"),
        ("serve", "--port"),
    } <= found
    assert len(found) > 100


@pytest.mark.parametrize(
    ("path", "name", "information", "whole"), OPTIONS, ids=[f"{' '.join(o[0])} {o[1]}" for o in OPTIONS]
)
def test_every_number_has_limits_and_is_refused_beyond_them(
    path: tuple[str, ...], name: str, information: Any, whole: bool
) -> None:
    assert information.min is not None and information.max is not None, (
        "give it limits: mechfourier.cli.common"
    )
    if not whole:
        assert information.callback is not None, "a real number needs callback=finite"
    for value in [*WRONG, *(["0"] if information.min > 0 else ["1.5"] if whole else [])]:
        said = refused([*path, f"{name}={value}"])
        assert "Invalid value" in said and name in said and "Traceback" not in said
        assert repr(value[:60]) in said or (value and value in said), said


COMMAND = get_command(app)


def refused(words: list[str]) -> str:
    """Standard error of a command line that ends with exit code 2 while it is parsed."""
    said = io.StringIO()
    with contextlib.redirect_stderr(said), pytest.raises(SystemExit) as stop:
        COMMAND.main(args=words, prog_name="mechfourier")
    assert stop.value.code == 2, said.getvalue()
    return said.getvalue()


@pytest.mark.parametrize(
    "text", ["0-" + "9" * 12, "9" * 5000, "-1", "", "1,,2", "5-3", "nan", "1e9", "0-3000000"]
)
def test_lists_of_numbers_end(text: str) -> None:
    with pytest.raises((UsageError, OutOfRange)):
        number_list(text, "--dim", "dimensions", "8", ranges=True)
    with pytest.raises((UsageError, OutOfRange)):
        parse_moduli(text)
    with pytest.raises(UsageError):
        parse_layers(text)


def test_lists_of_numbers_are_read() -> None:
    assert number_list("8, 35,0-2", "--dim", "dimensions", "8", ranges=True) == [8, 35, 0, 1, 2]
    with pytest.raises(UsageError):
        number_list("0-2", "--k", "harmonics", "1")


ENDLESS = [
    ["ablate", "calendar", "--layer", "0", "--dim", "0-" + "9" * 12],
    ["ablate", "calendar", "--layer", "0", "--plane", "9" * 5000],
    ["patch", "calendar", "--dim", "9" * 5000],
    ["rotate", "calendar", "-k", "9" * 5000],
    ["sae", "feature", "nowhere", "9" * 5000],
    ["analyze", "one-layer", "--key-freqs", "9" * 5000],
    ["animate", "one-layer", "--size", "9" * 5000 + "x1"],
    ["helix", "calendar", "--range", "0-" + "9" * 9],
    ["helix", "calendar", "--periods", "nan"],
    ["scan", "calendar", "--moduli", "2-" + "9" * 12],
    ["capture", "calendar", "--tokens", "9" * 5000],
    ["capture", "calendar", "--tokens", "nan"],
    ["sweep", "one-layer", "--grid", "seed=0:" + "9" * 400],
    ["domains", "show", "mod-" + "9" * 5000],
]


@pytest.mark.parametrize("words", ENDLESS, ids=lambda words: " ".join(words)[:40])
def test_numbers_in_text_end_too(words: list[str]) -> None:
    code, said = call(*words)
    assert code == 2 and "Traceback" not in said and said.startswith("error: ") and len(said) < 800, said
