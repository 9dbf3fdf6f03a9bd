"""Does a dictionary hold cleaner circles than the basis it was trained in?

Every live feature gets the probe's statistics, with a p that is family-wise over all features and harmonics.
The same is done for the dimensions of the site, for as many random directions, and for a dictionary of the
model with re-initialised weights. A feature is one direction and can only be *periodic*; a circle takes a
plane, so groups of features get the plane test.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechfourier._renamed import renamed
from mechfourier.domains.definition import Domain
from mechfourier.domains.definition import domain as find_domain
from mechfourier.errors import OutOfRange, UsageError
from mechfourier.hooks.site import Site, model_name
from mechfourier.models.interface import Model
from mechfourier.models.untrained import untrained
from mechfourier.sae.clusters import (
    Cluster,
    carriers,
    circle_clusters,
    direction_clusters,
    distinct,
    shared_gram_of,
    with_angle,
)
from mechfourier.sae.load import LoadedDictionary, load_sae
from mechfourier.sae.prompts import ScoredPrompts, scored_prompts
from mechfourier.sae.score_result import LEVEL, Family, FeatureScore, SAEScore
from mechfourier.stats.null import (
    LabelPermutations,
    circle_scores,
    dimension_null,
    dimension_r2,
    label_orders,
)
from mechfourier.stats.spectrum import cross_gram, dimension_share, shared_gram
from mechfourier.stats.subspace import subspace_probe

if TYPE_CHECKING:
    pass

LIVE_CELLS = 2  # prompts that a feature must fire on to be scored
CONTROL = "control"


@renamed(permutations="n_permutations")
def score(
    model: Model,
    sae: "LoadedDictionary | str | Path",
    domain: Domain | str,
    *,
    control: "LoadedDictionary | str | Path | None" = None,
    n_permutations: int = 1000,
    seed: int = 0,
) -> SAEScore:
    """Fourier structure of every live feature of a dictionary on a domain's prompts that it was not trained
    on.

    ``control``: a dictionary of the model with re-initialised weights (None: the one that ``train`` put
    beside this one). Raises ``NotExpressible``, ``UsageError``, ``OutOfRange``.
    """
    if n_permutations < 99:
        raise OutOfRange(f"n_permutations is {n_permutations}; fewer than 99 cannot give a p below .01")
    loaded = sae if isinstance(sae, LoadedDictionary) else load_sae(sae)
    wanted = find_domain(domain)
    site = loaded.at(model)
    prompts = scored_prompts(model, wanted, loaded)
    acts = prompts.capture(model, site)
    chance, note = _control(model, loaded, control, prompts, site)
    return score_arrays(
        loaded,
        acts,
        prompts,
        site=site,
        model=model_name(model),
        control=chance,
        permutations=n_permutations,
        seed=seed,
        notes=note,
    )


def _control(
    model: Model, loaded: LoadedDictionary, given: Any, prompts: ScoredPrompts, site: Site
) -> tuple[tuple[LoadedDictionary, Tensor] | None, tuple[str, ...]]:
    """The dictionary of the untrained model with that model's activations, or why there is none."""
    place = given
    if place is None:
        folder = Path(loaded.name)
        beside = [folder / CONTROL, folder.parent / CONTROL / folder.name]
        place = next((path for path in beside if (path / "cfg.json").exists()), None)
    if place is None:
        return None, (
            "no dictionary of the re-initialised model to compare with; sae train makes one unless "
            "--no-control",
        )
    other = place if isinstance(place, LoadedDictionary) else load_sae(place)
    seed = int(other.made.get("schedule", {}).get("seed", 0))
    with untrained(model, seed) as chance:
        try:
            other.at(chance)
        except UsageError:
            if given is not None:
                raise
            return None, (
                f"the dictionary in {place} belongs to other chance weights; train it again for a control",
            )
        return (other, prompts.capture(chance, site)), ()


@torch.no_grad()
def encoded(
    loaded: LoadedDictionary, acts: Float[Tensor, "value template d"]
) -> Float[Tensor, "value template feature"]:
    """Feature activations; raises ``UsageError`` for activations of another width."""
    if acts.shape[-1] != loaded.sae.cfg.d_in:
        raise UsageError(
            f"{loaded.name} reads {loaded.sae.cfg.d_in} dimensions, and these activations have "
            f"{acts.shape[-1]}"
        )
    return loaded.sae.encode(acts.to(loaded.sae.device)).float().cpu()


def score_arrays(
    loaded: LoadedDictionary,
    acts: Float[Tensor, "value template d"],
    prompts: ScoredPrompts,
    *,
    site: Site,
    model: str,
    control: tuple[LoadedDictionary, Float[Tensor, "_ _ _"]] | None = None,
    permutations: int = 1000,
    seed: int = 0,
    notes: tuple[str, ...] = (),
) -> SAEScore:
    """``score`` on activations that are already there."""
    orders = label_orders(prompts.domain.n, permutations=permutations, seed=seed)
    features = encoded(loaded, acts)
    live = live_features(features)
    if not len(live):
        raise UsageError(
            f"no feature of {loaded.name} fires on these prompts; is it the right site and model?"
        )
    scores = feature_scores(features[..., live], orders, numbers=live.tolist())
    generator = torch.Generator().manual_seed(seed)
    random = torch.randn(acts.shape[-1], len(live), generator=generator)
    families = [
        family("features", features[..., live], orders, numbers=live.tolist()),
        family("basis dimensions", acts, orders),
        family("random directions", acts @ random, orders),
    ]
    plane = _site_plane(acts, orders)
    clusters, by_chance = _circles(loaded, features[..., live], live, orders, plane.pop("whole"), generator)
    theirs, control_best = ([], math.nan) if control is None else _of_control(*control, orders, generator)
    return SAEScore(
        name=loaded.name,
        model=model,
        site=str(site),
        domain=prompts.domain.name,
        n=prompts.domain.n,
        unit=prompts.domain.unit,
        templates=prompts.templates,
        prompts=prompts.kind,
        held_out=prompts.held_out,
        live=len(live),
        features=loaded.features,
        scores=scores,
        families=(*families, *theirs),
        clusters=clusters,
        random_clusters=by_chance,
        control_clusters=control_best,
        **plane,
        permutations=len(orders),
        seed=seed,
        notes=(*prompts.notes, *notes),
    )


def _site_plane(acts: Float[Tensor, "value template d"], orders: LabelPermutations) -> dict[str, Any]:
    """The best plane of the whole site, and ``whole``, the power between values that its templates share."""
    gram = shared_gram(cross := cross_gram(acts[None]))
    tops, ks = circle_scores(gram).max(1)
    k, drawn = int(ks[0]) + 1, orders.index[:8]
    plane = subspace_probe(cross[0], k, drawn, order_k=torch.ones(len(drawn), dtype=torch.long))
    return dict(
        whole=float(gram[0].trace()),
        plane_k=k,
        plane_score=float(tops[0]),
        plane_r2=plane.r2,
        plane_error=plane.error,
    )


def _of_control(
    loaded: LoadedDictionary,
    acts: Float[Tensor, "value template d"],
    orders: LabelPermutations,
    generator: torch.Generator,
) -> tuple[list[Family], float]:
    """The features of the untrained model's dictionary as a family, and the best circle of its groups."""
    features = encoded(loaded, acts)
    live = live_features(features)
    if not len(live):
        return [], math.nan
    name = "features of the re-initialised model"
    total = float(shared_gram_of(acts).trace())
    found, _ = _circles(loaded, features[..., live], live, orders, total, generator)
    theirs = family(name, features[..., live], orders, numbers=live.tolist())
    return [theirs], max((cluster.score for cluster in found), default=0.0)


def live_features(features: Float[Tensor, "value template feature"]) -> Tensor:
    """Numbers of the features that fire on some prompts and do not say the same on all."""
    fired = (features > 0).sum((0, 1)) >= LIVE_CELLS
    varied = features.amax((0, 1)) - features.amin((0, 1)) > 1e-6 * features.abs().amax((0, 1)).clamp_min(
        1e-12
    )
    return (fired & varied).nonzero()[:, 0]


def _best(
    values: Float[Tensor, "value template direction"], orders: LabelPermutations
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """R², harmonic, family-wise p and noise-free share of every direction, and the best R² of every
    permutation."""
    mean = values.double().mean(1)[None]
    best = dimension_r2(mean)[0].max(0)
    null = dimension_null(mean, orders).amax(1).double()
    p = orders.p_value(
        best.values - 1e-5, null
    )  # float32 in the null: ties with the observed order count against it
    share = dimension_share(values).gather(0, best.indices[None])[0]
    return best.values, best.indices + 1, p, share, null


def feature_scores(
    features: Float[Tensor, "value template feature"], orders: LabelPermutations, *, numbers: Sequence[int]
) -> tuple[FeatureScore, ...]:
    """The probe's statistics for every feature, the best first; ``numbers`` are what the features are
    called."""
    r2, k, p, share, _ = _best(features, orders)
    active = (features > 0).double().mean((0, 1))
    return tuple(
        FeatureScore(int(numbers[i]), int(k[i]), float(r2[i]), float(p[i]), float(share[i]), float(active[i]))
        for i in r2.argsort(descending=True).tolist()
    )


def family(
    what: str,
    values: Float[Tensor, "value template direction"],
    orders: LabelPermutations,
    *,
    numbers: Sequence[int] | None = None,
) -> Family:
    """The statistics of :func:`feature_scores` over directions of one kind, in short."""
    r2, k, p, share, null = _best(values, orders)
    best = int(r2.argmax())
    return Family(
        what=what,
        count=values.shape[-1],
        best=best if numbers is None else int(numbers[best]),
        k=int(k[best]),
        r2=float(r2[best]),
        p_value=float(p[best]),
        significant=int((p < LEVEL).sum()),
        top_ten_r2=float(r2.topk(min(10, len(r2))).values.mean()),
        share=float(share[best]),
        shuffled_r2=float(null.quantile(0.5)),
    )


def _circles(
    loaded: LoadedDictionary,
    features: Float[Tensor, "value template live"],
    live: Int[Tensor, " live"],
    orders: LabelPermutations,
    whole: float,
    generator: torch.Generator,
) -> tuple[tuple[Cluster, ...], float]:
    """The groups of a dictionary's features that draw most as a circle, and the best score of random groups
    of the same sizes."""
    written = loaded.sae.W_dec.detach().float().cpu()[live]
    chosen = carriers(features, written)
    features, written, names = features[..., chosen], written[chosen], live[chosen]
    groups = direction_clusters(written)
    found = distinct(circle_clusters(features, written, groups, orders, whole=whole))
    shuffled = [tuple(torch.randperm(len(chosen), generator=generator)[: len(g)].tolist()) for g in groups]
    chance = circle_clusters(features, written, shuffled, orders, whole=whole)
    clusters = tuple(_renumbered(with_angle(c, features, written), names) for c in found)
    return clusters, max((c.score for c in chance), default=0.0)


def _renumbered(cluster: Cluster, live: Tensor) -> Cluster:
    return Cluster(**{**asdict(cluster), "features": tuple(live[list(cluster.features)].tolist())})
