"""The number line of a model: helix fits at every site, at the number's last token or at each of its digit
tokens."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from einops import reduce
from jaxtyping import Int
from torch import Tensor

from mechfourier._renamed import renamed
from mechfourier.domains.definition import NUMBER_TEMPLATES
from mechfourier.errors import NotExpressible, OutOfRange
from mechfourier.hooks.capture import capture
from mechfourier.hooks.site import Site, model_name, select_sites
from mechfourier.models.interface import Encoding, Model, encode
from mechfourier.results.base import Result
from mechfourier.stats.helix import COMPONENTS, PERIODS, HelixFit, helix_fit


@dataclass(frozen=True)
class NumberLine(Result, kind="number-line"):
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

    def __str__(self) -> str:
        best = max(range(len(self.fits)), key=lambda i: self.fits[i].r2_held_out)
        fit = self.fits[best]
        return (
            f"{self.model}, numbers {self.low} to {self.high}, best of {len(self.fits)} fits at the "
            f"{self.read[best]} token of {fit}\n"
            f"  {fit.verdict(len(self.fits))}"
        )

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
    seed: int = 0,
) -> NumberLine:
    """Fit a helix to the mean activation of every number over the templates that the model can express.

    ``digits``: read every digit token of the numbers with as many digits as ``high`` instead of the last
    token. Raises ``OutOfRange`` for a bad range and ``NotExpressible`` where no template fits the model.
    """
    if low < 0 or high <= low:
        raise OutOfRange(f"the range {low}-{high} holds no numbers; give low-high with 0 <= low < high")
    numbers = [v for v in range(low, high + 1) if not digits or len(str(v)) == len(str(high))]
    templates, encodings = _expressible(model, numbers)
    reads = _reads(encodings, templates, numbers, digits=digits)
    wanted = select_sites(model, sites, layers)
    at = torch.stack(list(reads.values()), dim=1)
    acts = capture(model, encodings, wanted, at)
    values = torch.tensor(numbers).numpy()
    fits, read = [], []
    for i, name in enumerate(reads):
        for site in wanted:
            means = reduce(acts[site][:, i].double(), "(t v) d -> v d", "mean", t=len(templates))
            fits.append(_fit(means, values, site, periods, components, n_permutations, seed))
            read.append(name)
    return NumberLine(model_name(model), numbers[0], high, len(templates), tuple(fits), tuple(read))


def _fit(
    means: Tensor,
    values: Any,
    site: Site,
    periods: Sequence[int | float],
    components: int,
    permutations: int,
    seed: int,
) -> HelixFit:
    return helix_fit(
        means.numpy(),
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
