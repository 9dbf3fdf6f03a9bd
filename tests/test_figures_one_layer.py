"""Pictures of the one-layer model: a planted circle is measured as one, and figures draw what the tables
hold."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_run import P, write_run

from mechfourier.errors import BadCheckpoint, OutOfRange, UsageError
from mechfourier.figures.emergence import circle_stills, sine_stills, stills
from mechfourier.fourier.circle import circularity_by_chance, project_circle
from mechfourier.toys.one_layer import Evolution, OneLayerAnalysis, Portrait, analyze, evolution, portrait
from mechfourier.toys.one_layer import figures as draw
from mechfourier.toys.one_layer.curve_figures import power_figure, progress_figure
from mechfourier.training.figures import curves_figure, overlay_figure, thinned
from mechfourier.training.run_folder import RunFolder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("runs") / "small")


@pytest.fixture(scope="module")
def result(run: Path) -> OneLayerAnalysis:
    return analyze(run)


@pytest.fixture(scope="module")
def faces(run: Path) -> Portrait:
    return portrait(run)


def traces(figure: Any) -> Any:
    """What is drawn."""
    return figure.data


def planted(n: int, k: int, *, ratio: float = 1.0, d: int = 8, seed: int = 0) -> torch.Tensor:
    """An ellipse with axes 1 : ratio walked k times in a random plane."""
    angle = 2 * math.pi * k * torch.arange(n).double() / n
    plane = torch.linalg.qr(torch.randn(d, 2, generator=torch.Generator().manual_seed(seed)).double())[0]
    return torch.stack([torch.cos(angle), ratio * torch.sin(angle)], 1) @ plane.T


@given(st.integers(5, 31), st.integers(1, 15), st.floats(0.1, 1.0), st.integers(0, 99))
def test_a_planted_ellipse_has_the_circularity_of_its_axes(n: int, k: int, ratio: float, seed: int) -> None:
    k = 1 + k % ((n - 1) // 2)
    found = project_circle(planted(n, k, ratio=ratio, seed=seed) + 3.0, k)
    assert found.circularity == pytest.approx((1 + ratio) ** 2 / (2 * (1 + ratio**2)), abs=1e-9)


@given(st.integers(0, 99))
def test_the_plane_turns_with_the_space_and_the_picture_stays(seed: int) -> None:
    y = planted(17, 3) + 0.1 * torch.randn(17, 8, generator=torch.Generator().manual_seed(seed)).double()
    turn = torch.linalg.qr(torch.randn(8, 8, generator=torch.Generator().manual_seed(seed + 1)).double())[0]
    assert torch.allclose(project_circle(y, 3).points, project_circle(y @ turn, 3).points, atol=1e-9)


def test_another_frequency_is_no_circle_and_random_tables_have_their_chance() -> None:
    mixed = planted(23, 4) + planted(23, 9, seed=1)
    assert project_circle(mixed, 4).circularity > 0.5 > project_circle(planted(23, 9), 4).circularity
    assert circularity_by_chance(113, 128) == pytest.approx(128 / (113 + 128), abs=0.05)


def test_a_plane_needs_a_frequency_and_two_dimensions() -> None:
    with pytest.raises(OutOfRange, match=r"outside 1\.\.5"):
        project_circle(torch.ones(11, 4).double(), 6)
    with pytest.raises(OutOfRange, match="no plane"):
        project_circle(torch.ones(11, 1).double(), 1)


def test_the_tables_are_those_of_the_closed_form(faces: Portrait) -> None:
    assert faces.circles.shape == (len(faces.circle_freqs), P, 2)
    assert all(c > 0.999 for c in faces.circularity)
    diagonal = np.trace(faces.logit_power)
    assert faces.logit_power.sum() == pytest.approx(1.0, abs=1e-4) and diagonal > 0.9
    assert len(faces.circle_frame()) == P * len(faces.circle_freqs)
    assert sum(faces.cluster_frame()["neurons"].tolist()) == len(faces.frequency)
    frame = faces.neuron_frame()
    row = frame.query("a == 2 and b == 5").iloc[0].to_dict()
    assert row["activation"] == faces.neurons[0, 2, 5] and row["neuron"] == faces.neuron_index[0]


def test_the_figures_draw_the_tables(result: OneLayerAnalysis, faces: Portrait) -> None:
    bars: Any = traces(draw.embed_figure(result))
    drawn = dict(zip([*bars[0].x, *bars[1].x], [*bars[0].y, *bars[1].y], strict=True))
    assert drawn == pytest.approx(dict(enumerate(result.embed_power, 1)))
    assert set(bars[0].x) == set(result.key_freqs) and bars[2].y[0] == result.embed_threshold
    grid: Any = traces(draw.attention_figure(faces))[1].z
    assert np.array_equal(grid, faces.attention[1].T)  # a across, b down
    neuron: Any = traces(draw.neuron_figure(faces))[0]
    assert np.abs(neuron.z).max() == pytest.approx(1.0) and np.array_equal(
        neuron.customdata, faces.neurons[0].T
    )
    logits: Any = traces(draw.logit_figure(faces))[0].customdata
    assert np.array_equal(logits, faces.logit_power.T)
    clusters: Any = traces(draw.cluster_figure(faces))
    assert np.array_equal(clusters[0].z, faces.neuron_share) and np.array_equal(
        clusters[1].z, faces.write_share
    )
    effects: Any = traces(draw.cluster_effect_figure(result))[0].y
    assert list(effects) == [c.right_logit for c in result.clusters]
    point: Any = traces(draw.clock_pizza_figure([result]))[0]
    assert (point.x[0], point.y[0]) == (result.distance_irrelevance, result.gradient_symmetricity)


def test_the_circle_is_walked_by_its_own_neighbours(faces: Portrait) -> None:
    k = faces.circle_freqs[0]
    order = draw.walk(P, k)
    assert sorted(order) == list(range(P)) and [v * k % P for v in order] == list(range(P))
    line: Any = traces(draw.circles_figure(faces))[0]
    assert len(line.x) == P + 1 and line.x[0] == line.x[-1]


def test_curves_have_phases_only_where_there_are_three(run: Path, result: OneLayerAnalysis) -> None:
    history = RunFolder(run).read_metrics()
    assert result.phases is not None and result.curves is not None
    three = dataclasses.replace(
        result.phases, verdict="three phases", memorised_at=20, clean_up_from=40, generalised_at=160
    )
    none = dataclasses.replace(result.phases, verdict="no plateau")
    marked: Any = curves_figure(history, three).layout
    assert sorted({(shape.x0, shape.x1) for shape in marked.shapes}) == [(10, 20), (20, 40), (40, 160)]
    assert not curves_figure(history, none).layout.shapes  # pyright: ignore[reportAttributeAccessIssue]
    drawn: Any = traces(progress_figure(result.curves))
    assert list(drawn[2].y) == list(result.curves.restricted_loss)
    heat: Any = traces(power_figure(result.curves))[0].z
    assert heat.shape == (P // 2, len(result.curves.step))


def test_many_runs_lie_over_each_other_and_long_ones_are_thinned(run: Path) -> None:
    history = RunFolder(run).read_metrics()
    figure: Any = overlay_figure({"a": history, "<b>": history}, "test_loss", axis="test loss")
    assert [trace.name for trace in figure.data] == ["a", "&lt;b&gt;"]
    import pandas as pd

    long = pd.DataFrame({"step": range(50_000)})
    short = thinned(long)
    assert len(short) <= 2000 and short["step"].iloc[0] == 0 and short["step"].iloc[-1] == 49_999


@pytest.mark.parametrize("what", ["circle", "sine", "sines", "spectrum", "logits"])
def test_an_evolution_ends_where_the_run_ends(run: Path, faces: Portrait, what: str) -> None:
    found = evolution(run, what)
    assert list(found.step) == [10 * 2**i for i in range(6)] and found.k in faces.key_freqs
    assert found.embed_power.sum(1) == pytest.approx(np.ones(6))
    assert found.circularity[-1] > 0.999 > found.circularity[0]
    if what == "logits":
        assert np.allclose(found.logit_power[-1], faces.logit_power, atol=1e-6)
    if what in ("sine", "sines"):
        assert found.profile.shape == found.fitted.shape == (6, len(found.neurons), P)
        left = ((found.profile - found.fitted) ** 2).sum(-1)
        whole = ((found.profile - found.profile.mean(-1, keepdims=True)) ** 2).sum(-1)
        assert np.allclose(left, (1 - found.r2) * whole, atol=1e-4)
        assert 1 <= len(found.neurons) <= (1 if what == "sine" else 6)
    assert len(found.frame()) == 6


def test_metrics_that_no_trainer_wrote_are_measured(tmp_path: Path) -> None:
    found = evolution(write_run(tmp_path / "bare", metrics=False, checkpoints=3))
    assert list(found.history["step"]) == [10, 20, 40]
    assert found.history["test_accuracy"].iloc[-1] == 1.0 > found.history["test_accuracy"].iloc[0]


def test_stills_run_from_the_first_to_the_last_checkpoint(run: Path) -> None:
    circle, sine = evolution(run, "circle"), evolution(run, "sine")
    chosen = stills(circle)
    assert chosen[0] == 0 and chosen[-1] == 5 and len(chosen) <= 4
    assert len(traces(circle_stills(circle))) == 2 * len(chosen)
    assert len(traces(sine_stills(sine))) == 2 * len(stills(sine))


def test_what_cannot_be_animated_is_said(run: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="closest: circle"):
        evolution(run, "cirle")
    with pytest.raises(UsageError, match="holds no checkpoints"):
        evolution("one-layer")
    with pytest.raises(UsageError, match="one checkpoint"):
        evolution(write_run(tmp_path / "one", checkpoints=1))
    with pytest.raises(UsageError, match="does not move"):
        evolution(run, max_frames=1)
    assert len(evolution(run, max_frames=3).step) == 3


def test_checkpoints_of_another_model_are_refused(tmp_path: Path) -> None:
    mixed = write_run(tmp_path / "mixed", checkpoints=3)
    other = write_run(tmp_path / "other", checkpoints=1, p=17)
    (mixed / "checkpoints" / "step-000015.safetensors").write_bytes(
        (other / "checkpoints" / "step-000010.safetensors").read_bytes()
    )
    with pytest.raises(BadCheckpoint, match=r"step-000015.* has shape"):
        evolution(mixed)
    assert isinstance(evolution(write_run(tmp_path / "whole", checkpoints=2)), Evolution)
