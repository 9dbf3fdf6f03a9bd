"""Lens, attention, adder and moduli: the figures draw the frames."""

from typing import Any

import numpy as np

from mechfourier.drawing.marks import site_labels
from mechfourier.probes.attention_result import AttentionResult, RoleAttention
from mechfourier.probes.lens import LensLayer, LensResult
from mechfourier.toys.universal.accuracy import AccuracySweep, ModulusAccuracy
from mechfourier.toys.universal.figures import extrapolation_figure

SITES = ("blocks.0.hook_resid_pre", "blocks.0.hook_resid_post")


def lens() -> LensResult:
    layers = tuple(
        LensLayer(s, 0.2 + i, 2.0, 0.3 + 0.5 * i, 0.2, 0.9, 0.1, 0.01) for i, s in enumerate(SITES)
    )
    return LensResult("m", "days", 7, 49, 7, layers, 0.0, 0.0, ())


def test_the_lens_draws_accuracy_beside_its_null_and_chance() -> None:
    figure: Any = lens().plot()
    drawn = {trace.name: list(trace.y) for trace in figure.data if trace.name}
    assert drawn["right answer first (95 % interval)"] == [0.3, 0.8]
    assert drawn["answers shuffled"] == [0.1, 0.1] and drawn["chance"] == [1 / 7, 1 / 7]
    assert list(figure.data[0].x) == site_labels(SITES)[0] and list(figure.data[-1].customdata) == list(SITES)


def test_hook_points_are_short_where_they_stay_apart() -> None:
    assert site_labels(["hook_embed", "blocks.0.hook_resid_post"]) == (["embed", "0"], "after layer")
    assert site_labels(["blocks.3.hook_mlp_out"]) == (["3"], "layer (mlp out)")
    mixed = ["blocks.0.hook_resid_mid", "blocks.0.attn.hook_z"]
    assert site_labels(mixed) == (["0 resid_mid", "0 z"], "hook point")
    twice = ["encoder.0.hook_mlp_out", "decoder.0.hook_mlp_out"]
    assert site_labels(twice)[0] == ["encoder 0 mlp_out", "decoder 0 mlp_out"]
    assert site_labels(["a", "blocks.0.hook_a"])[0] == ["a", "0"] and site_labels([]) == ([], "hook point")


def test_the_roles_are_a_grid_of_heads() -> None:
    rows = tuple(
        RoleAttention(layer, head, role, 0.1 * layer + 0.2 * head + 0.3 * r, 0.0, 1.0, 0.2, 0.5)
        for layer in (0, 1)
        for head in (0, 1)
        for r, role in enumerate(("first operand", "offset"))
    )
    figure: Any = AttentionResult("m", "days", 7, 49, rows, (), None, None, ()).plot()
    heat = figure.data[0]
    assert list(heat.y) == ["0.0", "0.1", "1.0", "1.1"] and list(heat.x) == ["first operand", "offset"]
    assert np.allclose(heat.z[3], [0.3, 0.6])


def test_moduli_show_what_wraps_apart_from_what_does_not() -> None:
    rows = tuple(
        ModulusAccuracy(
            m, "trained" if m < 8 else "beyond", m * m, True, 0, 0.9, 0.8, 1.0, 0.8, 1.0, 0.5, 0, 10
        )
        for m in range(5, 11)
    )
    sweep = AccuracySweep("m", 7, -8, 64, 0, rows)
    figure: Any = extrapolation_figure(sweep)
    drawn = {trace.name: list(trace.y) for trace in figure.data if trace.name}
    assert set(drawn["a + b ≥ m (wraps)"]) == {0.8} and set(drawn["a + b &lt; m"]) == {1.0}
    assert figure.layout.shapes[0].x0 == 7.5
    part = sweep.part()
    assert [section.heading for section in part.sections] == [
        "Extrapolation",
        "Trained, held out and beyond",
        "Moduli",
    ]
