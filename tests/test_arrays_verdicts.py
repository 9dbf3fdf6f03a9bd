"""What arrays of other kinds show, and what cannot be told from them: one template, angles, two cycles, operations, distributions."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from value_arrays import planted

from mechfourier import GridProbe, ProbeResult, UsageError, probe_activations
from mechfourier.probes.arrays.asked import Request
from mechfourier.probes.arrays.plan import plan
from mechfourier.stats.words import CIRCLES

FAST: dict[str, Any] = {"n_permutations": 99}


def turn(angle: np.ndarray) -> np.ndarray:
    return np.stack([np.cos(angle), np.sin(angle)], -1)


def basis(d: int, rank: int, seed: int = 0) -> np.ndarray:
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(d, rank)))[0].T


def noise(*shape: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def test_gemma_2_days_and_months(shared_data: Path) -> None:
    """The published replication: days and months close, with six templates, one layer and no untrained control."""
    for name, domain, share in (("weekdays", "days", 0.95), ("months", "months", 0.78)):
        path = shared_data / "gemma2-2b-it" / f"checkpoints_{name}_L24_acts_probs.npz"
        found = probe_activations(path, domain)
        assert isinstance(found, ProbeResult) and found.verdict == "circular" and found.value is not None
        assert found.value.sites[0].share == pytest.approx(share, abs=0.01)
        assert any("6 templates at one site" in note for note in found.notes)
        assert (
            any("untrained" in note for note in found.notes)
            and "the untrained control was not run" in found.reasons
        )
        assert any("probs_{value} were left out" in note for note in found.notes)
        answers = probe_activations(path, domain, probabilities=True, **FAST)
        assert isinstance(answers, ProbeResult) and answers.sites[0].site == "probs"
        assert any("what the model answers" in note for note in answers.notes)


@pytest.mark.parametrize("layout", ["value d", "d value"])
def test_one_template_says_what_cannot_be_tested_and_still_gives_the_spectrum(layout: str) -> None:
    acts = planted("circle", 12, d=30, snr=5.0)[0, :, 0].numpy()
    found = probe_activations(acts if layout == "value d" else acts.T, "months", **FAST)
    assert isinstance(found, ProbeResult) and found.verdict == "not testable"
    told = " ".join(found.reasons)
    assert (
        "one template cannot tell" in told and "best dimension" in told and "white noise stays under" in told
    )
    assert isinstance(found, ProbeResult) and found.sites[0].k == 1 and found.sites[0].spectrum[0] > 0.5
    assert not found.sites[0].shapes


def test_the_best_r2_of_noise_stays_under_its_bound() -> None:
    """The bound that one template's R² stands beside is reached by white noise in about one of twenty."""
    above = 0
    for seed in range(20):
        found = probe_activations(noise(12, 200, seed=seed), "months", **FAST)
        assert isinstance(found, ProbeResult)
        told = found.reasons[-1]
        r2, bound = (float(told.split(word)[1].split()[0].rstrip(";")) for word in ("R² ", "stays under "))
        above += r2 > bound
    assert above <= 4


def rows_by_angle(kind: str, rows: int = 900, d: int = 40, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    angle = draw.uniform(0, 2 * np.pi, rows)
    signal = {
        "ring": lambda: turn(angle) @ basis(d, 2),
        "bumps": lambda: np.exp(
            3 * (np.cos(angle[:, None] - np.linspace(0, 2 * np.pi, d, endpoint=False)) - 1)
        ),
        "line": lambda: (angle / np.pi - 1)[:, None] @ basis(d, 1),
        "arc": lambda: turn(angle * 0.6) @ basis(d, 2),
        "none": lambda: np.zeros((rows, d)),
    }[kind]()
    return signal + 0.3 * draw.normal(size=(rows, d)), angle


@pytest.mark.parametrize(("kind", "word"), [("ring", "circular"), ("bumps", "circular"), ("none", "noise")])
def test_head_directions(kind: str, word: str) -> None:
    acts, angle = rows_by_angle(kind)
    found = probe_activations(acts, "degrees", labels=np.degrees(angle), **FAST)
    assert isinstance(found, ProbeResult) and found.verdict == word, found
    assert any("in 24 bins" in note for note in found.notes)
    wanted = plan(acts, Request("degrees", labels=np.degrees(angle))).sites[0].index
    for domain, labels in (("radians", angle - 2 * np.pi), ("turns", angle / (2 * np.pi)), (None, angle * 2)):
        cells = plan(acts, Request(domain, labels=labels, n=None if domain else 4 * np.pi)).sites[0]
        assert cells.index is not None and wanted is not None and torch.equal(cells.index, wanted)


@pytest.mark.parametrize("shift", [0.0, np.pi, 2 * np.pi])
def test_radians_that_are_called_degrees_are_told(shift: float) -> None:
    acts, angle = rows_by_angle("ring")
    found = probe_activations(acts, "degrees", labels=angle - shift, **FAST)
    assert found.verdict not in CIRCLES and "--domain radians" in str(found), found
    arc = probe_activations(acts, "degrees", labels=np.degrees(angle) / 6, **FAST)  # 0 to 60 degrees
    assert "radians" not in str(arc)


@pytest.mark.parametrize("kind", ["line", "arc"])
def test_what_does_not_close_is_no_ring(kind: str) -> None:
    acts, angle = rows_by_angle(kind)
    found = probe_activations(acts, n=2 * np.pi, labels=angle, **FAST)
    assert found.verdict not in CIRCLES and found.verdict not in ("noise", "values distinguishable"), found


def test_hours_with_minutes_are_angles() -> None:
    acts, angle = rows_by_angle("ring")
    minutes = np.round(angle / (2 * np.pi) * 1440).astype(int) % 1440
    clock = [f"{m // 60}:{m % 60:02d}" for m in minutes]
    found = probe_activations(acts, "hours-24", labels=clock, **FAST)
    assert isinstance(found, ProbeResult) and found.verdict == "circular" and "bins of 1" in found.unit


def test_angles_that_leave_a_gap_cannot_be_said_to_close() -> None:
    acts, angle = rows_by_angle("ring")
    kept = angle < 4.5
    found = probe_activations(acts[kept], "radians", labels=angle[kept], **FAST)
    assert isinstance(found, ProbeResult) and found.verdict == "not testable"
    assert "whether the values close there cannot be tested" in found.reasons[0]
    few = probe_activations(acts[:20], "radians", labels=angle[:20], **FAST)
    assert few.verdict == "not testable" and ProbeResult.from_json(few.to_json()) == few


def test_a_single_sweep_says_that_a_drift_would_look_the_same() -> None:
    acts, angle = rows_by_angle("ring")
    order = angle.argsort()
    found = probe_activations(acts[order], "radians", labels=angle[order], **FAST)
    assert any("drift over time" in note for note in found.notes)
    mixed = probe_activations(acts, "radians", labels=angle, **FAST)
    assert not any("drift" in note for note in mixed.notes)


def two_cycles(kind: str, n: int = 7, m: int = 12, templates: int = 6, d: int = 50) -> np.ndarray:
    """[day, month, template, d] with a known answer."""
    a, b = 2 * np.pi * np.arange(n) / n, 2 * np.pi * np.arange(m) / m
    plane = basis(d, 4)
    day, month = (turn(a) @ plane[:2])[:, None], (turn(b) @ plane[2:])[None]
    line = (np.arange(m) / m - 0.5)[None, :, None] * 3 * plane[2]
    week = turn(a[:, None] + b[None] / n) @ plane[:2]
    signal = {
        "torus": lambda: day + month,
        "cylinder": lambda: day + line,
        "one plane": lambda: day + (turn(b) @ plane[:2])[None],
        "one circle of pairs": lambda: week,
        "sum": lambda: turn(a[:, None] - b[None]) @ plane[:2],
        "none": lambda: np.zeros((n, m, d)),
    }[kind]()
    return (
        3 * signal[:, :, None]
        + (0.7 if templates > 1 else 0.3) * noise(n, m, templates, d)
        + noise(1, 1, templates, d, seed=2)
    )


@pytest.mark.parametrize("templates", [pytest.param(6, marks=pytest.mark.slow), 1])
@pytest.mark.parametrize("kind", ["torus", "cylinder", "one plane", "one circle of pairs", "sum", "none"])
def test_a_torus_is_told_from_what_is_none(kind: str, templates: int) -> None:
    acts = two_cycles(kind, templates=templates)
    found = probe_activations(acts, "days,months", **FAST)
    assert isinstance(found, GridProbe)
    assert (found.verdict == "torus") == (kind == "torus"), found
    assert (found.product is None) == (templates == 1)
    if kind == "sum" and templates > 1:
        assert found.shares[2] > 0.9 and found.power[1][6 - 1] + found.power[1][6 + 1] > 0.8
    if kind == "one circle of pairs" and found.product is not None:
        assert found.product.verdict == "circular"
    if kind == "one plane":
        assert found.angle < 30
    assert GridProbe.from_json(found.to_json()) == found
    assert sum(found.shares) == pytest.approx(1.0)


def test_pairs_of_labels_give_the_same_torus(tmp_path: Path) -> None:
    acts = two_cycles("torus")
    whole = probe_activations(acts, "days,months", **FAST)
    n, m, templates, d = acts.shape
    index = np.indices((n, m, templates)).reshape(3, -1)
    order = np.random.default_rng(0).permutation(index.shape[1])
    rows = acts.reshape(-1, d)[order]
    labels = (index[0][order], index[1][order] + 1)
    found = probe_activations(rows, "days,months", labels=labels, templates=index[2][order], **FAST)
    assert isinstance(found, GridProbe) and isinstance(whole, GridProbe)
    assert found.verdict == whole.verdict == "torus" and found.shares == pytest.approx(whole.shares, abs=1e-6)
    days, months = found.planes
    assert days.basis.shape == months.basis.shape == (d, 2)
    np.testing.assert_allclose(
        np.abs(basis(d, 4)[:2] @ days.array @ days.array.T @ basis(d, 4)[:2].T), np.eye(2), atol=0.1
    )
    from mechfourier.figures.probe import write_probe

    page = write_probe(found, tmp_path).read_text(encoding="utf-8")
    assert "torus" in page and "Power at pairs of harmonics" in page


def test_operation_grids_and_their_rows() -> None:
    n, offsets, d = 12, 48, 30
    a, o = np.arange(n)[:, None], np.arange(offsets)[None]
    draw = np.random.default_rng(3)
    acts = 2 * turn(2 * np.pi * (a + o) / n) @ basis(d, 2) + draw.normal(size=(n, offsets, d)) * 0.5
    found = probe_activations(acts, "months", layout="a o d", **FAST)
    assert isinstance(found, ProbeResult) and found.design == "operation" and found.verdict == "circular", (
        found
    )
    order = draw.permutation(n * offsets)
    labels = (np.repeat(np.arange(n), offsets)[order], np.tile(np.arange(offsets), n)[order])
    rows = probe_activations(acts.reshape(-1, d)[order], "months", labels=labels, design="operation", **FAST)
    assert isinstance(rows, ProbeResult) and rows.p_value == found.p_value and rows.verdict == found.verdict
    with pytest.raises(UsageError, match="no row is labelled"):
        probe_activations(acts.reshape(-1, d)[:-1], "months", labels=(np.repeat(np.arange(n), offsets)[:-1], np.tile(np.arange(offsets), n)[:-1]), design="operation", **FAST)  # fmt: skip


def test_an_untrained_model_that_shows_the_same_is_a_control() -> None:
    acts = planted("circle", 12, d=30, snr=3.0)
    blank, same = planted("white", 12, d=30, seed=5), planted("circle", 12, d=30, snr=3.0, seed=6)
    assert probe_activations(acts, "months", control=blank, **FAST).verdict == "circular"
    found = probe_activations(acts, "months", control=same, **FAST)
    assert found.verdict == "values distinguishable" and not any(
        "untrained model (" in note for note in found.notes
    )
    with pytest.raises(UsageError, match="give the same rows"):
        probe_activations(acts, "months", control=same[:, :, :5], **FAST)


@pytest.mark.slow
def test_many_trials_are_averaged_and_copies_stay_together() -> None:
    signal = planted("circle", 12, d=20, templates=96, snr=0.3)
    found = probe_activations(signal, "months", **FAST)
    assert isinstance(found, ProbeResult) and found.arrays is not None and found.arrays.templates == 32
    assert found.verdict == "circular" and any("96 templates were averaged" in note for note in found.notes)
    false = 0
    for seed in range(6):
        few = planted("white", 12, d=20, templates=4, seed=seed)[0]
        copied = few.repeat(1, 24, 1)[None]  # 96 templates that are copies of four
        told = probe_activations(copied, "months", **FAST)
        assert isinstance(told, ProbeResult) and told.arrays is not None and told.arrays.templates == 4
        false += told.verdict not in ("noise", "not testable")
    assert false <= 1


def test_planes_turn_a_model_and_hold_unit_rows() -> None:
    acts = planted("circle", 12, d=16, snr=50.0)
    found = probe_activations(acts, "months", **FAST)
    assert isinstance(found, ProbeResult)
    (plane,) = found.planes
    assert plane.array.shape == (16, 2) and plane.site == "site 0" and plane.W_dec.shape == (2, 16)
    assert torch.allclose(plane.W_dec @ plane.W_dec.T, torch.eye(2), atol=1e-5)
    assert torch.allclose(plane.value_directions().norm(dim=1), torch.ones(12), atol=1e-5)
    means = acts[0].mean(1)
    for steps in (1, 5, -2, 12):
        name, hook = plane.rotate_hook(steps)
        moved = hook(means[:, None], hook=None)[:, 0]
        wanted = means.roll(-steps, 0)
        before = ((means - wanted) @ plane.basis).norm()
        assert name == "site 0" and ((moved - wanted) @ plane.basis).norm() <= 0.15 * before + 1e-4
        outside = torch.eye(16) - plane.basis @ plane.basis.T
        assert torch.allclose(moved @ outside, means @ outside, atol=1e-5)
    at_last = plane.rotate_hook(3, position=-1)[1](means[None].clone())
    assert torch.equal(at_last[:, :-1], means[None, :-1]) and not torch.equal(at_last, means[None])
