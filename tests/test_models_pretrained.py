"""Both engines are the Hugging Face forward pass: residual stream at every layer, attention, logits."""

import copy
import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from byte_models import byte_model
from tiny_folders import CONFIGS, HEADS, write_model

from mechfourier.errors import BadCheckpoint, UnsafeCheckpoint, UsageError, WeightsNotFound
from mechfourier.hooks.interventions import zero
from mechfourier.hooks.site import Site
from mechfourier.models.interface import Model, encode
from mechfourier.models.pretrained import load_pretrained

ENGINES = ("hooked", "bridge")
TOKENS = torch.randint(0, 40, (3, 7), generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def qwen3(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "qwen3")


def reference(folder: Path, family: str, dtype: torch.dtype = torch.float32) -> Any:
    """Logits, hidden states and attentions by transformers alone."""
    model_class = getattr(transformers, HEADS.get(family, f"{family}ForCausalLM"))
    model = model_class.from_pretrained(folder, dtype=dtype, attn_implementation="eager").eval()
    with torch.no_grad():
        return model(TOKENS, output_hidden_states=True, output_attentions=True)


def run(model: Any, tokens: torch.Tensor = TOKENS) -> tuple[torch.Tensor, Any]:
    with torch.no_grad():
        return model.run_with_cache(tokens)


def largest(a: torch.Tensor, b: torch.Tensor) -> float:
    assert a.shape == b.shape
    return (a.double() - b.double()).abs().max().item()


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("family", ["Qwen3", "Qwen2", "Llama", "Mistral", "GPT2", "GPTNeoX"])
def test_an_engine_is_the_hugging_face_forward_pass(tmp_path: Path, family: str, engine: str) -> None:
    folder = write_model(
        tmp_path / "llama-or-gemma", family
    )  # TransformerLens reads architectures out of paths
    model = load_pretrained(folder, engine=engine)
    logits, cache = run(model)
    expected = reference(folder, family)
    assert type(model).__name__ == {"hooked": "HookedTransformer", "bridge": "TransformerBridge"}[engine]
    assert isinstance(model, Model)
    assert largest(logits, expected.logits) < 1e-4
    for layer in range(model.cfg.n_layers):
        assert largest(cache[f"blocks.{layer}.hook_resid_pre"], expected.hidden_states[layer]) < 1e-4
        assert largest(cache[f"blocks.{layer}.attn.hook_pattern"], expected.attentions[layer]) < 1e-5
        if layer:
            before = cache[f"blocks.{layer - 1}.hook_resid_post"]
            assert largest(before, expected.hidden_states[layer]) < 1e-4


def test_both_engines_have_the_same_names_and_activations(qwen3: Path) -> None:
    hooked, bridge = (load_pretrained(qwen3, engine=engine) for engine in ENGINES)
    ours, theirs = run(hooked)[1], run(bridge)[1]
    # inside the norms of queries and keys HookedTransformer has the heads flattened
    names = [name for name in ours if "_norm." not in name]
    assert set(names) <= set(bridge.hook_dict)
    for name in names:
        seen = ours[name].isfinite()  # masked scores are -inf in one, the smallest float in the other
        assert largest(ours[name][seen], theirs[name][seen]) < 1e-4, name


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    "name", ["blocks.1.hook_resid_post", "blocks.1.mlp.hook_post", "blocks.1.attn.hook_z"]
)
def test_a_hook_by_its_site_name_reads_and_writes(qwen3: Path, engine: str, name: str) -> None:
    model = load_pretrained(qwen3, engine=engine)
    seen: list[tuple[int, ...]] = []

    def double(value: torch.Tensor, hook: Any) -> torch.Tensor:
        del hook
        seen.append(tuple(value.shape))
        return 2 * value

    base = model(TOKENS)
    changed = model.run_with_hooks(TOKENS, fwd_hooks=[(name, double)])
    assert seen == [tuple(run(model)[1][name].shape)]
    assert largest(base, changed) > 1e-3
    assert largest(base, model(TOKENS)) == 0.0  # restored


WRITABLE = (
    "hook_embed",
    "blocks.1.hook_resid_pre",
    "blocks.1.hook_resid_post",
    "blocks.1.hook_attn_out",
    "blocks.1.hook_mlp_out",
    "blocks.1.mlp.hook_pre",
    "blocks.1.mlp.hook_post",
    "blocks.1.attn.hook_v",
    "blocks.1.attn.hook_z",
    "blocks.1.attn.hook_attn_scores",
    "blocks.1.attn.hook_pattern",
    "blocks.1.ln1.hook_normalized",
    "ln_final.hook_normalized",
)


def test_a_change_has_the_same_effect_in_both_engines(qwen3: Path) -> None:
    models = [load_pretrained(qwen3, engine=engine) for engine in ENGINES]
    for name in WRITABLE:
        half = [(name, lambda value, hook: 0.5 * value)]
        with torch.no_grad():
            hooked, bridge = (model.run_with_hooks(TOKENS, fwd_hooks=half) for model in models)
            assert largest(hooked, models[0](TOKENS)) > 1e-3, name
        assert largest(hooked, bridge) < 1e-4, name


def test_the_bridge_refuses_a_change_that_would_not_spread(qwen3: Path) -> None:
    bridge = load_pretrained(qwen3, engine="bridge")
    with pytest.raises(UsageError, match="engine='hooked'"), zero(bridge, Site("resid_mid", 1), dims=[0]):
        bridge(TOKENS)
    hooked = load_pretrained(qwen3, engine="hooked")
    before = hooked(TOKENS)
    with zero(hooked, Site("resid_mid", 1), dims=[0]):
        assert largest(hooked(TOKENS), before) > 1e-4


@pytest.mark.parametrize("engine", ENGINES)
def test_bfloat16_is_the_hugging_face_bfloat16(tmp_path: Path, engine: str) -> None:
    folder = write_model(tmp_path / "half", dtype=torch.bfloat16)
    model = load_pretrained(folder, engine=engine, dtype=torch.bfloat16)
    logits, _ = run(model)
    expected = reference(folder, "Qwen3", torch.bfloat16).logits
    assert logits.dtype == torch.bfloat16
    assert largest(logits, expected) < 0.05 * expected.double().abs().max()
    # on the CPU the default is float32, whatever the file holds
    assert run(load_pretrained(folder, engine=engine))[0].dtype == torch.float32


def test_the_weights_are_there_once(tmp_path: Path) -> None:
    model = load_pretrained(write_model(tmp_path / "tied"))
    assert model.W_E.data_ptr() == model.W_U.data_ptr()  # tied embeddings stay one tensor


@pytest.mark.parametrize("engine", ENGINES)
def test_weights_are_frozen_and_activations_carry_gradients(qwen3: Path, engine: str) -> None:
    model = load_pretrained(qwen3, engine=engine)
    assert not model(TOKENS).requires_grad
    leaves: list[torch.Tensor] = []

    def as_leaf(value: torch.Tensor, hook: Any) -> torch.Tensor:
        del hook
        leaves.append(value.detach().requires_grad_())
        return leaves[0]

    model.run_with_hooks(TOKENS, fwd_hooks=[("blocks.1.hook_resid_post", as_leaf)]).sum().backward()
    assert leaves[0].grad is not None
    assert leaves[0].grad.abs().max() > 0


def test_a_shard_index_is_followed(tmp_path: Path, qwen3: Path) -> None:
    model = transformers.Qwen3ForCausalLM.from_pretrained(qwen3)
    model.save_pretrained(tmp_path, max_shard_size="50KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    sharded, whole = load_pretrained(tmp_path), load_pretrained(qwen3)
    assert largest(sharded(TOKENS), whole(TOKENS)) == 0.0
    assert sharded.tokenizer is None  # none was saved beside the shards
    next(tmp_path.glob("*.safetensors")).unlink()
    with pytest.raises(BadCheckpoint, match="lacks 1 of its"):
        load_pretrained(tmp_path)


@pytest.mark.parametrize("engine", ENGINES)
def test_to_tokens_and_encode_agree(qwen3: Path, engine: str) -> None:
    model = load_pretrained(qwen3, engine=engine)
    assert model.to_tokens("w1 w2 w3").tolist() == [[3, 4, 5]]
    assert encode(model, ["w1 w2 w3"])[0].ids == (3, 4, 5)
    assert model.to_tokens(["w1 w2", "w3"]).shape == (2, 2)


def test_real_qwen3_prompts_get_no_extra_token(qwen3: Path, tmp_path: Path, shared_data: Path) -> None:
    folder = write_model(tmp_path / "q", vocab_size=151_936, hidden_size=8, num_hidden_layers=1)
    for path in (shared_data / "qwen3-0.6b").iterdir():
        if path.name != "config.json":
            (folder / path.name).write_bytes(path.read_bytes())
    (folder / "tokenizer.json").unlink()
    model = load_pretrained(folder)
    assert [len(e.ids) for e in encode(model, ["Monday", "January +"])] == [1, 2]
    assert model.to_tokens("Monday").shape == (1, 1)


@pytest.mark.parametrize(
    ("family", "changes", "reason"),
    [
        ("Gemma", {}, "architecture GemmaForCausalLM"),
        ("Qwen3", {"attention_bias": True}, "attention biases"),
        ("Qwen3", {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}}, "linear"),
        ("Qwen3", {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1}, "sliding"),
    ],
)
def test_what_hooked_cannot_run_goes_to_the_bridge(
    tmp_path: Path, family: str, changes: dict[str, Any], reason: str
) -> None:
    folder = write_model(tmp_path / "other", family, **changes)
    model = load_pretrained(folder)
    assert type(model).__name__ == "TransformerBridge"
    assert largest(run(model)[0], reference(folder, family).logits) < 1e-4
    with pytest.raises(UsageError, match=reason):
        load_pretrained(folder, engine="hooked")


def test_llama_with_free_head_size_is_never_run_wrongly(tmp_path: Path) -> None:
    """TransformerLens takes head_dim = d_model / n_heads for Llama; whichever engine answers must be
    right."""
    folder = write_model(tmp_path / "free", "Llama", head_dim=16)
    assert largest(run(load_pretrained(folder))[0], reference(folder, "Llama").logits) < 1e-4


def broken(
    tmp_path: Path, qwen3: Path, *, config: dict[str, Any] | None = None, cut: int | None = None
) -> Path:
    folder = tmp_path / "broken"
    folder.mkdir()
    for path in qwen3.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    if config is not None:
        old = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**old, **config}))
    if cut is not None:
        weights = folder / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:cut])
    return folder


@pytest.mark.parametrize("cut", [0, 4, 100, 100_000])
def test_truncated_weights_are_refused(tmp_path: Path, qwen3: Path, cut: int) -> None:
    with pytest.raises(BadCheckpoint, match="truncated"):
        load_pretrained(broken(tmp_path, qwen3, cut=cut))


@pytest.mark.parametrize(
    "change", [{"num_hidden_layers": 5}, {"hidden_size": 32}, {"num_attention_heads": "many"}]
)
def test_weights_that_do_not_fit_the_config_are_refused(
    tmp_path: Path, qwen3: Path, change: dict[str, Any]
) -> None:
    with warnings.catch_warnings(), pytest.raises(BadCheckpoint, match="broken"):
        load_pretrained(broken(tmp_path, qwen3, config=change))


def test_a_folder_without_weights_is_said_so(tmp_path: Path, qwen3: Path) -> None:
    folder = broken(tmp_path, qwen3)
    (folder / "model.safetensors").unlink()
    with pytest.raises(WeightsNotFound, match="holds no weights"):
        load_pretrained(folder)
    (folder / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(UnsafeCheckpoint, match=r"pytorch_model\.bin is a pickle"):
        load_pretrained(folder)


def test_code_in_a_folder_is_never_run(tmp_path: Path, qwen3: Path) -> None:
    auto_map = {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"}
    folder = broken(
        tmp_path, qwen3, config={"model_type": "evil", "architectures": ["Evil"], "auto_map": auto_map}
    )
    marker = tmp_path / "ran"
    (folder / "evil.py").write_text(f"open({str(marker)!r}, 'w')")
    with pytest.raises(UnsafeCheckpoint, match="Python code of its own"):
        load_pretrained(folder)
    assert not marker.exists()


def test_an_architecture_nobody_has_is_said_so(tmp_path: Path, qwen3: Path) -> None:
    with pytest.raises(BadCheckpoint, match="NoSuchModel"):
        load_pretrained(broken(tmp_path, qwen3, config={"architectures": ["NoSuchModel"]}))


def test_a_damaged_tokenizer_is_said_so(tmp_path: Path, qwen3: Path) -> None:
    folder = broken(tmp_path, qwen3)
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(BadCheckpoint, match="tokenizer"):
        load_pretrained(folder)


def test_the_test_models_cover_every_converter() -> None:
    from mechfourier.models.pretrained import CONVERTERS

    covered = {HEADS.get(family, f"{family}ForCausalLM") for family in CONFIGS}
    assert set(CONVERTERS) <= covered


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"intermediate_size": 20}, r"tensors of another shape than its config\.json asks for \(model"),
        ({"num_attention_heads": "four"}, "num_attention_heads"),
        ({"quantization_config": "int4"}, "quantization_config 'int4', which must be an object"),
        ({"quantization_config": ["int4"]}, "which must be an object"),
    ],
)
def test_a_config_that_does_not_fit_is_said_in_our_words(
    changes: dict[str, Any], told: str, tmp_path: Path
) -> None:
    folder = write_model(tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes), encoding="utf-8-sig")  # with a BOM
    with pytest.raises(BadCheckpoint, match=told) as caught:
        load_pretrained(folder)
    foreign = ("ignore_mismatched_sizes", "Class validation error", "loading state_dict", "\n")
    assert not any(words in str(caught.value) for words in foreign)


def test_hook_points_of_a_bridge_are_put_together_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = byte_model(tmp_path, "GPT2", "bridge")
    bridge, seen = type(model).__mro__[1], []
    whole = bridge.hook_dict.fget(model)
    assert model.hook_dict == whole and type(model).__name__ == bridge.__name__
    monkeypatch.setattr(bridge, "_add_aliases_to_hooks", lambda self, hooks: seen.append(len(hooks)))
    model.hook_dict.clear()  # what a caller does with it is the caller's
    assert model.hook_dict == whole and not seen
    copied = copy.deepcopy(model)
    assert copied.hook_dict.keys() == whole.keys()
    assert not {id(point) for point in copied.hook_dict.values()} & {id(point) for point in whole.values()}
    model._hook_registry["one more"] = next(iter(whole.values()))
    assert "one more" in model.hook_dict and seen
