"""Where a carry is computed and how far it travels: activation patching between problems that differ in
nothing else.

The recipient has no carry into the digit asked for; the donor has one that begins ``distance`` digits below,
made by one digit of b, and passes through nines. Patching a site's activation at one place asks how much of
the donor's answer comes with it (Vig et al. 2020): 0 none of it, 1 all of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechfourier.errors import OutOfRange
from mechfourier.hooks.capture import capture
from mechfourier.hooks.interventions import patch
from mechfourier.hooks.run import forward, inference
from mechfourier.hooks.site import Site, select_sites, sites
from mechfourier.models.interface import encode
from mechfourier.stats.paired import ratio_interval
from mechfourier.toys.adder.task import Problems

PAIRS = 48
STREAM = ("resid_pre", "resid_mid", "resid_mid_cross", "resid_post")


@dataclass(frozen=True)
class CarryPatch:
    """One place patched. ``distance``: how many digits below the one asked for the carry begins. ``place``:
    which significance was patched, relative to the one asked for (0: that digit itself; both operands' digits
    in a source, the step that writes it in an answer). ``recovered``: the gain in logit difference (the
    donor's digit against the recipient's) as a share of the donor's own, with its 95 % bootstrap interval;
    exactly 0 where donor and recipient do not differ there."""

    distance: int
    site: str
    place: int
    recovered: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class _Pairs:
    """Teacher-forced tokens of recipients and donors, the right digits of both, and where everything
    stands."""

    recipient: Int[Tensor, "pair pos"]
    donor: Int[Tensor, "pair pos"]
    digits: Int[Tensor, "pair two"]
    n: int
    equals: int

    @property
    def last(self) -> int:
        return self.recipient.shape[1] - 1

    def where(self, site: Site, place: int, asked: int) -> list[int]:
        """Token positions of the significance ``place`` at a site: both operands' digits, or the step that
        writes it."""
        source = [self.equals - 1 - place, self.equals - 2 - self.n - place]
        if site.stack == "encoder":
            return source
        step = self.last - (asked - place)
        return [step] if site.stack == "decoder" else [*source, step]


def carry_patching(
    model: Any, *, digits: int = 7, place: int = 4, distances: Sequence[int] = (1, 2, 3), seed: int = 0
) -> tuple[CarryPatch, ...]:
    """Patch the residual stream of every layer at every place from the carry's origin up to the digit asked
    for.

    ``place``: significance of the digit asked for (0: units). Raises ``OutOfRange`` where a carry cannot come
    from so far below, or where the model writes the most significant digit first (there the digits above are
    written without knowing the carry).
    """
    if not model.cfg.reverse:
        raise OutOfRange(
            "carry patching follows the answer from its units on; this model writes the most significant "
            "digit first"
        )
    if not 0 < max(distances) <= place < digits:
        raise OutOfRange(
            f"a carry into place {place} of {digits} digits cannot begin {max(distances)} below it"
        )
    chosen = [s for s in sites(model) if s.kind in STREAM]
    rows: list[CarryPatch] = []
    for distance in distances:
        pairs = _pairs(model, digits, place, distance, torch.Generator().manual_seed(seed + distance))
        own = _difference(model, pairs.recipient, pairs)
        span = _difference(model, pairs.donor, pairs) - own
        donors = capture(model, pairs.donor, chosen, "all")
        base = capture(model, pairs.recipient, chosen, "all")
        for site in select_sites(model, chosen):
            for at in range(place - distance, place + 1):
                positions = pairs.where(site, at, place)
                gain = _gain(model, pairs, site, positions, donors[site], base[site], own)
                low, high = ratio_interval(gain, span, seed=seed)
                share = float(gain.double().mean() / span.double().mean())
                rows.append(CarryPatch(distance, str(site), at - place, share, low, high))
    return tuple(rows)


def _gain(
    model: Any, pairs: _Pairs, site: Site, positions: list[int], donors: Tensor, base: Tensor, own: Tensor
) -> Float[Tensor, " pair"]:
    if torch.equal(donors[:, positions], base[:, positions]):
        return torch.zeros(len(own))
    with patch(model, site, donors, positions=positions):
        return _difference(model, pairs.recipient, pairs) - own


def _difference(model: Any, tokens: Int[Tensor, "pair pos"], pairs: _Pairs) -> Float[Tensor, " pair"]:
    """Logit of the donor's digit minus that of the recipient's, at the step asked for."""
    with inference(model):
        logits = forward(model, tokens, logits=True)[:, -1].float().cpu()
    chosen = logits.gather(1, pairs.digits)
    return chosen[:, 1] - chosen[:, 0]


def _pairs(model: Any, n: int, place: int, distance: int, generator: torch.Generator) -> _Pairs:
    """``PAIRS`` problems without and with a carry into ``place`` that begins ``distance`` below; it stops at
    ``place``."""
    count = PAIRS
    a, b = (torch.randint(10, (count, n), generator=generator) for _ in range(2))
    start = place - distance
    a[:, start] = torch.randint(1, 9, (count,), generator=generator)
    a[:, start + 1 : place] = torch.randint(10, (count, distance - 1), generator=generator)
    b[:, start + 1 : place] = 9 - a[:, start + 1 : place]
    a[:, place] = torch.randint(0, 9, (count,), generator=generator)
    b[:, place] = (
        torch.rand(count, generator=generator) * (9 - a[:, place])
    ).long()  # a + b ≤ 8: the carry ends here
    below, above = b.clone(), b.clone()
    below[:, start] = (torch.rand(count, generator=generator) * (9 - a[:, start])).long()
    above[:, start] = 10 - a[:, start] + (torch.rand(count, generator=generator) * a[:, start]).long()
    length = torch.full((count,), n)
    both = [Problems(a, x, length, length) for x in (below, above)]
    prompts = [[_prompt(x, y, s, n, place) for x, y, s in zip(p.a, p.b, p.answer, strict=True)] for p in both]
    tokens = [torch.tensor([e.ids for e in encode(model, rows)]) for rows in prompts]
    digits = torch.stack([p.answer[:, place] for p in both], 1)
    return _Pairs(tokens[0], tokens[1], digits, n, 2 * n + 1)


def _prompt(a: Tensor, b: Tensor, answer: Tensor, n: int, place: int) -> str:
    def text(digits: Tensor) -> str:
        return "".join(map(str, digits[:n].flip(0).tolist()))

    return f"{text(a)}+{text(b)}={''.join(map(str, answer[:place].tolist()))}"
