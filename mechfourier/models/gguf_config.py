"""What transformers' reader leaves out of a GGUF file's configuration, put back from the file's own header.

Its tables name about ten keys per architecture. What they leave out takes the default of the configuration
class, which is right for the checkpoint that the class was written after and silently wrong for another one:
the size of a head in Qwen3, the scaling of rotary positions, the query scale of the largest Gemmas. What can
be told from the header is set here; what cannot is refused.
"""

import math
from typing import Any

import numpy as np

from mechfourier.errors import BadCheckpoint
from mechfourier.models.gguf_header import Header

# Factors in the forward pass that the architectures read here do not have; a file that sets one is of a
# relative that does.
FACTORS = ("attention.scale", "logit_scale", "residual_scale", "embedding_scale", "attention.clamp_kqv")
# Settings with a value that changes nothing: only another one is left out to somebody's harm.
NEUTRAL = {"rope.scaling.attn_factor": 1.0, "attention.clamp_kqv": 0.0}
# The layers that see a window only, which transformers' reader takes from the class of the configuration.
PATTERN = "attention.sliding_window_pattern"
# Largest members whose query scale is hidden size / heads in place of the size of a head (llama.cpp tells
# them by their layers).
LARGEST = {"gemma2": 46, "gemma3": 62}
# llama 3's frequencies are stored as a tensor of factors; these are the settings of every published
# checkpoint but for the factor.
LLAMA3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
OWN_HEAD_SIZES = ("gemma4", "t5", "t5encoder", "mamba")  # transformers reads those by other rules


def complete(config: Any, header: Header, frequencies: "np.ndarray | None" = None) -> None:
    """Correct a Hugging Face configuration in place. ``frequencies``: the tensor ``rope_freqs.weight``, where
    the file has one.

    Raises ``BadCheckpoint`` where the file sets something that its Hugging Face architecture cannot express.
    """
    _refuse_factors(header)
    embedding = header.tensor("token_embd.weight")
    if embedding is not None:
        config.vocab_size = embedding.shape[0]
    _set_head_size(config, header)
    _set_biases(config, header)
    _set_gemma(config, header)
    if header.architecture == "llama" and hasattr(config, "sliding_window"):
        config.sliding_window = header.value(
            "attention.sliding_window"
        )  # Mistral's class has 4096 by default
    for name in ("rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon", "norm_eps", "norm_epsilon"):
        if isinstance(getattr(config, name, None), float):
            # the file holds 32 bits of it: the shortest decimal that reads back as the same number
            setattr(config, name, float(str(np.float32(getattr(config, name)))))
    _set_rotary(config, header, frequencies)


def _refuse_factors(header: Header) -> None:
    for name in dict.fromkeys((*FACTORS, *NEUTRAL)):
        value = header.value(name)
        if value is not None and value != NEUTRAL.get(name) and header.architecture not in ("gemma4",):
            raise BadCheckpoint(
                f"{header.path} sets {header.architecture}.{name} = {value:g}, which transformers' reader "
                f"of that architecture leaves out; "
                "convert it from its Hugging Face folder instead"
            )
    if header.architecture in LARGEST and header.value(PATTERN) is not None:
        raise BadCheckpoint(
            f"{header.path} sets {header.architecture}.{PATTERN}, which transformers' reader leaves out; "
            "convert it from its Hugging Face folder instead"
        )
    if header.value("attention.causal") is False:
        raise BadCheckpoint(
            f"{header.path} holds an encoder (attention.causal is false), not a language model"
        )


def _set_head_size(config: Any, header: Header) -> None:
    if header.architecture in OWN_HEAD_SIZES or not hasattr(config, "head_dim"):
        return
    heads = header.value("attention.head_count")
    size = header.value("attention.key_length")
    if size is None and isinstance(heads, int) and heads > 0:
        size = config.hidden_size // heads
    if isinstance(size, int):
        config.head_dim = size


def _set_biases(config: Any, header: Header) -> None:
    """An architecture whose biases are optional has them where the file does."""
    for name, tensor in (("attention_bias", "blk.0.attn_q.bias"), ("mlp_bias", "blk.0.ffn_up.bias")):
        if hasattr(config, name):
            setattr(config, name, header.tensor(tensor) is not None)


def _set_gemma(config: Any, header: Header) -> None:
    if header.architecture not in LARGEST:
        return
    large = header.value("block_count") == LARGEST[header.architecture]
    config.query_pre_attn_scalar = (
        config.hidden_size // config.num_attention_heads if large else config.head_dim
    )
    for name in ("attn_logit_softcapping", "final_logit_softcapping"):
        if (value := header.value(name)) is not None:
            setattr(config, name, float(value))


# rotary positions


def _set_rotary(config: Any, header: Header, frequencies: "np.ndarray | None") -> None:
    rotary = getattr(config, "rope_parameters", None)
    if not isinstance(rotary, dict):
        return
    nested = isinstance(rotary.get("full_attention"), dict)
    main: dict[str, Any] = dict(rotary["full_attention"] if nested else rotary)
    if (base := header.value("rope.freq_base")) is not None:
        main["rope_theta"] = float(base)
    main |= _scaling(header)
    if frequencies is not None:
        main |= _llama3(config, header, main, frequencies)
    _set_partial(config, header, main)
    if not nested:
        config.rope_parameters = main
        return
    local = dict(rotary.get("sliding_attention") or {})
    if (base := header.value("rope.freq_base_swa")) is not None:
        local["rope_theta"] = float(base)
    config.rope_parameters = {**rotary, "full_attention": main, "sliding_attention": local}


def _scaling(header: Header) -> dict[str, Any]:
    """``{prefix}.rope.scaling.*`` as Hugging Face's parameters; empty where positions are not scaled."""
    kind = header.value("rope.scaling.type", "none")
    factor = header.value("rope.scaling.factor") or header.value("rope.scale_linear")
    if kind == "none" and not factor:
        return {}
    if kind in ("linear", "none") and factor:
        return {"rope_type": "linear", "factor": float(factor)} if factor != 1 else {}
    known = {"type", "factor", "original_context_length", "finetuned"}
    prefix = f"{header.architecture}.rope.scaling."
    keys = {key.removeprefix(prefix) for key in header.metadata if key.startswith(prefix)}
    original = header.value("rope.scaling.original_context_length")
    if kind == "yarn" and factor and original and keys <= known:
        return {
            "rope_type": "yarn",
            "factor": float(factor),
            "original_max_position_embeddings": int(original),
        }
    raise BadCheckpoint(
        f"{header.path} scales its rotary positions by {kind!r} ({', '.join(sorted(keys))}), which cannot "
        f"be read from GGUF; take its Hugging Face folder"
    )


def _llama3(config: Any, header: Header, main: dict[str, Any], stored: np.ndarray) -> dict[str, Any]:
    """Llama 3's scaling from its stored factors, taken only where its formula gives the same ones (within
    float32)."""
    parameters = {"rope_type": "llama3", "factor": float(stored.max()), **LLAMA3}
    size = (
        config.head_dim if hasattr(config, "head_dim") else config.hidden_size // config.num_attention_heads
    )
    expected = llama3_factors(float(main.get("rope_theta", 10000.0)), size, parameters)
    if stored.shape != expected.shape or not np.allclose(stored, expected, rtol=1e-4):
        raise BadCheckpoint(
            f"{header.path} holds rotary factors (rope_freqs.weight) that are not Llama 3's; take its "
            f"Hugging Face folder instead"
        )
    return parameters


def llama3_factors(theta: float, size: int, parameters: dict[str, Any]) -> np.ndarray:
    """What each of the ``size / 2`` rotary frequencies is divided by (transformers'
    ``_compute_llama3_parameters``)."""
    wavelengths = 2 * math.pi * theta ** (np.arange(0, size, 2) / size)
    low, high = parameters["low_freq_factor"], parameters["high_freq_factor"]
    cycles = parameters["original_max_position_embeddings"] / wavelengths
    share = (cycles - low) / (high - low)
    between = 1 / ((1 - share) / parameters["factor"] + share)
    return np.where(cycles < low, parameters["factor"], np.where(cycles > high, 1.0, between))


def _set_partial(config: Any, header: Header, main: dict[str, Any]) -> None:
    """Architectures that turn a part of each head only say how many dimensions."""
    turned, size = header.value("rope.dimension_count"), getattr(config, "head_dim", None)
    size = size or config.hidden_size // config.num_attention_heads
    if not isinstance(turned, int) or turned == size:
        return
    if "partial_rotary_factor" not in main and not hasattr(config, "partial_rotary_factor"):
        raise BadCheckpoint(
            f"{header.path} turns {turned} of {size} dimensions of a head, which its architecture in "
            f"transformers does not; take its Hugging Face folder"
        )
    main["partial_rotary_factor"] = turned / size
    if hasattr(config, "partial_rotary_factor"):
        config.partial_rotary_factor = turned / size
