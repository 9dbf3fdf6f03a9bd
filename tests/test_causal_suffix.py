"""Passes that begin at a block: the numbers of whole passes, on both engines, and whole passes where that
cannot be."""

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from hook_models import tokens as some_tokens
from hook_models import toy, transformer
from real_models import real_model
from tiny_folders import GROUPED, SHARED, write_model, write_tokenizer

import mechfourier as mf
from mechfourier.causal.edits import Ablations
from mechfourier.causal.experiment import Experiment
from mechfourier.causal.suffix import forward_from_block, residual_before, starts_inside, suffix_of
from mechfourier.hooks.interventions import edit_zero, intervene
from mechfourier.hooks.run import hooked, inference
from mechfourier.hooks.site import Site
from mechfourier.models.pretrained import load_pretrained

FAMILIES = ("GPT2", "Llama", "Gemma3", "Qwen3")


def gemma3(folder: Path) -> Path:
    """A random Gemma 3: sliding and full attention, post-norms, two rotary bases."""
    config = transformers.Gemma3TextConfig(
        **{**SHARED, **GROUPED, "num_hidden_layers": 6},
        head_dim=16,
        query_pre_attn_scalar=16,
        sliding_window=4,
        layer_types=[*["sliding_attention"] * 5, "full_attention"],
    )
    model, generator = transformers.Gemma3ForCausalLM(config), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0.0, 0.2, generator=generator)
    model.save_pretrained(folder)
    write_tokenizer(folder)
    return folder


@pytest.fixture(scope="module", params=FAMILIES)
def bridged(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp(request.param)
    folder = gemma3(folder) if request.param == "Gemma3" else write_model(folder, request.param)
    return load_pretrained(folder, engine="bridge")


TOKENS = torch.randint(2, 40, (3, 9), generator=torch.Generator().manual_seed(5))


def close(ours: torch.Tensor, theirs: torch.Tensor) -> bool:
    return bool((ours - theirs).abs().max() <= 1e-5 * theirs.abs().max())


@torch.no_grad()
def test_a_pass_from_any_block_gives_the_logits_of_a_whole_one(bridged: Any) -> None:
    assert starts_inside(bridged) and suffix_of(bridged).note is None
    whole = bridged(TOKENS)
    for layer in range(len(bridged.blocks) + 1):
        stream = residual_before(bridged, TOKENS, layer)
        assert close(forward_from_block(bridged, stream, layer, TOKENS), whole), layer


@torch.no_grad()
def test_edits_after_the_start_have_the_effect_that_they_have_in_a_whole_pass(bridged: Any) -> None:
    last = len(bridged.blocks) - 1
    for site in (Site("attn_out", last), Site("mlp_out", 1), Site("resid_post", 1)):
        edit = edit_zero(site, dims=[0, 7, 11], positions=4)
        with intervene(bridged, [edit]):
            whole = bridged(TOKENS)
        stream = residual_before(bridged, TOKENS, 1)
        with intervene(bridged, [edit]):
            part = forward_from_block(bridged, stream, 1, TOKENS)
        assert close(part, whole) and not close(part, bridged(TOKENS)), site


@torch.no_grad()
def test_blocks_before_the_start_do_not_run_and_run_again_afterwards(bridged: Any) -> None:
    runs: list[int] = []
    count = len(bridged.blocks)
    watched = [(Site("mlp_out", i), lambda value, i=i: runs.append(i)) for i in range(count)]
    stream = residual_before(bridged, TOKENS, count - 1)
    with hooked(bridged, watched):
        forward_from_block(bridged, stream, count - 1, TOKENS)
        assert runs == [count - 1]
        bridged(TOKENS)
    assert runs == [count - 1, *range(count)]


def test_an_error_inside_leaves_the_model_whole(bridged: Any) -> None:
    def stop(value: torch.Tensor) -> None:
        raise RuntimeError("inside")

    with inference(bridged):
        before, stream = bridged(TOKENS), residual_before(bridged, TOKENS, 2)
        with pytest.raises(RuntimeError, match="inside"), hooked(bridged, [(Site("mlp_out", 2), stop)]):
            forward_from_block(bridged, stream, 2, TOKENS)
        assert torch.equal(bridged(TOKENS), before)


@torch.no_grad()
def test_gradients_reach_the_stored_stream(bridged: Any) -> None:
    stream = residual_before(bridged, TOKENS, 2)
    with torch.enable_grad():
        leaf = stream.clone().requires_grad_(True)
        forward_from_block(bridged, leaf, 2, TOKENS).square().sum().backward()
    assert leaf.grad is not None and float(leaf.grad.abs().max()) > 0


@torch.no_grad()
def test_a_hooked_transformer_starts_where_it_is_told() -> None:
    model, tokens = transformer(), some_tokens(2, 6)
    stream = residual_before(model, tokens, 2)
    assert close(forward_from_block(model, stream, 2, tokens), model(tokens))


def test_a_model_that_passes_more_than_the_stream_from_block_to_block_runs_whole(tmp_path: Path) -> None:
    model = load_pretrained(write_model(tmp_path, "Llama"), engine="bridge")
    held: list[torch.Tensor] = []
    # the last block adds what the first one's MLP made: nothing that the stream in front of the last one
    # tells
    model.blocks[0].mlp.register_forward_hook(lambda module, args, output: held.append(output))
    model.blocks[2].register_forward_hook(lambda module, args, output: output + held[-1])
    assert not starts_inside(model)
    assert "run whole" in str(suffix_of(model).note)


def test_other_models_run_whole() -> None:
    assert not starts_inside(toy())


@pytest.mark.parametrize("site", ["blocks.1.hook_resid_post", "blocks.1.hook_mlp_out"])
def test_ablations_on_a_bridge_are_those_of_whole_passes(site: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = mf.load("calendar", engine="bridge")
    asked = Experiment.of(model, "days", n_prompts=14)
    dims = torch.tensor([[0], [5], [9]])
    ablations = Ablations(Site.parse(site), "zero", torch.zeros(int(model.cfg.d_model)), dims=dims)
    fast = asked.ablated(ablations, "units")
    monkeypatch.setattr("mechfourier.causal.engine.starts_inside", lambda model: False)
    whole = asked.ablated(ablations, "units")
    assert torch.allclose(fast, whole, atol=1e-4)


@pytest.mark.real
@torch.no_grad()
def test_gemma_3_270m_from_its_middle() -> None:
    model: Any = real_model("gemma3-270m")
    tokens = model.to_tokens(["January, February, March", "Monday and Tuesday, then"])[:, :5]
    whole = model(tokens)
    for layer in (1, 9, 18):
        part = forward_from_block(model, residual_before(model, tokens, layer), layer, tokens)
        assert close(part, whole), layer
