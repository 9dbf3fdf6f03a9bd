"""Sites: every hook name makes the round trip, and wrong names are answered with the right ones."""

import types
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mechfourier.errors import OutOfRange, UnknownSite, UsageError
from mechfourier.hooks.site import Site, find_site, parse_layers, select_sites, sites


def words(text: str) -> list[str]:
    return text.split()


BLOCK = words("""hook_resid_pre hook_attn_in hook_q_input hook_k_input hook_v_input ln1.hook_scale ln1.hook_normalized
attn.q_norm.hook_scale attn.k_norm.hook_normalized attn.hook_q attn.hook_k attn.hook_v attn.hook_rot_q
attn.hook_rot_k attn.hook_attn_scores attn.hook_pattern attn.hook_z attn.hook_result hook_attn_out hook_resid_mid
hook_mlp_in ln2.hook_scale ln2.hook_normalized mlp.hook_pre mlp.hook_pre_linear mlp.hook_post hook_mlp_out
hook_resid_post""")
OUTSIDE_BEFORE = ["hook_embed", "hook_pos_embed"]
OUTSIDE_AFTER = ["ln_final.hook_scale", "ln_final.hook_normalized", "unembed.hook_in", "unembed.hook_out"]
ODD = words("""embed.hook_embed embed.ln.hook_scale mlm_head.ln.hook_normalized pooler.hook_pooler_out nsp_head.hook_nsp_out
hook_full_embed rotary_emb.hook_cos blocks.0.attn.q.hook_in blocks.1.hook_normalized_resid_post blocks.0.hook_in
encoder.0.attn.rel_pos_hook decoder.0.cross_attn.hook_pattern decoder.1.hook_cross_attn_out encoder_final_ln.hook_scale
blocks.0.mlp.experts.3.hook_x memory gate.act blocks.0.hook_q blocks.0.hook_mlp_post blocks.007.hook_x hook_
blocks.0.gate blocks.x.hook_q hook_unembed model.layers.3.hook_resid_post""")


def model_with(names: list[str], name: str = "toy") -> Any:
    return types.SimpleNamespace(hook_dict=dict.fromkeys(names), mechfourier_name=name)


def layered(n_layers: int) -> list[str]:
    return [f"blocks.{layer}.{path}" for layer in range(n_layers) for path in BLOCK]


LENS = model_with([*OUTSIDE_AFTER, *reversed(layered(12)), *OUTSIDE_BEFORE])
TWO_STACKS = model_with(
    ["hook_embed"]
    + [f"{stack}.{i}.hook_resid_post" for stack in ("decoder", "encoder") for i in (0, 1)]
    + ["decoder.0.cross_attn.hook_pattern", "encoder_final_ln.hook_scale", "decoder_final_ln.hook_scale"]
)


@pytest.mark.parametrize("name", [*OUTSIDE_BEFORE, *layered(2), *OUTSIDE_AFTER, *ODD])
def test_every_name_makes_the_round_trip(name: str) -> None:
    site = Site.parse(name)
    assert str(site) == name
    assert Site.parse(str(site)) == site


@given(st.lists(st.from_regex(r"[a-z0-9_]{1,6}", fullmatch=True), min_size=1, max_size=5).map(".".join))
def test_any_dotted_name_makes_the_round_trip(name: str) -> None:
    assert str(Site.parse(name)) == name


def test_the_names_of_the_field() -> None:
    assert str(Site("resid_post", 7)) == "blocks.7.hook_resid_post"
    assert str(Site("pattern", 0, stack="encoder")) == "encoder.0.attn.hook_pattern"
    assert str(Site("mlp_post", 3)) == "blocks.3.mlp.hook_post"
    assert str(Site("embed")) == "hook_embed"
    assert Site.parse("decoder.0.cross_attn.hook_pattern") == Site("cross_pattern", 0, stack="decoder")
    assert Site.parse("ln_final.hook_normalized").kind == "ln_final_normalized"


def test_sites_come_in_the_order_of_a_forward_pass() -> None:
    assert [str(s) for s in sites(LENS)] == [*OUTSIDE_BEFORE, *layered(12), *OUTSIDE_AFTER]
    stacks = [str(s) for s in sites(TWO_STACKS)]
    assert stacks.index("encoder.1.hook_resid_post") < stacks.index("encoder_final_ln.hook_scale")
    assert stacks.index("encoder_final_ln.hook_scale") < stacks.index("decoder.0.cross_attn.hook_pattern")
    assert stacks[0] == "hook_embed" and stacks[-1] == "decoder_final_ln.hook_scale"


def test_select_by_kind_and_layers() -> None:
    assert select_sites(LENS) == tuple(Site("resid_post", layer) for layer in range(12))
    assert select_sites(LENS, "resid_post", "0-2,7") == tuple(Site("resid_post", i) for i in (0, 1, 2, 7))
    assert select_sites(LENS, "mlp_post,resid_pre", 3) == (Site("resid_pre", 3), Site("mlp_post", 3))
    assert select_sites(LENS, ["hook_resid_pre", "mlp.hook_post"], [1]) == (
        Site("resid_pre", 1),
        Site("mlp_post", 1),
    )
    assert select_sites(LENS, ["embed", "z"], "1") == (Site("embed"), Site("z", 1))
    assert select_sites(LENS, "blocks.4.attn.hook_z,resid_post", "2") == (Site("resid_post", 2), Site("z", 4))
    assert select_sites(LENS, Site("q", 5)) == (Site("q", 5),)


def test_select_of_one_stack() -> None:
    assert len(select_sites(TWO_STACKS, "resid_post")) == 4
    assert select_sites(TWO_STACKS, "decoder.resid_post", 1) == (Site("resid_post", 1, "decoder"),)


def test_unknown_names_are_answered_with_the_nearest() -> None:
    with pytest.raises(UnknownSite, match=r"'resid_pst'.*closest: resid_post.*mechfourier hooks toy"):
        select_sites(LENS, "resid_pst")
    with pytest.raises(UnknownSite, match=r"closest: blocks\.7\.hook_mlp_out"):
        find_site(LENS, "blocks.7.hook_mlp_ot")
    with pytest.raises(UnknownSite, match="needs a name"):
        Site.parse(" ")
    with pytest.raises(UnknownSite, match="needs a kind"):
        Site("")


def test_layers_outside_the_model() -> None:
    with pytest.raises(OutOfRange, match="toy has layers 0-11; 31 is not one of them"):
        select_sites(LENS, "resid_post", "3,31")
    with pytest.raises(OutOfRange, match="layers 0-11; 99"):
        find_site(LENS, Site("resid_post", 99))
    with pytest.raises(OutOfRange, match="layers 0;"):
        select_sites(TWO_STACKS, "cross_pattern", 1)
    with pytest.raises(OutOfRange, match="counts from 0"):
        Site("resid_post", -1)


@pytest.mark.parametrize("text", ["", "a", "1-", "3-1", "-1", "1,,2", "0.5"])
def test_layer_text_that_cannot_be_read(text: str) -> None:
    with pytest.raises(UsageError, match="write them like 0-3,7"):
        parse_layers(text)


@given(st.sets(st.integers(0, 40), min_size=1))
def test_layer_text_holds_every_set_of_layers(layers: set[int]) -> None:
    assert set(parse_layers(",".join(map(str, sorted(layers))))) == layers
    low, high = min(layers), max(layers)
    assert parse_layers(f"{low}-{high}") == tuple(range(low, high + 1))
