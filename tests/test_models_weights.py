"""The hash is the content; the re-initialised control is the same architecture with chance weights."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_folders import write_model
from torch import nn
from transformer_lens import HookedRootModule
from transformer_lens.hook_points import HookPoint

from mechfourier.models.pretrained import load_pretrained
from mechfourier.models.weights import reinitialised, weights_hash

TOKENS = torch.tensor([[2, 5, 9, 11], [3, 3, 4, 30]])


class Toy(HookedRootModule):
    """A model of one's own, with a weight that two names share and a buffer."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.cfg = type("Config", (), {"d_model": 64})()
        self.W_E = nn.Parameter(torch.randn(50, 64, generator=generator) * 3 + 1)
        self.W_U = self.W_E
        self.scale = nn.Parameter(torch.full((64,), 2.0))
        self.register_buffer("table", torch.arange(4.0))
        self.hook_embed = HookPoint()
        self.setup()

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.hook_embed(self.W_E[tokens] * self.scale) @ self.W_U.T


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "qwen3")


@pytest.fixture(params=["hooked", "bridge", "toy"])
def model(request: pytest.FixtureRequest, folder: Path) -> Any:
    return Toy() if request.param == "toy" else load_pretrained(folder, engine=request.param)


def first_matrix(model: Any) -> torch.Tensor:
    """A view of one weight matrix that can be written to."""
    root = getattr(model, "original_model", model)
    return next(p for p in nn.Module.parameters(root) if p.dim() == 2)


def test_the_hash_follows_the_content(model: Any) -> None:
    before = weights_hash(model)
    assert weights_hash(model) == before
    with torch.no_grad():
        first_matrix(model)[0, 0] += 1
    changed = weights_hash(model)
    assert changed != before
    with torch.no_grad():
        first_matrix(model)[0, 0] -= 1
    assert len(changed) == 32


def test_the_hash_sees_what_is_written_past_the_version_counters(model: Any) -> None:
    before, matrix = weights_hash(model), first_matrix(model)
    matrix.data.mul_(2)
    assert weights_hash(model) != before
    matrix.data.mul_(0.5)
    assert weights_hash(model) == before


def test_the_same_folder_has_the_same_hash(folder: Path) -> None:
    first, second = load_pretrained(folder), load_pretrained(folder)
    assert weights_hash(first) == weights_hash(second)
    second.cfg.act_fn = "relu"  # the same weights in another function are another model
    assert weights_hash(first) != weights_hash(second)


def test_reinitialised_is_another_model_of_the_same_shape(model: Any) -> None:
    before, hashed = model(TOKENS), weights_hash(model)
    fresh = reinitialised(model, 3)
    other = fresh(TOKENS)
    assert other.shape == before.shape
    assert (other - before).abs().max() > 0.1
    assert torch.equal(model(TOKENS), before)  # the original is as it was
    assert weights_hash(model) == hashed != weights_hash(fresh)
    assert torch.equal(reinitialised(model, 3)(TOKENS), other)  # the seed decides
    assert not torch.equal(reinitialised(model, 4)(TOKENS), other)
    assert "re-initialised with seed 3" in fresh.mechfourier_name
    assert getattr(fresh, "tokenizer", None) is getattr(model, "tokenizer", None)


def test_the_control_runs_on_its_own_weights_and_hooks(model: Any) -> None:
    """Copying the original's weights back must give the original's logits: nothing of the copy points
    elsewhere."""
    fresh = reinitialised(model, 0)
    roots = [getattr(m, "original_model", m) for m in (fresh, model)]
    with torch.no_grad():
        for new, old in zip(*(nn.Module.parameters(root) for root in roots), strict=True):
            new.copy_(old)
    assert torch.equal(fresh(TOKENS), model(TOKENS))
    seen: list[str] = []
    name = next(name for name in fresh.hook_dict if name.endswith("hook_embed"))
    fresh.run_with_hooks(TOKENS, fwd_hooks=[(name, lambda value, hook: seen.append("fresh"))])
    model(TOKENS)
    assert seen == ["fresh"]


def test_scale_is_kept_and_vectors_are_as_they_were() -> None:
    toy = Toy()
    fresh = reinitialised(toy, 1)
    assert fresh.W_E is not toy.W_E
    assert fresh.W_E is fresh.W_U  # tied stays tied
    assert torch.equal(fresh.scale, toy.scale)
    assert torch.equal(fresh.get_buffer("table"), toy.get_buffer("table"))
    assert fresh.W_E.std().item() == pytest.approx(3, rel=0.1)
    assert fresh.W_E.mean().item() == pytest.approx(1, abs=0.2)
    correlation = torch.corrcoef(torch.stack([fresh.W_E.flatten(), toy.W_E.flatten()]).detach())[0, 1]
    assert abs(correlation.item()) < 0.08


def test_tied_embeddings_of_a_pretrained_model_stay_tied(folder: Path) -> None:
    fresh = reinitialised(load_pretrained(folder), 0)
    assert fresh.W_E.data_ptr() == fresh.W_U.data_ptr()


def test_a_model_may_answer_for_itself() -> None:
    class Own(Toy):
        drawn_with: int | None = None

        def reinitialised(self, seed: int) -> "Own":
            other = Own()
            object.__setattr__(other, "drawn_with", seed)
            return other

    assert reinitialised(Own(), 7).drawn_with == 7
