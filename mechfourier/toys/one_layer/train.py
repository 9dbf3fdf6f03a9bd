"""Train the one-layer transformer: from a recipe to a run folder that ``load`` reads, and a verdict on how it
went."""

import dataclasses
import functools
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mechfourier.fourier.key_freqs import matrix_share
from mechfourier.models.device import resolve_device
from mechfourier.toys.one_layer.fast_step import FastLogits, cross_entropy, stablemax_cross_entropy
from mechfourier.toys.one_layer.optimizers import Optimizer
from mechfourier.toys.one_layer.recipes import LEAST_RATE, Recipe, default_train_fraction, recipe
from mechfourier.toys.one_layer.task import ModularData, split
from mechfourier.toys.one_layer.weights import OneLayerConfig, initial_weights
from mechfourier.training.loop import RunResult, TrainingResult, run_training

if TYPE_CHECKING:
    import pandas as pd

LOSSES = {"cross-entropy": cross_entropy, "stablemax": stablemax_cross_entropy}
HOLDING = 0.99  # below this the accuracy has not held, and the anneal starts over
CHECKPOINTS_PER_DECADE = 16
TRANSITION = (0.02, 0.999)  # test accuracies between which checkpoints are dense
TRANSITION_EVERY = 20
COLLAPSED = 0.9  # of the loss of guessing
MEMORISED = 0.99
UNSTABLE_DROP = 0.05


@dataclasses.dataclass(frozen=True)
class OneLayerRun(RunResult, kind="one-layer-run"):
    """A finished run. Losses in nats per pair, accuracies and shares in 0..1; ``outcome`` is one of
    ``generalised``, ``memorised``, ``collapsed``, ``unstable``, ``undertrained``, and ``why`` says it in a
    sentence.

    ``embed_freqs``: the frequencies that hold 90 % of W_E's power, strongest first.
    """

    test_accuracy: float
    test_loss: float
    train_accuracy: float
    train_loss: float
    epochs: int
    seconds: float
    checkpoint: str
    outcome: str
    why: str
    generalised_at: int | None
    embed_freqs: tuple[int, ...]

    @property
    def succeeded(self) -> bool:
        """Whether it generalised; the command line ends with 1 where it did not."""
        return self.outcome == "generalised"

    def __str__(self) -> str:
        freqs = ", ".join(map(str, self.embed_freqs[:8])) + ("…" if len(self.embed_freqs) > 8 else "")
        return (
            f"{self.outcome}: {self.why}\n"
            f"test accuracy {self.test_accuracy:.2%}, test loss {self.test_loss:.2g}; train "
            f"{self.train_accuracy:.2%}, "
            f"{self.train_loss:.2g}\n{self.epochs} epochs in {self.seconds:.1f} s; frequencies in W_E: "
            f"{freqs}\n"
            f"{self.checkpoint}"
        )


class OneLayerTrainee:
    """The one-layer transformer as the training loop wants it: full batch, so that a step draws no random
    numbers."""

    def __init__(
        self, config: OneLayerConfig, data: ModularData, settings: Recipe, *, seed: int, device: str = "cpu"
    ) -> None:
        self.model, self.data, self.recipe, self.seed = config, data, settings, seed
        start = initial_weights(config, seed=seed, embed_std=settings.embed_std)
        self.parameters = {name: value.to(device).requires_grad_() for name, value in start.items()}
        self.optimizer = Optimizer(settings, self.parameters)
        self.train = FastLogits(config, data.train_pairs.to(device))
        self.test = FastLogits(config, data.test_pairs.to(device))
        self.train_answers, self.test_answers = data.train_answers.to(device), data.test_answers.to(device)
        self.anneal_from: int | None = None
        self.cut, self.waiting_since = 1.0, 0
        self.done, self.test_accuracy, self.train_loss = 0, 0.0, math.nan

    def config(self) -> dict[str, Any]:
        training = {
            "seed": self.seed,
            "split_seed": self.data.seed,
            "train_fraction": self.data.train_fraction,
        }
        return {**self.model.to_dict(), "training": {**training, "recipe": dataclasses.asdict(self.recipe)}}

    def step(self, index: int) -> dict[str, float]:
        loss = LOSSES[self.recipe.loss](self.train(self.parameters), self.train_answers)
        gradients = torch.autograd.grad(loss, list(self.parameters.values()))
        scale, decay = self.schedule(index)
        self.optimizer.step(gradients, lr_scale=self.cut * scale, weight_decay=decay)
        self.train_loss = float(loss.detach())
        return {"train_loss": self.train_loss}

    def schedule(self, index: int) -> tuple[float, float]:
        """The rate relative to the recipe's (as it is after back-offs), and the weight decay, of step
        ``index``."""
        r = self.recipe
        latest = r.max_epochs - r.anneal
        start = latest if self.anneal_from is None else min(latest, self.anneal_from)
        if index < r.warmup:
            return (index + 1) / r.warmup, r.weight_decay
        if r.anneal == 0 or index < start:
            return 1.0, r.weight_decay
        high = (1 + math.cos(math.pi * min(1.0, (index - start) / r.anneal))) / 2
        return r.final_lr + (1 - r.final_lr) * high, r.weight_decay * (
            r.final_decay + (1 - r.final_decay) * high
        )

    @torch.no_grad()
    def evaluate(self, index: int) -> dict[str, float]:
        test, train = self.test(self.parameters), self.train(self.parameters)
        self.done, self.test_accuracy = index, _accuracy(test, self.test_answers)
        self._plan(index)
        return {
            "train_accuracy": _accuracy(train, self.train_answers),
            "test_accuracy": self.test_accuracy,
            "test_loss": float(cross_entropy(test, self.test_answers)),
            "sum_of_squares": sum(float((w * w).sum()) for w in self.parameters.values()),
            "learning_rate": self.recipe.lr * self.cut * self.schedule(index)[0],
            "weight_decay": self.schedule(index)[1],
        }

    def _plan(self, index: int) -> None:
        """Begin the anneal after ``settle`` epochs of generalisation; begin anew where it does not hold, and
        at a lower rate where it does not come."""
        if self.anneal_from is None and self.test_accuracy >= self.recipe.nearly:
            self.anneal_from = index + self.recipe.settle
        elif self.anneal_from is not None and self.test_accuracy < min(HOLDING, self.recipe.nearly - 0.01):
            self._restart(index)
        patient = self.recipe.patience == 0 or index - self.waiting_since < self.recipe.patience
        if self.anneal_from is None and not patient:
            self.cut = max(LEAST_RATE, self.cut * self.recipe.backoff)
            self.waiting_since = index

    def _restart(self, index: int) -> None:
        self.anneal_from, self.waiting_since = None, index

    def finished(self, _metrics: dict[str, float]) -> bool:
        """The accuracy held through the whole anneal and ends at the recipe's bar."""
        if self.anneal_from is None or self.done < self.anneal_from + self.recipe.anneal:
            return False
        if self.test_accuracy >= self.recipe.generalised:
            return True
        self._restart(self.done)
        return False

    def describe(self, metrics: dict[str, float]) -> str:
        """What the progress bar shows."""
        freqs = ",".join(map(str, embed_freqs(self.parameters, self.model.p)[:6]))
        return f"loss {metrics['test_loss']:.2g} accuracy {metrics['test_accuracy']:.1%} frequencies {freqs}"

    def state(self) -> dict[str, Any]:
        return {
            "weights": self.weights(),
            "optimizer": self.optimizer.state(),
            "anneal_from": self.anneal_from,
            "cut": self.cut,
            "waiting_since": self.waiting_since,
            "test_accuracy": self.test_accuracy,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        with torch.no_grad():
            for name, value in state["weights"].items():
                self.parameters[name].copy_(value)
        self.optimizer.load_state(state["optimizer"])
        self.anneal_from, self.test_accuracy = state["anneal_from"], state["test_accuracy"]
        self.cut, self.waiting_since = state["cut"], state["waiting_since"]

    def weights(self) -> dict[str, Tensor]:
        return {name: value.detach() for name, value in self.parameters.items()}

    def checkpoint_at(self, done: int) -> bool:
        """Logarithmically spaced, and every ``TRANSITION_EVERY`` epochs while the test accuracy rises."""
        rising = TRANSITION[0] < self.test_accuracy < TRANSITION[1]
        return (rising and done % TRANSITION_EVERY == 0) or _log_spaced(done)


def _log_spaced(done: int) -> bool:
    position = [math.floor(CHECKPOINTS_PER_DECADE * math.log10(n)) for n in (done, done + 1)]
    return position[0] != position[1] or done == 1


def _accuracy(logits: Tensor, answers: Tensor) -> float:
    return float((logits.argmax(dim=1) == answers).double().mean())


def embed_freqs(weights: dict[str, Tensor], p: int, *, share: float = 0.9) -> tuple[int, ...]:
    """The fewest frequencies that hold ``share`` of the power of W_E, strongest first."""
    power = matrix_share(weights["embed.W_E"].detach()[:p].cpu())
    order = power.argsort(descending=True)
    count = int((power[order].cumsum(0) < share).sum()) + 1
    return tuple(int(i) + 1 for i in order[:count])


def train_one_layer(
    folder: str | Path,
    *,
    p: int = 113,
    task: str = "add",
    settings: str | Recipe = "fast",
    seed: int = 0,
    split_seed: int | None = None,
    train_fraction: float | None = None,
    epochs: int | None = None,
    resume: bool = False,
    device: str = "cpu",
    checkpoints: bool = True,
    on_evaluate: Callable[[int, dict[str, float]], None] | None = None,
    watch: "Callable[[OneLayerTrainee, int, dict[str, float]], None] | None" = None,
) -> OneLayerRun:
    """Train in ``folder`` by a recipe (a name or one's own); the same arguments give the same bits on a CPU.

    ``epochs`` caps the recipe's number; without ``checkpoints`` only the last weights stay. After an
    evaluation ``on_evaluate`` gets the epoch and the metrics, ``watch`` also the trainee with its weights.
    Raises ``OutOfRange`` for p < 5 or a fraction that leaves no train or test set, ``UsageError`` for an
    unknown task or recipe, and what ``run_training`` raises.
    """
    fraction = default_train_fraction(p) if train_fraction is None else train_fraction
    data = split(task, p, train_fraction=fraction, seed=seed if split_seed is None else split_seed)
    chosen = recipe(settings, p) if isinstance(settings, str) else settings
    if epochs is not None:
        chosen = dataclasses.replace(chosen, max_epochs=epochs, anneal=min(chosen.anneal, epochs // 2))
    config = OneLayerConfig(p=p, task=task)
    trainee = OneLayerTrainee(config, data, chosen, seed=seed, device=resolve_device(device))
    if watch is not None:
        on_evaluate = functools.partial(watch, trainee)
    finished = run_training(
        trainee,
        folder,
        steps=chosen.max_epochs,
        evaluate_at=chosen.evaluate_every,
        checkpoint_at=trainee.checkpoint_at if checkpoints else (),
        resume=resume,
        stop=trainee.finished,
        label="train",
        on_evaluate=on_evaluate,
    )
    return _summary(finished, trainee)


def _summary(finished: TrainingResult, trainee: OneLayerTrainee) -> OneLayerRun:
    frame, m = finished.frame(), finished.metrics
    outcome, why = verdict(frame, trainee.model.p, trainee.recipe)
    return OneLayerRun(
        test_accuracy=m["test_accuracy"],
        test_loss=m["test_loss"],
        train_accuracy=m["train_accuracy"],
        train_loss=m["train_loss"],
        epochs=finished.steps,
        seconds=finished.seconds,
        checkpoint=finished.folder,
        outcome=outcome,
        why=why,
        generalised_at=first_epoch(frame, "test_accuracy", trainee.recipe.generalised),
        embed_freqs=embed_freqs(trainee.parameters, trainee.model.p),
    )


def verdict(frame: "pd.DataFrame", p: int, settings: Recipe) -> tuple[str, str]:
    """The outcome of a run in a word, and the reason in a sentence, from its metrics (one row per epoch)."""
    last = frame.dropna(subset=["test_accuracy"]).iloc[-1]
    train, test, epoch = last["train_accuracy"], last["test_accuracy"], int(last["step"])
    best = frame["test_accuracy"].max()
    if test >= settings.generalised:
        at = first_epoch(frame, "test_accuracy", settings.generalised)
        return "generalised", f"test accuracy reached {settings.generalised:.1%} at epoch {at} and ends there"
    if last["train_loss"] > COLLAPSED * math.log(p) and settings.weight_decay > 0:
        return "collapsed", (
            f"the train loss {last['train_loss']:.2f} is that of guessing (ln {p} = {math.log(p):.2f}): the "
            f"decay pulled "
            f"the weights to zero; lower lr · weight decay (now {settings.lr:g} · {settings.weight_decay:g})"
        )
    if best > test + UNSTABLE_DROP:
        peak = int(frame.loc[frame["test_accuracy"].idxmax(), "step"])
        return (
            "unstable",
            f"test accuracy was {best:.1%} at epoch {peak} and is {test:.1%} now; lower the learning rate",
        )
    if train >= MEMORISED and test < MEMORISED:
        return "memorised", (
            f"train accuracy {train:.1%}, test accuracy {test:.1%} after {epoch} epochs; "
            "give more epochs, more weight decay or a larger train fraction"
        )
    return "undertrained", (
        f"test accuracy {test:.2%} is below {settings.generalised:.1%} after {epoch} epochs (train "
        f"{train:.1%}); "
        "give more epochs"
    )


def first_epoch(frame: "pd.DataFrame", name: str, bar: float) -> int | None:
    """The first epoch at which a metric stood at ``bar`` or above; None where it never did."""
    reached = frame.loc[frame[name] >= bar, "step"]
    return int(reached.iloc[0]) if len(reached) else None
