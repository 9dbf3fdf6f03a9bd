"""What carries the operand brings the donor's answer; what does not, does not; and all arms tell one
story."""

import json
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from mechfourier.causal.arms import ArmsResult, arms, complement
from mechfourier.causal.experiment import donor_rows
from mechfourier.causal.patch import PatchResult, patch
from mechfourier.domains.definition import domain
from mechfourier.errors import OutOfRange, UsageError
from mechfourier.fourier.analytic import analytic_weights
from mechfourier.hooks.run import has_hooks
from mechfourier.stats.paired import ratio_interval
from mechfourier.toys.one_layer.model import OneLayerConfig, OneLayerTransformer

P, KEYS = 13, (2, 3)
SIZES: dict[str, Any] = dict(d_model=32, n_heads=4, d_head=8, d_mlp=64)


@pytest.fixture(scope="module")
def clock() -> OneLayerTransformer:
    """Reads its operands off circles in dimensions 0 to 3; heads 0 and 1 carry the first one."""
    weights = analytic_weights(P, frequencies=KEYS, **SIZES)
    return OneLayerTransformer(
        OneLayerConfig(p=P, **SIZES), weights={name: value.float() for name, value in weights.items()}
    )


def test_the_circles_carry_all_of_the_operand(clock: Any) -> None:
    by_plane = patch(clock, "mod-13", site="hook_embed", ks=KEYS, n_controls=30)
    by_dims = patch(clock, "mod-13", site="hook_embed", dims=(0, 1, 2, 3), n_controls=0)
    whole = patch(clock, "mod-13", site="hook_embed")
    for result in (by_plane, by_dims, whole):
        assert result.success == 1.0 and result.success_before == 0.0
        assert result.recovered == pytest.approx(1.0, abs=1e-3)
    assert by_plane.p_value == 1 / 31
    assert by_plane.random_max is not None and by_plane.random_max < 0.01
    assert whole.n_controls == 0 and whole.p_value is None


def test_one_circle_carries_part_of_it(clock: Any) -> None:
    result = patch(clock, "mod-13", site="hook_embed", ks=2, n_controls=0)
    assert result.recovered is not None and result.recovered_ci is not None
    assert 0.1 < result.recovered < 0.9
    assert result.recovered_ci[0] <= result.recovered <= result.recovered_ci[1]


def test_heads_of_the_first_operand_carry_it(clock: Any) -> None:
    z = "blocks.0.attn.hook_z"
    first = patch(clock, "mod-13", site=z, head=(0, 1), position="last", n_controls=0)
    assert first.success == 1.0
    second = patch(
        clock, "mod-13", site=z, head=(2, 3), position="last", n_controls=0
    )  # donors share the offset
    assert second.recovered is not None
    assert second.success == 0.0 and abs(second.recovered) < 1e-3
    assert not has_hooks(clock)


def test_donors_differ_in_the_operand_alone() -> None:
    design = domain("mod-7").operation_design(2)
    rows = torch.arange(len(design))
    donors = donor_rows(design, rows, seed=3)
    assert design.offset is not None
    assert bool((design.offset[donors] == design.offset).all())
    assert bool((design.value[donors] != design.value).all())


def test_the_interval_of_a_constant_ratio_is_a_point() -> None:
    span = torch.rand(50, generator=torch.Generator().manual_seed(0)) + 1
    assert ratio_interval(0.3 * span, span, seed=0) == pytest.approx((0.3, 0.3), abs=1e-6)


def test_the_arms_of_a_circle_that_is_all_there_is(clock: Any) -> None:
    result = arms(clock, "mod-13", site="hook_embed", ks=KEYS)
    found = {arm.name: arm for arm in result.arms}
    assert found["before"].own == 1.0
    for name in ("patch circle", "patch PCA", "patch all"):
        assert found[name].donor == 1.0
    for name in ("average-ablate", "zero circle"):
        assert found[name].own < 0.5 and found[name].donor < 0.5
    assert found["zero all but circle"].own == 1.0
    assert ArmsResult.from_json(result.to_json()) == result
    drawn = {bar.name: list(bar.y) for bar in result.plot().data}
    assert drawn["own answer"] == [arm.own for arm in result.arms]


def test_a_complement_completes_a_basis() -> None:
    basis = torch.linalg.qr(torch.randn(9, 4, generator=torch.Generator().manual_seed(0))).Q
    rest = complement(basis)
    assert torch.allclose(basis @ basis.T + rest @ rest.T, torch.eye(9), atol=1e-5)


def test_wrong_calls_say_what_is_wrong(clock: Any) -> None:
    with pytest.raises(UsageError, match="one of"):
        patch(clock, "mod-13", site="hook_embed", ks=2, dims=3)
    with pytest.raises(OutOfRange, match="32"):
        patch(clock, "mod-13", site="hook_embed", dims=32)
    with pytest.raises(OutOfRange, match="32 dimensions"):
        patch(clock, "mod-13", site="hook_embed", plane=torch.eye(16)[:, :2])
    with pytest.raises(UsageError, match="no heads"):
        patch(clock, "mod-13", site="hook_embed", head=0)
    with pytest.raises(OutOfRange, match="head 4"):
        patch(clock, "mod-13", site="blocks.0.attn.hook_z", head=4)


def test_a_result_survives_json(clock: Any) -> None:
    result = patch(clock, "mod-13", site="hook_embed", ks=2, n_controls=4, n_prompts=26)
    assert PatchResult.from_json(result.to_json()) == result
    assert (result.frame().condition == "random").sum() == 4
    assert sum(trace.type == "histogram" for trace in result.plot().data) == 1


def test_commands_print_one_object(tmp_path: Any) -> None:
    from mechfourier.cli.app import app

    common = ["patch", "calendar", "--domain", "days", "--json", "--out", str(tmp_path)]
    done = CliRunner().invoke(app, [*common, "--k", "1", "--controls", "10"], catch_exceptions=False)
    assert json.loads(done.stdout)["success"] > 0.9
    done = CliRunner().invoke(app, [*common, "--arms"], catch_exceptions=False)
    assert [arm["name"] for arm in json.loads(done.stdout)["arms"]][1] == "patch circle"
    assert len(list(tmp_path.glob("arms-calendar-days*.html"))) == 1
