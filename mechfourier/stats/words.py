"""From the contest of shapes to the words of all sites: templates have to agree, and the untrained model must
not show the same shape."""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from mechfourier.stats.controls import LEVEL, ControlEvidence, control_evidence
from mechfourier.stats.shapes.contest import MOST_VALUES, SiteShapes, contest
from mechfourier.stats.shapes.headline import Headline, headline
from mechfourier.stats.shapes.tables import among
from mechfourier.stats.shapes.words import CIRCLES as CIRCLES
from mechfourier.stats.shapes.words import DISTINCT, shapes_of

UNSHAPED = ("values distinguishable", "noise", "not testable")
"""Words that say nothing about a shape."""


@dataclass(frozen=True)
class SiteWord:
    """The word of one site, the contest it comes from, the control, and why it is another word than the
    contest's."""

    word: str = "not testable"
    contest: SiteShapes | None = None
    control: ControlEvidence | None = None
    reasons: tuple[str, ...] = field(default=())


def site_words(
    acts: Float[Tensor, "site value template d"],
    control: Float[Tensor, "site value template d"] | None,
    agreement: float,
    *,
    cross: Float[Tensor, "site t u value value2"],
    draws: int,
    permutations: int,
    seed: int,
) -> tuple[list[SiteWord], float]:
    """The word of every site, and the contest's p that none is a circle.

    ``agreement``: family-wise p that templates agree about the values (NaN where there are too few): the best
    of many sites of noise is one that agrees by itself. ``cross``: the inner products of the activations. Of more than ``MOST_VALUES`` values as many take
    part, as evenly spaced round the cycle as can be.
    """
    if draws < 1:
        return [SiteWord()] * len(acts), math.nan
    kept = taking_part(acts.shape[1])
    found = contest(
        acts if len(kept) == acts.shape[1] else acts[:, kept],
        n_bootstrap=draws,
        n_permutations=permutations,
        seed=seed,
        gram_of=lambda i: among(cross[i].numpy(), kept),
    )
    out = []
    for i, site in enumerate(found.sites):
        blank = None if control is None else control[i][kept]
        out.append(_controlled(_agreed(_named(site, kept), agreement), blank, seed))
    return out, found.p


def taking_part(n: int) -> Int[np.ndarray, " m"]:
    """The values that the contest sees: all of them, or of more than it holds designs for, as many evenly
    spaced ones."""
    count = n if n <= MOST_VALUES else math.ceil(n / math.ceil(n / MOST_VALUES))
    return np.arange(count) * n // count


def _named(site: SiteShapes, kept: Int[np.ndarray, " m"]) -> SiteShapes:
    """The values that are named are the caller's."""
    ends = None if site.ends is None else (int(kept[site.ends[0]]), int(kept[site.ends[1]]))
    aside = None if site.set_aside is None else int(kept[site.set_aside])
    return dataclasses.replace(site, ends=ends, set_aside=aside)


def _agreed(site: SiteShapes, p: float) -> SiteWord:
    """Noise, where templates agree nowhere once the number of sites is taken into account."""
    if p >= LEVEL and site.word not in ("noise", "not testable"):
        told = f"templates agree no more than the best of as many sites of noise (sign-flip p = {p:.2g})"
        return SiteWord("noise", site, None, (told,))
    return SiteWord(site.word, site, None, ())


def _controlled(found: SiteWord, control: Tensor | None, seed: int) -> SiteWord:
    """A shape that the untrained model shows as well is no word about this model."""
    if control is None or found.contest is None or not (names := shapes_of(found.word)):
        return found
    blank = control_evidence(control, names, evidence_of(found.contest, found.word), seed=seed)
    if blank.lower:
        return dataclasses.replace(found, control=blank)
    told = (
        f"the untrained model shows the same ({found.contest.label}: {blank.evidence:.0%} of the power "
        f"between values predicted, "
        f"p = {blank.p_value:.2g}), so training did not make it"
    )
    return SiteWord(DISTINCT, found.contest, blank, (told,))


def evidence_of(site: SiteShapes, word: str) -> float:
    """The largest evidence among the shapes of a word; 0 where it is about no shape."""
    names = shapes_of(word)
    return max((shape.evidence for shape in site.shapes if shape.name in names), default=0.0)


def headline_of(words: Sequence[str]) -> Headline:
    """The headline's word with the first and the last site that has it."""
    found = headline(words)
    at = [i for i, word in enumerate(words) if word == found.word]
    return Headline(found.word, at[0], at[-1])


def best_site(words: Sequence[SiteWord], scores: Sequence[float]) -> int:
    """The site that speaks for the headline: of its word, where the evidence is largest in the mean over it
    and its neighbours.

    Where the word is about no shape, the site of the best circle score (``scores``).
    """
    word = headline_of([each.word for each in words]).word
    at = [i for i, each in enumerate(words) if each.word == word]
    if word in UNSHAPED:
        return max(at, key=lambda i: scores[i])
    strength = [evidence_of(each.contest, word) if each.contest else 0.0 for each in words]
    near = {i: [j for j in (i - 1, i, i + 1) if j in at] for i in at}
    return max(at, key=lambda i: sum(strength[j] for j in near[i]) / len(near[i]))
