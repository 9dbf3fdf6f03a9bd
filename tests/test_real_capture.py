"""On real language models: packed passes give the numbers of prompts run alone, and the control leaves the
weights as they were."""

from typing import Any

import pytest
import torch

real_models = pytest.importorskip("real_models")

from mechfourier.domains.definition import domain  # noqa: E402
from mechfourier.domains.design import read_positions  # noqa: E402
from mechfourier.hooks import capture, passes  # noqa: E402
from mechfourier.models.interface import encode  # noqa: E402
from mechfourier.models.untrained import untrained  # noqa: E402
from mechfourier.models.weights import weights_hash  # noqa: E402

pytestmark = pytest.mark.real


@pytest.fixture(scope="module", params=["gemma3-270m", "qwen2.5-0.5b"])
def model(request: pytest.FixtureRequest) -> Any:
    return real_models.real_model(request.param)


def test_months_are_read_as_in_prompts_run_alone(model: Any) -> None:
    design = domain("months").value_design()
    encodings = encode(model, design.prompts)
    at = read_positions(design, encodings)
    acts = capture(model, encodings, "resid_post,mlp_post,pattern", at, logits=True)
    assert getattr(model, passes._CHECKED)[True], "beginnings were not shared"
    for row in (0, 5, 10, 47, 131):
        alone = capture(model, [encodings[row]], acts.sites, at[row : row + 1], logits=True)
        assert acts.logits is not None and alone.logits is not None
        # Qwen's attention scores reach hundreds, where a step of float32 is 3e-5: patterns and what follows
        # carry that much
        pairs = [(acts[s][row][..., : alone[s].shape[-1]], alone[s][0], 1e-4) for s in acts.sites]
        for found, expected, error in [*pairs, (acts.logits[row], alone.logits[0], 1e-4)]:
            assert (found - expected).abs().max() <= error * expected.abs().max()


def test_the_control_leaves_the_weights_as_they_were(model: Any) -> None:
    before = weights_hash(model)
    with untrained(model, 0) as blank:
        first = capture(blank, ["It is January", "The party is in May"], "resid_post").stack()
    with untrained(model, 0) as blank:
        assert torch.equal(
            capture(blank, ["It is January", "The party is in May"], "resid_post").stack(), first
        )
    model.__dict__.pop("_mechfourier_weights_hash", None)
    assert weights_hash(model) == before
    assert (
        capture(model, ["It is January", "The party is in May"], "resid_post").stack() - first
    ).abs().max() > 1
