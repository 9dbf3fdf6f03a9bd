"""The training loop: an interrupted run ends with the same bits, and nothing broken is ever taken for
whole."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from mechfourier.errors import BadCheckpoint, OutOfRange, UsageError
from mechfourier.training.loop import TrainingDiverged, TrainingInterrupted, TrainingResult, run_training
from mechfourier.training.run_folder import RunFolder


class Regression:
    """A noisy linear fit by AdamW, its batches from a generator: small, and all of a real run's state."""

    def __init__(self, lr: float = 0.05, on_step: Callable[[int], None] = lambda index: None) -> None:
        self.lr, self.on_step = lr, on_step
        self.generator = torch.Generator().manual_seed(3)
        self.weight = torch.zeros(4, requires_grad=True)
        self.optimiser = torch.optim.AdamW([self.weight], lr=lr)

    def config(self) -> dict[str, Any]:
        return {"architecture": "regression", "optimiser": {"lr": self.lr, "betas": (0.9, 0.999)}}

    def step(self, index: int) -> dict[str, float]:
        self.on_step(index)
        x = torch.randn(16, 4, generator=self.generator)
        wanted = x @ torch.arange(4.0) + torch.randn(16, generator=self.generator)
        loss = ((x @ self.weight - wanted) ** 2).mean()
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        return {"loss": loss.item()}

    def evaluate(self, index: int) -> dict[str, float]:
        return {"distance": (self.weight.detach() - torch.arange(4.0)).norm().item(), "at": float(index)}

    def state(self) -> dict[str, Any]:
        return {
            "weight": self.weight.detach().clone(),
            "optimiser": self.optimiser.state_dict(),
            "generator": self.generator.get_state(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        with torch.no_grad():
            self.weight.copy_(state["weight"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.generator.set_state(state["generator"])

    def weights(self) -> dict[str, Tensor]:
        return {"weight": self.weight.detach()}


def fit(trainee: Regression, folder: Path, **options: Any) -> TrainingResult:
    return run_training(trainee, folder, **{"steps": 40, "evaluate_at": 10, "checkpoint_at": 10, **options})


def interrupt_at(step: int, number: int = signal.SIGINT) -> Callable[[int], None]:
    return lambda index: os.kill(os.getpid(), number) if index == step else None


def same_metrics(first: Path, second: Path) -> None:
    drop = ["seconds"]
    a, b = RunFolder(first).read_metrics(), RunFolder(second).read_metrics()
    assert a.drop(columns=drop).equals(b.drop(columns=drop))


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    fit(Regression(), tmp_path / "whole")
    return tmp_path / "whole"


def final_weight(folder: Path) -> Tensor:
    return load_file(folder / "model.safetensors")["weight"]


def test_it_learns_and_leaves_a_whole_folder(tmp_path: Path) -> None:
    result = fit(Regression(), tmp_path / "run", steps=200)
    assert result.steps == 200 and result.resumed_from is None and not result.stopped_early
    assert result.metrics["distance"] < 0.5
    names = {p.relative_to(tmp_path / "run").as_posix() for p in (tmp_path / "run").rglob("*") if p.is_file()}
    assert {"config.json", "metrics.parquet", "model.safetensors", "state.pt"} <= names
    assert "checkpoints/step-000010.safetensors" in names
    assert not [name for name in names if ".part" in name]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("step", [0, 9, 17])
def test_an_interrupted_run_ends_with_the_same_bits(
    tmp_path: Path, whole: Path, step: int, number: int
) -> None:
    folder = tmp_path / "cut"
    with pytest.raises(TrainingInterrupted, match=rf"after step {step + 1} of 40.*--resume"):
        fit(Regression(on_step=interrupt_at(step, number)), folder)
    result = fit(Regression(), folder, resume=True)
    assert result.resumed_from == step + 1 and result.steps == 40
    assert torch.equal(final_weight(folder), final_weight(whole))
    same_metrics(folder, whole)


def test_a_run_says_where_it_comes_from_and_when_it_started(whole: Path) -> None:
    """The note is written before the first step: it knows no end and no seconds."""
    told = json.loads((whole / "provenance.json").read_text(encoding="utf-8"))
    assert set(told) == {"command", "versions", "machine", "started"}
    assert told["started"].endswith("UTC")


def test_an_exception_loses_only_what_came_after_the_last_state(tmp_path: Path, whole: Path) -> None:
    def fail(index: int) -> None:
        if index == 27:
            raise RuntimeError("power cut")

    folder = tmp_path / "cut"
    with pytest.raises(RuntimeError, match="power cut"):
        fit(Regression(on_step=fail), folder)
    assert fit(Regression(), folder, resume=True).resumed_from == 20
    assert torch.equal(final_weight(folder), final_weight(whole))
    same_metrics(folder, whole)


def test_a_finished_run_resumed_is_left_as_it_was(whole: Path) -> None:
    before = {p.name: p.read_bytes() for p in whole.iterdir() if p.is_file()}
    result = fit(Regression(), whole, resume=True)
    assert result.resumed_from == 40 and result.steps == 40 and result.metrics["at"] == 40
    assert {p.name: p.read_bytes() for p in whole.iterdir() if p.is_file()} == before


def test_more_steps_go_on_from_the_end(whole: Path, tmp_path: Path) -> None:
    fit(Regression(), whole, steps=60, resume=True)
    fit(Regression(), tmp_path / "long", steps=60)
    assert torch.equal(final_weight(whole), final_weight(tmp_path / "long"))


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty"])
def test_a_damaged_state_is_passed_over(tmp_path: Path, whole: Path, damage: str) -> None:
    folder = tmp_path / "cut"
    with pytest.raises(TrainingInterrupted):
        fit(Regression(on_step=interrupt_at(24)), folder)
    spoil(folder / "state.pt", damage)
    assert fit(Regression(), folder, resume=True).resumed_from == 20
    assert torch.equal(final_weight(folder), final_weight(whole))


def spoil(path: Path, damage: str) -> None:
    content = bytearray(path.read_bytes())
    if damage == "flipped":
        # inside the stored bytes of the generator's state, which is most of the file
        content[len(content) // 2] ^= 0xFF
    path.write_bytes({"truncated": content[: len(content) // 2], "flipped": content, "empty": b""}[damage])


def test_two_damaged_states_are_an_error(whole: Path) -> None:
    for name in ("state.pt", "state.previous.pt"):
        spoil(whole / name, "truncated")
    with pytest.raises(BadCheckpoint, match=r"state\.pt cannot be read.*--out"):
        fit(Regression(), whole, resume=True)


CHANGED: dict[str, Any] = {
    "step": 10**12,
    "seconds": -1.0,
    "stopped": "yes",
    "trainee": {},
    "evaluated": [1],
    "metrics": {"step": torch.arange(3)},
}


@pytest.mark.parametrize("name", CHANGED)
def test_a_state_that_was_changed_is_refused(name: str, whole: Path) -> None:
    state = torch.load(whole / "state.pt", weights_only=True)
    torch.save(state | {name: CHANGED[name]}, whole / "state.pt")
    before = (whole / "metrics.parquet").read_bytes()
    with pytest.raises(BadCheckpoint, match="is not one that this run can go on from"):
        fit(Regression(), whole, resume=True, steps=60)
    assert (whole / "metrics.parquet").read_bytes() == before


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes by name here")
@pytest.mark.parametrize("name", ["state.pt", "config.json"])
def test_a_pipe_in_place_of_a_file_is_refused_at_once(name: str, whole: Path) -> None:
    (whole / name).unlink()
    os.mkfifo(whole / name)
    with pytest.raises(UsageError, match="is a pipe or a device"):
        fit(Regression(), whole, resume=True)


def test_a_state_that_would_run_code_is_refused(whole: Path, tmp_path: Path) -> None:
    class Hostile:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "ran",))

    for name in ("state.pt", "state.previous.pt"):
        torch.save({"step": 40, "trainee": Hostile()}, whole / name)
    with pytest.raises(BadCheckpoint):
        fit(Regression(), whole, resume=True)
    assert not (tmp_path / "ran").exists()


def test_another_configuration_is_refused_with_the_difference(whole: Path) -> None:
    with pytest.raises(UsageError, match=r"optimiser\.lr is 0\.05 in the folder and 0\.1 now"):
        fit(Regression(lr=0.1), whole, resume=True)


def test_a_folder_with_a_run_is_not_overwritten(whole: Path) -> None:
    before = (whole / "state.pt").read_bytes()
    with pytest.raises(UsageError, match="--resume"):
        fit(Regression(), whole)
    assert (whole / "state.pt").read_bytes() == before


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_good_state(tmp_path: Path) -> None:
    trainee = Regression()

    def poison(index: int) -> None:
        if index == 14:
            trainee.weight.data.fill_(torch.nan)

    trainee.on_step = poison
    with pytest.raises(TrainingDiverged, match=r"loss is nan at step 15; the last good state is kept"):
        fit(trainee, tmp_path)
    state = RunFolder(tmp_path).read_state()
    assert state is not None and state["step"] == 10
    assert state["trainee"]["weight"].isfinite().all()


def test_weights_that_are_not_finite_are_never_saved(tmp_path: Path) -> None:
    class Overflowing(Regression):
        def step(self, index: int) -> dict[str, float]:
            metrics = super().step(index)
            if index == 9:  # the loss was still finite; the update was not
                self.weight.data[2] = torch.inf
            return metrics

    with pytest.raises(TrainingDiverged, match="'weight' is not finite at step 10"):
        fit(Overflowing(), tmp_path, evaluate_at=20)
    assert not (tmp_path / "state.pt").exists()


def test_stop_ends_the_run_and_a_resume_does_not_go_on(tmp_path: Path) -> None:
    def enough(metrics: dict[str, float]) -> bool:
        return metrics["at"] >= 20

    result = fit(Regression(), tmp_path, stop=enough)
    assert result.steps == 20 and result.stopped_early
    again = fit(Regression(), tmp_path, stop=enough, resume=True)
    assert again.steps == 20 and again.resumed_from == 20


@pytest.mark.parametrize("when", [10, {10, 20, 30}, lambda done: done % 10 == 0])
def test_when_is_a_period_a_collection_or_a_rule(tmp_path: Path, when: Any) -> None:
    fit(Regression(), tmp_path, evaluate_at=when, checkpoint_at=when)
    frame = RunFolder(tmp_path).read_metrics()
    assert frame.dropna()["step"].tolist() == [10, 20, 30, 40]
    assert len(frame) == 40


def test_the_result_is_a_table_a_figure_and_the_same_after_json(whole: Path) -> None:
    result = fit(Regression(), whole, resume=True)
    assert TrainingResult.from_json(result.to_json()) == result
    assert list(result.frame()["step"]) == list(range(1, 41))
    assert {trace.name for trace in result.plot().data} == {"loss", "distance", "at"}
    assert "40 steps" in str(result)


def test_no_steps_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OutOfRange, match="at least 1"):
        fit(Regression(), tmp_path / "none", steps=0)
    assert not (tmp_path / "none").exists()
