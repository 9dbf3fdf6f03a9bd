"""Recipes for the models that add in every modulus, and what the options of the command line make of them."""

import dataclasses
from typing import Literal

from mechfourier.errors import UsageError, nearest
from mechfourier.toys.universal.config import ExtrapolatingConfig, FaithfulConfig, MirasConfig
from mechfourier.toys.universal.task import ModuliSplit, moduli

LOSSES = ("ce", "reinforce")
Loss = Literal["ce", "reinforce"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class MirasRecipe:
    """AdamW with a warm-up and a cosine decay to ``final_lr`` of the rate.

    ``boundary_share`` of a batch are questions next to the wrap. ``draws`` (extrapolating) are the frequency
    draws of a step, the same ones throughout with ``redraw=False``; ``negatives`` adds the candidates −2 ·
    largest..−1, so that a + b − m < 0 must be *decided* against, as no edge of the candidates rules it out.
    ``shift`` (extrapolating): sizes are moved by up to this many times the largest trained modulus
    (``miras_sizes`` says how), by ``shift_start`` of that in the first step. ``curriculum``: the cap on the
    moduli rises linearly from ``curriculum_from`` to all over the first ``curriculum_share`` of the steps.
    ``entropy`` weighs the entropy bonus of ``reinforce``, which draws ``samples`` answers to a question.
    """

    steps: int
    batch: int
    lr: float
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.98)
    warmup: int = 50
    final_lr: float = 0.02
    clip: float = 1.0
    boundary_share: float = 0.0
    draws: int = 1
    redraw: bool = True
    negatives: bool = False
    shift: float = 0.0
    shift_start: float = 0.01
    loss: Loss = "ce"
    curriculum: bool = False
    curriculum_from: int = 24
    curriculum_share: float = 0.45
    entropy: float = 0.01
    samples: int = 1
    evaluate_every: int = 1000


SHARED = MirasRecipe(
    steps=6000, batch=96, lr=5e-3, final_lr=0.0, boundary_share=0.4, draws=16, negatives=True, shift=2.5
)
PLAIN = MirasRecipe(
    steps=8000, batch=256, lr=3e-3, final_lr=0.0, boundary_share=0.3, negatives=True, shift=2.5
)
FAITHFUL = MirasRecipe(steps=8000, batch=384, lr=3e-3, weight_decay=0.3, warmup=200, curriculum=True)
PRIMES = MirasRecipe(steps=6000, batch=384, lr=3e-3, weight_decay=8.0, warmup=200)
REINFORCE = MirasRecipe(
    steps=6000, batch=384, lr=1e-3, weight_decay=0.1, warmup=200, loss="reinforce", samples=16, entropy=0.1
)


SMOOTH = 30.0
"""Divides m before the sinusoids: the fastest then turns once in 188 units."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """What to train, on what, and how."""

    config: MirasConfig
    split: ModuliSplit
    recipe: MirasRecipe


def plan(
    form: str,
    *,
    moduli: str = "all",
    largest: int | None = None,
    loss: str = "ce",
    memory: str | None = None,
    steps: int | None = None,
    batch: int | None = None,
    curriculum: bool | None = None,
    curriculum_from: int | None = None,
) -> Plan:
    """The plan of some options; None leaves the recipe's. Raises ``UsageError`` and ``OutOfRange`` for what
    does not fit.

    Primes (cross-entropy) are few enough to be told apart one by one. What makes a faithful network
    interpolate between them: a code that is smooth in m, no memory layer in its way, and strong weight decay,
    all three together. The test scale of the extrapolating forms is largest/4 over m (30/m for 120), so that
    magnitudes stay in range.
    """
    if loss not in LOSSES:
        raise UsageError(f"no loss {loss!r}; closest: {nearest(loss, LOSSES)}; known: {', '.join(LOSSES)}")
    split = _split(moduli, largest)
    if form == "faithful":
        return Plan(
            _faithful(moduli, loss, memory, split),
            split,
            _with(_faithful_recipe(moduli, loss), steps, batch, curriculum, curriculum_from),
        )
    if loss != "ce":
        raise UsageError(f"{form} is trained with ce; reinforce is for --form faithful")
    config = _by_value(form, split.largest)
    return Plan(
        config, split, _with(SHARED if form == "shared" else PLAIN, steps, batch, curriculum, curriculum_from)
    )


def _split(name: str, largest: int | None) -> ModuliSplit:
    return moduli(name, largest=largest or (79 if name == "primes" else 120))


def _by_value(form: str, largest: int) -> ExtrapolatingConfig:
    shared = ExtrapolatingConfig(scale=largest / 4, by_position=True)
    if form == "shared":
        return shared
    return dataclasses.replace(shared, form="plain", width=96, gates=192, freqs=24, draws=8)


def _faithful(name: str, loss: str, memory: str | None, split: ModuliSplit) -> FaithfulConfig:
    smooth = name == "primes" and loss == "ce"
    return FaithfulConfig(
        memory=memory or ("none" if smooth else "feedforward"),
        encoding="log" if name == "sparse" else "sinpe",
        sinusoid_scale=SMOOTH if smooth else 1.0,
        trained_to=split.largest,
    )


def _faithful_recipe(name: str, loss: str) -> MirasRecipe:
    if loss == "reinforce":
        return REINFORCE
    return PRIMES if name == "primes" else FAITHFUL


def _with(
    recipe: MirasRecipe,
    steps: int | None,
    batch: int | None,
    curriculum: bool | None,
    curriculum_from: int | None,
) -> MirasRecipe:
    given = {
        "steps": steps,
        "batch": batch,
        "curriculum": curriculum,
        "curriculum_from": curriculum_from,
    }
    return dataclasses.replace(recipe, **{key: value for key, value in given.items() if value is not None})
