"""The calendar model's training, on a few steps of a small one, and the packaged weights on sentences they
never saw."""

import dataclasses
import json
import math
import os
import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer
from typer.testing import CliRunner

import mechfourier
from mechfourier.cli.app import app
from mechfourier.errors import UsageError
from mechfourier.toys.calendar.task import DAYS, MONTHS, operations
from mechfourier.toys.calendar.text import held_out_text
from mechfourier.toys.calendar.train import (
    IGNORED,
    CalendarRecipe,
    CalendarTrainee,
    load_corpus,
    operation_rows,
    text_rows,
    train_calendar,
)
from mechfourier.training.loop import TrainingInterrupted

PACKAGED = Path(__file__).resolve().parents[1] / "mechfourier" / "data" / "calendar"
SMOKE = CalendarRecipe(steps=20, batch=64, text_share=0.5, lr=0.02, warmup=5, d_model=32, d_mlp=32)


@pytest.fixture(scope="module")
def tokenizer():
    return load_corpus().tokenizer


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("calendar")
    train_calendar(SMOKE, folder)
    return folder


@pytest.fixture(scope="module")
def packaged():
    return AutoModelForCausalLM.from_pretrained(PACKAGED).eval()


def test_the_shortened_forward_pass_is_hugging_faces(run: Path) -> None:
    trainee = CalendarTrainee(SMOKE)
    for batch in (
        trainee.corpus.held_out["hours-24"],
        trainee.corpus.held_out["days"],
        trainee.corpus.held_out_text,
    ):
        whole = trainee.model(input_ids=batch.ids).logits[batch.targets != IGNORED]
        assert torch.allclose(trainee.logits(batch), whole, atol=1e-5)


def test_no_held_out_sentence_is_trained_on() -> None:
    trainee = CalendarTrainee(SMOKE)
    seen = {tuple(row) for row in trainee.corpus.sentences.ids.tolist()}
    width = trainee.corpus.sentences.ids.shape[1]
    for batch in trainee.corpus.held_out.values():
        padded = torch.nn.functional.pad(batch.ids, (0, width - batch.ids.shape[1]))
        assert not {tuple(row) for row in padded.tolist()} & seen


def test_the_loss_is_on_the_answer_of_a_sentence_and_on_every_word_of_a_text(tokenizer) -> None:
    rows = operation_rows(tokenizer, operations()[0], held_out=True)
    assert ((rows.targets != IGNORED).sum(1) == 1).all()
    text = text_rows(tokenizer, ["Today is Monday."])
    assert tokenizer.convert_ids_to_tokens(text.targets[0].tolist()) == ["is", "Monday", "."]


def test_a_few_steps_lower_the_loss_and_leave_a_folder_that_loads_by_itself(run: Path) -> None:
    model, tokenizer = AutoModelForCausalLM.from_pretrained(run), AutoTokenizer.from_pretrained(run)
    batch = text_rows(tokenizer, held_out_text())
    with torch.no_grad():
        logits = model(input_ids=batch.ids).logits
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch.targets.flatten()).item()
    assert loss < math.log(len(tokenizer)) - 0.5  # the loss of a guess
    metrics = json.loads((run / "metrics.json").read_text())
    assert math.isclose(metrics["text_perplexity"], math.exp(loss), rel_tol=1e-4)
    assert json.loads((run / "recipe.json").read_text())["recipe"]["steps"] == 20
    assert "| days | `Monday + 3 days = Thursday` |" in (run / "README.md").read_text()


def test_an_interrupted_training_ends_with_the_same_bits(tmp_path: Path, run: Path) -> None:
    class Interrupted(CalendarTrainee):
        def step(self, index: int) -> dict[str, float]:
            if index == 7:
                os.kill(os.getpid(), signal.SIGINT)
            return super().step(index)

    from mechfourier.training.loop import run_training

    with pytest.raises(TrainingInterrupted, match="after step 8 of 20"):
        run_training(Interrupted(SMOKE), tmp_path, steps=20, evaluate_at=0, checkpoint_at=0)
    result = train_calendar(SMOKE, tmp_path, resume=True)
    assert result.resumed_from == 8
    first, second = load_file(run / "model.safetensors"), load_file(tmp_path / "model.safetensors")
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_another_recipe_does_not_go_on_with_the_run(run: Path) -> None:
    with pytest.raises(UsageError, match=r"mechfourier_training\.lr is 0\.\d+ in the folder and 0\.5 now"):
        train_calendar(dataclasses.replace(SMOKE, lr=0.5), run, resume=True)


def test_the_command_prints_one_json_object_and_resumes(tmp_path: Path) -> None:
    arguments = ["train", "calendar", "--steps", "3", "--out", str(tmp_path / "run"), "--json"]
    first = CliRunner().invoke(app, arguments)
    assert first.exit_code == 0, first.output
    result = json.loads(first.stdout)
    assert result["steps"] == 3 and "held_out/days" in result["metrics"]
    assert "held-out accuracy" in first.stderr
    again = json.loads(CliRunner().invoke(app, [*arguments, "--resume"]).stdout)
    assert again["resumed_from"] == 3 and again["metrics"] == result["metrics"]
    refused = CliRunner().invoke(app, arguments)
    assert isinstance(refused.exception, UsageError) and "--resume" in str(refused.exception)


# the packaged model


def test_the_packaged_model_is_small_and_uses_this_tokenizer(tokenizer) -> None:
    assert (PACKAGED / "model.safetensors").stat().st_size <= 4_000_000
    packaged_tokenizer = AutoTokenizer.from_pretrained(PACKAGED)
    assert packaged_tokenizer.get_vocab() == tokenizer.get_vocab()
    prompt = "15:00 + 5 hours ="
    assert packaged_tokenizer(prompt)["input_ids"] == tokenizer(prompt)["input_ids"]


@pytest.mark.parametrize("operation", operations(), ids=lambda operation: operation.name)
def test_the_packaged_model_answers_held_out_sentences_as_its_readme_says(
    operation, packaged, tokenizer
) -> None:
    promised = json.loads((PACKAGED / "metrics.json").read_text())["held_out"][operation.name]
    rows = operation_rows(tokenizer, operation, held_out=True)
    assert len(rows.ids) == promised["sentences"]
    with torch.no_grad():
        right = packaged(input_ids=rows.ids, logits_to_keep=1).logits[:, -1].argmax(-1) == rows.targets[:, -1]
    accuracy = right.double().mean().item()
    assert accuracy >= promised["accuracy"] - 1e-9
    assert f"{promised['accuracy']:.2%}" in (PACKAGED / "README.md").read_text()
    assert accuracy >= 0.95


def test_the_registry_loads_the_packaged_weights(packaged, tokenizer) -> None:
    model = mechfourier.load("calendar")
    ids = tokenizer("Monday + 3 days =", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        logits, expected = model.run_with_hooks(ids)[0, -1], packaged(input_ids=ids).logits[0, -1]
    assert torch.allclose(logits, expected, atol=1e-4)
    assert tokenizer.convert_ids_to_tokens(int(logits.argmax())) == "Thursday"


@pytest.mark.parametrize("values", [DAYS, MONTHS], ids=["days", "months"])
def test_the_packaged_embeddings_are_circular(values: tuple[str, ...], packaged, tokenizer) -> None:
    """The largest harmonic's share of the between-value power is beyond that of 999 orders of the values."""
    embedding = packaged.get_input_embeddings().weight.detach().double()
    points = embedding[tokenizer.convert_tokens_to_ids(list(values))]
    points = points - points.mean(0)
    generator = torch.Generator().manual_seed(0)
    orders = torch.stack([torch.randperm(len(values), generator=generator) for _ in range(999)])
    orders = torch.cat([torch.arange(len(values))[None], orders])
    power = torch.fft.rfft(points[orders], dim=1)[:, 1:].abs().square().sum(-1)
    largest = (power / power.sum(1, keepdim=True)).amax(1)
    assert (largest >= largest[0] - 1e-12).double().mean().item() < 0.02
