"""The claims that a language model holds a + b mod n (or Monday + 3 days) as a cosine in one dimension."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mechfourier.errors import NotExpressible
from mechfourier.reproduce.grid import MATERIAL, Measured, means_of, measured
from mechfourier.reproduce.result import Claim, Control, Word, claim
from mechfourier.reproduce.session import Session
from mechfourier.stats.permutation import holm
from mechfourier.stats.planes import SharedPlane, shared_plane

QWEN3 = "grokking-fourier, qwen3_analysis/README.md"
EMERGENT = "grokking-fourier, emergent_structures/README.md"
R2 = "R²"
PRIMES = {
    7: (505, 0.9967),
    11: (112, 0.9499),
    13: (216, 0.9591),
    17: (867, 0.9664),
    19: (867, 0.9757),
    23: (867, 0.9678),
    29: (867, 0.9445),
    31: (463, 0.9402),
}
CALENDAR = {
    "days": (125, 0.9953),
    "months": (410, 0.9288),
    "hours-12": (725, 0.9379),
    "alphabet": (238, 0.9823),
}
COMPOSITES = (14, 16, 20, 24, 28)
APART = 0.25  # mean squared cosine below which planes count as different
RANGE_DIM, RANGE_R2 = 867, 0.85
POLYNOMIAL = {7: (35, 0.9855, 0.0256), 17: (867, 0.9664, 0.1241)}


@dataclass(frozen=True)
class Published:
    """One published R²: of dimension ``dim`` for the sum of the domain ``name``."""

    name: str
    dim: int
    r2: float
    text: str
    source: str = EMERGENT


def layer_scan(session: Session) -> tuple[Claim, ...]:
    """Dimension 35 of layer 9, and dimension 8 of layer 7, as cosines of a + b mod 23."""
    found = ((35, 9, 0.9578), (8, 7, 0.9178))
    text = "a dimension ({}, best after layer {}) is cos of (a + b) mod 23"
    return _circles(
        session, [Published("mod-23", dim, r2, text.format(dim, at), QWEN3) for dim, at, r2 in found]
    )


def calendar_domains(session: Session) -> tuple[Claim, ...]:
    """Days, months, hours and letters."""
    found = CALENDAR.items()
    return _circles(
        session,
        [Published(name, dim, r2, f"a dimension ({dim}) is a circle of {name}") for name, (dim, r2) in found],
    )


def primes(session: Session) -> tuple[Claim, ...]:
    """One dimension for every prime."""
    found = {n: PRIMES[n] for n in session.some(tuple(PRIMES))}
    text = "a dimension ({}) is cos of (a + b) mod {}"
    return _circles(
        session, [Published(f"mod-{n}", dim, r2, text.format(dim, n)) for n, (dim, r2) in found.items()]
    )


def range_detector(session: Session) -> tuple[Claim, ...]:
    """Dimension 867 for composite moduli."""
    text = f"one dimension ({RANGE_DIM}, R² above .85) is cos of (a + b) mod {{}} too"
    moduli = session.some(COMPOSITES)
    return _circles(session, [Published(f"mod-{n}", RANGE_DIM, RANGE_R2, text.format(n)) for n in moduli])


def polynomial(session: Session) -> tuple[Claim, ...]:
    """A cosine fits and a line does not: beside it, what is left of the cosine once polynomials of the sum
    are taken out."""
    text = "mod {}: a cosine (R² {:.4f}) and no polynomial (line {:.4f}) fits a dimension ({})"
    published = [
        Published(f"mod-{n}", dim, r2, text.format(n, r2, line, dim))
        for n, (dim, r2, line) in POLYNOMIAL.items()
    ]
    return _circles(session, published, about=_beyond)


def _beyond(found: Measured) -> str:
    return (
        f"the best dimension's class means fit a cosine with {found.naive:.3f} and a line with "
        f"{found.line:.3f}; with tokens, lengths, "
        f"square and cube of the sum taken out, the best dimension's cosine explains {found.partial:.3f} of "
        f"the cells (p = {found.p_partial:.2g})"
    )


def _circles(
    session: Session, published: Sequence[Published], *, about: Callable[[Measured], str] | None = None
) -> tuple[Claim, ...]:
    """A claim per published R², the p-values of their planes corrected together (Holm)."""
    grids: dict[str, Measured | str] = {each.name: _or_reason(session, each.name) for each in published}
    tested = [
        grid for grid in grids.values() if isinstance(grid, Measured) and grid.verdict != "not testable"
    ]
    corrected = dict(zip([grid.domain for grid in tested], holm([grid.p for grid in tested]), strict=True))
    claims = []
    for each in published:
        grid = grids[each.name]
        if isinstance(grid, str):
            claims.append(
                claim(each.text, "not measured", grid, source=each.source, unit=R2, published=each.r2)
            )
            continue
        word, sentence = judge(grid, corrected.get(grid.domain, 1.0))
        sentence = f"{sentence}; {about(grid)}" if about else sentence
        claims.append(
            claim(
                each.text,
                word,
                f"{_whose(session, each, grid)}{sentence}",
                source=each.source,
                unit=R2,
                published=each.r2,
                measured=_figure(session, each, grid),
                untrained=untrained_control(grid),
                shuffled=shuffled_control(grid),
            )
        )
    return tuple(claims)


def _or_reason(session: Session, name: str) -> Measured | str:
    try:
        return measured(session, name)
    except NotExpressible as error:
        return f"{error}"


def _figure(session: Session, published: Published, grid: Measured) -> float:
    """The published dimension where it exists in this network, else the dimension that the published method
    finds."""
    if session.is_qwen3_06b and str(published.dim) in grid.dims:
        return grid.dims[str(published.dim)]
    return grid.naive


def _whose(session: Session, published: Published, grid: Measured) -> str:
    if session.is_qwen3_06b and str(published.dim) in grid.dims:
        return (
            f"that dimension at its best layer; the published search finds {grid.naive:.3f} (dimension "
            f"{grid.naive_dim}, {grid.naive_site}). "
        )
    return f"the published search finds dimension {grid.naive_dim} at {grid.naive_site}. "


def untrained_control(grid: Measured) -> Control:
    """The re-initialised network, judged as if it were the subject and had no control of its own."""
    return _control(grid.blank_naive, grid.blank_verdict, grid.blank_p, grid.blank_share)


def shuffled_control(grid: Measured) -> Control:
    """The strongest hook point with its labels shuffled."""
    return _control(grid.shuffled_naive, grid.shuffled_verdict, grid.shuffled_p, grid.shuffled_share)


def _control(naive: float, verdict: str, p: float, share: float) -> Control:
    """What a control shows: a circle *stands*, another plane of a tenth of the variance does not, and less is
    noise."""
    told = f"best plane p = {p:.2g}, {share:.1%} of what the confounds leave (verdict: {verdict})"
    if verdict == "not testable":
        return Control(naive, "not measured", "nothing could be tested")
    shown = p < 0.05 and share > MATERIAL
    word: Word = "stands" if verdict == "circular" else "does not stand" if shown else "noise"
    return Control(naive, word, told)


def judge(grid: Measured, p: float) -> tuple[Word, str]:
    """The word for the claim that the sum is on a circle; ``p``: of the plane, corrected for the claims of
    the experiment."""
    if grid.verdict == "not testable":
        return "not measured", grid.reason
    plane = (
        f"the best plane of the sum beyond tokens, lengths and polynomials, at {grid.site}, k = {grid.k}, "
        f"has p = {p:.2g}"
    )
    if grid.verdict == "circular":
        return "stands", f"circular: {plane}, period specificity {grid.ratio:.1f}"
    if not grid.shown or p >= 0.05:
        return "noise", (
            f"{plane} and {grid.share:.1%} of what those leave (random weights: {grid.blank_share:.1%}): no "
            f"circle (verdict: {grid.verdict}); "
            f"the published search finds R² {grid.blank_naive:.3f} with random weights and up to "
            f"{grid.naive_bound:.3f} in white noise"
        )
    return "does not stand", f"{grid.verdict}, no circle: {grid.reason}"


def calendar_against_arithmetic(session: Session) -> tuple[Claim, ...]:
    """Do mod 12, months and hours lie in separate planes?"""
    pairs = (("months", "mod-12"), ("hours-12", "mod-12"), ("months", "hours-12"))
    return tuple(_separate(session, *pair) for pair in session.some(pairs))


def _separate(session: Session, first: str, second: str) -> Claim:
    text = f"{first} and {second} lie in different dimensions (410 months, 725 hours, 536 mod 12)"
    about = functools.partial(claim, text, source=EMERGENT, unit="overlap of planes")
    grids = [_or_reason(session, name) for name in (first, second)]
    reasons = [grid for grid in grids if isinstance(grid, str)]
    if reasons:
        return about("not measured", reasons[0])
    kept = [grid for grid in grids if isinstance(grid, Measured)]
    shared = _shared(session, kept, "network")
    told = (
        f"overlap of their planes at {shared.site} {shared.overlap:.3f}, of random planes of as much "
        f"variance {shared.null_mean:.3f} (p = {shared.p_value:.2g})"
    )
    word: Word = "stands" if shared.overlap < APART and shared.p_value >= 0.05 else "does not stand"
    plain = [grid.domain for grid in kept if grid.verdict != "circular"]
    if plain:
        other = any(grid.shown and grid.verdict != "circular" for grid in kept)
        word = "does not stand" if other else "noise"
        told = (
            f"no circle of {' or '.join(plain)} was found, so their best dimensions differ as those of "
            f"noise do; {told}"
        )
    return about(
        word,
        told,
        measured=shared.overlap,
        untrained=_apart_untrained(session, kept),
        shuffled=Control(shared.null_mean, "noise", "random planes that hold as much variance"),
    )


def _apart_untrained(session: Session, pair: list[Measured]) -> Control:
    """The same two planes of the re-initialised network: they are apart where there are two circles."""
    shared = _shared(session, pair, "untrained")
    circles = all(grid.blank_verdict == "circular" for grid in pair)
    told = f"verdicts: {pair[0].blank_verdict} and {pair[1].blank_verdict}"
    return Control(shared.overlap, "stands" if circles and shared.overlap < APART else "noise", told)


def _shared(session: Session, pair: list[Measured], whose: str) -> SharedPlane:
    """The two planes at the place where the first is strongest, each at its own harmonic."""
    at = [str(site) for site in session.sites].index(pair[0].site) if pair[0].site else 0
    means = [means_of(session, grid.domain)[whose][at].double().numpy() for grid in pair]
    return shared_plane(
        *means,
        k=(max(pair[0].k, 1), max(pair[1].k, 1)),
        names=(pair[0].domain, pair[1].domain),
        site=str(session.sites[at]),
        seed=session.settings.seed,
    )
