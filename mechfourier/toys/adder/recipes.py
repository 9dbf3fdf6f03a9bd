"""Recipes for the adders: the model and how it is trained, as frozen settings."""

import dataclasses

from mechfourier.errors import OutOfRange, UsageError, nearest
from mechfourier.toys.adder.config import AdderConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdderRecipe:
    """How to train. The rate rises over ``warmup`` steps and falls along a cosine to ``final_lr`` of itself
    at ``steps``; weight decay acts on matrices only; ``clip`` bounds the gradient's norm.

    ``noise``: standard deviation of Gaussian noise on attention logits, falling to 0 over the first
    ``noise_until`` of the steps. ``stages``: (share of the steps, longest operand) of the curriculum, the
    last one to the end. ``pairs``: so many pairs drawn once and for all; 0: fresh pairs every step.
    ``chains``: share of pairs with a planted carry chain. ``embed_std`` and ``write_scale`` are those of
    ``initial_weights``. ``test_lengths``: digits of both operands in the evaluations during training.
    """

    name: str
    steps: int
    batch: int = 512
    lr: float = 2e-3
    betas: tuple[float, float] = (0.9, 0.98)
    weight_decay: float = 0.1
    warmup: int = 100
    final_lr: float = 0.02
    clip: float = 1.0
    noise: float = 0.7
    noise_until: float = 0.8
    stages: tuple[tuple[float, int], ...] = ((1.0, 5),)
    pairs: int = 0
    chains: float = 0.5
    embed_std: float = 0.1
    write_scale: float = 0.3
    evaluate_every: int = 100
    checkpoint_every: int = 100
    test_lengths: tuple[int, ...] = (1, 2, 3, 4, 5, 6, 10, 20)

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch < 1:
            raise OutOfRange(f"steps = {self.steps}, batch = {self.batch}; both must be at least 1")

    @property
    def longest(self) -> int:
        """Digits of the longest operand trained on."""
        return max(digits for _, digits in self.stages)

    def digits_at(self, step: int) -> tuple[int, ...]:
        """Lengths of the operands at a step (counted from 0): 1 to the stage's longest."""
        done, at = 0.0, self.stages[-1][1]
        for share, longest in self.stages:
            done += share
            if step < done * self.steps:
                at = longest
                break
        return tuple(range(1, at + 1))


GENERALISING = AdderRecipe(name="generalising", steps=1000)
CURRICULUM = ((0.1, 2), (0.15, 3), (0.2, 4), (0.55, 5))
FAITHFUL = AdderRecipe(
    name="faithful",
    steps=50_000,
    batch=256,
    lr=1e-3,
    weight_decay=0.01,
    warmup=500,
    noise=0.0,
    stages=CURRICULUM,
    pairs=50_000,
    chains=0.0,
    embed_std=0.02,
    evaluate_every=250,
    checkpoint_every=1000,
    test_lengths=(1, 2, 3, 4, 5),
)

PLAIN = AdderConfig()
ORIGINAL = AdderConfig(
    d_model=128,
    d_mlp=512,
    n_layers=3,
    n_decoder_layers=3,
    positions="learned",
    ssmax=False,
    padded=False,
    reverse=False,
    max_digits=5,
)

_replace = dataclasses.replace
RECIPES: dict[str, tuple[AdderConfig, AdderRecipe]] = {
    "generalising": (PLAIN, GENERALISING),
    # each of the following leaves one thing out of the first: the teaching table
    "no-padding": (_replace(PLAIN, padded=False), _replace(GENERALISING, name="no-padding")),
    "no-sharpening": (_replace(PLAIN, ssmax=False), _replace(GENERALISING, name="no-sharpening", noise=0.0)),
    "no-chains": (PLAIN, _replace(GENERALISING, name="no-chains", chains=0.0)),
    "coupled": (
        _replace(PLAIN, positions="coupled", max_digits=50),
        _replace(GENERALISING, name="coupled"),
    ),
    "decoder-only": (
        _replace(PLAIN, kind="decoder-only", n_layers=2, n_decoder_layers=0),
        _replace(GENERALISING, name="decoder-only"),
    ),
    "faithful": (ORIGINAL, FAITHFUL),
    "faithful-fresh": (
        ORIGINAL,
        _replace(FAITHFUL, name="faithful-fresh", pairs=0, chains=0.5, stages=((1.0, 5),)),
    ),
}


def recipe(name: str) -> tuple[AdderConfig, AdderRecipe]:
    """Model and settings of that name; raises ``UsageError`` with the nearest names otherwise."""
    if name not in RECIPES:
        raise UsageError(
            f"no recipe {name!r}; closest: {nearest(name, RECIPES)}; known: {', '.join(RECIPES)}"
        )
    return RECIPES[name]
