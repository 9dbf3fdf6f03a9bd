"""The search finds what moves a planted model's answer, without having been shown a circle."""

import json
from typing import Any

import numpy as np
import pytest
import torch
from day_models import RESID, USED, planted_circle
from typer.testing import CliRunner

from mechfourier.causal.find_plane import CausalPlane, find_plane, split_cells
from mechfourier.domains.definition import domain
from mechfourier.errors import OutOfRange, UnknownSite, UsageError
from mechfourier.hooks.run import has_hooks


@pytest.fixture(scope="module")
def planted() -> Any:
    return planted_circle()


def test_what_moves_the_answer_is_found(planted: Any) -> None:
    found = find_plane(planted, "days", RESID, steps=150, batch=32)
    assert found.accuracy == 1.0
    assert (found.whole_accuracy, found.probe_accuracy, found.model_accuracy) == (1.0, 1.0, 1.0)
    # The circle is in dimensions 0, 1 and, unread, in 2, 3: carrying the copy along does no harm, leaving 0,
    # 1 out would.
    inside = np.linalg.svd(found.plane[list(USED)], compute_uv=False)
    assert inside.min() > 0.5
    assert max(found.angles) < 60.0
    assert found.ks == (1,)
    # Nothing else varies in this model, so random planes of like variance are the same plane, and that is
    # said.
    assert any("little else varies" in note for note in found.notes)
    assert found.losses[-1] < found.losses[0]
    assert not has_hooks(planted)
    again = find_plane(planted, "days", RESID, steps=150, batch=32)
    assert again == found
    assert CausalPlane.from_json(found.to_json()) == found
    assert list(found.plot().data[0].x) == list(found.frame()["interchange_accuracy"])
    assert np.allclose(found.plane.T @ found.plane, np.eye(2), atol=1e-5)


def test_a_token_that_the_answer_does_not_pass_through_is_said_so(planted: Any) -> None:
    found = find_plane(planted, "days", RESID, steps=2, batch=8, position="operand")
    assert found.whole_accuracy == 0.0
    assert any("the answer does not pass through this token" in note for note in found.notes)


def test_cells_are_split_within_every_offset() -> None:
    design = domain("days").operation_design(2)
    train, test = split_cells(design, torch.Generator().manual_seed(0))
    assert sorted([*train.flatten().tolist(), *test.flatten().tolist()]) == list(range(7 * 14))
    for part in (train, test):
        assert len(part) >= 2
        offsets = design.offset
        assert offsets is not None
        assert all(len(set(offsets[column].tolist())) == 1 for column in part.T)


def test_bad_calls_say_what_is_wrong(planted: Any) -> None:
    with pytest.raises(OutOfRange, match="steps"):
        find_plane(planted, "days", RESID, steps=0)
    with pytest.raises(OutOfRange, match="rank is 3"):
        find_plane(planted, "days", RESID, rank=3)
    with pytest.raises(UnknownSite, match="resid_post"):
        find_plane(planted, "days", "blocks.0.hook_resid_pst")
    with pytest.raises(UsageError, match="closest: last"):
        find_plane(planted, "days", RESID, position="lst")


def test_the_command(tmp_path: Any) -> None:
    from mechfourier.cli.app import app

    options = ["find-plane", "calendar", "--domain", "days", "--site", "embed", "--position", "operand"]
    options += ["--steps", "3", "--batch", "8", "--out", str(tmp_path), "--json"]
    ran = CliRunner().invoke(app, options)
    assert ran.exit_code == 0, ran.output
    printed = json.loads(ran.stdout)
    assert len(printed["losses"]) == 3
    assert printed["whole_accuracy"] > 0.5
