"""Train the models that add in every modulus: from a recipe to a run folder that ``load`` reads."""

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from mechfourier.errors import OutOfRange
from mechfourier.models.device import resolve_device
from mechfourier.toys.universal.config import (
    ExtrapolatingConfig,
    FaithfulConfig,
    MirasConfig,
    initial_weights,
)
from mechfourier.toys.universal.forward_pass import (
    Weights,
    embed_values,
    extrapolating_residual,
    faithful_residual,
    point,
    scores,
    test_sizes,
    value_table,
    with_negatives,
)
from mechfourier.toys.universal.recipes import MirasRecipe
from mechfourier.toys.universal.sizes import drawn_sizes, shift_reach
from mechfourier.toys.universal.task import ModuliSplit, answers, boundary, random_questions, sample
from mechfourier.training.descent import Descent
from mechfourier.training.loop import RunResult, run_training

if TYPE_CHECKING:
    pass

PER_MODULUS = 40  # random questions of each modulus that an evaluation asks
AT_ONCE = 4096


class _Trainee(Descent):
    """Weights, optimiser, schedule and sampling; what a step's loss is, the two models say."""

    loss: Callable[[Tensor, int], tuple[Tensor, dict[str, float]]]
    predictions: Callable[[Tensor], Tensor]

    def __init__(
        self, config: MirasConfig, split: ModuliSplit, recipe: MirasRecipe, *, seed: int, device: str = "cpu"
    ) -> None:
        self.model, self.split, self.recipe, self.seed = config, split, recipe, seed
        _check(split, recipe)
        start = initial_weights(config, seed=seed)
        parameters = {name: value.to(device).requires_grad_() for name, value in start.items()}
        super().__init__(parameters, recipe, decays=lambda _, value: value.ndim > 1)
        self.generator = torch.Generator(device).manual_seed(seed)
        self.device = device

    def config(self) -> dict[str, Any]:
        training = {"seed": self.seed, "moduli": self.split.name, "largest": self.split.largest}
        return {**self.model.to_dict(), "training": {**training, "recipe": dataclasses.asdict(self.recipe)}}

    def questions(self, index: int) -> Int[Tensor, "question 3"]:
        """The batch of step ``index``."""
        recipe = self.recipe
        pool = self.split.up_to(self.cap(index))
        return sample(pool, recipe.batch, self.generator, boundary_share=recipe.boundary_share)

    def cap(self, index: int) -> int:
        """The largest modulus that the curriculum allows in step ``index``."""
        recipe, largest = self.recipe, self.split.largest
        if not recipe.curriculum:
            return largest
        done = index / max(1.0, recipe.curriculum_share * recipe.steps)
        return min(largest, round(recipe.curriculum_from + (largest - recipe.curriculum_from) * done))

    def step(self, index: int) -> dict[str, float]:
        loss, metrics = self.loss(self.questions(index), index)
        return {"train_loss": self.descend(loss, _schedule(self.recipe, index)), **metrics}

    @torch.no_grad()
    def evaluate(self, index: int) -> dict[str, float]:
        """Accuracy on ``PER_MODULUS`` random questions of every trained and held-out modulus, and on all
        boundary cells of the held-out ones."""
        del index
        drawn = {
            m: random_questions(m, PER_MODULUS, seed=m) for m in (*self.split.train, *self.split.held_out)
        }
        held = self.accuracy(torch.cat([drawn[m] for m in self.split.held_out]))
        seen = self.accuracy(torch.cat([drawn[m] for m in self.split.train]))
        edge = self.accuracy(torch.cat([boundary(m) for m in self.split.held_out]))
        return {"held_out_accuracy": held, "train_accuracy": seen, "held_out_boundary_accuracy": edge}

    def accuracy(self, questions: Int[Tensor, "question 3"]) -> float:
        parts = questions.to(self.device).split(AT_ONCE)
        right = torch.cat([self.predictions(part) == answers(part) for part in parts])
        return float(right.double().mean())


class ExtrapolatingTrainee(_Trainee):
    """Frequencies and scales drawn anew in every step; candidates 0..2 · largest − 1 (with ``negatives``
    those below 0 too), none masked."""

    model: ExtrapolatingConfig

    def __init__(self, config: ExtrapolatingConfig, *args: Any, **options: Any) -> None:
        super().__init__(config, *args, **options)
        fixed = torch.rand(
            config.draws,
            config.freqs,
            dtype=torch.float64,
            generator=torch.Generator().manual_seed(config.freq_seed),
        )
        self.test_table = value_table(fixed, 2 * self.split.largest).to(self.device)

    def loss(self, questions: Int[Tensor, "question 3"], index: int) -> tuple[Tensor, dict[str, float]]:
        config, g = self.model, self.generator
        shape = (self.recipe.draws, config.freqs)
        source = g if self.recipe.redraw else torch.Generator(self.device).manual_seed(config.freq_seed)
        frequencies = torch.rand(*shape, generator=source, dtype=torch.float64, device=self.device)
        table = value_table(frequencies, 2 * self.split.largest)
        reach = shift_reach(self.recipe, self.split.largest, index / self.recipe.steps)
        sizes = drawn_sizes(config, questions, g, reach=reach)
        candidates = with_negatives(table) if self.recipe.negatives else table
        logits = scores(self.written(questions, sizes, table), candidates)
        return F.cross_entropy(logits, answers(questions) + len(candidates) - len(table)), {}

    def written(
        self,
        questions: Int[Tensor, "question 3"],
        sizes: Float[Tensor, "question 3"],
        table: Float[Tensor, "number draw wave"],
    ) -> Float[Tensor, "question draw_wave"]:
        """h at ``=``."""
        weights: Weights = self.parameters
        embedded = embed_values(weights, table[questions], sizes)
        residual = extrapolating_residual(self.model, weights, embedded, last_only=True)
        return point(weights, residual[:, -1])

    def predictions(self, questions: Int[Tensor, "question 3"]) -> Int[Tensor, " question"]:
        sizes = test_sizes(self.model, questions)
        table = self.test_table
        candidates = with_negatives(table) if self.recipe.negatives else table
        found = scores(self.written(questions, sizes, table), candidates).argmax(dim=1)
        return found - (len(candidates) - len(table))


class FaithfulTrainee(_Trainee):
    """Class logits; cross-entropy, or REINFORCE with a baseline per modulus."""

    model: FaithfulConfig

    def __init__(self, config: FaithfulConfig, *args: Any, **options: Any) -> None:
        super().__init__(config, *args, **options)
        self.baseline = torch.zeros(config.n_values + 1, device=self.device)

    def logits(self, questions: Int[Tensor, "question 3"]) -> Float[Tensor, "question number"]:
        weights: Weights = self.parameters
        residual = faithful_residual(self.model, weights, questions, last_only=True)[:, -1]
        return residual @ weights["unembed.W_U"] + weights["unembed.b_U"]

    def loss(self, questions: Int[Tensor, "question 3"], index: int) -> tuple[Tensor, dict[str, float]]:
        del index  # every step is alike
        logits, right = self.logits(questions), answers(questions)
        if self.recipe.loss == "ce":
            return F.cross_entropy(logits, right), {}
        return self.policy_gradient(logits, right, questions[:, 0])

    def policy_gradient(
        self,
        logits: Float[Tensor, "question number"],
        right: Int[Tensor, " question"],
        m: Int[Tensor, " question"],
    ) -> tuple[Tensor, dict[str, float]]:
        """REINFORCE (Williams 1992): ``recipe.samples`` answers are drawn to each question, reward 1 where
        one is right.

        The baseline of an answer is the mean reward of the question's other answers (Kool, van Hoof & Welling
        2019); of a single answer, a running mean of the reward *of the modulus* (a lucky guess mod 2 is no
        news, mod 79 it is). What the advantage's variance is against that of the bare reward is reported.
        """
        log_probs, count = logits.log_softmax(dim=1), self.recipe.samples
        drawn = torch.multinomial(log_probs.detach().exp(), count, replacement=True, generator=self.generator)
        reward = (drawn == right[:, None]).float()
        if count > 1:
            advantage = reward - (reward.sum(1, keepdim=True) - reward) / (count - 1)
        else:
            advantage = reward - self.baseline[m][:, None]
            self._follow(m, reward[:, 0])
        entropy = -(log_probs.exp() * log_probs).sum(dim=1).mean()
        loss = -(log_probs.gather(1, drawn) * advantage).mean() - self.recipe.entropy * entropy
        kept = float((advantage**2).mean() / (reward**2).mean().clamp(min=1e-6))
        return loss, {"reward": float(reward.mean()), "variance_kept": kept}

    def _follow(self, m: Int[Tensor, " question"], reward: Float[Tensor, " question"]) -> None:
        """Move the running mean of every modulus in the batch towards its reward there."""
        totals = torch.zeros_like(self.baseline).index_add_(0, m, reward)
        counts = torch.zeros_like(self.baseline).index_add_(0, m, torch.ones_like(reward))
        weight = 1 - 0.98**counts
        self.baseline = self.baseline + weight * (totals / counts.clamp(min=1) - self.baseline)

    def predictions(self, questions: Int[Tensor, "question 3"]) -> Int[Tensor, " question"]:
        return self.logits(questions).argmax(dim=1)

    def state(self) -> dict[str, Any]:
        return {**super().state(), "baseline": self.baseline}

    def load_state(self, state: dict[str, Any]) -> None:
        super().load_state(state)
        self.baseline = state["baseline"].to(self.device)


def _check(split: ModuliSplit, recipe: MirasRecipe) -> None:
    for name in ("steps", "batch"):
        if getattr(recipe, name) < 1:
            raise OutOfRange(f"{name} = {getattr(recipe, name)}; it must be at least 1")
    if recipe.curriculum:
        split.up_to(recipe.curriculum_from)


def _schedule(recipe: MirasRecipe, index: int) -> float:
    """The rate of step ``index`` relative to the recipe's."""
    high = (1 + math.cos(math.pi * index / recipe.steps)) / 2
    return min(1.0, (index + 1) / max(1, recipe.warmup)) * (recipe.final_lr + (1 - recipe.final_lr) * high)


@dataclasses.dataclass(frozen=True)
class MirasRun(RunResult, kind="universal-run"):
    """A finished run. Accuracies in 0..1 on random questions: trained moduli, held-out ones, and the cells of
    the held-out ones next to the wrap."""

    held_out_accuracy: float
    held_out_boundary_accuracy: float
    train_accuracy: float
    train_loss: float
    steps: int
    seconds: float
    checkpoint: str

    def __str__(self) -> str:
        return (
            f"held-out moduli {self.held_out_accuracy:.2%} (next to the wrap "
            f"{self.held_out_boundary_accuracy:.2%}), "
            f"trained moduli {self.train_accuracy:.2%}, loss {self.train_loss:.3g}\n"
            f"{self.steps} steps in {self.seconds:.0f} s; {self.checkpoint}\n"
            f"beyond the trained range: mechfourier sweep-accuracy {self.checkpoint}"
        )


def train_miras(
    folder: str | Path,
    config: MirasConfig,
    split: ModuliSplit,
    recipe: MirasRecipe,
    *,
    seed: int = 0,
    resume: bool = False,
    device: str = "cpu",
    on_evaluate: Callable[[int, dict[str, float]], None] | None = None,
) -> MirasRun:
    """Train in ``folder``; the same arguments give the same bits on a CPU with as many threads.

    Raises ``UsageError`` for an empty curriculum, ``OutOfRange`` for a modulus the model has no tokens for,
    and what ``run_training`` raises.
    """
    if isinstance(config, FaithfulConfig) and max(*split.train, *split.held_out) > config.n_values:
        raise OutOfRange(config.too_large(max(*split.train, *split.held_out)))
    device = resolve_device(device)
    if isinstance(config, ExtrapolatingConfig):
        trainee = ExtrapolatingTrainee(config, split, recipe, seed=seed, device=device)
    else:
        trainee = FaithfulTrainee(config, split, recipe, seed=seed, device=device)
    finished = run_training(
        trainee,
        folder,
        steps=recipe.steps,
        evaluate_at=recipe.evaluate_every,
        checkpoint_at=recipe.evaluate_every,
        resume=resume,
        label="train",
        on_evaluate=on_evaluate,
    )
    m = finished.metrics
    return MirasRun(
        m["held_out_accuracy"],
        m["held_out_boundary_accuracy"],
        m["train_accuracy"],
        m["train_loss"],
        finished.steps,
        finished.seconds,
        finished.folder,
    )
