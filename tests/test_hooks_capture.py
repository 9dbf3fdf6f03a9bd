"""capture() against TransformerLens's own cache: same numbers, less kept, less computed."""

import math
from typing import Any

import pytest
import torch
from hook_models import N_HEADS, N_LAYERS, VOCAB, Toy, bridge, encoder, gpt, tokens, toy, transformer
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mechfourier.errors import HookNeverFired, MechFourierError, OutOfRange, UnknownSite, UsageError
from mechfourier.hooks.capture import capture
from mechfourier.hooks.run import batches, hooked
from mechfourier.hooks.site import Site, sites
from mechfourier.models.interface import Encoding


def assert_close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5, equal_nan=True)


def encodings(lengths: list[int], seed: int = 0) -> list[Encoding]:
    drawn = tokens(len(lengths), max(lengths), seed)
    return [
        Encoding(tuple(row[:n].tolist()), tuple((i, i + 1) for i in range(n)))
        for row, n in zip(drawn, lengths, strict=True)
    ]


def cached(model: Any, ids: Tensor) -> dict[str, Tensor]:
    with torch.no_grad():
        return dict(model.run_with_cache(ids)[1])


@pytest.fixture(scope="module")
def bridged(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return bridge(tmp_path_factory.mktemp("qwen3"))


@pytest.fixture(params=["transformer", "gpt", "encoder", "toy", "bridge"])
def model(request: pytest.FixtureRequest) -> Any:
    if request.param == "bridge":
        return request.getfixturevalue("bridged")
    return {"transformer": transformer, "gpt": gpt, "encoder": encoder, "toy": toy}[request.param]()


def test_everything_that_runs_equals_the_cache(model: Any) -> None:
    ids = tokens(5, 7)
    cache = cached(model, ids)
    readable = [s for s in sites(model) if str(s) in cache and cache[str(s)].shape[0] in (1, len(ids))]
    acts = capture(model, ids, readable, positions="all", batch_size=2)
    assert acts.sites == tuple(readable) and len(acts) == 5
    for site in readable:
        expected = cache[str(site)].float().expand(acts[site].shape)
        assert_close(acts[site], expected)


def test_last_position_and_logits_of_bucketed_prompts(model: Any) -> None:
    prompts = encodings([3, 6, 4, 6, 3, 1])
    acts = capture(model, prompts, "resid_post", logits=True, batch_size=2)
    assert acts.logits is not None
    for row, prompt in enumerate(prompts):
        ids = torch.tensor([prompt.ids])
        cache = cached(model, ids)
        for site in acts.sites:
            assert_close(acts[site][row], cache[str(site)][0, -1])
        with torch.no_grad():
            assert_close(acts.logits[row], model(ids)[0, -1])


def test_nothing_after_the_last_wanted_hook_runs() -> None:
    model = Toy()
    capture(model, tokens(4, 5), "resid_post", batch_size=4)
    assert model.blocks_run == 2
    capture(model, tokens(4, 5), [Site("resid_post", 0), "embed"])
    assert model.blocks_run == 3
    capture(model, tokens(4, 5), "embed")
    assert model.blocks_run == 3
    capture(model, tokens(4, 5), "embed", logits=True)
    assert model.blocks_run == 5


def test_hooks_are_gone_afterwards_and_others_stay(model: Any) -> None:
    def everything() -> int:
        return sum(len(point.fwd_hooks) + len(point._forward_hooks) for point in model.hook_dict.values())

    before = everything()
    seen = []
    with hooked(model, [(Site("resid_pre", 0), lambda value: seen.append(value))]):
        within = everything()
        capture(model, tokens(2, 3), "resid_post", logits=True)
        with pytest.raises(OutOfRange):
            capture(model, tokens(2, 3), "resid_post", positions=3)
        assert everything() == within > before
    assert everything() == before
    assert len(seen) == 1


def test_activations_show_interventions() -> None:
    ids, site = tokens(3, 4), Site("resid_post", 0)
    with hooked(toy(), [(site, lambda value: value * 0 + 2)]):
        assert (capture(toy(), ids, site)[site] == 2).all()
    assert not (capture(toy(), ids, site)[site] == 2).any()


@settings(max_examples=25, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=8),
    size=st.integers(1, 5),
    data=st.data(),
)
def test_chosen_positions(lengths: list[int], size: int, data: st.DataObject) -> None:
    prompts = encodings(lengths)
    at = torch.tensor([data.draw(st.lists(st.integers(-n, n - 1), min_size=2, max_size=2)) for n in lengths])
    two = capture(toy(), prompts, "resid_post", at, batch_size=size)
    one = capture(toy(), prompts, "resid_post", at[:, 1])
    for row, prompt in enumerate(prompts):
        cache = cached(toy(), torch.tensor([prompt.ids]))
        for site in two.sites:
            expected = cache[str(site)][0, at[row]]
            assert_close(two[site][row], expected)
            assert_close(one[site][row], expected[1])


def test_positions_by_number_and_list() -> None:
    prompts = encodings([3, 5])
    first = capture(toy(), prompts, "embed", 0)["hook_embed"]
    assert_close(first, toy().embed(torch.tensor([p.ids[0] for p in prompts])).detach())
    mixed = capture(toy(), prompts, "embed", [1, -1])["hook_embed"]
    assert_close(mixed, toy().embed(torch.tensor([prompts[0].ids[1], prompts[1].ids[4]])).detach())


def test_last_is_the_last_token_with_text() -> None:
    closed = Encoding((1, 2, 3), ((0, 1), (1, 2), (2, 2)))
    acts = capture(toy(), [closed], "embed", logits=True)
    assert_close(acts["hook_embed"], toy().embed(torch.tensor([2])).detach())
    assert acts.logits is not None
    assert_close(acts.logits[0], toy()(torch.tensor([[1, 2, 3]]))[0, 1].detach())


def test_patterns_of_prompts_of_different_lengths() -> None:
    acts = capture(transformer(), encodings([3, 6]), ["pattern", "attn_scores"])
    pattern, scores = acts["blocks.1.attn.hook_pattern"], acts["blocks.1.attn.hook_attn_scores"]
    assert pattern.shape == (2, N_HEADS, 6)
    assert_close(pattern.sum(-1), torch.ones(2, N_HEADS))
    assert (pattern[0, :, 3:] == 0).all() and (scores[0, :, 3:] == -math.inf).all()
    assert_close(scores.softmax(-1), pattern)


def test_heads_come_after_positions() -> None:
    at = torch.tensor([[0, 1, 2], [1, 2, 3]])
    acts = capture(transformer(), tokens(2, 5), ["z", "q"], at)
    assert acts["blocks.0.attn.hook_z"].shape == (2, 3, N_HEADS, 4)


def test_hook_points_that_are_off_by_default_are_switched_on_for_the_pass() -> None:
    model, ids = transformer(), tokens(2, 4)
    acts = capture(model, ids, ["result", "attn_out"])
    assert_close(acts["blocks.0.attn.hook_result"].sum(1), acts["blocks.0.hook_attn_out"])
    assert model.cfg.use_attn_result is False


def test_a_hook_point_without_positions_is_kept_whole() -> None:
    pooled = capture(toy(), encodings([3, 5]), ["pool", "resid_post"])
    assert pooled["hook_pool"].shape == pooled["blocks.1.hook_resid_post"].shape


def test_stack_and_lookup() -> None:
    acts = capture(transformer(), tokens(4, 3), ["resid_post", "pattern"])
    with pytest.raises(UsageError, match="do not stack"):
        acts.stack()
    with pytest.raises(UnknownSite, match=r"was not captured; closest: blocks\.0\.hook_resid_post"):
        acts["blocks.0.hook_resid_pre"]
    only = capture(transformer(), tokens(4, 3), "resid_post")
    assert only.stack().shape == (N_LAYERS, 4, 16)
    assert_close(only.stack()[1], only[Site("resid_post", 1)])


def test_results_are_usable_in_training_and_the_mode_is_restored() -> None:
    model = Toy().train()
    value = capture(model, tokens(2, 3), "resid_post").stack()
    assert model.training and not value.is_inference() and not value.requires_grad


def test_bfloat16_gives_float32() -> None:
    model = Toy().to(torch.bfloat16)
    assert capture(model, tokens(2, 3), "resid_post", logits=True).stack().dtype == torch.float32


def test_a_hook_that_never_fires() -> None:
    with pytest.raises(HookNeverFired, match=r"hook_unused did not run in toy.*mechfourier hooks toy"):
        capture(toy(), tokens(2, 3), ["hook_unused", "resid_post"])


def test_damaged_weights_are_named_by_the_first_site() -> None:
    model = Toy()
    with torch.no_grad():
        model.blocks[1].mix.weight[0, 0] = math.nan  # type: ignore[union-attr, operator, index]
    capture(model, tokens(2, 3), Site("resid_post", 0))
    with pytest.raises(MechFourierError, match=r"blocks\.1\.hook_resid_post holds NaN"):
        capture(model, tokens(2, 3), "resid_post")


@pytest.mark.parametrize(
    ("prompts", "positions", "error", "words"),
    [
        ([], "last", UsageError, "no prompt"),
        (torch.zeros(0, 3, dtype=torch.long), "last", UsageError, "no prompt"),
        (torch.zeros(2, 0, dtype=torch.long), "last", UsageError, "at least one token"),
        ("text", "last", UsageError, "in brackets"),
        (["text", Encoding((1,), ((0, 1),))], "last", UsageError, "all texts, all Encodings"),
        (torch.full((1, 3), VOCAB), "last", OutOfRange, "token 50 .*0 to 49"),
        (torch.full((1, 3), -1), "last", OutOfRange, "token -1"),
        (torch.zeros(1, 33, dtype=torch.long), "last", OutOfRange, "33 tokens.*at most 32"),
        (torch.zeros(2, 3, dtype=torch.long), "lst", UsageError, "unknown positions 'lst'"),
        (torch.zeros(2, 3, dtype=torch.long), [0, 1, 2], UsageError, "for 2 prompts"),
        (torch.zeros(2, 3, dtype=torch.long), torch.tensor([0, 3]), OutOfRange, "prompt 1 has 3 tokens"),
        (encodings([2, 3]), "all", UsageError, "equal length"),
    ],
)
def test_bad_input(prompts: Any, positions: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        capture(toy(), prompts, "resid_post", positions)


def test_no_sites_and_unknown_sites() -> None:
    with pytest.raises(UsageError, match="no site to read"):
        capture(toy(), tokens(1, 2), [])
    assert capture(toy(), tokens(1, 2), [], logits=True).logits is not None
    with pytest.raises(UnknownSite, match="closest: resid_post"):
        capture(toy(), tokens(1, 2), "resid_pots")


def test_batches_cover_every_prompt_once_in_equal_lengths_of_bounded_size() -> None:
    lengths = [1 + (i * 7) % 11 for i in range(100)]
    found = batches(toy(), [[0] * n for n in lengths], batch_size=8)
    assert sorted(torch.cat([b.rows for b in found]).tolist()) == list(range(100))
    for batch in found:
        assert len(batch.rows) <= 8
        assert {lengths[r] for r in batch.rows.tolist()} == {batch.tokens.shape[1]}
    wide = Toy()
    wide.cfg.d_model, wide.cfg.n_ctx = 8192, None
    assert max(b.tokens.numel() for b in batches(wide, [[0] * 100] * 50)) == 500


def test_a_value_without_a_prompt_axis_is_refused() -> None:
    class Flat(Toy):
        def forward(self, tokens: Tensor) -> Tensor:
            return self.hook_unused(super().forward(tokens).flatten(0, 1))

    with pytest.raises(MechFourierError, match=r"\[6, 50\], whose first axis is not the 2 prompts"):
        capture(Flat(), tokens(2, 3), "hook_unused")


class Pair(Toy):
    """Gives a hook point a tuple, and another an axis that is shorter than the prompt, as a decoder has."""

    def forward(self, tokens: Tensor) -> Tensor:
        self.hook_pool((self.embed(tokens), None))  # type: ignore[arg-type]
        self.hook_unused(self.embed(tokens)[:, :2])
        return super().forward(tokens)


def test_tuples_and_other_position_axes() -> None:
    model, ids = Pair(), tokens(3, 5)
    acts = capture(model, ids, ["pool", "unused"])
    assert_close(acts["hook_pool"], model.embed(ids[:, -1]).detach())
    assert_close(acts["hook_unused"], model.embed(ids[:, 1]).detach())
    assert_close(capture(model, ids, "unused", 0)["hook_unused"], model.embed(ids[:, 0]).detach())
    with pytest.raises(OutOfRange, match="hook_unused has 2 positions; there is no position 3"):
        capture(model, ids, "unused", 3)
    with hooked(model, [(Site("pool"), lambda value: value * 0)]):
        assert (capture(model, ids, "pool")["hook_pool"] == 0).all()


def test_an_outcome_that_is_no_logits_is_refused() -> None:
    class Mute(Toy):
        def forward(self, tokens: Tensor) -> Any:
            super().forward(tokens)

    with pytest.raises(MechFourierError, match="returned NoneType where logits"):
        capture(Mute(), tokens(2, 3), "embed", logits=True)
