"""The root package and the first page of the command line."""

import importlib
import subprocess
import sys
import types
from pathlib import Path

import pytest
from typer.main import get_command
from typer.testing import CliRunner

import mechfourier as mf
from mechfourier.cli import app
from mechfourier.cli.contents import FIRST, OTHERS

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("causal", "domains", "fourier", "harvest", "hooks", "models", "probes", "sae", "stats", "sweep")


def _listed() -> set[str]:
    return {name for group in OTHERS.values() for name in group} | FIRST.keys()


def test_help_fits_a_screen_and_lists_every_command() -> None:
    shown = CliRunner().invoke(app, ["--help"], terminal_width=80).output
    lines = shown.splitlines()
    assert len(lines) <= 40 and max(map(len, lines)) <= 80
    commands = getattr(get_command(app), "commands").keys()  # noqa: B009  (a Click group, as pyright does not know)
    assert commands <= _listed(), "give a new command a line in mechfourier.cli.contents"
    assert all(name in shown for name in commands)
    first = [line.split()[0] for line in lines if line.startswith("  ")][1:6]
    assert first == ["probe", "study", "tasks", "train", "report"]


def test_every_public_name_is_there_and_no_module_hides_a_function() -> None:
    for room in ROOMS:  # loading the modules must not put them in the place of the functions
        package = importlib.import_module(f"mechfourier.{room}")
        for path in sorted(Path(str(package.__file__)).parent.glob("[a-z]*.py")):
            importlib.import_module(f"mechfourier.{room}.{path.stem}")
    submodules = {
        "causal",
        "domains",
        "figures",
        "fourier",
        "harvest",
        "hooks",
        "models",
        "probes",
        "results",
    }
    for name in mf.__all__:
        value = getattr(mf, name)
        assert isinstance(value, types.ModuleType) == (
            name in submodules | {"sae", "stats", "toys", "training"}
        )
    for room in ROOMS:
        package = importlib.import_module(f"mechfourier.{room}")
        assert not any(isinstance(getattr(package, n), types.ModuleType) for n in package.__all__), room


@pytest.mark.parametrize("name", ["hooks", "probes"])
def test_the_links_at_the_top_are_no_packages_of_their_own(name: str) -> None:
    code = f"import {name}"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (ROOT / name).resolve() == ROOT / "mechfourier" / name
    assert done.stderr.strip().splitlines()[-1].endswith(f"write: import mechfourier.{name}")
