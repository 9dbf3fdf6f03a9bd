"""Small GGUF files, written with the gguf package from random Hugging Face models, and the models that they
must read back as."""

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
import transformers
from gguf import GGMLQuantizationType as Type
from transformers.convert_slow_tokenizer import bytes_to_unicode

LAYERS, HEADS, GROUPS = 2, 4, 2
BYTES = list(bytes_to_unicode().values())
BYTE_LEVEL = [*BYTES, "Ġ" + "M", "ay", "ĠMay", "<|end|>", "<|start|>"]
PIECES = [
    "<pad>",
    "<eos>",
    "<bos>",
    "<unk>",
    *(f"<0x{i:02X}>" for i in range(256)),
    "▁",
    *"abcdefghijklmnopqrstuvwxyz",
    "▁a",
]
SIZES: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "num_key_value_heads": GROUPS,
    "max_position_embeddings": 128,
    "rms_norm_eps": 1e-5,
    "rope_theta": 20000.0,
}
# the size of a head is another one than hidden size / heads where the architecture has it as a setting
FAMILIES: dict[str, tuple[str, dict[str, Any], list[str]]] = {
    "qwen3": ("Qwen3", {"head_dim": 32}, BYTE_LEVEL),
    "qwen2": ("Qwen2", {}, BYTE_LEVEL),
    "llama": ("Llama", {"head_dim": 16}, BYTE_LEVEL),
    "gemma3": ("Gemma3", {"head_dim": 32, "query_pre_attn_scalar": 32, "sliding_window": 8}, PIECES),
}
KINDS = {"F32": (Type.F32, 0), "F16": (Type.F16, 1), "Q8_0": (Type.Q8_0, 7)}


def random_model(family: str, **changes: Any) -> Any:
    """A random Hugging Face model of the family in float32, every parameter drawn."""
    name, own, words = FAMILIES[family]
    kind = getattr(transformers, f"{name}TextConfig" if name == "Gemma3" else f"{name}Config")
    settings = {**SIZES, **own, "vocab_size": len(words), **changes}
    theta = settings.pop("rope_theta")
    if name == "Gemma3":
        settings["rope_parameters"] = {
            "full_attention": {"rope_type": "default", "rope_theta": theta},
            "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
        }
    else:
        settings.setdefault("rope_parameters", {"rope_type": "default", "rope_theta": theta})
    config = kind(**settings, attn_implementation="eager")
    model = getattr(transformers, f"{name}ForCausalLM")(config)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0.0, 0.2, generator=generator)
    return model.eval()


def write_gguf(
    path: Path, model: Any, family: str, kind: str = "F32", *, extra: dict[str, Any] | None = None
) -> Path:
    """The model as llama.cpp's converter would write it; the model itself takes the values that the file
    holds (rounded, quantised)."""
    writer = gguf.GGUFWriter(path, family)
    _metadata(writer, model.config, family, KINDS[kind][1])
    for key, value in (extra or {}).items():
        if isinstance(value, np.ndarray):
            writer.add_tensor(key, value)
        else:
            getattr(
                writer,
                {bool: "add_bool", str: "add_string", int: "add_uint32", float: "add_float32"}[type(value)],
            )(key, value)
    names = gguf.get_tensor_name_map(next(a for a, n in gguf.MODEL_ARCH_NAMES.items() if n == family), LAYERS)
    tied = model.config.tie_word_embeddings
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if tied and name == "lm_head.weight":
                continue
            target = names.get_name(name, try_suffixes=(".weight", ".bias"))
            assert target is not None, name
            _write(writer, target, parameter, family, KINDS[kind][0])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def write_tiny(folder: Path) -> Path:
    """A random Qwen2, quantised."""
    return write_gguf(folder / "tiny.gguf", random_model("qwen2"), "qwen2", "Q8_0")


def _write(writer: Any, target: str, parameter: Any, family: str, kind: Any) -> None:
    values = parameter.numpy().astype(np.float32)
    heads = {"attn_q.": HEADS, "attn_k.": GROUPS}
    count = next((n for part, n in heads.items() if part in target), 0) if family == "llama" else 0
    if count:  # llama.cpp turns pairs of neighbours, Hugging Face the two halves of a head
        values = values.reshape(count, 2, -1, *values.shape[1:]).swapaxes(1, 2).reshape(values.shape)
    if values.ndim < 2 or kind is Type.F32:
        shift = 1 if family == "gemma3" and target.endswith("norm.weight") else 0
        writer.add_tensor(target, values + np.float32(shift))
        if shift:
            parameter.copy_(torch.from_numpy((values + np.float32(1)) - np.float32(1)))
        return
    stored = gguf.quants.quantize(values, kind)
    writer.add_tensor(target, stored, raw_dtype=kind)
    kept = gguf.quants.dequantize(stored, kind)
    if count:
        kept = kept.reshape(count, -1, 2, kept.shape[-1]).swapaxes(1, 2).reshape(kept.shape)
    parameter.copy_(torch.from_numpy(kept.astype(np.float32)))


def _metadata(writer: Any, config: Any, family: str, file_type: int) -> None:
    writer.add_name("Tiny")
    writer.add_file_type(file_type)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(GROUPS)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(SIZES["rope_theta"])
    if family != "qwen2":
        writer.add_key_length(config.head_dim)
        writer.add_value_length(config.head_dim)
    if family == "llama":
        writer.add_rope_dimension_count(config.head_dim)
    if family == "gemma3":
        writer.add_sliding_window(config.sliding_window)
        _sentencepiece(writer)
    else:
        _byte_level(writer, family)


def _byte_level(writer: Any, family: str) -> None:
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("llama-bpe" if family == "llama" else "qwen2")
    writer.add_token_list(BYTE_LEVEL)
    writer.add_token_types([3 if token.startswith("<|") else 1 for token in BYTE_LEVEL])
    writer.add_token_merges(["Ġ M", "a y", "ĠM ay"])
    writer.add_eos_token_id(BYTE_LEVEL.index("<|end|>"))
    writer.add_bos_token_id(BYTE_LEVEL.index("<|start|>"))
    writer.add_add_bos_token(family == "llama")
    writer.add_chat_template("{% for m in messages %}{{ m.content }}{% endfor %}")


def _sentencepiece(writer: Any) -> None:
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(PIECES)
    writer.add_token_scores([-float(i) for i in range(len(PIECES))])
    writer.add_token_types(
        [2 if t == "<unk>" else 3 if t in PIECES[:3] else 6 if t.startswith("<0x") else 1 for t in PIECES]
    )
    for name, index in (("pad", 0), ("eos", 1), ("bos", 2), ("unk", 3)):
        getattr(writer, f"add_{name}_token_id")(index)
    writer.add_add_bos_token(True)
    writer.add_add_space_prefix(False)
