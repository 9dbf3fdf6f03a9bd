"""Hugging Face folders -> TransformerLens, without ever asking the hub.

This is the only file that knows which engine runs: ``hooked`` (HookedTransformer) or ``bridge``
(TransformerBridge). Both have the same hook names and, within float error, the activations of the Hugging
Face forward pass: no layer norm is folded, nothing is centred. A change of an activation has the same effect
in both, except at ``hook_resid_mid``, which the bridge only shows: ``hooks`` refuses to change it there.

Memory: the engine's parameters are views of the tensors that Hugging Face loaded, so there is one copy of the
weights.
"""

import importlib.metadata
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mechfourier.errors import BadCheckpoint, EngineDiffers, UsageError
from mechfourier.models.adapters import adapter_in, base_of
from mechfourier.models.bridge_mends import (
    keep_hook_points,
    mend_absent_biases,
    mend_rotary_pairs,
    skip_unread_norms,
)
from mechfourier.models.check_memory import CHECK_KEY, check_key, remember, remembered
from mechfourier.models.device import DTYPES
from mechfourier.models.folder import CONFIG, brief, out_of_memory, read_config, weight_files
from mechfourier.models.hugging_face import load_hf, load_tokenizer
from mechfourier.models.quiet import quiet
from mechfourier.models.selfcheck import Reference, SelfCheck, compare, reference_of
from mechfourier.models.weight_names import refuse_quantised

# Architectures that HookedTransformer runs, and the TransformerLens function that renames their weights.
CONVERTERS = {
    "Qwen3ForCausalLM": "convert_qwen3_weights",
    "Qwen2ForCausalLM": "convert_qwen2_weights",
    "LlamaForCausalLM": "convert_llama_weights",
    "MistralForCausalLM": "convert_mistral_weights",
    "GPT2LMHeadModel": "convert_gpt2_weights",
    "GPTNeoXForCausalLM": "convert_neox_weights",
}
TESTED = ("Qwen3ForCausalLM",)
# HookedTransformer and HookedEncoder left TransformerLens in 4.0: there the bridge runs everything
HAS_HOOKED = int(importlib.metadata.version("transformer-lens").split(".")[0]) < 4


def load_pretrained(
    folder: str | Path,
    *,
    engine: str = "auto",
    device: str = "cpu",
    dtype: torch.dtype | None = None,
    check: bool = True,
) -> Any:
    """A Hugging Face model folder (config.json, safetensors, tokenizer) as a model with TransformerLens's
    hooks.

    ``engine="auto"`` is ``hooked`` where HookedTransformer runs the architecture, else ``bridge``.
    ``dtype=None`` is float32 on the CPU and the checkpoint's own dtype on a GPU. Parameters are frozen
    (activations still carry gradients). A folder with a PEFT adapter gives its base with the adapter merged.
    ``model.mechfourier_check`` says how the model was held against Hugging Face's forward pass
    (``check=False`` leaves that out).

    Raises ``WeightsNotFound``, ``BadCheckpoint`` or ``UnsafeCheckpoint`` for what the folder lacks,
    ``UsageError`` for an architecture that an engine cannot run, and ``EngineDiffers`` where none of them
    gives Hugging Face's numbers.
    """
    folder = Path(folder)
    adapter = adapter_in(folder)
    base = folder if adapter is None else base_of(adapter)
    config = read_config(base)
    refuse_quantised(base, config)
    files = [*weight_files(base), *([adapter.weights] if adapter else [])]
    dtype = dtype or _default_dtype(config, device)
    with quiet():
        hf_model = load_hf(base, dtype, adapter=adapter, allow_unused=not check)
        hf_model = hf_model.to(device).requires_grad_(False)
        tokenizer = load_tokenizer(folder) or load_tokenizer(base)
        how = {"adapter": adapter and adapter.settings, "engine": engine, "dtype": dtype, "device": device}
        key = check_key(files, hf_model.config.to_json_string(), **how) if check else ""
        model, result = _engine(hf_model, base, engine, dtype, device, tokenizer, key)
    model.mechfourier_check = result
    object.__setattr__(model, CHECK_KEY, key)
    return _with_tokenizer(model, tokenizer)


def _engine(
    hf_model: Any, folder: Path, engine: str, dtype: torch.dtype, device: str, tokenizer: Any | None, key: str
) -> tuple[Any, SelfCheck]:
    """The first engine that gives Hugging Face's numbers, HookedTransformer before the bridge, and its
    check."""
    known = remembered(key) if key else None
    reason = _why_not_hooked(hf_model.config.to_dict(), folder)
    if engine == "hooked" and reason:
        raise _no_hooked(folder, reason)
    try:
        # before the bridge is made: it puts its own modules into the Hugging Face model
        reference = reference_of(hf_model, tokenizer) if key and known is None else None
        mend_absent_biases(hf_model)
        if engine != "bridge" and not reason and (known is None or known.engine == "hooked"):
            try:
                model = _hooked(hf_model, folder, dtype, device)
                return model, known or _held(model, reference, "hooked", key)
            except (_NotHooked, EngineDiffers) as error:
                if engine == "hooked":
                    raise _no_hooked(folder, str(error)) from error
                reason = str(error)
                known = None
                if key and reference is None:
                    reference = reference_of(hf_model, tokenizer)
        model = _bridge(hf_model, folder, dtype, device, tokenizer)
        why = f"HookedTransformer was not taken: {reason}" if reason and engine == "auto" else ""
        return model, known or _held(model, reference, "bridge", key, why)
    except EngineDiffers as error:
        raise EngineDiffers(
            f"{folder} ({type(hf_model).__name__}) is not loaded, for its numbers would be wrong: {error}; "
            "check=False (--no-check) loads it all the same and marks every result"
        ) from error


def _held(model: Any, reference: Reference | None, engine: str, key: str, why: str = "") -> SelfCheck:
    if reference is None:
        return SelfCheck(engine, why=why)
    found = compare(model, reference, engine, why=why)
    remember(key, found)
    return found


def _default_dtype(config: dict[str, Any], device: str) -> torch.dtype:
    stored = str(config.get("dtype") or config.get("torch_dtype") or "float32")
    return torch.float32 if device == "cpu" else DTYPES.get(stored, torch.float32)


def _no_hooked(folder: Path, reason: str) -> UsageError:
    return UsageError(f"HookedTransformer does not run {folder}: {reason}; use engine='bridge' or 'auto'")


def _why_not_hooked(config: dict[str, Any], folder: Path) -> str | None:
    """What HookedTransformer would get wrong about this config (as transformers completes it); None where it
    runs it."""
    if not HAS_HOOKED:
        return "it left TransformerLens in 4.0"
    try:
        return _wrong_in_hooked(config)
    except (TypeError, ValueError, AttributeError, IndexError) as error:
        raise BadCheckpoint(f"{folder / CONFIG} holds values of the wrong type ({brief(error)})") from error


def _wrong_in_hooked(config: dict[str, Any]) -> str | None:
    architecture = (config.get("architectures") or ["unknown"])[0]
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    kind = str(rope.get("rope_type") or rope.get("type") or "default")
    theta = rope.get("rope_theta") or config.get("rope_theta") or 10000
    layers = set(config.get("layer_types") or ["full_attention"])
    if architecture not in CONVERTERS:
        return f"architecture {architecture}"
    if kind != "default" and not (kind == "llama3" and architecture == "LlamaForCausalLM"):
        return f"rotary scaling {kind!r}"
    if theta != int(theta):
        return f"a rotary base that is no whole number ({theta})"
    if layers != {"full_attention"}:
        return "sliding-window layers"
    if architecture in TESTED and (config.get("attention_bias") or rope.get("partial_rotary_factor", 1) != 1):
        return "attention biases or partial rotary positions"
    return None


class _NotHooked(Exception):
    """HookedTransformer cannot run this variant of an architecture; the bridge can."""


def _hooked(hf_model: Any, folder: Path, dtype: torch.dtype, device: str) -> Any:
    """A HookedTransformer whose parameters are views of ``hf_model``'s; raises ``_NotHooked`` with the
    reason."""
    from transformer_lens import HookedTransformer
    from transformer_lens.pretrained import weight_conversions

    try:
        cfg = _hooked_config(hf_model.config, dtype, folder.name)
        model = HookedTransformer(cfg, move_to_device=False)
        convert = getattr(weight_conversions, CONVERTERS[cfg.original_architecture or ""])
        state: dict[str, Tensor] = {name: value.detach() for name, value in convert(hf_model, cfg).items()}
        model.load_state_dict(state, strict=False, assign=True)
        model = model.to(device, print_details=False).eval().requires_grad_(False)
        model.cfg.device = device
    except (ValueError, RuntimeError, NotImplementedError, AttributeError, KeyError, AssertionError) as error:
        raise _NotHooked(f"TransformerLens cannot read it ({brief(error)})") from error
    # a bias that the architecture lacks starts as zeros; any other parameter would be uninitialised memory
    absent = {name for name, _ in model.named_parameters() if ".b_" not in name} - set(state)
    if absent:
        raise _NotHooked(f"TransformerLens finds no weights for {min(absent)}")
    return model


def _hooked_config(hf_config: Any, dtype: torch.dtype, name: str) -> Any:
    """TransformerLens's reading of the config as transformers completed it, from a copy in a neutral place.

    TransformerLens guesses the architecture from words in the *path* ("llama", "gemma"), so it must not see
    the user's.
    """
    from transformer_lens import loading_from_pretrained as loading

    with tempfile.TemporaryDirectory(prefix="mechfourier-") as neutral:
        (Path(neutral) / CONFIG).write_text(hf_config.to_json_string(use_diff=False), encoding="utf-8")
        cfg = loading.get_pretrained_model_config(neutral, fold_ln=False, device="cpu", dtype=dtype)
    cfg.tokenizer_name, cfg.model_name = None, name
    longest = getattr(hf_config, "max_position_embeddings", None)
    if longest is not None and cfg.positional_embedding_type == "rotary":
        cfg.n_ctx = min(cfg.n_ctx, longest)
    return cfg


def _bridge(hf_model: Any, folder: Path, dtype: torch.dtype, device: str, tokenizer: Any | None) -> Any:
    from transformer_lens.model_bridge import TransformerBridge

    try:
        model = TransformerBridge.boot_transformers(
            str(folder), hf_model=hf_model, tokenizer=_stand_in(), device=device, dtype=dtype
        )
    except Exception as error:  # each architecture's adapter raises its own kinds
        if out_of_memory(error):
            raise
        architecture = type(hf_model).__name__
        raise UsageError(
            f"TransformerLens has no bridge for this {architecture} ({brief(error)}); take another model, "
            f"or see its list of supported "
            "architectures"
        ) from error
    mend_rotary_pairs(model, type(hf_model).__name__)
    skip_unread_norms(model)
    keep_hook_points(model)
    for parameter in nn.Module.parameters(model):
        parameter.requires_grad_(False)  # it adds a bias of its own to the unembedding
    if tokenizer is not None:
        ids = tokenizer("a")["input_ids"]
        model.cfg.tokenizer_appends_eos = len(ids) > 1 and ids[-1] == tokenizer.eos_token_id
    # its hook_resid_mid is the input of the second norm: a change there reaches the MLP and not the residual
    # stream
    model.mechfourier_read_only = frozenset({"resid_mid"})
    return model


def _stand_in() -> Any:
    """A tokenizer of one word to boot a bridge with: it would read the real one a second time, to put a
    beginning-of-sequence token before every prompt, and ``_with_tokenizer`` takes that back."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({"<unk>": 0}, unk_token="<unk>"))  # type: ignore[call-arg]
    return PreTrainedTokenizerFast(
        tokenizer_object=words, unk_token="<unk>", eos_token="<unk>", pad_token="<unk>"
    )


def _with_tokenizer(model: Any, tokenizer: Any | None) -> Any:
    """Give the model the folder's tokenizer as it is, so that ``to_tokens`` and ``encode`` agree.

    TransformerLens would put a beginning-of-sequence token before every prompt, also for models trained
    without one.
    """
    setattr(model, "_tokenizer" if hasattr(model, "_tokenizer") else "tokenizer", tokenizer)
    if tokenizer is not None:
        prepends = len(tokenizer("")["input_ids"]) > 0
        model.cfg.tokenizer_prepends_bos = model.cfg.default_prepend_bos = prepends
    return model
