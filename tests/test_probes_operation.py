"""Operation domains: verdicts on planted answers, grids and controls that cannot answer."""

import math
from typing import Any

import pytest
import torch
from einops import rearrange

from mechfourier.errors import OutOfRange, UsageError
from mechfourier.stats.confounds import Grid
from mechfourier.stats.operation import OperationEvidence, analyse_operation
from mechfourier.stats.operation_verdict import verdict_operation, words_by_site
from mechfourier.stats.planted import OPERATIONS, find, planted_operation
from mechfourier.stats.planted_operations import FURTHER

QUICK: dict[str, Any] = dict(permutations=199, surrogates=199)


def analysed(
    name: str, n: int = 12, *, cycles: int = 4, seed: int = 1, layers: int = 1, snr: float = 1.0
) -> OperationEvidence:
    generator = find(name, (*OPERATIONS, *FURTHER))
    acts = planted_operation(generator, n=n, cycles=cycles, layers=layers, d_model=48, snr=snr, seed=seed)
    return analyse_operation(acts, n=n, seed=seed, **QUICK)


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("circle", "circular"),
        ("circle-basis", "circular"),
        ("circle-k2", "circular"),
        ("circle+quadratic", "circular"),
        ("circle+random-sum", "circular"),
        ("white", "noise"),
        ("ramp", "magnitude"),
        ("quadratic", "magnitude"),
        ("relu", "magnitude"),
        ("digits", "magnitude"),
        ("helix-10", "magnitude"),
        ("random-sum-16", "magnitude"),
        ("autocorrelated", "interaction"),
        ("token-identity", "token identity"),
        ("circle-of-a", "token identity"),
        ("modular-16", "modular"),
        ("label-ramp", "modular"),
        ("label-arc", "open arc"),
    ],
)
def test_verdicts_on_planted_answers(name: str, word: str) -> None:
    evidence = analysed(name)
    verdict = verdict_operation(evidence)
    assert verdict.word == word, verdict.reasons
    assert verdict.used == "not tested"
    assert verdict.reasons


@pytest.mark.parametrize(("cycles", "told"), [(1, True), (4, False)])
def test_few_cycles_say_what_a_function_of_the_sum_may_be_besides(cycles: int, told: bool) -> None:
    """A random vector per sum, and (over one cycle) a random vector per residue class, are called alike: the
    reason says so."""
    for name in ("random-sum-16", "modular-16")[: 2 if told else 1]:
        verdict = verdict_operation(analysed(name, cycles=cycles))
        allowed = ("magnitude", "undecided: circle or magnitude") if name == "modular-16" else ("magnitude",)
        assert verdict.word in allowed, verdict.reasons
        assert (
            any("cannot tell it from a function of the residue class" in r for r in verdict.reasons) is told
        )


@pytest.mark.parametrize("seed", range(4))
def test_what_reads_two_circles_and_does_not_add_is_no_function_of_the_class(seed: int) -> None:
    """Attention with random weights multiplies its operands: a plane of the class stands out at n = 7, and as much is of a − o
    as four cycles can tell."""
    evidence = analysed("random-gate", n=7, seed=seed)
    verdict = verdict_operation(evidence)
    assert verdict.word in ("interaction", "undecided: modular or interaction"), verdict.reasons
    assert any("a − o" in reason for reason in verdict.reasons)


@pytest.mark.parametrize(("size", "said"), [(0, False), (30, True)])
def test_what_a_few_strong_directions_hide_is_said(size: int, said: bool) -> None:
    """Noise in two directions of thirty times a circle's size hides it: the reasons name the directions."""
    acts = planted_operation(find("circle"), n=12, cycles=3, d_model=48, snr=4.0, seed=0)
    draw = torch.Generator().manual_seed(0)
    two = torch.linalg.qr(torch.randn(48, 2, generator=draw)).Q
    loud = size * acts.std() * 48**0.5 * torch.randn(*acts.shape[:3], 2, generator=draw) @ two.T
    verdict = verdict_operation(analyse_operation(acts + loud, n=12, **QUICK))
    assert (verdict.word == "circular") is not said
    assert any("three directions hold" in reason for reason in verdict.reasons) is said


def test_a_circle_in_one_of_several_layers_is_found_there() -> None:
    evidence = analysed("circle", layers=5, seed=3)
    best = evidence.best()
    assert best is not None
    assert verdict_operation(evidence).word == "circular"
    assert best.k == 1
    assert best.key_harmonics == (1,)
    assert best.sum_line > 2 * max(site.sum_line for site in evidence.sites if site.site != best.site)


def test_dimensions_may_have_any_scale_and_any_offset() -> None:
    acts = planted_operation(find("circle"), n=7, d_model=16, seed=1)
    scale = torch.logspace(-2, 2, 16)
    first = analyse_operation(acts, n=7, **QUICK).sites[0]
    second = analyse_operation(acts * scale + 3 * scale, n=7, **QUICK).sites[0]
    assert first.plane_share == pytest.approx(second.plane_share, rel=1e-3)
    assert first.ratio == pytest.approx(second.ratio, rel=1e-2)
    assert (first.k, first.dim, first.p) == (second.k, second.dim, second.p)


def test_a_constant_dimension_changes_nothing_but_the_width() -> None:
    acts = planted_operation(find("circle"), n=7, d_model=8, seed=2)
    wider = torch.cat([acts, torch.full_like(acts[..., :3], 1234.5)], -1)
    first, second = (analyse_operation(x, n=7, **QUICK).sites[0] for x in (acts, wider))
    assert second.ratio == pytest.approx(first.ratio, rel=1e-6)
    assert second.plane_share == pytest.approx(first.plane_share, rel=1e-6)


def test_given_confounds_are_taken_out() -> None:
    acts = planted_operation(find("circle"), n=12, d_model=8, seed=0)
    grid = Grid(12, 48)
    angle = 2 * math.pi * grid.label.double() / 12
    known = rearrange(torch.stack([angle.cos(), angle.sin()], 1), "(a o) f -> a o f", a=12).float()
    evidence = analyse_operation(acts, n=12, confounds=known, **QUICK)
    assert 1 in evidence.untestable
    assert verdict_operation(evidence).word != "circular"


def test_one_cycle_says_that_k1_is_weak_and_still_finds_higher_harmonics() -> None:
    low, high = (analysed(name, 24, cycles=1, seed=1) for name in ("circle", "circle-k2"))
    assert 1 in low.untestable
    assert verdict_operation(low).word != "circular"
    assert "k = 1" in verdict_operation(low).reasons[-1]
    assert verdict_operation(high).word == "circular"


def test_several_key_frequencies_on_a_single_cycle() -> None:
    """What a network that has grokked (a + b) mod 53 looks like: products of waves of a and of b at a few
    frequencies."""
    p, keys = 53, (5, 14, 22)
    draw = torch.Generator().manual_seed(0)
    a, b = torch.arange(p)[:, None].double(), torch.arange(p)[None].double()
    acts = 0.1 * torch.randn(p, p, 32, generator=draw, dtype=torch.float64)
    for k in keys:
        wave = [(2 * math.pi * k * x / p).cos() for x in (a, b)] + [
            (2 * math.pi * k * x / p).sin() for x in (a, b)
        ]
        for left in (wave[0], wave[2]):
            for right in (wave[1], wave[3]):
                acts += (left * right)[..., None] * torch.randn(32, generator=draw, dtype=torch.float64)
    evidence = analyse_operation(acts[None].float(), n=p, digits=False, **QUICK)
    best = evidence.best()
    assert best is not None
    assert best.key_harmonics == keys
    assert verdict_operation(evidence).word == "circular"


@pytest.mark.parametrize(
    ("shape", "n", "told"),
    [
        ((1, 4, 16, 3), 4, "fewer than 5"),
        ((1, 7, 5, 3), 7, "do not fill one cycle"),
        ((1, 10, 40, 3), 10, "base-10 digits"),
    ],
)
def test_grids_that_cannot_answer_say_why(shape: tuple[int, ...], n: int, told: str) -> None:
    evidence = analyse_operation(torch.randn(shape, generator=torch.Generator().manual_seed(0)), n=n)
    assert told in evidence.reason
    assert verdict_operation(evidence).word == "not testable"
    assert verdict_operation(evidence).reasons == (evidence.reason,)
    assert OperationEvidence.from_json(evidence.to_json()).reason == evidence.reason


def test_holes_and_constants_are_not_testable() -> None:
    acts = planted_operation(find("circle"), n=7, d_model=8)
    acts[0, 2, 3] = math.nan
    holes = analyse_operation(acts, n=7)
    assert "1 of 196 cells" in holes.reason
    assert "do not vary" in analyse_operation(torch.full((2, 7, 28, 4), 3.7), n=7).reason


def test_a_control_with_holes_is_not_testable_and_a_constant_one_says_so() -> None:
    acts = planted_operation(find("circle"), n=7, d_model=16, seed=1)
    told = analyse_operation(acts, n=7, control=acts * math.nan, **QUICK)
    assert "196 of 196 cells of the untrained control have no finite activation" in told.reason
    assert verdict_operation(told).word == "not testable"
    still = verdict_operation(analyse_operation(acts, n=7, control=torch.ones_like(acts), **QUICK))
    assert still.word == "circular" and any("do not vary" in reason for reason in still.reasons)


@pytest.mark.parametrize(
    "name", ["random-layer", "aligned-layer", "product-of-circles", "difference", "sum<difference", "2a+o"]
)
def test_where_the_difference_is_there_as_strongly_the_sum_does_not_stand_out(name: str) -> None:
    verdict = verdict_operation(analysed(name))
    assert verdict.word == "interaction"
    assert any("both operands are there together" in reason for reason in verdict.reasons)


def plain_circle(n: int, k: int, *, noise: float, seed: int, cycles: int = 1) -> torch.Tensor:
    draw = torch.Generator().manual_seed(seed)
    turn = 2 * math.pi * k * (torch.arange(n)[:, None] + torch.arange(n * cycles)).double() / n
    wave = torch.stack([turn.cos(), turn.sin()], -1) @ torch.randn(2, 64, generator=draw, dtype=torch.float64)
    return (wave / wave.std() + noise * torch.randn(wave.shape, generator=draw, dtype=torch.float64))[None]


@pytest.mark.parametrize(("n", "k"), [(11, 2), (13, 2), (13, 3), (17, 2), (19, 2), (23, 2), (29, 3)])
def test_low_harmonics_are_circles_on_the_square_grid(n: int, k: int) -> None:
    """Confounds take a part of them; as they look through the confounds, they are circles all the same."""
    for noise in (0.001, 0.3):
        for seed in range(3):
            evidence = analyse_operation(plain_circle(n, k, noise=noise, seed=seed), n=n, **QUICK)
            assert verdict_operation(evidence).word == "circular"
            (site,) = evidence.sites
            assert site.closed > 0.99


@pytest.mark.parametrize(("n", "cycles"), [(7, 4), (12, 3)])
def test_prompts_given_again_are_one_cycle(n: int, cycles: int) -> None:
    """A table of pairs {a, o} repeats over cycles, and (a, o) and (o, a) have one class: 45 of 60 were modular."""
    words = []
    for seed in range(10):
        draw = torch.Generator().manual_seed(seed)
        table = torch.randn(n, n, 32, generator=draw)
        once = table + table.transpose(0, 1) + 1e-5 * torch.randn(n, n, 32, generator=draw)
        evidence = analyse_operation(once.repeat(1, cycles, 1)[None], n=n, **QUICK)
        assert (evidence.n_offsets, evidence.repeated) == (n, n * cycles)
        verdict = verdict_operation(evidence)
        assert any(f"of {n * cycles} offsets the first {n} were measured" in r for r in verdict.reasons)
        words.append(verdict.word)
    assert not {"circular", "modular"} & set(words)


@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_a_circle_over_several_cycles_is_no_repetition(noise: float) -> None:
    evidence = analyse_operation(plain_circle(12, 1, noise=noise, seed=0, cycles=4), n=12, **QUICK)
    assert evidence.repeated == 0 and verdict_operation(evidence).word == "circular"


def test_a_period_that_may_be_a_harmonic_is_not_called_none() -> None:
    """A circle at half of the values only: on one cycle the periods beside it hold too much to be certain."""
    acts = plain_circle(23, 5, noise=0.0, seed=0)
    acts[:, 12:] = 0
    acts += 0.3 * torch.randn(acts.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    verdict = verdict_operation(analyse_operation(acts, n=23, **QUICK))
    assert verdict.word == "undecided: circle or magnitude"
    assert any("that may have a period 23/k or none" in reason for reason in verdict.reasons)


@pytest.mark.parametrize(("change", "period"), [("-1", 11), ("+1", 13), ("+0.5", 12.5)])
def test_a_neighbouring_period_is_named(change: str, period: float) -> None:
    evidence = analysed(f"period-n{change}")
    verdict, best = verdict_operation(evidence), evidence.best()
    assert verdict.word == "magnitude"
    assert any("its strongest period is 1" in reason for reason in verdict.reasons)
    assert best is not None and best.period == pytest.approx(period, abs=0.05)


@pytest.mark.parametrize("name", ["clock-k1+3", "pizza-k1+3", "circles-3", "circles-5", "ellipse"])
def test_networks_that_add_on_circles(name: str) -> None:
    assert verdict_operation(analysed(name)).word == "circular"


def test_wrong_calls() -> None:
    acts = torch.zeros(1, 7, 28, 4)
    with pytest.raises(UsageError, match="7 values but n is 8"):
        analyse_operation(acts, n=8)
    with pytest.raises(UsageError, match="control has shape"):
        analyse_operation(acts, n=7, control=acts[:, :, :7])
    with pytest.raises(OutOfRange, match="at least 99"):
        analyse_operation(acts, n=7, permutations=20)


def test_a_control_that_does_as_well_takes_the_verdict_away() -> None:
    acts = planted_operation(find("circle"), n=12, d_model=32, seed=0)
    noise = planted_operation(find("white"), n=12, d_model=32, seed=1)
    same = verdict_operation(analyse_operation(acts, n=12, control=acts, **QUICK))
    lower = verdict_operation(analyse_operation(acts, n=12, control=noise, **QUICK))
    assert same.word == "token identity"
    assert any("not lower" in reason for reason in same.reasons)
    assert lower.word == "circular"
    assert any("clearly lower" in reason for reason in lower.reasons)


def test_the_same_seed_gives_the_same_evidence_and_json_round_trips() -> None:
    first, second = analysed("circle", 7), analysed("circle", 7)
    assert first == second
    assert OperationEvidence.from_json(first.to_json()) == first
    assert len(first.frame()) == 1


def test_flat_spectra_in_many_layers_are_not_a_circle_in_one_of_them() -> None:
    verdicts = []
    for seed in range(6):
        acts = planted_operation(find("modular-16"), n=12, layers=12, d_model=24, snr=1.0, seed=seed)
        verdicts.append(verdict_operation(analyse_operation(acts, n=12, seed=seed, **QUICK)).word)
    assert verdicts == ["modular"] * 6


def test_a_circle_in_every_layer_and_one_among_flat_layers() -> None:
    every = torch.cat([planted_operation(find("circle"), n=7, d_model=24, seed=s) for s in range(5)])
    assert verdict_operation(analyse_operation(every, n=7, **QUICK)).word == "circular"
    flat = planted_operation(find("modular-16"), n=12, layers=3, d_model=24, seed=2)
    one = planted_operation(find("circle"), n=12, d_model=24, seed=3)
    assert verdict_operation(analyse_operation(torch.cat([flat, one]), n=12, **QUICK)).word == "circular"


def test_every_hook_point_has_its_word_and_its_shapes() -> None:
    names = ("clock", "ramp")
    acts = torch.cat([planted_operation(find(name, (*OPERATIONS, *FURTHER)), n=12, seed=1) for name in names])
    found = analyse_operation(acts, n=12, permutations=99, surrogates=199)
    assert words_by_site(found) == ("circular", "magnitude")
    shapes = found.sites[0].shapes
    assert shapes[0].name == "closed curve" and shapes[0].p is None
    assert {shape.name for shape in shapes} > {"open curve", "waves", "clusters", "no order"}
    assert all(shape.p is not None and shape.p <= 0.02 for shape in shapes[1:])
    assert OperationEvidence.from_json(found.to_json()).sites[0].shapes == shapes
