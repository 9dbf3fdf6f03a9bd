"""Groups of features whose directions lie close together on the sphere, and whether a group draws a circle.

The candidates are the connected components of the graph of cosines at every threshold at once: the nodes of
the single-linkage tree (Engels et al. 2024, arXiv:2405.14860, cut such a graph at one threshold). Features
that tile a circle are a chain of neighbours and end up in one component, although those on opposite sides
point away from each other.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from einops import einsum
from jaxtyping import Float, Int
from scipy.cluster.hierarchy import linkage
from torch import Tensor

from mechfourier.stats.null import LabelPermutations, circle_null, circle_scores, gram_norm
from mechfourier.stats.spectrum import cross_gram, dimension_power, harmonic_share, quadratures
from mechfourier.stats.subspace import subspace_probe

LARGEST = 64  # features in a cluster
TESTED = 32  # clusters that the plane test is run on
CARRIED = 0.99
LEAST_POWER = 0.005  # of the site's power between values


@dataclass(frozen=True)
class Cluster:
    """A group of features. ``p_value`` is family-wise over all tested groups and harmonics; ``score`` is 1
    for a circle and nothing else; ``share`` of the power between values at ``k``; ``aspect`` short over long
    axis; ``power`` the group's share of the site's power between values; ``r2`` and ``error`` those of the
    held-out angle (error in steps of the domain; NaN where not asked for)."""

    features: tuple[int, ...]
    k: int
    score: float
    p_value: float
    share: float
    aspect: float
    power: float
    r2: float = math.nan
    error: float = math.nan


def direction_clusters(directions: Float[Tensor, "feature d"]) -> list[tuple[int, ...]]:
    """Every node of the single-linkage tree of the cosines with 2 to 64 features."""
    count = len(directions)
    if count < 2:
        return []
    unit = torch.nn.functional.normalize(directions.double(), dim=1)
    distance = (1 - unit @ unit.T).clamp_min(0)
    upper = distance[tuple(torch.triu_indices(count, count, 1))]
    members: list[tuple[int, ...] | None] = [(i,) for i in range(count)]
    found = []
    for left, right, _, size in linkage(upper.numpy(), "single"):
        a, b = members[int(left)], members[int(right)]
        joined = tuple(sorted(a + b)) if a is not None and b is not None and size <= LARGEST else None
        members.append(joined)
        if joined is not None:
            found.append(joined)
    return found


def carriers(
    features: Float[Tensor, "value template feature"], directions: Float[Tensor, "feature d"]
) -> Int[Tensor, " carrier"]:
    """The features that, strongest first, write 99 % of the power between values that all of them write; it
    takes no labels.

    The rest fires on these prompts without telling the values apart, and would only make every group larger.
    """
    power = dimension_power(features).sum(0).clamp_min(0) * directions.double().square().sum(1)
    order = power.argsort(descending=True)
    before = power[order].cumsum(0) - power[order]
    return order[(before < CARRIED * power.sum()) & (power[order] > 0)].sort().values


def group_coordinates(
    features: Float[Tensor, "value template feature"],
    directions: Float[Tensor, "feature d"],
    group: Sequence[int],
) -> Float[Tensor, "value template r"]:
    """What a group of features writes, in orthonormal coordinates of the directions it writes in."""
    index = list(group)
    _, singular, vt = torch.linalg.svd(directions[index].double().T, full_matrices=False)
    return features[..., index].double() @ (vt.T * singular)


def shared_gram_of(values: Float[Tensor, "value template r"]) -> Float[Tensor, "value value2"]:
    """``shared_gram(cross_gram(values))`` without the products between all pairs of templates."""
    centred = values.double() - values.double().mean(0)
    total, count = centred.sum(1), values.shape[1]
    own = einsum(centred, centred, "v t r, w t r -> v w")
    return (total @ total.T - own) / (count * (count - 1))


def planar_bound(gram: Float[Tensor, "group value value2"]) -> Float[Tensor, " group"]:
    """The most that the circle statistic could be under any order of the values: how evenly the group fills
    one plane.

    It does not depend on the labels, so choosing by it leaves the permutation null as it is.
    """
    axes = torch.linalg.eigvalsh(gram)[:, -2:].clamp_min(0)
    return axes.prod(1).sqrt() * 2**0.5 / gram_norm(gram)


def circle_clusters(
    features: Float[Tensor, "value template feature"],
    directions: Float[Tensor, "feature d"],
    groups: Sequence[tuple[int, ...]],
    orders: LabelPermutations,
    *,
    whole: float,
) -> tuple[Cluster, ...]:
    """The plane test on the groups that fill a plane, those first that draw most of the site's power between
    values (``whole``) as a circle: by score times power.

    ``directions`` carry the decoder's length, so that features times directions is what the dictionary
    writes.
    """
    if not groups:
        return ()
    grams = torch.stack([shared_gram_of(group_coordinates(features, directions, group)) for group in groups])
    power = grams.diagonal(dim1=-2, dim2=-1).sum(-1) / max(whole, 1e-300)
    usable = (power >= LEAST_POWER).nonzero()[:, 0]
    if not len(usable):
        return ()
    chosen = usable[planar_bound(grams[usable]).argsort(descending=True)[:TESTED]]
    grams = grams[chosen]
    scores = circle_scores(grams)
    null, _ = circle_null(grams, orders)
    top, k = scores.max(1)
    p = orders.p_value(top, null.amax(1))
    share, axes = harmonic_share(grams), quadratures(grams).clamp_min(0)
    found = []
    for row in (top * power[chosen]).argsort(descending=True).tolist():
        at, group = int(k[row]), groups[int(chosen[row])]
        long, short = axes[row, at].tolist()
        found.append(
            Cluster(
                features=tuple(group),
                k=at + 1,
                score=float(top[row]),
                p_value=float(p[row]),
                share=float(share[row, at]),
                aspect=float(np.sqrt(short / long)) if long > 0 else 0.0,
                power=float(power[chosen[row]]),
            )
        )
    return tuple(found)


def with_angle(
    cluster: Cluster,
    features: Float[Tensor, "value template feature"],
    directions: Float[Tensor, "feature d"],
) -> Cluster:
    """The cluster with the held-out R² and error of the angle that a probe reads from what it writes."""
    cross = cross_gram(group_coordinates(features, directions, cluster.features)[None])[0]
    n = cross.shape[-1]
    probe = subspace_probe(cross, cluster.k, torch.arange(n)[None], order_k=torch.tensor([cluster.k]))
    return replace(cluster, r2=probe.r2, error=probe.error)


def distinct(clusters: Sequence[Cluster], *, most: int = 8) -> tuple[Cluster, ...]:
    """The best clusters that share no feature with a better one (the tree's nodes contain each other)."""
    taken: set[int] = set()
    found = []
    for cluster in clusters:
        if taken.isdisjoint(cluster.features):
            found.append(cluster)
            taken.update(cluster.features)
    return tuple(found[:most])
