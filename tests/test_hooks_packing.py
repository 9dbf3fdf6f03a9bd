"""Packed passes: the plan gives every token back and costs least; the numbers are those of prompts run
alone."""

from pathlib import Path
from typing import Any

import pytest
import torch
from hook_models import VOCAB, encoder, gpt, toy, transformer
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_folders import VOCABULARY, write_model
from torch import Tensor

from mechfourier.hooks import add, capture, passes
from mechfourier.hooks.packing import Line, Pack, cuts, lines_of, packs
from mechfourier.hooks.prefix import can_pack, shortest_window
from mechfourier.hooks.site import Site, sites
from mechfourier.models.interface import Encoding
from mechfourier.models.pretrained import load_pretrained

PROMPTS = st.lists(
    st.tuples(st.lists(st.integers(0, 2), min_size=1, max_size=9), st.integers(0, 8)), min_size=1, max_size=25
)


def anything(lines: int, length: int, before: int) -> bool:
    return True


def lines_for(prompts: list[tuple[list[int], int]]) -> list[Line]:
    return lines_of([tuple(ids) for ids, _ in prompts], [[at % len(ids)] for ids, at in prompts])


def whole_line(pack: Pack, number: int) -> list[int]:
    before: list[int] = []
    if pack.beginnings is not None:
        begin = int(pack.beginnings.which[number])
        real = int(pack.beginnings.mask[begin].sum())
        before = pack.beginnings.tokens[begin, :real].tolist()[: int(pack.start[number])]
    return before + pack.tokens[number, : int(pack.mask[number].sum())].tolist()


@settings(max_examples=200, deadline=None)
@given(PROMPTS, st.booleans(), st.integers(1, 30))
def test_every_prompt_is_read_once_from_its_own_tokens(prompts: list[Any], share: bool, most: int) -> None:
    plan = packs(lines_for(prompts), lambda lines, length, before: lines <= most, share=share)
    assert sorted(torch.cat([pack.rows for pack in plan]).tolist()) == list(range(len(prompts)))
    for pack in plan:
        assert len(pack.tokens) <= most
        for row, number in zip(pack.rows.tolist(), pack.line.tolist(), strict=True):
            ids, at = prompts[row]
            read = at % len(ids)
            assert whole_line(pack, number) == ids[: read + 1]
            assert int(pack.start[number]) <= read, "the position that is read is run with its line"


def tokens_run(lines: list[Line], cut: list[int]) -> int:
    begun = {line.ids[:size] for line, size in zip(lines, cut, strict=True)}
    return sum(map(len, begun)) + sum(len(line.ids) - size for line, size in zip(lines, cut, strict=True))


@settings(max_examples=100, deadline=None)
@given(PROMPTS, st.integers(0, 9))
def test_no_single_length_of_beginnings_runs_fewer_tokens(prompts: list[Any], size: int) -> None:
    lines = lines_for(prompts)
    found = cuts(lines)
    assert all(cut <= line.first for cut, line in zip(found, lines, strict=True))
    assert tokens_run(lines, found) <= tokens_run(lines, [min(size, line.first) for line in lines])


def test_templates_of_different_lengths_share_their_own_beginnings() -> None:
    templates = [[1, 2, 3, 4], [1, 2, 5], [6]]
    lines = lines_of(
        [(*t, 10 + v) for v in range(12) for t in templates], [[len(t)] for _ in range(12) for t in templates]
    )
    (pack,) = packs(lines, anything, share=True)
    assert pack.beginnings is not None and pack.beginnings.tokens.shape == (3, 4)
    assert pack.tokens.shape == (36, 1), "only the value itself is run for every prompt"


def test_prompts_end_where_they_are_read_and_equal_ones_run_once() -> None:
    lines = lines_of([(1, 2, 3), (1, 2, 4), (1, 2, 4, 5)], [[1], [1], [2]])
    assert [(line.ids, line.rows) for line in lines] == [((1, 2), (0, 1)), ((1, 2, 4), (2,))]


def encodings(vocabulary: int, *, count: int = 12, last: int | None = None) -> list[Encoding]:
    """Templates of several lengths times values, some with text after the value."""
    templates = [[1, 2, 3, 4, 5], [1, 2, 7], [6], [1, 2, 3, 8, 9, 4, 5, 6]]
    ids = [
        (*t, 10 + v % (vocabulary - 10), *tail)
        for v in range(count)
        for t in templates
        for tail in ([], [5, 6, 7])
    ]
    return [Encoding(row, tuple((i, i + 1) for i in range(len(row)))) for row in ids]


def places(prompts: list[Encoding]) -> Tensor:
    """The value's position: before the tail where there is one."""
    return torch.tensor([len(p.ids) - 1 - 3 * (p.ids[-3:] == (5, 6, 7) and len(p.ids) > 4) for p in prompts])


def assert_close(found: Tensor, expected: Tensor) -> None:
    """Within float error, which grows with the largest number in the sum."""
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5 * max(1.0, float(expected.abs().max())))


@pytest.fixture(
    scope="module", params=["qwen3-hooked", "qwen3-bridge", "gpt2-bridge", "gemma-bridge", "windows-bridge"]
)
def loaded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    family, engine = request.param.split("-")
    folder: Path = tmp_path_factory.mktemp(request.param)
    if family == "windows":
        changes = {
            "sliding_window": 16,
            "use_sliding_window": True,
            "max_window_layers": 1,
            "num_hidden_layers": 3,
        }
        changes["layer_types"] = ["full_attention", "sliding_attention", "sliding_attention"]
        write_model(folder, "Qwen2", **changes)
    else:
        write_model(folder, {"qwen3": "Qwen3", "gpt2": "GPT2", "gemma": "Gemma"}[family])
    return load_pretrained(folder, engine=engine)


@pytest.mark.parametrize(
    "kinds", ["resid_post", "embed,resid_pre,resid_mid,attn_out,mlp_out,mlp_post,z,q,k,v,pattern"]
)
@pytest.mark.parametrize("logits", [False, True])
def test_a_packed_pass_gives_the_numbers_of_prompts_run_alone(loaded: Any, kinds: str, logits: bool) -> None:
    kinds = ",".join(k for k in kinds.split(",") if any(s.kind == k for s in sites(loaded)))
    prompts = encodings(len(VOCABULARY))
    at = places(prompts)
    object.__setattr__(loaded, passes._CHECKED, {})
    acts = capture(loaded, prompts, kinds, at, logits=logits)
    assert getattr(loaded, passes._CHECKED).get(True) is True, "the beginnings were not shared"
    for row in range(
        0, len(prompts), 7
    ):  # 7 and 8 have no common divisor: every template, with and without its tail
        expected = capture(loaded, [prompts[row]], kinds, at[row : row + 1], logits=logits)
        for site in acts.sites:
            width = expected[site].shape[-1]
            assert_close(acts[site][row][..., :width], expected[site][0])
            assert not acts[site][row][..., width:].any(), "attention beyond the prompt"
        if logits:
            assert acts.logits is not None and expected.logits is not None
            assert_close(acts.logits[row], expected.logits[0])


@pytest.mark.parametrize("build", [transformer, gpt])
def test_several_positions_of_a_prompt(build: Any) -> None:
    prompts = encodings(VOCAB)
    at = torch.stack([places(prompts) - 1, places(prompts)], 1).clamp_min(0)
    acts = capture(build(), prompts, "resid_post,z", at)
    for row, prompt in enumerate(prompts[:40]):
        expected = capture(build(), [prompt], "resid_post,z", at[row : row + 1])
        for site in acts.sites:
            assert_close(acts[site][row], expected[site][0])


def test_many_small_batches_give_the_same(loaded: Any) -> None:
    prompts = encodings(len(VOCABULARY))
    one = capture(loaded, prompts, "resid_post", places(prompts)).stack()
    many = capture(loaded, prompts, "resid_post", places(prompts), batch_size=7).stack()
    assert_close(many, one)


def test_who_is_not_packed() -> None:
    assert not can_pack(encoder()) and not can_pack(toy())
    assert can_pack(gpt()) and can_pack(transformer())
    with add(gpt(), Site("resid_pre", 1), torch.ones(16), positions=0):
        assert not can_pack(gpt()), "edits count positions from the beginning of a whole prompt"
        capture(
            gpt(), [Encoding((1, 2, 3), ((0, 1), (1, 2), (2, 3)))], "resid_post"
        )  # an edit that never ran is an error


def test_a_model_that_packing_does_not_fit_is_run_whole() -> None:
    """It says it is causal and looks ahead: the prompt that is run alone shows it."""

    class Ahead(torch.nn.Module):
        def __init__(self, inside: torch.nn.Module) -> None:
            super().__init__()
            self.inside = inside

        def forward(self, x: Tensor, **options: Any) -> Tensor:
            x = self.inside(x, **options)
            return x + x.mean(1, keepdim=True)

    import copy

    model: Any = copy.deepcopy(gpt())
    object.__setattr__(model, passes._CHECKED, {})
    model.blocks[0] = Ahead(model.blocks[0])
    prompts = encodings(VOCAB)
    at = places(prompts)
    acts = capture(model, prompts, Site("resid_post", 2), at)
    assert getattr(model, passes._CHECKED) == {True: False, False: False}
    for row, prompt in enumerate(prompts):
        expected = capture(model, [prompt], Site("resid_post", 2), at[row : row + 1])
        assert_close(acts.stack()[0, row], expected.stack()[0, 0])


def test_windows_shorter_than_the_prompts_share_nothing(tmp_path: Path) -> None:
    changes = {"sliding_window": 4, "use_sliding_window": True, "max_window_layers": 1}
    changes["layer_types"] = ["full_attention", "sliding_attention", "sliding_attention"]
    model = load_pretrained(write_model(tmp_path, "Qwen2", **changes), engine="bridge")
    assert shortest_window(model) == 4
    prompts = encodings(len(VOCABULARY))
    at = places(prompts)
    acts = capture(model, prompts, "resid_post", at)
    assert True not in getattr(model, passes._CHECKED)
    for row in range(0, len(prompts), 7):
        expected = capture(model, [prompts[row]], "resid_post", at[row : row + 1])
        assert_close(acts.stack()[:, row], expected.stack()[:, 0])
