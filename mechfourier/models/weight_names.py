"""Names of tensors in other people's files: prefixes that training tools leave, and tensors that an
architecture does not use."""

import re
from collections.abc import Container, Iterable
from pathlib import Path
from typing import Any

from torch import Tensor

from mechfourier.errors import BadCheckpoint, UsageError
from mechfourier.models.folder import CONFIG

# What torch.compile, data parallel training, FSDP and PEFT put before or between the parts of a name.
WRAPPERS = ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")
PREFIXES = ("module.", "base_model.model.", "_forward_module.", "state_dict.")
# Buffers of old versions of transformers that say nothing about the weights.
MASKS = re.compile(r"(^|\.)(attn|attention|self_attention|attn\.attention)\.(bias|masked_bias)$")
LEFTOVERS = re.compile(
    r"((^|\.)(rotary_emb|rotary)\.inv_freq|(^|\.)position_ids|\.attention\.rope\.freqs|(^|\.)rope\.freqs)$"
)
SCALES = re.compile(
    r"(scale|scales|scale_inv|weight_scale\w*|qweight|qzeros|g_idx|absmax|quant_map|quant_state\S*|SCB)$"
)
SHOWN = 3


def strip_prefixes(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors under the names that transformers knows. A leading prefix goes only where every name has
    it.

    Raises ``BadCheckpoint`` where two tensors would get the same name.
    """
    names = {name: name for name in tensors}
    for name in names:
        for wrapper in WRAPPERS:
            names[name] = names[name].replace(wrapper, "")
    while prefix := next(
        (p for p in PREFIXES if names and all(n.startswith(p) for n in names.values())), None
    ):
        names = {old: new.removeprefix(prefix) for old, new in names.items()}
    if len(set(names.values())) < len(names):
        twice = next(n for n in names.values() if sum(n == other for other in names.values()) > 1)
        raise BadCheckpoint(f"the weights hold {twice!r} twice, with and without a prefix; keep one of them")
    return {new: tensors[old] for old, new in names.items()}


def refuse_wrong_names(
    folder: Path,
    architecture: str,
    report: dict[str, Any],
    tensors: dict[str, Tensor],
    *,
    allow_unused: bool = False,
) -> None:
    """Raise ``BadCheckpoint`` for tensors that the architecture lacks, has in another shape or does not use;
    ``allow_unused`` lets the last pass."""
    if shapes := sorted((str(name), tuple(a), tuple(b)) for name, a, b in report.get("mismatched_keys", ())):
        name, stored, needed = shapes[0]
        raise BadCheckpoint(
            f"{folder} holds {len(shapes)} tensor{'s' * (len(shapes) > 1)} of another shape than its "
            f"{CONFIG} asks for ({name}: "
            f"{list(stored)} where {list(needed)} is needed); they do not belong together: fetch both again"
        )
    missing = sorted(map(str, report.get("missing_keys", ())))
    unused = sorted(
        name for name in map(str, report.get("unexpected_keys", ())) if not harmless(name, tensors)
    )
    if unused and not (allow_unused and not missing):
        lacking = f" and lacks {len(missing)} that it needs ({listed(missing)})" if missing else ""
        raise BadCheckpoint(
            f"{folder} holds {len(unused)} tensor{'s' * (len(unused) > 1)} that {architecture} does not use "
            f"({listed(unused)}){lacking}, so its "
            f"numbers would not be those of these weights; {advice(unused)}"
        )
    if missing:
        raise BadCheckpoint(
            f"{folder} lacks {len(missing)} weights of its architecture ({listed(missing)}); download it "
            f"again"
        )


def harmless(name: str, tensors: dict[str, Tensor]) -> bool:
    """Whether an unused tensor says nothing about the weights: positions, rotary frequencies, causal masks
    (not biases of that name)."""
    if LEFTOVERS.search(name):
        return True
    found = next(
        (t for n, t in tensors.items() if n == name or n.endswith(f".{name}") or name.endswith(f".{n}")), None
    )
    return bool(MASKS.search(name)) and found is not None and (found.ndim == 4 or found.numel() == 1)


def hidden_biases(tensors: dict[str, Tensor], used: Container[str]) -> set[str]:
    """Names that transformers takes for old causal masks and that hold a vector, as a bias does."""
    named = {n for n in tensors if MASKS.search(n) and not harmless(n, tensors)}
    return {
        n
        for n in named
        if not any(f"{prefix}{n}" in used for prefix in ("", "transformer.", "gpt_neox.", "model."))
    }


def advice(unused: Iterable[str]) -> str:
    """What to do about unused tensors, by what they look like."""
    names = list(unused)
    if any("lora_" in name or "base_layer" in name for name in names):
        return (
            "merge the adapter into the weights first (in peft: merge_and_unload()), "
            "or keep it in an adapter folder of its own"
        )
    if any(SCALES.search(name) for name in names):
        return (
            f"they are scales of quantised weights without a quantization_config in {CONFIG}: "
            "fetch the weights in bfloat16 or float32"
        )
    if any(name.endswith("bias") for name in names):
        return (
            f"{CONFIG} does not announce these biases (attention_bias, mlp_bias, qkv_bias): "
            "correct it, or fetch the matching one"
        )
    return (
        f"fetch the {CONFIG} that belongs to these weights, or load with check=False (--no-check), "
        "which marks every result"
    )


def refuse_untied(folder: Path, hf_model: Any) -> None:
    """Raise ``BadCheckpoint`` where config.json ties input and output embeddings and the file holds two that
    differ."""
    embed, unembed = hf_model.get_input_embeddings(), hf_model.get_output_embeddings()
    tied = getattr(hf_model.config, "tie_word_embeddings", False)
    a, b = getattr(embed, "weight", None), getattr(unembed, "weight", None)
    if (
        tied
        and a is not None
        and b is not None
        and a.data_ptr() != b.data_ptr()
        and a.shape == b.shape
        and not bool((a == b).all())
    ):
        raise BadCheckpoint(
            f"{folder / CONFIG} ties the output matrix to the embedding (tie_word_embeddings), and the file "
            f"holds two that differ; "
            "set tie_word_embeddings to false where the file is right, or fetch it again"
        )


def refuse_quantised(folder: Path, config: dict[str, Any]) -> None:
    """Raise ``UsageError`` for weights that are stored quantised and would have to be unpacked first."""
    found = config.get("quantization_config") or (config.get("text_config") or {}).get("quantization_config")
    if not found:
        return
    if not isinstance(found, dict):
        raise BadCheckpoint(
            f"{folder / CONFIG} has the quantization_config {found!r}, which must be an object; fetch it "
            f"again"
        )
    bits = found.get("load_in_4bit") or found.get("load_in_8bit")
    kind = found.get("quant_method") or ("bitsandbytes" if bits else "an unnamed method")
    raise UsageError(
        f"the weights in {folder} are quantised ({kind}), which is not read here; take the unquantised "
        f"model (its name without "
        f"'{str(kind).upper()}'), a GGUF file of it, or save it dequantised (in transformers: "
        f"model.dequantize(), then save_pretrained)"
    )


def listed(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (" …" if len(names) > SHOWN else "")
