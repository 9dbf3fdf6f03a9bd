"""The sweep over moduli: bounds with known values, and the packaged models."""

import json

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from mechfourier.cli import app
from mechfourier.errors import OutOfRange, UsageError
from mechfourier.fourier.harmonics import harmonic_r2
from mechfourier.models.registry import load
from mechfourier.probes.scan import ScanResult, parse_moduli, scan
from mechfourier.stats.naive import class_means, noise_bound
from mechfourier.stats.permutation import holm


def test_moduli_are_read_from_ranges_and_lists() -> None:
    assert parse_moduli("2-5,7,5") == (2, 3, 4, 5, 7)
    assert parse_moduli("2-31", primes=True) == (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31)
    for wrong in ("x", "5-", "", "7,-3"):
        with pytest.raises(UsageError, match="write it like 2-31"):
            parse_moduli(wrong)
    for outside in ("1-5", "150-201"):
        with pytest.raises(OutOfRange, match="from 2 to 200"):
            parse_moduli(outside)
    with pytest.raises(OutOfRange, match="primes"):
        parse_moduli("8-10", primes=True)


def test_holm_matches_a_worked_example() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx((0.03, 0.06, 0.06, 0.02))
    assert holm([]) == ()


@pytest.mark.parametrize(("n", "published"), [(7, 0.996), (12, 0.923), (23, 0.708)])
def test_the_noise_bound_is_that_of_one_layer_of_1024_dimensions(n: int, published: float) -> None:
    assert noise_bound(n, 1024) == pytest.approx(published, abs=1e-3)


def test_white_noise_passes_its_bound_in_one_search_of_twenty() -> None:
    generator = torch.Generator().manual_seed(0)
    best = [float(harmonic_r2(torch.randn(11, 64, generator=generator)).max()) for _ in range(300)]
    assert np.mean(np.array(best) > noise_bound(11, 64)) == pytest.approx(0.05, abs=0.035)


def test_class_means_average_the_cells_of_each_class() -> None:
    a, o = torch.meshgrid(torch.arange(5), torch.arange(10), indexing="ij")
    acts = ((a + o) % 5).double()[None, :, :, None]
    assert torch.equal(class_means(acts), torch.arange(5.0, dtype=torch.float64)[None, :, None])


def test_calendar_carries_its_moduli_and_naive_scores_say_nothing() -> None:
    result = scan(load("calendar"), [7], layers="1", n_permutations=99)
    (row,) = result.moduli
    assert row.verdict in ("circular", "modular")
    assert row.p_value == 0.01
    assert row.ratio > row.threshold
    assert row.prime
    assert row.cycles == 4
    assert ScanResult.from_json(result.to_json()) == result


def test_what_cannot_be_tested_says_why() -> None:
    outcome = CliRunner().invoke(
        app, ["scan", "calendar", "--moduli", "3,130", "--layers", "1", "--permutations", "99", "--json"]
    )
    assert outcome.exit_code == 0, outcome.output
    rows = json.loads(outcome.stdout)["moduli"]
    assert [row["verdict"] for row in rows] == ["not testable", "not testable"]
    assert all(row["reason"] for row in rows)


def test_two_domains_are_compared_in_their_planes() -> None:
    result = scan(
        load("calendar"),
        [12],
        compare=["months", "hours-12"],
        layers="1",
        cycles=1,
        n_permutations=99,
        controls=False,
    )
    assert [(p.first.split()[0], p.second.split()[0]) for p in result.planes] == [
        ("months", "hours-12"),
        ("months", "mod-12"),
        ("hours-12", "mod-12"),
    ]
    assert len(result.holm) == 3
    assert result.planes_frame()["p_value"].between(0, 1).all()
