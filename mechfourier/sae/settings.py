"""What one dictionary is: site, architecture, width and sparsity, and how SAELens is told so."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch

from mechfourier.errors import OutOfRange, UsageError, nearest

if TYPE_CHECKING:
    from sae_lens import TrainingSAE
    from sae_lens.config import SAETrainerConfig

ARCHITECTURES = ("standard", "topk", "batchtopk", "jumprelu", "gated")
COUNTED = ("topk", "batchtopk")  # sparsity is a number of active features; elsewhere it is a penalty
DEFAULT_K = 32
DEFAULT_PENALTY = {"standard": 2.0, "gated": 2.0, "jumprelu": 1.0}
NORM_BATCHES = 16  # batches that the mean activation norm is estimated from
MIN_DEAD_WINDOW, MAX_DEAD_WINDOW = 50, 1000  # steps without firing after which a feature counts as dead


@dataclass(frozen=True)
class Dictionary:
    """One sparse autoencoder to train.

    ``width``: features, as a number or a multiple of the site's dimensions (``"4x"``). ``k``: active features
    per activation (topk), or on average (batchtopk); by default 32, and no more than a quarter of the
    dimensions. ``penalty``: the coefficient of the L1 (standard, gated) or L0 (jumprelu) penalty, on
    activations scaled to a mean norm of √d. None takes a default.
    """

    site: str
    architecture: str = "topk"
    width: str | int = "4x"
    k: int | None = None
    penalty: float | None = None

    def __post_init__(self) -> None:
        if self.architecture not in ARCHITECTURES:
            raise UsageError(
                f"no architecture {self.architecture!r}; closest: "
                f"{nearest(self.architecture, ARCHITECTURES)}. "
                f"Choose one of {', '.join(ARCHITECTURES)}"
            )
        counted = self.architecture in COUNTED
        if self.k is not None and not counted:
            raise UsageError(f"{self.architecture} has no k; its sparsity is a penalty: --penalty 2.0")
        if self.penalty is not None and counted:
            raise UsageError(
                f"{self.architecture} has no penalty; its sparsity is a number of features: --k 32"
            )
        if self.k is not None and self.k < 1:
            raise OutOfRange(f"k is {self.k}; at least one feature must be active")
        if self.penalty is not None and not 0 <= self.penalty < math.inf:
            raise OutOfRange(f"the penalty is {self.penalty}; it must be 0 or more")

    def sparsity(self, d: int) -> float:
        """k or the penalty, whichever this architecture has, at a site of ``d`` dimensions."""
        if self.architecture in COUNTED:
            return max(1, min(DEFAULT_K, d // 4)) if self.k is None else self.k
        return DEFAULT_PENALTY[self.architecture] if self.penalty is None else self.penalty

    def features(self, d: int) -> int:
        """The width in features at a site of ``d`` dimensions; raises ``OutOfRange`` below ``d`` or below
        ``k``."""
        count = _features(self.width, d)
        if count < d:
            raise OutOfRange(
                f"a width of {self.width} is {count} features for the {d} dimensions of {self.site}; a "
                f"dictionary "
                f"has at least as many features as dimensions: --width 1x ({d}) or more, usually 4x"
            )
        if self.k is not None and self.k > count:
            raise OutOfRange(f"k is {self.k}, and the dictionary has {count} features")
        return count

    def name(self, d: int) -> str:
        """A folder name: site, architecture, features and sparsity."""
        sparsity = f"{'k' if self.architecture in COUNTED else 'p'}{self.sparsity(d):g}"
        return f"{self.site}-{self.architecture}-{self.features(d)}-{sparsity}"


def _features(width: str | int, d: int) -> int:
    text = str(width).strip().lower()
    times = text.endswith("x")
    try:
        count = float(text.removesuffix("x"))
        features = count * d if times else count
        if features != int(features) or features < 1:
            raise ValueError
    except (ValueError, OverflowError):
        raise UsageError(f"cannot read the width {width!r}; write 4x, or a number of features") from None
    return int(features)


@dataclass(frozen=True)
class Schedule:
    """How long and how fast: ``tokens`` activations in batches of ``batch``, Adam at ``lr``, a linear warm-up
    over a twentieth of the steps and a linear decay to zero over the last fifth."""

    tokens: int = 2_000_000
    batch: int = 1024
    lr: float = 1e-3
    seed: int = 0

    def __post_init__(self) -> None:
        if self.batch < 2 or self.tokens < self.batch:
            raise OutOfRange(
                f"{self.tokens} tokens are no batch of {self.batch}; train on at least one batch of 2 or more"
            )
        if not 0 < self.lr < 1:
            raise OutOfRange(f"the learning rate is {self.lr}; it must lie between 0 and 1")

    @property
    def steps(self) -> int:
        return self.tokens // self.batch

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def build(dictionary: Dictionary, d: int, schedule: Schedule, metadata: dict[str, Any]) -> "TrainingSAE[Any]":
    """A new ``TrainingSAE`` of SAELens with weights drawn from the schedule's seed."""
    import sae_lens as sl
    from sae_lens.saes.sae import SAEMetadata

    warm = max(1, schedule.steps // 5)  # a penalty that comes slowly kills fewer features
    sparsity = dictionary.sparsity(d)
    classes: dict[str, tuple[Any, Any, dict[str, Any]]] = {
        "standard": (
            sl.StandardTrainingSAE,
            sl.StandardTrainingSAEConfig,
            {"l1_coefficient": sparsity, "l1_warm_up_steps": warm},
        ),
        "gated": (
            sl.GatedTrainingSAE,
            sl.GatedTrainingSAEConfig,
            {"l1_coefficient": sparsity, "l1_warm_up_steps": warm},
        ),
        "jumprelu": (
            sl.JumpReLUTrainingSAE,
            sl.JumpReLUTrainingSAEConfig,
            {"l0_coefficient": sparsity, "l0_warm_up_steps": warm},
        ),
        "topk": (sl.TopKTrainingSAE, sl.TopKTrainingSAEConfig, {"k": int(sparsity)}),
        "batchtopk": (sl.BatchTopKTrainingSAE, sl.BatchTopKTrainingSAEConfig, {"k": float(sparsity)}),
    }
    kind, config, own = classes[dictionary.architecture]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(schedule.seed)
        return kind(
            config(
                d_in=d,
                d_sae=dictionary.features(d),
                normalize_activations="expected_average_only_in",
                metadata=SAEMetadata(**metadata),
                **own,
            )
        )


def trainer_config(schedule: Schedule, device: str) -> "SAETrainerConfig":
    """The schedule in SAELens's words. Its own logging, checkpoints and progress bar stay off: ``train`` has
    them."""
    from sae_lens.config import LoggingConfig, SAETrainerConfig

    steps = schedule.steps
    return SAETrainerConfig(
        total_training_samples=steps * schedule.batch,
        train_batch_size_samples=schedule.batch,
        lr=schedule.lr,
        lr_end=schedule.lr / 10,
        lr_warm_up_steps=steps // 20,
        lr_decay_steps=steps // 5,
        dead_feature_window=max(MIN_DEAD_WINDOW, min(MAX_DEAD_WINDOW, steps // 20)),
        device=device,
        n_batches_for_norm_estimate=NORM_BATCHES,
        logger=LoggingConfig(log_to_wandb=False),
    )


def product(
    sites: Sequence[str],
    architectures: Sequence[str],
    widths: Sequence[str],
    ks: Sequence[int],
    penalties: Sequence[float],
) -> tuple[Dictionary, ...]:
    """Every combination; a sparsity goes to the architectures that have it. Raises ``UsageError`` where none
    does."""
    counted = [a for a in architectures if a in COUNTED]
    if ks and not counted:
        raise UsageError(f"{', '.join(architectures)} have no k; give --penalty")
    if penalties and len(counted) == len(architectures):
        raise UsageError(f"{', '.join(architectures)} have no penalty; give --k")
    found = []
    for site in sites:
        for architecture in architectures:
            for width in widths:
                if architecture in COUNTED:
                    found += [Dictionary(site, architecture, width, k=k) for k in ks or [None]]
                else:
                    found += [Dictionary(site, architecture, width, penalty=p) for p in penalties or [None]]
    return tuple(found)
