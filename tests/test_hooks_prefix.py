"""Common beginnings: fewer tokens are run, and the numbers are those of whole passes."""

from typing import Any

import pytest
import torch
from hook_models import VOCAB, encoder, gpt, tokens, toy, transformer
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mechfourier.hooks import Site, add, capture
from mechfourier.hooks.prefix import can_share, shared_prefix
from mechfourier.hooks.run import hooked, inference
from mechfourier.hooks.site import sites


def grid(a: int, b: int, length: int) -> Tensor:
    """``a`` beginnings times ``b`` ends: "January + 0 … =", as tokens."""
    rows = [[i, 40, VOCAB - 1 - j] + [41] * (length - 3) for i in range(a) for j in range(b)]
    return torch.tensor(rows)[torch.randperm(a * b, generator=torch.Generator().manual_seed(0))]


def assert_close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_the_plan_is_the_cheapest_beginning() -> None:
    shared = shared_prefix(grid(6, 8, 5), before=4)
    assert shared is not None and shared.length == 2 and shared.beginnings.shape == (6, 2)
    assert torch.equal(shared.beginnings[shared.which], grid(6, 8, 5)[:, :2])
    assert shared_prefix(grid(6, 8, 5), before=0) is None, "the first position is read itself"
    assert shared_prefix(tokens(20, 5), before=4) is None, "nothing in common"
    assert shared_prefix(torch.full((4, 1), 3), before=0) is None


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 2), min_size=4, max_size=4), min_size=1, max_size=20), st.integers(0, 4)
)
def test_a_plan_always_gives_the_tokens_back(rows: list[list[int]], before: int) -> None:
    table = torch.tensor(rows)
    shared = shared_prefix(table, before)
    if shared is not None:
        assert shared.length <= min(before, 3)
        assert torch.equal(shared.beginnings[shared.which], table[:, : shared.length])
        assert shared.beginnings.numel() + len(table) * (4 - shared.length) < table.numel()


@pytest.mark.parametrize("name", ["transformer", "gpt"])
def test_same_numbers_at_every_site(name: str) -> None:
    model: Any = {"transformer": transformer, "gpt": gpt}[name]()
    ids = grid(5, 6, 6)
    assert can_share(model) and shared_prefix(ids, 4) is not None
    with inference(model):
        logits, cache = model.run_with_cache(ids)
    readable = [site for site in sites(model) if str(site) in cache]
    at = torch.tensor([[4, 5]]).expand(len(ids), 2)
    acts = capture(model, ids, readable, at, logits=True)
    for site in readable:
        full = cache[str(site)]
        if "_norm_" in site.kind:
            full = full.unflatten(0, (30, 6, -1))
        if "attn_scores" in site.kind or site.kind == "pattern":
            assert_close(acts[site], full[:, :, 4:].movedim(1, 2))
        else:
            assert_close(acts[site], full[:, 4:])
    assert acts.logits is not None
    assert_close(acts.logits, logits[:, -1])


@pytest.mark.parametrize("wanted", ["embed", "resid_post", "blocks.1.hook_resid_mid", "ln_final_normalized"])
def test_same_numbers_when_stopping_early(wanted: str) -> None:
    ids = grid(5, 6, 6)
    model: Any = transformer()
    with inference(model):
        cache = model.run_with_cache(ids)[1]
    acts = capture(transformer(), ids, wanted)
    for site in acts.sites:
        assert_close(acts[site], torch.as_tensor(cache[str(site)])[:, -1])


def test_fewer_tokens_are_run(monkeypatch: pytest.MonkeyPatch) -> None:
    ids, seen = grid(5, 40, 4), []
    capture(transformer(), ids, Site("resid_post", 1))  # the first time one prompt is also run alone
    block = transformer().blocks[1]
    run = block.forward

    def counted(residual: Tensor, *rest: Any, **options: Any) -> Any:
        seen.append(residual.shape[:2].numel())
        return run(residual, *rest, **options)

    monkeypatch.setattr(block, "forward", counted)  # not a hook of PyTorch's: with one, prompts run whole
    capture(transformer(), ids, Site("resid_post", 1))
    assert sum(seen) == 5 * 2 + 200 * 2 < ids.numel()


def test_edits_see_whole_prompts() -> None:
    ids, step = grid(5, 6, 6), torch.ones(16)
    with add(transformer(), Site("resid_pre", 1), step, positions=1):
        assert not can_share(transformer())
        edited = capture(transformer(), ids, "resid_post").stack()
    positions: list[int] = []
    with hooked(transformer(), [(Site("resid_pre", 1), lambda value: positions.append(value.shape[1]))]):
        capture(transformer(), ids, "resid_post")
    assert positions == [6]
    assert not torch.allclose(edited[-1], capture(transformer(), ids, "resid_post").stack()[-1])


def test_only_causal_models_with_a_cache_share() -> None:
    assert not can_share(toy()) and not can_share(encoder())
    assert can_share(gpt())
