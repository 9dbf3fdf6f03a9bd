"""The commands analyze and import, as a user calls them."""

import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from mechfourier.cli.app import app
from mechfourier.errors import BadCheckpoint, MechFourierError, UsageError
from mechfourier.fourier.analytic import analytic_weights
from mechfourier.fourier.progress import sums
from mechfourier.toys.one_layer.model import OneLayerTransformer
from mechfourier.toys.one_layer.task import all_pairs
from mechfourier.toys.one_layer.weights import OneLayerConfig

KEYS = [
    "accuracy",
    "loss",
    "key_freqs",
    "embed_power",
    "unembed_power",
    "neuron_share_85",
    "logit_share",
    "restricted_loss",
    "excluded_loss",
    "gini_W_E",
    "gini_W_L",
    "gradient_symmetricity",
    "distance_irrelevance",
]


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    """A HookedTransformer state dict on disk."""
    weights = {name: value.float() for name, value in analytic_weights(17, frequencies=(2, 7)).items()}
    torch.save(weights, tmp_path / "theirs.pt")
    return tmp_path / "theirs.pt"


def _run(*arguments: object) -> str:
    outcome = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)
    assert outcome.exit_code == 0
    return outcome.stdout


def test_import_then_analyze(theirs: Path, tmp_path: Path) -> None:
    ours = tmp_path / "ours"
    brought = json.loads(_run("import", theirs, "--out", ours, "--json"))
    assert (brought["format"], brought["accuracy"], brought["p"]) == ("hooked-transformer", 1.0, 17)
    found = json.loads(_run("analyze", ours, "--json", "--out", tmp_path / "result"))
    assert set(KEYS) <= set(found)
    assert (found["accuracy"], found["key_freqs"]) == (1.0, [2, 7])
    whole = json.loads((tmp_path / "result" / "analysis.json").read_text())
    assert whole["gradient_symmetricity"] == found["gradient_symmetricity"]
    assert "key frequencies   2, 7" in _run("analyze", ours)
    assert json.loads(_run("analyze", ours, "--key-freqs", "2", "--json"))["key_freqs"] == [2]


def test_import_says_what_it_took(theirs: Path, tmp_path: Path) -> None:
    text = _run("import", theirs, "--out", tmp_path / "ours")
    assert "accuracy 100.00%" in text
    assert "17²" in text


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (["analyze", "no-such-folder-anywhere/x/y"], MechFourierError, "no-such-folder"),
        (["analyze", "{ours}", "--key-freqs", "two"], UsageError, "14,35,41"),
        (["analyze", "{ours}", "--key-freqs", "99"], UsageError, "99"),
        (["import", "{theirs}x", "--out", "{tmp}/z"], UsageError, "theirs.pt"),
        (["import", "{theirs}", "--out", "{ours}"], UsageError, "already"),
        (
            ["import", "{theirs}", "--out", "{tmp}/z", "--format", "nanda"],
            BadCheckpoint,
            "hooked-transformer",
        ),
        (["import", "{theirs}", "--out", "{tmp}/z", "--act", "sin"], UsageError, "sin"),
        (["import", "{theirs}", "--out", "{tmp}/z", "--task", "subtract"], BadCheckpoint, "--force"),
    ],
)
def test_bad_calls_say_what_is_wrong(
    arguments: list[str], error: type[Exception], words: str, theirs: Path, tmp_path: Path
) -> None:
    _run("import", theirs, "--out", tmp_path / "ours")
    filled = [a.format(ours=tmp_path / "ours", theirs=theirs, tmp=tmp_path) for a in arguments]
    with pytest.raises(error) as caught:
        CliRunner().invoke(app, filled, catch_exceptions=False)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_our_model_with_closed_form_weights_answers_all_of_mod_113() -> None:
    weights = {name: value.float() for name, value in analytic_weights(113).items()}
    model = OneLayerTransformer(OneLayerConfig(p=113), weights=weights)
    questions = model.cfg.question.tokens(all_pairs(113))
    with torch.no_grad():
        answers = torch.cat([model(part)[:, -1].argmax(-1) for part in questions.split(4096)])
    assert answers.reshape(113, 113).equal(sums(113))
