"""Logit lens: what each layer would answer if it were the last, among the candidate answers only.

Source: nostalgebraist 2020, "interpreting GPT: the logit lens". The residual stream after every layer goes
through the model's final norm and unembedding. Nothing is trained, so early layers may speak another basis: a
low rank there is no proof of absence.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mechfourier._renamed import renamed
from mechfourier.domains.definition import Domain
from mechfourier.domains.definition import domain as find_domain
from mechfourier.domains.prepare import Questions, questions
from mechfourier.domains.reads import TokensRead, tokens_asked
from mechfourier.domains.task_spec import NATIVE
from mechfourier.errors import UsageError
from mechfourier.hooks.capture import capture
from mechfourier.hooks.run import inference
from mechfourier.hooks.site import Site, model_name
from mechfourier.models.interface import Model
from mechfourier.results.base import Result
from mechfourier.stats.intervals import wilson
from mechfourier.stats.null import check_permutations
from mechfourier.stats.permutation import permutation_p

CHUNK = 4096


@dataclass(frozen=True)
class LensLayer:
    """One layer's answers. ``probability``: of the right answer among the choices; ``rank``: mean rank, 1 is
    first; ``accuracy``: share with rank 1, beside ``null_accuracy`` (the same guesses, right answers shuffled
    over the prompts) and ``p_value`` (family-wise over the layers)."""

    site: str
    probability: float
    rank: float
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    null_accuracy: float
    p_value: float


@dataclass(frozen=True)
class LensResult(
    Result,
    kind="lens",
    figure="mechfourier.figures.inside:lens_figure",
    part="mechfourier.figures.inside:lens_part",
):
    """A logit lens over all layers. ``right_then_lost``: share of prompts whose right answer is first after
    some layer and not at the end; ``right_then_lost_null``: the same for shuffled right answers, as any guess
    is right somewhere by chance."""

    model: str
    domain: str
    n: int
    prompts: int
    choices: int
    layers: tuple[LensLayer, ...]
    right_then_lost: float
    right_then_lost_null: float
    notes: tuple[str, ...]
    tokens: TokensRead | None = None
    task: str = NATIVE

    def __str__(self) -> str:
        best = max(self.layers, key=lambda layer: layer.accuracy)
        last = self.layers[-1]
        return (
            f"{self.model}, {self.domain}, task {self.task}: the right answer is first at the end for "
            f"{last.accuracy:.1%} of {self.prompts} prompts "
            f"(shuffled {last.null_accuracy:.1%}, chance {1 / self.choices:.1%}), best after {best.site} "
            f"with {best.accuracy:.1%}; "
            f"{self.right_then_lost:.1%} are right inside and lost later (shuffled "
            f"{self.right_then_lost_null:.1%})"
        )

    def frame(self) -> pd.DataFrame:
        return pd.DataFrame([vars(layer) for layer in self.layers]).assign(chance=1 / self.choices)


@renamed(permutations="n_permutations", samples="n_prompts")
def lens(
    model: Model,
    domain: Domain | str,
    *,
    task: str | None = None,
    cycles: int = 1,
    n_prompts: int | None = None,
    n_permutations: int = 1000,
    seed: int = 0,
) -> LensResult:
    """Rank the right answer against the other candidates after every layer; see ``LensResult``. ``task``: one
    of the domain's tasks by name (None: the best one that the model answers).

    Raises ``UsageError`` for a model without an unembedding (sentence encoders).
    """
    check_permutations(n_permutations)
    domain = find_domain(domain)
    asked = questions(model, domain, task=task, cycles=cycles, samples=n_prompts, seed=seed)
    sites = _residual_sites(model)
    residuals = capture(
        model, asked.encodings, sites, torch.tensor([len(e.ids) - 1 for e in asked.encodings])
    ).stack()
    logits = candidate_logits(model, residuals, asked.choices)
    right = asked.right.expand(len(sites), -1)
    first = logits.argmax(-1)
    null = _shuffled(first, asked.right, draws=n_permutations, seed=seed)
    hits = first == right
    return LensResult(
        model=model_name(model),
        domain=domain.name,
        n=domain.n,
        prompts=len(asked.encodings),
        choices=len(asked.choices),
        layers=tuple(_layers(sites, logits, right, hits, null)),
        right_then_lost=_lost(hits),
        right_then_lost_null=_lost_null(first, asked, draws=min(n_permutations, 200), seed=seed),
        notes=asked.notes,
        tokens=tokens_asked(model, asked),
        task=asked.task,
    )


def _residual_sites(model: Model) -> list[Site]:
    layers = int(model.cfg.n_layers)
    return [Site("resid_pre", 0), *(Site("resid_post", layer) for layer in range(layers))]


def candidate_logits(
    model: Model, residuals: Float[Tensor, "site prompt d_model"], tokens: tuple[int, ...]
) -> Float[Tensor, "site prompt choice"]:
    """Logits of a few tokens from residual streams, through the model's own final norm and unembedding."""
    unembed: Any = getattr(model, "unembed", None)
    matrix: Any = getattr(unembed, "W_U", None) if hasattr(unembed, "W_U") else getattr(model, "W_U", None)
    if matrix is None:
        raise UsageError(
            f"{model_name(model)} has no unembedding (it gives embeddings, no words), so a logit lens has "
            f"nothing to read"
        )
    weights = matrix[:, list(tokens)].detach()
    bias = getattr(unembed, "b_U", None)
    norm = getattr(model, "ln_final", None) or torch.nn.Identity()
    flat = residuals.flatten(0, 1)
    if flat.shape[1] != weights.shape[0]:
        raise UsageError(
            f"{model_name(model)} projects its residual stream ({flat.shape[1]} dimensions) before the "
            f"unembedding "
            f"({weights.shape[0]}), so its logits cannot be read off the stream"
        )
    with inference(model):
        parts = [
            (norm(rows[:, None].to(weights.device, weights.dtype))[:, 0] @ weights).float().cpu()
            for rows in flat.split(CHUNK)
        ]
    logits = torch.cat(parts)
    if bias is not None:
        logits = logits + bias[list(tokens)].detach().float().cpu()
    return logits.unflatten(0, residuals.shape[:2])


def _layers(
    sites: list[Site],
    logits: Float[Tensor, "site prompt choice"],
    right: Int[Tensor, "site prompt"],
    hits: Bool[Tensor, "site prompt"],
    null: Float[np.ndarray, "draw site"],
) -> list[LensLayer]:
    probability = logits.softmax(-1).gather(-1, right[..., None])[..., 0].mean(-1)
    rank = 1 + (logits > logits.gather(-1, right[..., None])).sum(-1).double().mean(-1)
    accuracy = hits.double().mean(-1).numpy()
    best = null.max(1)
    found = []
    for i, site in enumerate(sites):
        low, high = wilson(int(hits[i].sum()), hits.shape[1])
        found.append(
            LensLayer(
                site=str(site),
                probability=float(probability[i]),
                rank=float(rank[i]),
                accuracy=float(accuracy[i]),
                accuracy_low=low,
                accuracy_high=high,
                null_accuracy=float(null[:, i].mean()),
                p_value=permutation_p(float(accuracy[i]), best),
            )
        )
    return found


def _shuffled(
    first: Int[Tensor, "site prompt"], right: Int[Tensor, " prompt"], *, draws: int, seed: int
) -> Float[np.ndarray, "draw site"]:
    """Accuracy of every layer's guesses when the right answers change places among the prompts."""
    rng, guesses, answers = np.random.default_rng(seed), first.numpy(), right.numpy()
    return np.stack([(guesses == rng.permutation(answers)).mean(1) for _ in range(draws)])


def _lost(hits: Bool[Tensor, "site prompt"]) -> float:
    return float((hits[:-1].any(0) & ~hits[-1]).double().mean())


def _lost_null(first: Int[Tensor, "site prompt"], asked: Questions, *, draws: int, seed: int) -> float:
    generator = torch.Generator().manual_seed(seed)
    orders = [torch.randperm(len(asked.right), generator=generator) for _ in range(draws)]
    return float(np.mean([_lost(first == asked.right[order]) for order in orders]))
