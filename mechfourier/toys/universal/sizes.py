"""The magnitudes that stand beside the waves of m, a and b in training: drawn scales, and shifts that keep a
+ b − m."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechfourier.toys.universal.config import ExtrapolatingConfig
from mechfourier.toys.universal.recipes import MirasRecipe

FULL = 0.9
"""Share of the steps after which shifts have their whole reach."""


def drawn_sizes(
    config: ExtrapolatingConfig,
    questions: Int[Tensor, "question 3"],
    generator: torch.Generator,
    *,
    reach: float = 0.0,
) -> Float[Tensor, "question 3"]:
    """s·v of m, a and b, with s log-uniform on ``scale_min``..``scale_max``; with a ``reach``, u + w, u and w
    are added to them, so that s·(a + b − m) stays what it is.

    Moduli up to M hold a + b − m to one part in M of the sizes, and a network trained on them weighs the
    three sizes no more exactly than that; beyond M the difference grows until it decides the wrap. u and w
    are uniform on 0..A, with A uniform up to ``reach``. The idea is that of position codes drawn from beyond
    the training length (Ruoss et al. 2023, arXiv 2305.16843): waves and answers stay those of the trained
    moduli.
    """
    device = generator.device
    octaves = torch.rand(len(questions), generator=generator, device=device)
    scale = config.scale_min * (config.scale_max / config.scale_min) ** octaves
    sizes = scale[:, None] * questions
    if not reach:
        return sizes
    draws = torch.rand(len(questions), 3, generator=generator, device=device)
    moved = reach * draws[:, :1] * draws[:, 1:]
    return sizes + torch.cat([moved.sum(1, keepdim=True), moved], dim=1)


def shift_reach(recipe: MirasRecipe, largest: int, done: float) -> float:
    """The largest shift after the share ``done`` of the steps, for a training on moduli up to ``largest``.

    It grows in equal ratios, since large sizes are learned with small rates only.
    """
    return recipe.shift * largest * recipe.shift_start ** (1 - min(1.0, done / FULL))
