"""Train an adder: fresh or fixed pairs, curriculum, noise, and accuracy by greedy decoding at every length on
the way."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mechfourier.models.device import resolve_device
from mechfourier.toys.adder.base import loss_of
from mechfourier.toys.adder.config import AdderConfig, decays, initial_weights
from mechfourier.toys.adder.decode import decode_all
from mechfourier.toys.adder.draw import candidates, train_batch, unseen_batch
from mechfourier.toys.adder.model import build
from mechfourier.toys.adder.recipes import AdderRecipe, recipe
from mechfourier.toys.adder.task import Problems, decoder_input, held_out, join
from mechfourier.training.descent import Descent, cosine
from mechfourier.training.loop import RunResult, TrainingResult, run_training

if TYPE_CHECKING:
    pass

TEST_SEED = 5_000_011  # the problems of the evaluations during training; no training seed comes near it
TEST_PROBLEMS = 100
GENERALISED = 0.99


@dataclasses.dataclass(frozen=True)
class AdderRun(RunResult, kind="adder-run"):
    """A finished run. ``accuracy`` maps the number of digits of both operands to the share of held-out
    problems answered exactly, by greedy decoding of ``problems`` problems each; ``mechfourier
    sweep-accuracy`` measures more. ``outcome``: ``generalised`` (99 % at every length measured, those beyond
    the training lengths included), ``learned`` (99 % at the training lengths) or ``undertrained``.
    """

    accuracy: dict[str, float]
    problems: int
    train_loss: float
    steps: int
    seconds: float
    checkpoint: str
    outcome: str
    why: str

    def __str__(self) -> str:
        lengths = ", ".join(f"{digits}: {share:.0%}" for digits, share in self.accuracy.items())
        return (
            f"{self.outcome}: {self.why}\nexact match by number of digits: {lengths} ({self.problems} "
            f"held-out problems each)\n"
            f"train loss {self.train_loss:.2g}; {self.steps} steps in {self.seconds:.0f} s\n{self.checkpoint}"
        )


class AdderTrainee(Descent):
    """An adder as the training loop wants it."""

    def __init__(self, config: AdderConfig, settings: AdderRecipe, *, seed: int, device: str = "cpu") -> None:
        self.recipe, self.seed, self.device = settings, seed, torch.device(device)
        start = initial_weights(
            config, seed=seed, embed_std=settings.embed_std, write_scale=settings.write_scale
        )
        self.model = build(config, weights=start).to(self.device)
        super().__init__(
            dict(self.model.named_parameters()),
            settings,
            decays=lambda name, _: decays(name),
            fused=self.device.type in ("cpu", "cuda", "mps"),
        )
        self.generator = torch.Generator().manual_seed(seed)
        self.noise = self.model.noise.generator = torch.Generator(self.device).manual_seed(seed + 1)
        self.fixed = _fixed_pairs(settings, seed) if settings.pairs else None
        self.tests = {n: _test_source(config, settings, n) for n in settings.test_lengths}

    def config(self) -> dict[str, Any]:
        training = {"seed": self.seed, "recipe": dataclasses.asdict(self.recipe)}
        return {**self.model.cfg.to_dict(), "training": training}

    def step(self, index: int) -> dict[str, float]:
        r = self.recipe
        self.model.train()
        self.model.noise.sigma = r.noise * max(0.0, 1 - index / max(1.0, r.noise_until * r.steps))
        batch, form = self._batch(index), self.model.cfg.format
        source, target = form.source(batch).to(self.device), form.target(batch).to(self.device)
        loss = loss_of(self.model.logits(source, decoder_input(target)), target)
        value = self.descend(loss, cosine(index, r.steps, warmup=r.warmup, final=r.final_lr))
        self.model.eval()
        return {"train_loss": value}

    def _batch(self, index: int) -> Problems:
        r = self.recipe
        digits = r.digits_at(index)
        if self.fixed is None:
            return train_batch(r.batch, self.generator, digits=digits, chains=r.chains)
        pool = self.fixed[
            : int((self.fixed.longest <= digits[-1]).sum())
        ]  # they lie in the order of their length
        return pool[torch.randint(len(pool), (r.batch,), generator=self.generator)]

    @torch.no_grad()
    def evaluate(self, index: int) -> dict[str, float]:
        del index
        return {f"accuracy_{n}": self._accuracy(*test) for n, test in self.tests.items()}

    def _accuracy(self, source: Tensor, target: Tensor) -> float:
        written = decode_all(self.model, source.to(self.device)).cpu()
        width = max(written.shape[1], target.shape[1])
        pad = [torch.nn.functional.pad(x, (0, width - x.shape[1]), value=-1) for x in (written, target)]
        return float((pad[0] == pad[1]).all(1).double().mean())

    def describe(self, metrics: dict[str, float]) -> str:
        """What the progress bar shows."""
        return "exact match " + " ".join(
            f"{name.removeprefix('accuracy_')}:{value:.0%}" for name, value in metrics.items()
        )

    def state(self) -> dict[str, Any]:
        return {**super().state(), "noise": self.noise.get_state()}

    def load_state(self, state: dict[str, Any]) -> None:
        super().load_state(state)
        self.noise.set_state(state["noise"])


def _fixed_pairs(settings: AdderRecipe, seed: int) -> Problems:
    """The training set of a recipe with a fixed number of pairs, shortest first; none of them is held out."""
    generator = torch.Generator().manual_seed(seed + 2)
    digits = tuple(range(1, settings.longest + 1))
    parts: list[Problems] = []
    while sum(map(len, parts)) < settings.pairs:
        found = candidates(settings.pairs, generator, digits, settings.chains)
        parts.append(found[~held_out(found)])
    pairs = join(parts)[slice(0, settings.pairs)]
    return pairs[pairs.longest.argsort(stable=True)]


def _test_source(config: AdderConfig, settings: AdderRecipe, n: int) -> tuple[Tensor, Tensor]:
    """Held-out problems of two n-digit operands, as tokens, and their answers. Every hash class of two
    one-digit operands holds about ten pairs, so those repeat."""
    generator = torch.Generator().manual_seed(TEST_SEED + n)
    found = unseen_batch(TEST_PROBLEMS, generator, len_a=n, len_b=n, unseen=n <= settings.longest)
    return config.format.source(found), config.format.target(found)


def train_adder(
    folder: str | Path,
    *,
    settings: str | tuple[AdderConfig, AdderRecipe] = "generalising",
    seed: int = 0,
    steps: int | None = None,
    resume: bool = False,
    device: str = "cpu",
    on_evaluate: Callable[[int, dict[str, float]], None] | None = None,
    stop: Callable[[dict[str, float]], bool] | None = None,
) -> AdderRun:
    """Train in ``folder`` by a recipe (a name, or a model and settings of one's own); the same arguments give
    the same bits on a CPU with the same number of threads.

    ``steps`` replaces the recipe's number (the schedule follows). Raises ``UsageError`` for an unknown recipe
    and what ``run_training`` raises.
    """
    config, chosen = recipe(settings) if isinstance(settings, str) else settings
    if steps is not None:
        chosen = dataclasses.replace(chosen, steps=steps, warmup=min(chosen.warmup, max(1, steps // 10)))
    trainee = AdderTrainee(config, chosen, seed=seed, device=str(resolve_device(device)))
    result = run_training(
        trainee,
        folder,
        steps=chosen.steps,
        evaluate_at=chosen.evaluate_every,
        checkpoint_at=chosen.checkpoint_every,
        resume=resume,
        stop=stop,
        label=f"adder {chosen.name} seed {seed}",
        on_evaluate=on_evaluate,
    )
    return _finished(result, chosen, Path(folder))


def _finished(result: TrainingResult, settings: AdderRecipe, folder: Path) -> AdderRun:
    accuracy = {str(n): result.metrics[f"accuracy_{n}"] for n in settings.test_lengths}
    outcome, why = verdict(accuracy, settings)
    return AdderRun(
        accuracy=accuracy,
        problems=TEST_PROBLEMS,
        train_loss=result.metrics["train_loss"],
        steps=result.steps,
        seconds=result.seconds,
        checkpoint=str(folder),
        outcome=outcome,
        why=why,
    )


def verdict(accuracy: dict[str, float], settings: AdderRecipe) -> tuple[str, str]:
    """The outcome of a run and a sentence that says why."""
    inside = {n: share for n, share in accuracy.items() if int(n) <= settings.longest}
    beyond = {n: share for n, share in accuracy.items() if int(n) > settings.longest}
    worst = min(inside, key=lambda n: inside[n], default=None)
    if worst is not None and inside[worst] < GENERALISED:
        return "undertrained", (
            f"{inside[worst]:.1%} at {worst} digits, which it was trained on; give more steps, or the "
            f"generalising recipe"
        )
    if not beyond:
        return (
            "learned",
            f"at least {GENERALISED:.0%} at every length up to {settings.longest} digits; no longer one was "
            f"tried",
        )
    worst = min(beyond, key=lambda n: beyond[n])
    if beyond[worst] < GENERALISED:
        return "learned", (
            f"at least {GENERALISED:.0%} up to {settings.longest} digits, and {beyond[worst]:.1%} at "
            f"{worst}, which it never saw"
        )
    return "generalised", (
        f"at least {GENERALISED:.0%} at every length, {max(map(int, beyond))} digits included; it was "
        f"trained on up to {settings.longest}"
    )
