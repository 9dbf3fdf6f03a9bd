"""Turning a circle that a model reads turns its answer; nothing else does, and nothing is left behind."""

import json
from typing import Any

import numpy as np
import pytest
import torch
from clocks import clock_network
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from mechfourier.causal.edits import EditedRows
from mechfourier.causal.experiment import Experiment, places
from mechfourier.causal.rotate import RotationResult, rotate
from mechfourier.causal.subspaces import harmonic_subspace, key_harmonics, rotations
from mechfourier.domains.definition import domain
from mechfourier.errors import InterventionChangedNothing, OutOfRange, UnknownSite, UsageError
from mechfourier.hooks.interventions import edit_rotate, edit_zero, intervene
from mechfourier.hooks.run import has_hooks
from mechfourier.hooks.site import Site
from mechfourier.models.interface import encode
from mechfourier.models.registry import load
from mechfourier.toys.one_layer.model import OneLayerTransformer

P, KEYS = 13, (2, 3)


@pytest.fixture(scope="module")
def clock() -> OneLayerTransformer:
    """A model mod 13 in closed form that reads its operands off two circles."""
    return clock_network(P, KEYS)


def test_turning_all_circles_of_a_clock_moves_every_answer_by_delta(clock: Any) -> None:
    result = rotate(clock, "mod-13", site="hook_embed", ks=KEYS, n_controls=20)
    assert result.accuracy == 1.0
    assert result.exact_share == 1.0
    assert np.allclose(np.array(result.hits), np.eye(P))
    assert result.p_value == 1 / 21
    assert result.random_share is not None and result.random_share < 0.3
    place = Experiment.of(clock, "mod-13").at("hook_embed", "value")
    assert set(key_harmonics(place.means)) == set(KEYS)


def test_turning_one_of_two_circles_is_not_enough(clock: Any) -> None:
    alone = rotate(clock, "mod-13", site="hook_embed", k=2, n_controls=0)
    assert alone.exact_share < 0.9
    assert "nothing to be compared" in " ".join(alone.notes)


def test_turning_the_answer_before_the_unembedding_moves_it_too(clock: Any) -> None:
    result = rotate(clock, "mod-13", site="blocks.0.hook_resid_post", position="last", ks=KEYS, n_controls=0)
    assert result.exact_share > 0.9


def test_the_grokked_model_answers_the_turned_question() -> None:
    result = rotate(load("one-layer"), "mod-113", site="hook_embed", n_prompts=113, n_controls=200, seed=1)
    assert result.exact_share >= 0.9
    assert result.p_value is not None and result.p_value < 0.005
    assert result.random_share is not None and result.random_share < 0.5
    assert len(result.ks) > 1


def test_rows_of_a_batch_give_what_single_passes_give(clock: Any) -> None:
    asked = Experiment.of(clock, "mod-13", n_prompts=26)
    place = asked.at("hook_embed", "value")
    basis = harmonic_subspace(place.means, (2,)).basis
    angle = torch.linspace(0.3, 2.0, 26)
    edit = edit_rotate(Site("embed"), basis, angle, center=place.centre, positions=place.at)
    with intervene(clock, [edit]):
        single = asked.task.score(clock).scores

    def edit_of(rows: torch.Tensor) -> Any:
        return edit_rotate(Site("embed"), basis, angle[rows], center=place.centre, positions=place.at[rows])

    order = torch.randperm(26, generator=torch.Generator().manual_seed(1))
    several = asked.engine.scores(EditedRows(Site("embed"), order, lambda rows: edit_of(order[rows])))
    assert torch.allclose(several.log_softmax(1), single[order].log_softmax(1), atol=1e-5)


def test_an_edit_of_nothing_is_an_error(clock: Any) -> None:
    asked, site = Experiment.of(clock, "mod-13", n_prompts=13), Site("embed")
    with pytest.raises(InterventionChangedNothing):
        asked.engine.scores(
            EditedRows(site, torch.arange(13), lambda rows: edit_zero(site, dims=31, positions=0))
        )
    assert not has_hooks(clock)


def test_the_operand_is_found_where_it_stands(clock: Any) -> None:
    calendar = load("calendar")
    design = domain("months").operation_design(1, model=calendar)
    rows = torch.arange(len(design))
    encodings = encode(calendar, design.prompts)
    at = places(design, encodings, rows, "value")
    tokens = [encoding.spans[i] for encoding, i in zip(encodings, at.tolist(), strict=True)]
    names = [design.prompts[i][a:b] for i, (a, b) in enumerate(tokens)]
    assert names == [design.domain.values[v] for v in design.value.tolist()]


@given(n=st.integers(5, 40), seed=st.integers(0, 1000))
def test_a_turn_takes_each_class_mean_to_the_next(n: int, seed: int) -> None:
    """On an ellipse too, and for planes that are not orthogonal to each other."""
    generator = torch.Generator().manual_seed(seed)
    ks = (1, 2)
    angle = 2 * torch.pi / n * torch.outer(torch.arange(n).double(), torch.tensor(ks).double())
    waves = torch.stack([angle.cos(), angle.sin()], -1).flatten(1)
    means = (waves @ torch.randn(4, 9, generator=generator, dtype=torch.float64) + 3.0).float()
    turn = harmonic_subspace(means, ks)
    centred = (means - means.mean(0)) @ turn.basis
    moved = torch.einsum("eij,vj->evi", turn.maps(n), centred)
    for delta in (0, 1, n - 1):
        assert torch.allclose(moved[delta], centred.roll(-delta, 0), atol=2e-2 * float(centred.abs().max()))


@given(n=st.integers(3, 50))
def test_rotations_are_a_group(n: int) -> None:
    found = rotations((1,), n)
    assert torch.allclose(found[1] @ found[n - 1], torch.eye(2, dtype=torch.float64), atol=1e-9)
    assert torch.allclose(found[1] @ found[1], found[2], atol=1e-9)


def test_hooks_are_gone_after_an_interruption(clock: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    forward, calls = clock.unembed.forward, []

    def interrupted(x: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        if len(calls) > 3:
            raise KeyboardInterrupt
        return forward(x)

    monkeypatch.setattr(clock.unembed, "forward", interrupted)
    with pytest.raises(KeyboardInterrupt):
        rotate(clock, "mod-13", site="hook_embed", ks=KEYS, n_controls=20)
    assert len(calls) > 3 and not has_hooks(clock)


def test_a_result_survives_json_and_draws_what_it_holds(clock: Any) -> None:
    result = rotate(clock, "mod-13", site="hook_embed", ks=KEYS, n_prompts=26, n_controls=5)
    assert RotationResult.from_json(result.to_json()) == result
    frame = result.frame()
    drawn = np.array(result.plot().data[0].z, dtype=float)
    assert np.allclose(drawn, frame.pivot(index="delta", columns="shift", values="share").to_numpy())
    assert np.allclose(frame.groupby("delta").share.sum(), 1.0)


def test_wrong_calls_say_what_is_wrong(clock: Any) -> None:
    def call(**options: Any) -> Any:
        return rotate(clock, "mod-13", **{"site": "hook_embed", "n_controls": 0, **options})

    with pytest.raises(OutOfRange, match="32 dimensions"):
        call(plane=torch.eye(64)[:, :2], k=2)
    with pytest.raises(OutOfRange, match="from 1 to 6"):
        call(k=7)
    with pytest.raises(UnknownSite):
        call(site="hook_emebd")
    with pytest.raises(OutOfRange, match="layers"):
        call(site="blocks.4.hook_resid_post")
    with pytest.raises(OutOfRange, match="same mean"):
        call(position="last")  # the embedding of "=" is the same in all prompts
    with pytest.raises(UsageError, match="closest: value"):
        call(position="values")
    with pytest.raises(UsageError, match="not both"):
        call(k=1, ks=(1, 2))
    assert not has_hooks(clock)


def test_a_plane_of_ones_own_turns_the_right_way(clock: Any) -> None:
    place = Experiment.of(clock, "mod-13").at("hook_embed", "value")
    plane = harmonic_subspace(place.means, (3,)).basis
    forth = rotate(clock, "mod-13", site="hook_embed", plane=plane, k=3, n_controls=0)
    back = rotate(clock, "mod-13", site="hook_embed", plane=plane.flip(1).numpy(), k=3, n_controls=0)
    found = rotate(clock, "mod-13", site="hook_embed", k=3, n_controls=0)
    assert np.allclose(forth.hits, back.hits) and np.allclose(forth.hits, found.hits)


def test_the_command_prints_one_object(tmp_path: Any) -> None:
    from mechfourier.cli.app import app

    arguments = [
        "rotate",
        "calendar",
        "--domain",
        "days",
        "--controls",
        "10",
        "--json",
        "--out",
        str(tmp_path),
    ]
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    value = json.loads(done.stdout)
    assert value["exact_share"] > 0.9 > value["random_share"]
    page = next(tmp_path.glob("rotate-calendar-days*.html")).read_text()
    assert '<script src="plotly-' in page and "Rotation: days in calendar" in page


def test_a_plane_on_the_command_line_is_the_harmonics() -> None:
    from mechfourier.cli.app import app

    arguments = [
        "ablate",
        "calendar",
        "--domain",
        "days",
        "--site",
        "hook_embed",
        "--controls",
        "0",
        "--json",
    ]
    done = CliRunner().invoke(app, [*arguments, "--plane", "k=1"], catch_exceptions=False)
    value = json.loads(done.stdout)
    assert value["rank"] == 2 and value["dims"] is None and value["logit_diff_change"] < -5
    both = CliRunner().invoke(app, [*arguments, "--plane", "k=1", "--dim", "3"])
    assert isinstance(both.exception, UsageError)


def test_a_layer_that_the_site_is_not_at_is_refused() -> None:
    from mechfourier.cli.causal import site_of

    with pytest.raises(UsageError, match=r"hook_embed is not at layer 9; .* --site resid_post --layer 9"):
        site_of("hook_embed", 9)
    with pytest.raises(UsageError, match="not at layer 9"):
        site_of("blocks.3.hook_resid_post", 9)
    assert str(site_of("blocks.3.hook_resid_post", 3)) == str(site_of("resid_post", 3))


def test_p_compares_the_share_that_is_printed_beside_it(clock: Any) -> None:
    """The random planes turn on a part of the pairs; p says how many of them reach the planes on those."""
    result = rotate(clock, "mod-13", site="hook_embed", k=2, n_controls=20)
    reached = sum(share >= result.paired_share - 1e-12 for share in result.control_shares)
    assert result.p_value == (1 + reached) / 21
    said = f"these planes on the same pairs {result.paired_share:.1%} (p = {result.p_value:.2g})"
    assert f"{result.exact_share:.1%}" in str(result) and said in str(result)
    assert result.direction() in str(result)


def test_old_names_work_with_a_warning(clock: Any) -> None:
    options: dict[str, Any] = {"samples": 13, "controls": 3, "position": "operand"}
    with pytest.warns(DeprecationWarning, match="called n_prompts"):
        old = rotate(clock, "mod-13", site="hook_embed", ks=KEYS, **options)
    new = rotate(clock, "mod-13", site="hook_embed", ks=KEYS, n_prompts=13, n_controls=3, position="value")
    assert old == new
    with pytest.raises(TypeError, match="its old name"):
        rotate(clock, "mod-13", site="hook_embed", n_prompts=13, **{"samples": 13})  # type: ignore


def test_verbs_take_an_experiment_and_score_its_prompts_once(clock: Any) -> None:
    asked = Experiment.of(clock, "mod-13", n_prompts=26)
    alone = rotate(clock, "mod-13", site="hook_embed", ks=KEYS, n_prompts=26, n_controls=5)
    assert rotate(asked, site="hook_embed", ks=KEYS, n_controls=5).hits == alone.hits
    first = asked.baseline
    assert rotate(asked, site="hook_embed", k=2, n_controls=0).accuracy == first.accuracy
    assert asked.baseline is first
