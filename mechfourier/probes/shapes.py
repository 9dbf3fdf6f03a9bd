"""Analogies and reducibility of a model's value domain, at every asked site."""

from dataclasses import dataclass

import pandas as pd
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from mechfourier._arguments import checked
from mechfourier._renamed import renamed
from mechfourier.domains.definition import Domain
from mechfourier.domains.definition import domain as find_domain
from mechfourier.domains.design import read_positions
from mechfourier.errors import OutOfRange
from mechfourier.hooks.capture import capture
from mechfourier.hooks.site import Site, model_name, select_sites
from mechfourier.models.interface import Model, encode
from mechfourier.results.base import Result
from mechfourier.stats.analogies import AnalogyResult
from mechfourier.stats.analogies import analogies as of_vectors
from mechfourier.stats.planes import harmonic_plane
from mechfourier.stats.reducibility import Reducibility
from mechfourier.stats.reducibility import reducibility as of_points


def value_activations(
    model: Model, domain: Domain | str, *, sites: str = "resid_post", layers: str | None = None
) -> tuple[tuple[Site, ...], Float[Tensor, "site value template d"]]:
    """Activations of a domain's values in all of its templates, float64."""
    design = find_domain(domain).value_design()
    encodings = encode(model, design.prompts)
    wanted = select_sites(model, sites, layers)
    acts = capture(model, encodings, wanted, read_positions(design, encodings)).stack().double()
    return wanted, rearrange(acts, "site (value template) d -> site value template d", value=design.n)


def over_sites(p: float, sites: int) -> str:
    """What the best of several sites' p-values is worth (Bonferroni), in words."""
    return f" (p = {min(1.0, p * sites):.3g} over {sites} sites, Bonferroni)" if sites > 1 else ""


@dataclass(frozen=True)
class Analogies(Result, kind="analogies"):
    """Analogy tests of one domain, one per site. The p-values are per site."""

    model: str
    domain: str
    sites: tuple[AnalogyResult, ...]

    def __str__(self) -> str:
        best = max(self.sites, key=lambda s: s.rotation.accuracy)
        over = over_sites(best.rotation.p_value, len(self.sites))
        return f"{self.model}, {self.domain}; best of {len(self.sites)} sites by rotation{over}:\n{best}"

    def frame(self) -> pd.DataFrame:
        kept = ["site", "rule", "accuracy", "wrap", "no_wrap", "null_mean", "p_value", "circle", "line"]
        rows = pd.concat([site.frame() for site in self.sites], ignore_index=True)
        return rows.loc[:, kept]


@renamed(permutations="n_permutations")
def analogies(
    model: Model,
    domain: Domain | str,
    *,
    sites: str = "resid_post",
    layers: str | None = None,
    n_permutations: int = 1000,
    seed: int = 0,
) -> Analogies:
    """Parallelogram and rotation analogies between the mean activations of a domain's values; see
    ``AnalogyResult``."""
    wanted, acts = value_activations(model, domain, sites=sites, layers=layers)
    means = acts.mean(2).numpy()
    results = (
        of_vectors(m, site=str(s), permutations=n_permutations, seed=seed)
        for s, m in zip(wanted, means, strict=True)
    )
    return Analogies(model_name(model), find_domain(domain).name, tuple(results))


@dataclass(frozen=True)
class PlaneReducibility(Result, kind="plane-reducibility"):
    """Reducibility of harmonic ``k``'s plane at every site, on templates that the plane was not fitted on."""

    model: str
    domain: str
    k: int
    sites: tuple[str, ...]
    planes: tuple[Reducibility, ...]

    def __str__(self) -> str:
        best = min(
            range(len(self.sites)),
            key=lambda i: (self.planes[i].p_separability, -self.planes[i].separability),
        )
        over = over_sites(self.planes[best].p_separability, len(self.sites))
        return (
            f"{self.model}, {self.domain}, harmonic k = {self.k}; least separable at "
            f"{self.sites[best]}{over}:\n  {self.planes[best]}"
        )

    def frame(self) -> pd.DataFrame:
        rows = [
            {
                "site": site,
                "bits": p.separability,
                "paired_anew": p.separability_null,
                "p_value": p.p_separability,
                "circle_bits": p.separability_circle,
                "mixture": p.mixture,
                "two_lines": p.mixture_lines,
                "gaussian": p.mixture_gaussian,
                "circle": p.mixture_circle,
                "irreducible": "yes" if p.irreducible else "no" if p.decidable else "undecided",
            }
            for site, p in zip(self.sites, self.planes, strict=True)
        ]
        frame = pd.DataFrame(rows)
        frame.attrs["units"] = dict.fromkeys(("bits", "paired_anew", "circle_bits"), "bits")
        return frame


@checked
def reducibility(
    model: Model,
    domain: Domain | str,
    *,
    k: int = 1,
    sites: str = "resid_post",
    layers: str | None = None,
    seed: int = 0,
) -> PlaneReducibility:
    """Fit the plane of harmonic k on every other template and judge the points of the remaining ones.

    Raises ``OutOfRange`` where the domain has fewer than 4 templates.
    """
    wanted, acts = value_activations(model, domain, sites=sites, layers=layers)
    if acts.shape[2] < 4:
        raise OutOfRange(
            f"{find_domain(domain).name} has {acts.shape[2]} templates; fitting and judging on different "
            f"ones needs at least 4"
        )
    fitted, judged = acts[:, :, ::2].mean(2).numpy(), acts[:, :, 1::2]
    judged = rearrange(judged - judged.mean(1, keepdim=True), "s v t d -> s (v t) d").numpy()
    planes = (
        of_points(j @ harmonic_plane(f, k), classes=len(f), seed=seed)
        for f, j in zip(fitted, judged, strict=True)
    )
    return PlaneReducibility(
        model_name(model), find_domain(domain).name, k, tuple(map(str, wanted)), tuple(planes)
    )
