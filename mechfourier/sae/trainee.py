"""SAELens's ``SAETrainer``s as a trainee of our loop: one batch of activations, a step of every dictionary.

SAELens takes every training step, counts what fires and writes its own trainer state; the loop of
``mechfourier.training`` brings what every run here has: states that are replaced in one go, an exact resume,
Ctrl-C, metrics on disk.
"""

import contextlib
import io
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from mechfourier.sae.settings import Dictionary, Schedule, build, trainer_config
from mechfourier.sae.shards import Stream

if TYPE_CHECKING:
    from sae_lens import SAETrainer, TrainingSAE

STEP_FLOPS = (
    2e10  # a block of steps takes about a second or less on two cores: what Ctrl-C may have to wait for
)
MOST_STEPS = 50


def steps_per_block(schedule: Schedule, sizes: Mapping[str, tuple[int, int]]) -> int:
    """Optimiser steps between two looks at the clock, the metrics and Ctrl-C, from the work of one of
    them."""
    work = sum(12 * schedule.batch * d * features for d, features in sizes.values())
    return max(1, min(MOST_STEPS, int(STEP_FLOPS / work), schedule.steps))


class DictionariesTrainee:
    """Several dictionaries on one stream of activations. A loop step is a block of optimiser steps."""

    def __init__(
        self,
        dictionaries: Mapping[str, Dictionary],
        stream: Stream,
        schedule: Schedule,
        held_out: Mapping[str, Float[Tensor, "row d"]],
        *,
        plan: dict[str, Any],
        metadata: dict[str, Any],
        device: str = "cpu",
    ) -> None:
        from sae_lens import SAETrainer

        self.dictionaries, self.stream, self.schedule = dict(dictionaries), stream, schedule
        self.held_out, self.plan = held_out, plan
        widths = dict(zip(stream.shards.sites, stream.shards.widths, strict=True))
        self.trainers: dict[str, SAETrainer[Any, Any]] = {}
        for name, dictionary in self.dictionaries.items():
            own = {**metadata, "hook_name": dictionary.site}
            sae = build(dictionary, widths[dictionary.site], schedule, own).to(device)
            provider = Stream(stream.shards, schedule.batch, seed=schedule.seed).of(dictionary.site)
            self.trainers[name] = SAETrainer(trainer_config(schedule, device), sae, provider)
        sizes = {name: (t.sae.cfg.d_in, t.sae.cfg.d_sae) for name, t in self.trainers.items()}
        self.block = steps_per_block(schedule, sizes)

    @property
    def blocks(self) -> int:
        """Loop steps in all; the last one may hold fewer optimiser steps."""
        return -(-self.schedule.steps // self.block)

    def config(self) -> dict[str, Any]:
        return self.plan

    def step(self, index: int) -> dict[str, float]:
        start = index * self.block
        count = min(self.block, self.schedule.steps - start)
        self.stream.seek(start)
        if start == 0:
            self._scale()
        outputs: dict[str, Any] = {}
        for _ in range(count):
            batch = next(self.stream)
            for name, trainer in self.trainers.items():
                trainer.maybe_reset_sparsity()
                outputs[name] = trainer.step(batch[self.dictionaries[name].site])
                trainer.n_training_steps += 1
        return {
            key: value
            for name, trainer in self.trainers.items()
            for key, value in self._named(name, _measured(trainer, outputs[name])).items()
        }

    def _scale(self) -> None:
        """Estimate the mean norm of every site, as ``SAETrainer.fit`` does before its first step."""
        for trainer in self.trainers.values():
            if trainer.activation_scaler.scaling_factor is None:
                count = min(trainer.cfg.n_batches_for_norm_estimate, self.schedule.steps)
                with contextlib.redirect_stderr(io.StringIO()):  # its own progress bar would cut through ours
                    trainer.activation_scaler.estimate_scaling_factor(
                        trainer.sae.cfg.d_in, trainer.data_provider, count
                    )

    def _named(self, name: str, metrics: dict[str, float]) -> dict[str, float]:
        return metrics if len(self.trainers) == 1 else {f"{name}/{key}": v for key, v in metrics.items()}

    @torch.no_grad()
    def evaluate(self, index: int) -> dict[str, float]:
        """L0, explained variance and dead share on held-out activations."""
        del index
        found: dict[str, float] = {}
        for name, trainer in self.trainers.items():
            acts = self.held_out[self.dictionaries[name].site]
            metrics = reconstruction(trainer.sae, trainer.activation_scaler(acts))
            metrics["held_out_dead"] = float(trainer.dead_neurons.float().mean())
            found |= self._named(name, metrics)
            trainer.sae.train()
        return found

    def describe(self, metrics: dict[str, float]) -> str:
        """What the progress bar shows; of several dictionaries, the first."""
        first = next(iter(self.trainers))
        of = {k: metrics[k if len(self.trainers) == 1 else f"{first}/{k}"] for k in SHOWN}
        more = f" (first of {len(self.trainers)})" if len(self.trainers) > 1 else ""
        l0, variance, dead = of.values()
        return f"L0 {l0:.1f}, explained variance {variance:.3f}, dead {dead:.1%}{more}"

    # what a resume needs: written and read by SAELens itself

    def state(self) -> dict[str, Any]:
        return {name: _written(trainer) for name, trainer in self.trainers.items()}

    def load_state(self, state: dict[str, Any]) -> None:
        for name, trainer in self.trainers.items():
            _read(trainer, state[name])

    def weights(self) -> dict[str, Tensor]:
        return {
            f"{name}/{key}": value
            for name, trainer in self.trainers.items()
            for key, value in trainer.sae.state_dict().items()
        }

    def finished(self) -> dict[str, "TrainingSAE[Any]"]:
        """The dictionaries for activations as they are: the scaling folded into the weights, as
        ``SAETrainer.fit`` ends."""
        for trainer in self.trainers.values():
            factor = trainer.activation_scaler.scaling_factor
            if factor is not None:
                trainer.sae.fold_activation_norm_scaling_factor(factor)
                trainer.activation_scaler.scaling_factor = None
            trainer.set_final_sae_metadata()
            trainer.sae.eval()
        return {name: trainer.sae for name, trainer in self.trainers.items()}


SHOWN = ("held_out_l0", "held_out_explained_variance", "held_out_dead")


def reconstruction(sae: Any, acts: Float[Tensor, "row d"]) -> dict[str, float]:
    """L0 and explained variance of a dictionary on activations in its own scale, by SAELens's counters."""
    from sae_lens.evals import ExplainedVarianceCalculator
    from sae_lens.synthetic.evals import L0Calculator

    sae.eval()
    variance, l0 = ExplainedVarianceCalculator(), L0Calculator()
    for part in acts.split(1024):
        features = sae.encode(part.to(sae.device))
        variance.add_batch(sae.decode(features).cpu(), part.cpu())
        l0.add_batch(features)
    return {"held_out_l0": l0.compute(), "held_out_explained_variance": variance.compute()}


def _measured(trainer: "SAETrainer[Any, Any]", output: Any) -> dict[str, float]:
    """The loss, L0, explained variance and dead share of the last batch, by SAELens's own log."""
    log = trainer.build_train_step_log_dict(output, trainer.n_training_samples)
    return {
        "loss": log["losses/overall_loss"],
        "l0": log["metrics/l0"],
        "explained_variance": log["metrics/explained_variance"],
        "dead": log["sparsity/dead_features"] / trainer.sae.cfg.d_sae,
    }


def _written(trainer: "SAETrainer[Any, Any]") -> dict[str, Any]:
    """SAELens's checkpoint of a trainer, as a value."""
    from sae_lens.constants import TRAINER_STATE_FILENAME

    with tempfile.TemporaryDirectory() as folder:
        trainer.save_trainer_state(Path(folder))
        state = torch.load(Path(folder) / TRAINER_STATE_FILENAME, weights_only=True, map_location="cpu")
    return {
        "trainer": state,
        "scale": trainer.activation_scaler.scaling_factor,
        "sae": {key: value.detach().cpu().clone() for key, value in trainer.sae.state_dict().items()},
    }


def _read(trainer: "SAETrainer[Any, Any]", state: dict[str, Any]) -> None:
    from sae_lens.constants import ACTIVATION_SCALER_CFG_FILENAME, TRAINER_STATE_FILENAME

    trainer.sae.load_state_dict(state["sae"])
    trainer.activation_scaler.scaling_factor = state["scale"]
    with tempfile.TemporaryDirectory() as folder:
        torch.save(state["trainer"], Path(folder) / TRAINER_STATE_FILENAME)
        trainer.activation_scaler.save(str(Path(folder) / ACTIVATION_SCALER_CFG_FILENAME))
        trainer.load_trainer_state(folder)
