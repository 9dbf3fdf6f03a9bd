"""train miras, sweep-accuracy, analyze and import of MIRAS models, as a user calls them."""

import json
from pathlib import Path

import pytest
import torch
from test_models_foreign_miras import checkpoint
from typer.testing import CliRunner

from mechfourier.cli.app import app
from mechfourier.errors import MechFourierError, OutOfRange, UsageError


def run(*arguments: object) -> str:
    outcome = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)
    assert outcome.exit_code == 0
    return outcome.stdout


def test_train_then_sweep(tmp_path: Path) -> None:
    made = tmp_path / "run"
    trained = json.loads(
        run("train", "miras", "--largest", 16, "--steps", 3, "--batch", 8, "--out", made, "--json")
    )
    assert trained["steps"] == 3
    swept = json.loads(run("sweep-accuracy", made, "--largest", 18, "--samples", 20, "--json"))
    assert swept["trained_to"] == 16
    assert [row["role"] for row in swept["moduli"]][-4:] == ["held out", "trained", "beyond", "beyond"]
    run("sweep-accuracy", made, "--largest", 4, "--full", "--out", tmp_path / "out")
    written = {path.name for path in (tmp_path / "out").iterdir() if not path.name.startswith("plotly-")}
    assert written == {"accuracy.json", "accuracy.csv", "accuracy.html"}


def test_a_faithful_run_by_reinforce(tmp_path: Path) -> None:
    made = tmp_path / "run"
    run(
        "train",
        "miras",
        "--form",
        "faithful",
        "--moduli",
        "primes",
        "--largest",
        20,
        "--loss",
        "reinforce",
        "--memory",
        "titans",
        "--steps",
        2,
        "--batch",
        8,
        "--out",
        made,
    )
    config = json.loads((made / "config.json").read_text())
    assert (config["kind"], config["memory"], config["training"]["recipe"]["loss"]) == (
        "faithful",
        "titans",
        "reinforce",
    )
    with pytest.raises(OutOfRange, match="token table ends at 199"):
        run("sweep-accuracy", made, "--largest", 201)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--form", "share"), "closest: shared"),
        (("--moduli", "odd"), "no set of moduli"),
        (("--form", "faithful", "--memory", "titan"), "closest: titans"),
        (("--loss", "reinforce"), "--form faithful"),
    ],
)
def test_bad_options_are_one_sentence(options: tuple[object, ...], words: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=words):
        run("train", "miras", *options, "--out", tmp_path / "run")
    assert not (tmp_path / "run" / "model.safetensors").exists()


@pytest.mark.parametrize("options", [("--largest", 1), ("--steps", 0), ("--curriculum-from", 1)])
def test_numbers_that_cannot_be_are_refused_by_their_option(
    options: tuple[object, ...], tmp_path: Path
) -> None:
    outcome = CliRunner().invoke(
        app, [str(word) for word in ("train", "miras", *options, "--out", tmp_path / "run")]
    )
    assert outcome.exit_code == 2
    assert f"Invalid value for '{options[0]}'" in outcome.output
    assert not (tmp_path / "run").exists()


def test_import_of_a_miras_checkpoint(tmp_path: Path) -> None:
    torch.save(checkpoint(), tmp_path / "theirs.pt")
    with pytest.raises(MechFourierError, match="--force"):
        run("import", tmp_path / "theirs.pt", "--out", tmp_path / "ours")
    brought = json.loads(
        run("import", tmp_path / "theirs.pt", "--out", tmp_path / "ours", "--force", "--json")
    )
    assert (brought["format"], brought["n_values"]) == ("grokking-fourier-miras", 30)
    assert (
        json.loads(run("sweep-accuracy", tmp_path / "ours", "--largest", 5, "--json"))["moduli"][0]["m"] == 2
    )
