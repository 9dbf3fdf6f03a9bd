"""How much of what a real model's token carries goes through the circle, and where: Gemma 3 270M, months."""

import pytest
from real_models import real_model

import mechfourier as mf
from mechfourier.causal.experiment import Experiment
from mechfourier.causal.share import ALL, RANDOM, SHAM, WHOLE, use_share
from mechfourier.errors import UsageError

pytestmark = [pytest.mark.real, pytest.mark.slow]


@pytest.fixture(scope="module")
def asked() -> Experiment:
    return Experiment.of(real_model("gemma3-270m"), "months", task="next")


def test_the_circle_carries_a_part_of_what_the_month_carries(asked: Experiment) -> None:
    found = use_share(asked, asked.at("blocks.0.hook_resid_post", "value"), (1,))
    moved = {rung.name: rung.moved for rung in found.ladder}
    assert moved[WHOLE] > 0.6 and moved[RANDOM] < 0.05 and moved[SHAM] == 0.0
    assert moved["foreign (days)"] < 0.05
    assert moved["k = 1"] < moved["k = 1–2"] < moved[ALL] <= moved[WHOLE] + 0.05
    assert found.share.value is not None and 0.05 < found.share.value < 0.4
    assert found.along == "circle"


def test_a_hook_point_that_the_bridge_only_shows_is_refused(asked: Experiment) -> None:
    with pytest.raises(UsageError, match="would not reach the residual stream"):
        mf.rotate(asked, site="blocks.3.hook_resid_mid", k=1, n_controls=0)
