"""Adapters are merged or refused, and sentence encoders pool as their own folder says."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from architecture_folders import (
    LIMIT,
    TOKENS,
    Folders,
    check_equal,
    hugging_face,
    relative,
    variant,
    write_byte_tokenizer,
)
from safetensors.torch import save_file

from mechfourier.errors import BadCheckpoint, UsageError
from mechfourier.models.registry import load


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    return Folders(tmp_path_factory.mktemp("architectures"))


def write_adapter(folder: Path, base: str, module: str, shape: tuple[int, int], **settings: Any) -> Any:
    """A LoRA of rank 4 on two modules; returns what it adds to a weight."""
    generator = torch.Generator().manual_seed(3)
    A, B = (0.2 * torch.randn(s, generator=generator) for s in ((4, shape[1]), (shape[0], 4)))
    folder.mkdir(exist_ok=True)
    config = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "base_model_name_or_path": base, **settings}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    names = {f"base_model.model.{module}.lora_A.weight": A, f"base_model.model.{module}.lora_B.weight": B}
    save_file(names, folder / "adapter_model.safetensors")
    return B @ A


@pytest.mark.parametrize("rslora", [False, True])
def test_an_adapter_is_merged(rslora: bool, folders: Any, tmp_path: Path) -> None:
    base, module = folders("llama"), "model.layers.0.self_attn.q_proj"
    change = write_adapter(tmp_path / "lora", str(base), module, (48, 48), use_rslora=rslora)
    scale = 8 / 2 if rslora else 8 / 4
    key = f"{module}.weight"
    merged = variant(base, tmp_path / "merged", lambda t: {**t, key: t[key] + scale * change})
    model: Any = load(tmp_path / "lora")
    check_equal(model, merged)
    assert relative(model(TOKENS), hugging_face(base, TOKENS)[0].logits) > 1e-2


def test_an_adapter_of_transposed_weights_is_merged(folders: Any, tmp_path: Path) -> None:
    """GPT-2 keeps its matrices as [in, out]."""
    base, module = folders("gpt2"), "transformer.h.1.attn.c_proj"
    change = write_adapter(tmp_path / "lora", str(base), module, (48, 48), fan_in_fan_out=True)
    key = f"{module}.weight"
    merged = variant(base, tmp_path / "merged", lambda t: {**t, key: t[key] + 2 * change.T})
    check_equal(load(tmp_path / "lora"), merged)


def test_an_adapter_beside_its_base_is_never_ignored(folders: Any, tmp_path: Path) -> None:
    base, module = folders("llama"), "model.layers.1.mlp.up_proj"
    both = variant(base, tmp_path / "both")
    change = write_adapter(both, "", module, (96, 48))
    key = f"{module}.weight"
    check_equal(load(both), variant(base, tmp_path / "merged", lambda t: {**t, key: t[key] + 2 * change}))
    write_adapter(both, "org/another", module, (96, 48))
    with pytest.raises(UsageError, match="whether it is merged already"):
        load(both)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"use_dora": True}, "use_dora"),
        ({"peft_type": "IA3"}, "kind IA3"),
        ({"peft_type": "PREFIX_TUNING"}, "PREFIX"),
    ],
)
def test_other_adapters_are_refused(
    settings: dict[str, Any], sentence: str, folders: Any, tmp_path: Path
) -> None:
    write_adapter(tmp_path / "a", str(folders("llama")), "model.layers.0.mlp.up_proj", (96, 48), **settings)
    with pytest.raises(UsageError, match=sentence):
        load(tmp_path / "a")


def test_an_adapter_of_another_model_is_refused(folders: Any, tmp_path: Path) -> None:
    write_adapter(tmp_path / "a", str(folders("llama")), "model.layers.7.mlp.up_proj", (96, 48))
    with pytest.raises(BadCheckpoint, match="does not fit its base"):
        load(tmp_path / "a")
    write_adapter(tmp_path / "a", str(folders("llama")), "model.layers.0.mlp.up_proj", (32, 48))
    with pytest.raises(BadCheckpoint, match="another model"):
        load(tmp_path / "a")


@pytest.fixture(scope="session")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import transformers

    folder = tmp_path_factory.mktemp("encoders") / "bert"
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=512,
        hidden_size=48,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=128,
        initializer_range=0.15,
    )
    transformers.BertModel(config).save_pretrained(folder)
    write_byte_tokenizer(folder)
    return folder


def unit(vector: torch.Tensor) -> torch.Tensor:
    return vector / vector.norm()


POOLINGS = {
    "pooling_mode_cls_token": lambda x: x[0],
    "pooling_mode_mean_tokens": lambda x: x.mean(0),
    "pooling_mode_max_tokens": lambda x: x.amax(0),
    "pooling_mode_lasttoken": lambda x: x[-1],
    "pooling_mode_mean_sqrt_len_tokens": lambda x: x.sum(0) / len(x) ** 0.5,
}


@pytest.mark.parametrize("mode", POOLINGS)
@pytest.mark.parametrize("normalised", [True, False])
def test_pooling_is_read_from_the_folder(mode: str, normalised: bool, encoder: Path, tmp_path: Path) -> None:
    folder = variant(encoder, tmp_path / "e")
    (folder / "1_Pooling").mkdir()
    settings = {m: m == mode for m in POOLINGS}
    (folder / "1_Pooling" / "config.json").write_text(
        json.dumps({"word_embedding_dimension": 48, **settings})
    )
    kinds = ["Transformer", "Pooling", *(["Normalize"] if normalised else [])]
    modules = [
        {"path": "1_Pooling" if k == "Pooling" else "", "type": f"sentence_transformers.models.{k}"}
        for k in kinds
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    model: Any = load(folder)
    wanted = POOLINGS[mode](hugging_face(folder, TOKENS)[0].last_hidden_state[0])
    assert relative(model(TOKENS)[0], unit(wanted) if normalised else wanted) < LIMIT
    assert model.mechfourier_check.checked


def test_the_first_token_without_modules_is_scaled(encoder: Path, tmp_path: Path) -> None:
    folder = variant(encoder, tmp_path / "e")
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(
        '{"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": false}'
    )
    wanted = unit(hugging_face(folder, TOKENS)[0].last_hidden_state[0, 0])
    model: Any = load(folder)
    assert relative(model(TOKENS)[0], wanted) < LIMIT


def test_poolings_that_are_not_read_are_refused(encoder: Path, tmp_path: Path) -> None:
    two = variant(encoder, tmp_path / "two")
    (two / "1_Pooling").mkdir()
    (two / "1_Pooling" / "config.json").write_text(
        '{"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": true}'
    )
    with pytest.raises(UsageError, match="cls and mean"):
        load(two)
    dense = variant(encoder, tmp_path / "dense")
    (dense / "modules.json").write_text(
        '[{"type": "a.Transformer"}, {"type": "a.Pooling", "path": ""}, {"type": "a.Dense"}]'
    )
    with pytest.raises(UsageError, match="Dense"):
        load(dense)
