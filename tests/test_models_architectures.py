"""Every architecture: either Hugging Face's residual streams and logits, or one sentence; none is silently
wrong."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from architecture_folders import Folders, check_equal, variant
from architectures import ARCHITECTURES
from safetensors.torch import load_file

from mechfourier.errors import BadCheckpoint, EngineDiffers, MechFourierError, UsageError
from mechfourier.models.pretrained import load_pretrained
from mechfourier.models.registry import load, unchecked

ENGINES = ("auto", "hooked", "bridge")
# What must not fall back to a refusal: the families that people study.
MUST_LOAD = (
    "gpt2",
    "gpt2-untied",
    "gpt2-inverse-layer",
    "gptj",
    "gpt-neo",
    "neox",
    "neox-no-bias",
    "neox-sequential",
    "opt",
    "bloom",
    "falcon",
    "falcon-alibi",
    "mpt",
    "llama",
    "llama-biases",
    "llama-head-size",
    "llama-tied",
    "llama-rope-llama3",
    "llama-rope-linear",
    "llama-rope-dynamic",
    "llama-rope-yarn",
    "mistral",
    "mixtral",
    "qwen2",
    "qwen2-sliding",
    "qwen2-moe",
    "qwen3",
    "qwen3-sliding",
    "qwen3-moe",
    "gemma",
    "gemma2",
    "gemma3",
    "phi",
    "phi3",
    "stablelm",
    "stablelm-parallel",
    "cohere",
    "cohere2",
    "olmo",
    "olmo2",
    "olmo3",
    "olmoe",
    "granite",
    "granite-moe",
    "starcoder2",
    "codegen",
    "bigcode",
    "nemotron",
    "glm",
    "glm4",
    "smollm3",
    "ernie4.5",
    "exaone4",
    "apertus",
    "arcee",
    "gpt-oss",
    "gemma3-images",
    "llava",
)


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    return Folders(tmp_path_factory.mktemp("architectures"))


@pytest.fixture(autouse=True)
def _nothing_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """TransformerLens installs packages when it loads models of images; loading a model must never start a
    program."""

    def refuse(*args: Any, **options: Any) -> Any:
        raise AssertionError(f"loading a model started {args}")

    for name in ("check_call", "run", "Popen", "check_output", "call"):
        monkeypatch.setattr(subprocess, name, refuse)


def test_there_are_enough_architectures() -> None:
    assert len(ARCHITECTURES) >= 80
    assert len({cls for cls, _, _ in ARCHITECTURES.values()}) >= 60


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_an_architecture_is_right_or_refused(name: str, folders: Any) -> None:
    folder = folders(name)
    for engine in ENGINES:
        try:
            model = load_pretrained(folder, engine=engine)
        except MechFourierError as error:
            assert "\n" not in str(error)
            assert "Error" not in type(error).__name__ or isinstance(error, UsageError)
            assert engine == "hooked" or name not in MUST_LOAD, error
            continue
        check_equal(model, folder)
        assert model.mechfourier_check.checked


def test_a_wrong_engine_is_refused_with_the_first_layer_that_differs(folders: Any) -> None:
    with pytest.raises(EngineDiffers, match="block 0 differs from Hugging Face's by 0"):
        load_pretrained(folders("gpt2-unscaled"))


def test_what_is_not_checked_is_marked(folders: Any) -> None:
    model: Any = load(folders("gpt2-unscaled"), check=False)
    assert "not checked against Hugging Face" in str(getattr(model, "mechfourier_weights", None))
    assert not model.mechfourier_check.checked
    with unchecked():
        assert "not checked" in (getattr(load(folders("gpt2")), "mechfourier_weights", None) or "")
    assert getattr(load(folders("gpt2")), "mechfourier_weights", None) is None


def test_a_check_is_remembered_by_the_weights(
    folders: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mechfourier.models import pretrained

    source, runs = folders("llama"), []
    original = pretrained.reference_of
    monkeypatch.setattr(pretrained, "reference_of", lambda *args: runs.append(1) or original(*args))
    first, second = load_pretrained(source), load_pretrained(source)
    assert len(runs) == 1
    assert first.mechfourier_check == second.mechfourier_check
    changed = variant(
        source, tmp_path / "changed", lambda t: {**t, "lm_head.weight": 2 * t["lm_head.weight"]}
    )
    load_pretrained(changed)
    assert len(runs) == 2
    load_pretrained(source, engine="bridge")
    assert len(runs) == 3


@pytest.mark.parametrize("family", ["qwen2-sliding", "qwen3-sliding"])
def test_a_sliding_window_without_layer_types_is_used(family: str, folders: Any, tmp_path: Path) -> None:
    """Configs from before transformers 4.53 do not list the layers' types."""
    old = variant(folders(family), tmp_path / "old", layer_types=None)
    check_equal(load_pretrained(old), old)


def with_biases(tensors: dict[str, Any]) -> dict[str, Any]:
    return {**tensors, "model.layers.0.self_attn.q_proj.bias": torch.full((48,), 0.3)}


def with_lora(tensors: dict[str, Any]) -> dict[str, Any]:
    name = "model.layers.0.self_attn.q_proj"
    return {**tensors, f"{name}.lora_A.weight": torch.ones(4, 48), f"{name}.lora_B.weight": torch.ones(48, 4)}


def with_scales(tensors: dict[str, Any]) -> dict[str, Any]:
    packed = {k: v.to(torch.float8_e4m3fn) if "proj" in k else v for k, v in tensors.items()}
    return {**packed, **{f"{k}_scale_inv": torch.ones(1, 1) for k in tensors if "proj" in k}}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (with_biases, "attention_bias"),
        (with_lora, "merge the adapter"),
        (with_scales, "scales of quantised weights"),
    ],
)
def test_tensors_that_are_not_used_are_an_error(
    change: Any, sentence: str, folders: Any, tmp_path: Path
) -> None:
    folder = variant(folders("llama"), tmp_path / "changed", change)
    with pytest.raises(BadCheckpoint, match="does not use") as caught:
        load_pretrained(folder)
    assert sentence in str(caught.value)


def test_harmless_leftovers_are_no_error(folders: Any, tmp_path: Path) -> None:
    def old_llama(tensors: dict[str, Any]) -> dict[str, Any]:
        return {
            **tensors,
            **{f"model.layers.{i}.self_attn.rotary_emb.inv_freq": torch.ones(6) for i in range(2)},
        }

    def old_gpt2(tensors: dict[str, Any]) -> dict[str, Any]:
        masks = {f"transformer.h.{i}.attn.bias": torch.ones(1, 1, 128, 128) for i in range(2)}
        return {**tensors, **masks, "transformer.h.0.attn.masked_bias": torch.tensor(-1e4)}

    def old_neox(tensors: dict[str, Any]) -> dict[str, Any]:
        return {**tensors, "gpt_neox.layers.0.attention.bias": torch.ones(1, 1, 128, 128).tril()}

    for name, change in (("llama", old_llama), ("gpt2", old_gpt2), ("neox", old_neox)):
        folder = variant(folders(name), tmp_path / name, change)
        check_equal(load_pretrained(folder), folders(name))


def test_a_bias_that_is_named_like_a_mask_is_an_error(folders: Any, tmp_path: Path) -> None:
    folder = variant(
        folders("neox"), tmp_path / "n", lambda t: {**t, "gpt_neox.layers.0.attention.bias": torch.ones(64)}
    )
    with pytest.raises(BadCheckpoint, match="does not use"):
        load_pretrained(folder)


def test_a_tied_head_that_is_another_matrix_is_an_error(folders: Any, tmp_path: Path) -> None:
    def untied(tensors: dict[str, Any]) -> dict[str, Any]:
        return {**tensors, "lm_head.weight": torch.ones_like(tensors["model.embed_tokens.weight"])}

    with pytest.raises(BadCheckpoint, match="tie_word_embeddings"):
        load_pretrained(variant(folders("llama-tied"), tmp_path / "untied", untied))
    same = variant(
        folders("llama-tied"),
        tmp_path / "same",
        lambda t: {**t, "lm_head.weight": t["model.embed_tokens.weight"].clone()},
    )
    check_equal(load_pretrained(same), folders("llama-tied"))


@pytest.mark.parametrize(
    "prefix", ["_orig_mod.", "module.", "base_model.model.", "module._orig_mod.", "_orig_mod.module."]
)
def test_prefixes_of_training_tools_are_stripped(prefix: str, folders: Any, tmp_path: Path) -> None:
    folder = variant(folders("llama"), tmp_path / "p", lambda t: {prefix + k: v for k, v in t.items()})
    check_equal(load_pretrained(folder), folders("llama"))


def test_a_wrapper_inside_a_name_is_stripped(folders: Any, tmp_path: Path) -> None:
    folder = variant(
        folders("llama"),
        tmp_path / "p",
        lambda t: {k.replace("model.layers.0.", "model.layers.0._orig_mod."): v for k, v in t.items()},
    )
    check_equal(load_pretrained(folder), folders("llama"))


@pytest.mark.parametrize("method", ["gptq", "awq", "bitsandbytes", "fp8"])
def test_quantised_weights_are_refused_with_what_to_do(method: str, folders: Any, tmp_path: Path) -> None:
    folder = variant(folders("llama"), tmp_path / "q", quantization_config={"quant_method": method})
    with pytest.raises(UsageError, match=f"quantised \\({method}\\).*take the unquantised"):
        load_pretrained(folder)


def test_a_tokenizer_of_another_format_is_named(folders: Any, tmp_path: Path) -> None:
    folder = variant(folders("mistral"), tmp_path / "m")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    assert load_pretrained(folder).tokenizer is None
    (folder / "tekken.json").write_text("{}")
    with pytest.raises(UsageError, match="its tokenizer only as tekken"):
        load_pretrained(folder)


def test_the_option_is_on_every_command_that_loads_a_model() -> None:
    from typer.main import get_command

    from mechfourier.cli.app import app

    def leaves(command: Any) -> list[Any]:
        inner = getattr(command, "commands", None)
        return [leaf for child in inner.values() for leaf in leaves(child)] if inner else [command]

    loading = [c for c in leaves(get_command(app)) if any(p.name == "model" for p in c.params)]
    assert len(loading) >= 12
    assert all(any("--no-check" in p.opts for p in c.params) for c in loading)


@pytest.mark.parametrize(
    "name",
    ["gemma", "gemma2", "gemma3", "olmo2", "cohere", "granite", "neox", "gpt2", "qwen3", "mamba", "opt"],
)
def test_attribution_adds_up_in_every_kind_of_block(name: str, folders: Any) -> None:
    """The margin that the parts add up to is that of the model's own logits."""
    from mechfourier.causal.attribution import attribution
    from mechfourier.causal.task import task_of
    from mechfourier.domains.definition import domain

    model = load(folders(name))
    found = attribution(model, "mod-7", neurons=0)
    assert found.sum_error < 1e-4
    assert sum(part.mean for part in found.parts) == pytest.approx(found.margin, abs=1e-4)
    assert not any(part.kind == "rest" for part in found.parts)
    assert bool(found.heads) == (name != "mamba")
    if name == "mamba":
        assert any("one part each" in note for note in found.notes)
    if name != "gemma2":  # its margin is taken before the cap
        assert found.margin == pytest.approx(
            task_of(model, domain("mod-7")).score(model).logit_diff, abs=1e-3
        )


def test_the_file_of_tensors_is_read_back(folders: Any) -> None:
    """The folders hold what they are meant to: one-dimensional parameters are not at their start."""
    tensors = load_file(folders("gemma") / "model.safetensors")
    assert float(tensors["model.norm.weight"].abs().mean()) > 0.05
