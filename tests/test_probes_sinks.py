"""Attention sinks and massive dimensions: in arrays, in a model whose first position has a huge norm, and on
real weights."""

import dataclasses
from typing import Any

import pytest
import torch

from mechfourier.domains.definition import Domain, domain
from mechfourier.models.interface import Encoding
from mechfourier.models.pretrained import HAS_HOOKED
from mechfourier.probes.caveats import Caveats, sample_rows, where
from mechfourier.probes.probe import probe
from mechfourier.stats.sinks import by_class, dimension_shares, massive_dimensions, sink_site

NAMES = ("blocks.0.hook_resid_post", "blocks.1.hook_resid_post")


def acts(*, d: int = 256, seed: int = 0) -> torch.Tensor:
    return torch.randn(2, 12, 5, d, generator=torch.Generator().manual_seed(seed)) + 1.0


def test_shares_of_the_variance_add_up_to_one() -> None:
    share, magnitude = dimension_shares(acts()[0])
    assert float(share.sum()) == pytest.approx(1.0) and float(magnitude.median()) == pytest.approx(1.0)


def test_ordinary_dimensions_are_not_massive() -> None:
    assert massive_dimensions(acts(), NAMES) == ()


def test_a_planted_dimension_is_found_with_its_share_and_its_site() -> None:
    planted = acts()
    planted[1, :, :, 7] *= 60
    found = massive_dimensions(planted, NAMES)
    assert [(item.site, item.dim) for item in found] == [(NAMES[1], 7)]
    assert found[0].share > 0.5 and found[0].magnitude == pytest.approx(60, rel=0.3)
    notes = Caveats((), found).notes()
    assert any("dimension 7 holds" in note and "layer 1" in note for note in notes)
    assert any("dimension 7 has at least 20 times" in note for note in notes)


def test_a_constant_offset_is_massive_in_magnitude_and_holds_no_variance() -> None:
    planted = acts()
    planted[0, :, :, 3] = 500.0
    (item,) = massive_dimensions(planted, NAMES)
    assert item.dim == 3 and item.share == 0.0 and item.magnitude > 100


def test_of_few_dimensions_none_is_massive_for_a_tenth_of_the_variance() -> None:
    assert massive_dimensions(acts(d=8), NAMES) == ()


def test_answers_of_a_grid_stand_together() -> None:
    n, offsets = 5, 10
    label = (torch.arange(n)[:, None] + torch.arange(offsets)) % n
    grid = label[None, :, :, None].float().expand(2, n, offsets, 3)
    assert torch.equal(
        by_class(grid, n)[..., 0], torch.arange(n).float()[None, :, None].expand(2, n, offsets)
    )


def test_norms_are_multiples_of_the_median_of_other_tokens() -> None:
    row = sink_site("s", torch.tensor([50.0, 1.0]), torch.tensor([200.0]), torch.tensor([1.0, 2.0, 3.0]))
    assert (row.ratio, row.first, row.share) == (0.5, 100.0, 0.5)
    empty = sink_site("s", torch.tensor([50.0]), torch.tensor([200.0]), torch.empty(0))
    assert empty.ratio != empty.ratio


def test_sites_are_named_as_people_say_them() -> None:
    assert where([f"blocks.{i}.hook_resid_post" for i in (0, 1, 2, 7)]) == "layers 0-2,7"
    assert where(["hook_embed", "blocks.3.hook_mlp_out"]) == "embed and mlp_out of layer 3"


def test_prompts_read_again_have_one_length() -> None:
    encodings = [Encoding(tuple(range(k)), ((0, 1),) * k) for k in (1, 3, 3, 3, 2, 3, 3, 3)]
    rows = sample_rows(encodings)
    assert len(rows) == 4 and {len(encodings[i].ids) for i in rows} == {3}
    assert sample_rows(encodings[:1]) == []


class Letters:
    """Encodes every character as a token."""

    @staticmethod
    def encode(prompts: list[str]) -> list[Encoding]:
        return [
            Encoding(tuple(ord(c) % 96 for c in p), tuple((i, i + 1) for i in range(len(p)))) for p in prompts
        ]


def sinking(norm: float) -> Any:
    """A tiny random transformer whose first position has a large constant vector, as models without a
    beginning of sequence have."""
    if not HAS_HOOKED:
        pytest.skip("HookedTransformer left TransformerLens in 4.0")
    from transformer_lens import HookedTransformer, HookedTransformerConfig

    torch.manual_seed(0)
    config = HookedTransformerConfig(
        n_layers=2,
        d_model=32,
        n_ctx=32,
        d_head=8,
        n_heads=4,
        d_mlp=64,
        d_vocab=96,
        act_fn="relu",
        device="cpu",
        seed=0,
    )
    model: Any = HookedTransformer(config)
    with torch.no_grad():
        model.W_pos[0] = norm * torch.nn.functional.normalize(model.W_pos[0], dim=0)
    model.encode = Letters.encode
    model.mechfourier_name = "sinking"
    return model


def letters(*templates: str) -> Domain:
    return dataclasses.replace(domain("alphabet"), templates=templates, operation=None, position="value")


FIRST = tuple(f"{{value}} {word}" for word in ("one", "two", "six", "ten", "red", "sun", "sea"))
LATER = tuple(f"{word} {{value}}" for word in ("one", "two", "six", "ten", "red", "sun", "sea"))


def test_a_verdict_read_at_the_sink_says_so_in_its_reasons() -> None:
    found = probe(sinking(400.0), letters(*FIRST), n_permutations=99, controls=False)
    assert found.caveats is not None and all(row.share == 1.0 for row in found.caveats.sinks)
    assert "every prompt is read at an attention sink" in found.reasons[-1]
    assert any("times the median norm of other tokens" in note for note in found.notes)


def test_behind_a_word_the_same_model_gives_a_verdict_without_that() -> None:
    found = probe(sinking(400.0), letters(*LATER), n_permutations=99, controls=False)
    assert found.caveats is not None and all(row.share == 0.0 for row in found.caveats.sinks)
    assert all(row.first > 20 for row in found.caveats.sinks)
    assert not any("sink" in text for text in (*found.reasons, *found.notes))
    assert type(found).from_json(found.to_json()) == found


def test_without_a_large_norm_the_first_token_alone_is_the_caveat() -> None:
    found = probe(sinking(0.02), letters(*FIRST), n_permutations=99, controls=False)
    assert found.caveats is not None and all(row.share == 0.0 for row in found.caveats.sinks)
    assert "first token" in found.reasons[-1]


def test_some_templates_at_the_sink_are_a_note_and_no_reason() -> None:
    found = probe(sinking(400.0), letters(*FIRST[:2], *LATER), n_permutations=99, controls=False)
    assert not any("sink" in reason for reason in found.reasons)
    assert any("2 of 9 templates" in note for note in found.notes)
    assert any("22 % of the prompts" in note for note in found.notes)
