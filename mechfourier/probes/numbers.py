"""The number line of a model: helix fits at every site, at the number's last token or at each of its digit
tokens."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from einops import reduce
from jaxtyping import Float, Int
from torch import Tensor

from mechfourier._renamed import renamed
from mechfourier.domains.definition import NUMBER_TEMPLATES
from mechfourier.errors import NotExpressible, OutOfRange
from mechfourier.hooks.capture import capture
from mechfourier.hooks.site import Site, model_name, select_sites
from mechfourier.models.interface import Encoding, Model, encode
from mechfourier.models.untrained import untrained
from mechfourier.results.base import Result
from mechfourier.stats.helix import COMPONENTS, LEVEL, PERIODS, HelixFit, check_periods, helix_fit
from mechfourier.stats.residues import period_shares, separability, token_statistics


@dataclass(frozen=True)
class NumberPeriod:
    """One period at one place. ``share``: of the power that a line leaves between the numbers, what the period alone
    explains; ``untrained_share``: the largest of the untrained draws; ``token_share``: the same of what is known of
    the numbers without any text (digits, number of digits and tokens, logarithm). ``kappa``: separability of the
    residue classes modulo the period (scatter between over within them), with the 95 % point of exchanged numbers and
    p; None where the classes have no two members. ``untrained_kappa``: the largest of the untrained draws."""

    site: str
    read: str
    period: float
    share: float
    untrained_share: float | None
    token_share: float
    kappa: float | None
    kappa_upper: float | None
    kappa_p: float | None
    untrained_kappa: float | None

    def beyond(self, fits: int = 1) -> bool:
        """More than the untrained draws and the tokens' own statistics have, with residue classes that lie apart (p
        after Bonferroni)."""
        if self.untrained_share is None or self.kappa_p is None:
            return False
        return self.share > max(self.untrained_share, self.token_share) and self.kappa_p * fits < LEVEL


@dataclass(frozen=True)
class NumberLine(
    Result,
    kind="number-line",
    schema=2,
    command="helix",
    figure="mechfourier.figures.periods:number_line_figure",
):
    """Helix fits of the numbers ``low`` to ``high``; ``read`` names the token of each fit: "last", or "digit
    1 of 2" where the tokenizer splits numbers (a causal model has seen only the digits so far there). The
    p-values are per fit: with many sites, look at the held-out R² first, and multiply p by the number of fits
    (Bonferroni)."""

    model: str
    low: int
    high: int
    templates: int
    fits: tuple[HelixFit, ...]
    read: tuple[str, ...]
    periods: tuple[NumberPeriod, ...] = ()
    n_untrained: int = 0

    def __str__(self) -> str:
        best = max(range(len(self.fits)), key=lambda i: self.fits[i].r2_held_out)
        fit = self.fits[best]
        lines = [
            f"{self.model}, numbers {self.low} to {self.high}, best of {len(self.fits)} fits at the "
            f"{self.read[best]} token of {fit}",
            f"  {fit.verdict(len(self.fits))}",
            *(
                self._period(each)
                for each in self.periods
                if (each.site, each.read) == (fit.site, self.read[best])
            ),
        ]
        return "\n".join(lines)

    def _period(self, each: NumberPeriod) -> str:
        text = f"  period {each.period:g}: {each.share:.1%} of the power beside the line"
        if each.untrained_share is not None:
            text += f" (untrained {each.untrained_share:.1%} at most of {self.n_untrained} draws"
            text += f", tokens' statistics {each.token_share:.1%})"
        if each.kappa is not None:
            text += f"; residue classes κ = {each.kappa:.3g} (exchanged {each.kappa_upper:.3g}, p = {each.kappa_p:.2g}"
            text += f"; untrained {each.untrained_kappa:.3g})" if each.untrained_kappa is not None else ")"
        if self.n_untrained:
            fits = len(self.fits) * len({p.period for p in self.periods})
            text += ": beyond both" if each.beyond(fits) else ": not beyond what tokens and chance give"
        return text

    def period_frame(self) -> pd.DataFrame:
        """One row per place and period."""
        return pd.DataFrame([vars(each) for each in self.periods])

    def frame(self) -> pd.DataFrame:
        rows = [
            {
                "site": f.site,
                "read": r,
                "r2_held_out": f.r2_held_out,
                "r2": f.r2,
                "r2_linear": f.r2_linear,
                "r2_polynomial": f.r2_polynomial,
                "r2_random_periods": f.r2_random_periods,
                "p_shuffled": f.p_shuffled,
                "p_periods": f.p_periods,
                **_beside(f, len(self.fits)),
            }
            for f, r in zip(self.fits, self.read, strict=True)
        ]
        return pd.DataFrame(rows)


def _beside(fit: HelixFit, fits: int) -> dict[str, str | float | bool]:
    """The best rival of one of several fits, for the table."""
    best = fit.best_rival
    return (
        {}
        if best is None
        else {"best_rival": best.name, "r2_rival": best.r2_held_out, "special": fit.special(fits)}
    )


@renamed(permutations="n_permutations")
def number_line(
    model: Model,
    *,
    low: int = 0,
    high: int = 99,
    sites: str = "resid_post",
    layers: str | None = None,
    periods: Sequence[int | float] = PERIODS,
    components: int = COMPONENTS,
    digits: bool = False,
    n_permutations: int = 1000,
    n_untrained: int = 0,
    seed: int = 0,
) -> NumberLine:
    """Fit a helix to the mean activation of every number over the templates that the model can express.

    ``n_untrained``: draws of untrained weights that every period is compared with (0: none; one more pass over the
    prompts each). ``digits``: read every digit token of the numbers with as many digits as ``high`` instead of the last
    token. Raises ``OutOfRange`` for a bad range and ``NotExpressible`` where no template fits the model.
    """
    if low < 0 or high <= low:
        raise OutOfRange(f"the range {low}-{high} holds no numbers; give low-high with 0 <= low < high")
    check_periods(periods, high - low + 1)
    if components < 1:
        raise OutOfRange(f"components is {components}; give 1 or more principal components")
    numbers = [v for v in range(low, high + 1) if not digits or len(str(v)) == len(str(high))]
    templates, encodings = _expressible(model, numbers)
    reads = _reads(encodings, templates, numbers, digits=digits)
    wanted = select_sites(model, sites, layers)
    values = torch.tensor(numbers).numpy()
    means = _means(model, encodings, wanted, reads, len(templates))
    fits = [
        _fit(each, values, site, periods, components, n_permutations, seed)
        for (site, _), each in means.items()
    ]
    blanks = []
    for draw in range(n_untrained):
        with untrained(model, seed + draw) as blank:
            blanks.append(_means(blank, encodings, wanted, reads, len(templates)))
    tokens = np.array([len(e.ids) for e in encodings[: len(numbers)]])
    found = [
        each
        for place, own in means.items()
        for each in _periods(
            place, own, [blank[place] for blank in blanks], values, tokens, periods, (n_permutations, seed)
        )
    ]
    read = tuple(name for _, name in means)
    return NumberLine(
        model_name(model), numbers[0], high, len(templates), tuple(fits), read, tuple(found), n_untrained
    )


def _means(
    model: Model,
    encodings: Sequence[Encoding],
    sites: Sequence[Site],
    reads: dict[str, Int[Tensor, " prompt"]],
    templates: int,
) -> dict[tuple[Site, str], Float[np.ndarray, "value d"]]:
    """The mean activation of every number over the templates, by read and site."""
    acts = capture(model, encodings, sites, torch.stack(list(reads.values()), dim=1))
    return {
        (site, name): reduce(acts[site][:, i].double(), "(t v) d -> v d", "mean", t=templates).numpy()
        for i, name in enumerate(reads)
        for site in sites
    }


def _periods(
    place: tuple[Site, str],
    means: Float[np.ndarray, "value d"],
    blanks: Sequence[Float[np.ndarray, "value d"]],
    values: Int[np.ndarray, " value"],
    tokens: Int[np.ndarray, " value"],
    periods: Sequence[int | float],
    null: tuple[int, int],
) -> Iterator[NumberPeriod]:
    """Every period at one place, beside untrained draws and the tokens' own statistics."""
    n_permutations, seed = null
    shares = period_shares(means, values, periods)
    chance = [period_shares(blank, values, periods) for blank in blanks]
    known = period_shares(token_statistics(values, tokens), values, periods)
    for i, period in enumerate(periods):
        own, others = None, []
        if period == int(period):
            own = separability(means, values, int(period), n_permutations=n_permutations, seed=seed)
            each = [separability(blank, values, int(period), n_permutations=1, seed=seed) for blank in blanks]
            others = [one.kappa for one in each if one is not None]
        yield NumberPeriod(
            str(place[0]),
            place[1],
            float(period),
            float(shares[i]),
            max((float(one[i]) for one in chance), default=None),
            float(known[i]),
            *((None, None, None) if own is None else (own.kappa, own.null_upper, own.p_value)),
            max(others, default=None),
        )


def _fit(
    means: Float[np.ndarray, "value d"],
    values: Any,
    site: Site,
    periods: Sequence[int | float],
    components: int,
    permutations: int,
    seed: int,
) -> HelixFit:
    return helix_fit(
        means,
        values,
        site=str(site),
        periods=periods,
        components=components,
        permutations=permutations,
        seed=seed,
    )


def _expressible(model: Model, numbers: Sequence[int]) -> tuple[list[str], list[Encoding]]:
    """The templates that the model can express with every number, and their prompts, template by template."""
    templates, encodings, refused = [], [], None
    for template in (*NUMBER_TEMPLATES, "{value}"):
        try:
            encodings += encode(model, [template.replace("{value}", str(v)) for v in numbers])
            templates.append(template)
        except NotExpressible as error:
            refused = error
        if template == NUMBER_TEMPLATES[-1] and templates:
            # the bare number comes first in its context, where causal models keep a sink: only as a last
            # resort
            break
    if not templates and refused is not None:
        raise refused
    return templates, encodings


def _reads(
    encodings: Sequence[Encoding], templates: Sequence[str], numbers: Sequence[int], *, digits: bool
) -> dict[str, Int[Tensor, " prompt"]]:
    """Token positions to read in every prompt, by name."""
    starts = [template.index("{value}") for template in templates for _ in numbers]
    texts = [str(v) for _ in templates for v in numbers]
    width = len(texts[-1])
    spans = {"last": lambda start, text: (start, start + len(text))}
    if digits and width > 1:
        spans = {f"digit {j + 1} of {width}": (lambda s, _, j=j: (s + j, s + j + 1)) for j in range(width)}
    return {
        name: torch.tensor(
            [e.last_token_of(*span(s, t)) for e, s, t in zip(encodings, starts, texts, strict=True)],
            dtype=torch.long,
        )
        for name, span in spans.items()
    }
