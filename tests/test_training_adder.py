"""Training the adder: recipes, curriculum, resume to the same bits, verdicts, the command."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from mechfourier.cli.app import app
from mechfourier.errors import MechFourierError, OutOfRange, UsageError
from mechfourier.toys.adder.config import decays
from mechfourier.toys.adder.model import load_folder
from mechfourier.toys.adder.recipes import RECIPES, AdderRecipe, recipe
from mechfourier.toys.adder.task import held_out
from mechfourier.toys.adder.train import AdderTrainee, train_adder, verdict
from mechfourier.training.descent import cosine


def small(name: str, **changes: object):
    """A recipe of that name at a size that trains in a second."""
    config, settings = recipe(name)
    config = dataclasses.replace(config, d_model=16, d_head=4, d_mlp=24)
    changes = {"steps": 12, "batch": 16, "warmup": 2, "test_lengths": (1, 3), **changes}
    return config, dataclasses.replace(settings, pairs=min(settings.pairs, 200), **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_resumes_to_the_same_bits(name: str, tmp_path: Path) -> None:
    config, settings = small(name)
    whole = AdderTrainee(config, settings, seed=1)
    for i in range(6):
        whole.step(i)
    first = AdderTrainee(config, settings, seed=1)
    for i in range(3):
        first.step(i)
    first.evaluate(3)  # must draw from no generator that a step draws from
    torch.save(first.state(), tmp_path / "state.pt")
    second = AdderTrainee(config, settings, seed=1)
    second.load_state(torch.load(tmp_path / "state.pt", weights_only=True))
    for i in range(3, 6):
        second.step(i)
    for key, value in whole.weights().items():
        assert torch.equal(value, second.weights()[key]), key


def test_a_short_run_learns_something_and_its_folder_loads(tmp_path: Path) -> None:
    config, settings = small("generalising", steps=60, batch=64, noise=0.0)
    result = train_adder(tmp_path / "a", settings=(config, settings), seed=0)
    losses = result.frame()["train_loss"]
    assert losses.iloc[-1] < 0.9 * losses.iloc[0]
    assert result.outcome == "undertrained"
    assert type(result).from_json(result.to_json()) == result
    model = load_folder(tmp_path / "a")
    assert not model.training
    assert len(model.answer("12+3=")) == 1
    with pytest.raises(UsageError, match="already holds a run"):
        train_adder(tmp_path / "a", settings=(config, settings), seed=0)


def test_the_curriculum_goes_through_its_stages() -> None:
    _, faithful = recipe("faithful")
    assert [
        max(faithful.digits_at(int(share * faithful.steps)))
        for share in (0, 0.09, 0.11, 0.24, 0.26, 0.44, 0.46, 1)
    ] == [
        2,
        2,
        3,
        3,
        4,
        4,
        5,
        5,
    ]
    config, settings = small("faithful")
    trainee = AdderTrainee(config, settings, seed=0)
    assert trainee.fixed is not None
    assert not bool(held_out(trainee.fixed).any())
    assert int(trainee._batch(0).longest.max()) <= 2
    assert int(trainee._batch(11).longest.max()) > 3


def test_the_schedule_warms_up_and_falls_and_the_noise_ends() -> None:
    config, settings = small("generalising", steps=100, warmup=10)
    trainee = AdderTrainee(config, settings, seed=0)
    rates = [cosine(i, 100, warmup=trainee.recipe.warmup, final=trainee.recipe.final_lr) for i in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[10] == pytest.approx(1.0)
    assert rates[99] == pytest.approx(0.02, abs=0.01)
    trainee.step(40)
    assert trainee.model.noise.sigma == pytest.approx(0.35)
    trainee.step(80)
    assert trainee.model.noise.sigma == 0.0


def test_decay_acts_on_matrices_only() -> None:
    config, settings = small("generalising")
    names = AdderTrainee(config, settings, seed=0).weights()
    kept = {name.rsplit(".", 1)[-1] for name in names if not decays(name)}
    assert kept == {"w", "b", "b_Q", "b_K", "b_V", "b_O", "b_in", "b_out", "b_U", "B_rel"}


@pytest.mark.parametrize(
    ("accuracy", "outcome", "words"),
    [
        ({"1": 1.0, "5": 0.98, "20": 1.0}, "undertrained", "98.0% at 5 digits"),
        ({"1": 1.0, "5": 1.0, "20": 0.4}, "learned", "40.0% at 20"),
        ({"1": 1.0, "5": 1.0}, "learned", "no longer one was tried"),
        ({"1": 1.0, "5": 0.99, "20": 0.995}, "generalised", "20 digits included"),
    ],
)
def test_verdicts(accuracy: dict[str, float], outcome: str, words: str) -> None:
    word, why = verdict(accuracy, recipe("generalising")[1])
    assert word == outcome
    assert words in why


def test_bad_recipes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no recipe 'generalizing'; closest: generalising"):
        train_adder(tmp_path / "x", settings="generalizing")
    with pytest.raises(OutOfRange, match="steps = 0"):
        AdderRecipe(name="x", steps=0)
    with pytest.raises(MechFourierError, match="no device 'gpu'"):
        train_adder(tmp_path / "x", device="gpu")
    assert not (tmp_path / "x").exists()


def test_the_command(tmp_path: Path) -> None:
    arguments = [
        "train",
        "adder",
        "--recipe",
        "generalising",
        "--steps",
        "2",
        "--out",
        str(tmp_path / "r"),
        "--json",
    ]
    outcome = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert outcome.exit_code == 0
    found = json.loads(outcome.stdout)
    assert found["steps"] == 2
    assert set(found["accuracy"]) == {"1", "2", "3", "4", "5", "6", "10", "20"}


@pytest.mark.slow
def test_the_generalising_recipe_adds_longer_numbers_than_it_saw(tmp_path: Path) -> None:
    """A fifth of the recipe's steps at a quarter of its batch is enough for ten digits."""
    config, settings = recipe("generalising")
    settings = dataclasses.replace(settings, steps=220, batch=128, test_lengths=(2, 5, 10))
    result = train_adder(tmp_path / "r", settings=(config, settings), seed=100)
    assert result.accuracy["5"] >= 0.95
    assert result.accuracy["10"] >= 0.9
