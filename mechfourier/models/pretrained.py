"""Hugging Face folders -> TransformerLens, without ever asking the hub.

This is the only file that knows which engine runs: ``hooked`` (HookedTransformer) or ``bridge`` (TransformerBridge).
Both have the same hook names and, within float error, the activations of the Hugging Face forward pass: no layer norm is
folded, nothing is centred. A change of an activation has the same effect in both, except at ``hook_resid_mid``, which the
bridge only shows: ``hooks`` refuses to change it there.

Memory: the engine's parameters are views of the tensors that Hugging Face loaded, so there is one copy of the weights.
"""

import contextlib
import importlib.metadata
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from mechfourier.errors import BadCheckpoint, MechFourierError, UnsafeCheckpoint, UsageError
from mechfourier.models.device import DTYPES
from mechfourier.models.folder import CONFIG, brief, out_of_memory, read_config, read_header, weight_files

# Architectures that HookedTransformer runs, and the TransformerLens function that renames their weights.
CONVERTERS = {
    "Qwen3ForCausalLM": "convert_qwen3_weights",
    "Qwen2ForCausalLM": "convert_qwen2_weights",
    "LlamaForCausalLM": "convert_llama_weights",
    "MistralForCausalLM": "convert_mistral_weights",
    "GPT2LMHeadModel": "convert_gpt2_weights",
    "GPTNeoXForCausalLM": "convert_neox_weights",
}
# Held against the Hugging Face forward pass by the tests; the others are compared on a few tokens each time they load.
TESTED = ("Qwen3ForCausalLM",)
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")
SELF_TEST_TOKENS = 6
# HookedTransformer and HookedEncoder left TransformerLens in 4.0: there the bridge runs everything
HAS_HOOKED = int(importlib.metadata.version("transformer-lens").split(".")[0]) < 4


def load_pretrained(
    folder: str | Path, *, engine: str = "auto", device: str = "cpu", dtype: torch.dtype | None = None
) -> Any:
    """A Hugging Face model folder (config.json, safetensors, tokenizer) as a model with TransformerLens's hooks.

    ``engine="auto"`` is ``hooked`` where HookedTransformer runs the architecture, else ``bridge``. ``dtype=None`` is
    float32 on the CPU and the checkpoint's own dtype on a GPU. Parameters are frozen (activations still carry gradients).

    Raises ``WeightsNotFound``, ``BadCheckpoint`` or ``UnsafeCheckpoint`` for what the folder lacks, and ``UsageError``
    when ``engine="hooked"`` cannot run the architecture.
    """
    folder = Path(folder)
    config = read_config(folder)
    weight_files(folder)
    dtype = dtype or _default_dtype(config, device)
    try:
        reason = _why_not_hooked(config)
    except (TypeError, ValueError, AttributeError, IndexError) as error:
        raise BadCheckpoint(f"{folder / CONFIG} holds values of the wrong type ({brief(error)})") from error
    if engine == "hooked" and reason:
        raise _no_hooked(folder, reason)
    with quiet():
        hf_model = _load_hugging_face(folder, dtype).to(device).requires_grad_(False)
        tokenizer = load_tokenizer(folder)
        if engine != "bridge" and not reason:
            try:
                return _with_tokenizer(_hooked(hf_model, folder, dtype, device), tokenizer)
            except _NotHooked as error:
                if engine == "hooked":
                    raise _no_hooked(folder, str(error)) from error
        return _with_tokenizer(_bridge(hf_model, folder, dtype, device, tokenizer), tokenizer)


def _default_dtype(config: dict[str, Any], device: str) -> torch.dtype:
    stored = str(config.get("dtype") or config.get("torch_dtype") or "float32")
    return torch.float32 if device == "cpu" else DTYPES.get(stored, torch.float32)


def _no_hooked(folder: Path, reason: str) -> UsageError:
    return UsageError(f"HookedTransformer does not run {folder}: {reason}; use engine='bridge' or 'auto'")


def _why_not_hooked(config: dict[str, Any]) -> str | None:
    """What HookedTransformer would get wrong about this config; None where it runs it."""
    if not HAS_HOOKED:
        return "it left TransformerLens in 4.0"
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


def load_tokenizer(folder: str | Path) -> Any | None:
    """The Hugging Face tokenizer of a model folder; None where the folder has none."""
    from transformers import AutoTokenizer

    folder = Path(folder)
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        return None
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False, use_fast=True
        )
    except Exception as error:  # the tokenizers library raises bare Exception for a bad file
        raise BadCheckpoint(
            f"the tokenizer in {folder} cannot be read ({brief(error)}); fetch it again"
        ) from error
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token or tokenizer.convert_ids_to_tokens(0)
    return tokenizer


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hugging Face's loading bars and TransformerLens's deprecation notices, off while a model loads."""
    from transformers.utils import logging

    level, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(level)
        if bar:
            logging.enable_progress_bar()


def _load_hugging_face(folder: Path, dtype: torch.dtype) -> Any:
    """The Hugging Face model in evaluation mode. Its own loader only warns of absent weights; here they are an error."""
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
        model, report = _model_class(folder, config).from_pretrained(
            None, config=config, state_dict=_read_weights(folder, dtype), dtype=dtype, attn_implementation="eager",
            output_loading_info=True,
        )  # fmt: skip
    except MechFourierError:
        raise
    except Exception as error:  # each architecture's config class raises its own kinds
        if out_of_memory(error):
            raise
        if "trust_remote_code" in str(error):
            raise _needs_code(folder) from error
        raise BadCheckpoint(
            f"{folder} cannot be loaded ({brief(error)}); its {CONFIG} and weights do not fit each other"
        ) from error
    if missing := sorted(report["missing_keys"]):
        raise BadCheckpoint(
            f"{folder} lacks {len(missing)} weights of its architecture ({missing[0]}); download it again"
        )
    return model.eval()


def _model_class(folder: Path, config: Any) -> Any:
    """The class that config.json names; it must be one of transformers' own."""
    import transformers

    name = str((config.architectures or [None])[0])
    found = getattr(transformers, name, None)
    if isinstance(found, type) and issubclass(found, transformers.PreTrainedModel):
        return found
    if getattr(config, "auto_map", None):
        raise _needs_code(folder)
    raise BadCheckpoint(
        f"{folder / CONFIG} names the architecture {name!r}, which transformers does not have"
    )


def _needs_code(folder: Path) -> UnsafeCheckpoint:
    return UnsafeCheckpoint(
        f"{folder} needs Python code of its own to be loaded, which is refused; "
        "convert it to an architecture that transformers knows"
    )


def _read_weights(folder: Path, dtype: torch.dtype) -> dict[str, Tensor]:
    """Every tensor of the folder, floats as ``dtype``; memory-mapped where the file has that dtype already.

    The file is opened anew for each tensor: a mapping lives as long as its handle, and a converted model should not
    share its memory with the whole file it came from.
    """
    tensors: dict[str, Tensor] = {}
    for path in weight_files(folder):
        for name in read_header(path):
            with safe_open(path, framework="pt", device="cpu") as file:
                tensor = file.get_tensor(name)
            tensors[name] = tensor.to(dtype) if tensor.is_floating_point() else tensor
    return tensors


class _NotHooked(Exception):
    """HookedTransformer cannot run this variant of an architecture; the bridge can."""


def _hooked(hf_model: Any, folder: Path, dtype: torch.dtype, device: str) -> Any:
    """A HookedTransformer whose parameters are views of ``hf_model``'s; raises ``_NotHooked`` with the reason."""
    from transformer_lens import HookedTransformer
    from transformer_lens.pretrained import weight_conversions

    try:
        cfg = _hooked_config(folder, hf_model.config, dtype)
        model = HookedTransformer(cfg, move_to_device=False)
        convert = getattr(weight_conversions, CONVERTERS[cfg.original_architecture or ""])
        state: dict[str, Tensor] = {name: value.detach() for name, value in convert(hf_model, cfg).items()}
        model.load_state_dict(state, strict=False, assign=True)
        model = model.to(device, print_details=False).eval().requires_grad_(False)
        model.cfg.device = device
        same = cfg.original_architecture in TESTED or _agree(model, hf_model, device)
    except (ValueError, RuntimeError, NotImplementedError, AttributeError, KeyError, AssertionError) as error:
        raise _NotHooked(f"TransformerLens cannot read it ({brief(error)})") from error
    # a bias that the architecture lacks starts as zeros; any other parameter would be uninitialised memory
    absent = {name for name, _ in model.named_parameters() if ".b_" not in name} - set(state)
    if absent:
        raise _NotHooked(f"TransformerLens finds no weights for {min(absent)}")
    if not same:
        raise _NotHooked("its logits would differ from the Hugging Face model's")
    return model


def _hooked_config(folder: Path, hf_config: Any, dtype: torch.dtype) -> Any:
    """TransformerLens's reading of config.json, from a copy in a neutral place.

    TransformerLens guesses the architecture from words in the *path* ("llama", "gemma"), so it must not see the user's.
    """
    from transformer_lens import loading_from_pretrained as loading

    with tempfile.TemporaryDirectory(prefix="mechfourier-") as neutral:
        shutil.copy(folder / CONFIG, Path(neutral) / CONFIG)
        cfg = loading.get_pretrained_model_config(neutral, fold_ln=False, device="cpu", dtype=dtype)
    cfg.tokenizer_name, cfg.model_name = None, folder.name
    longest = getattr(hf_config, "max_position_embeddings", None)
    if longest is not None and cfg.positional_embedding_type == "rotary":
        cfg.n_ctx = min(cfg.n_ctx, longest)
    return cfg


@torch.no_grad()
def _agree(model: Any, hf_model: Any, device: str) -> bool:
    """Whether both give the same logits on a few tokens, within the dtype's own error (a few of its steps per layer)."""
    tokens = torch.arange(SELF_TEST_TOKENS, device=device)[None] % model.cfg.d_vocab
    ours, theirs = model(tokens).double(), hf_model(tokens).logits.double()
    step = torch.finfo(model.cfg.dtype).eps
    return bool((ours - theirs).norm() <= max(1e-4, 20 * step) * theirs.norm())


def _bridge(hf_model: Any, folder: Path, dtype: torch.dtype, device: str, tokenizer: Any | None) -> Any:
    from transformer_lens.model_bridge import TransformerBridge

    try:
        model = TransformerBridge.boot_transformers(
            str(folder), hf_model=hf_model, tokenizer=_stand_in(), device=device, dtype=dtype
        )
    except (ValueError, NotImplementedError, KeyError, AttributeError) as error:
        architecture = type(hf_model).__name__
        raise UsageError(
            f"TransformerLens has no bridge for {architecture} ({brief(error)}); see its list of supported architectures"
        ) from error
    for parameter in nn.Module.parameters(model):
        parameter.requires_grad_(False)  # it adds a bias of its own to the unembedding
    if tokenizer is not None:
        ids = tokenizer("a")["input_ids"]
        model.cfg.tokenizer_appends_eos = len(ids) > 1 and ids[-1] == tokenizer.eos_token_id
    # its hook_resid_mid is the input of the second norm: a change there reaches the MLP and not the residual stream
    model.mechfourier_read_only = frozenset({"resid_mid"})
    return model


def _stand_in() -> Any:
    """A tokenizer of one word to boot a bridge with: it would read the real one a second time, to put a beginning-of-sequence
    token before every prompt, and ``_with_tokenizer`` takes that back."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({"<unk>": 0}, unk_token="<unk>"))  # type: ignore[call-arg]
    return PreTrainedTokenizerFast(
        tokenizer_object=words, unk_token="<unk>", eos_token="<unk>", pad_token="<unk>"
    )


def _with_tokenizer(model: Any, tokenizer: Any | None) -> Any:
    """Give the model the folder's tokenizer as it is, so that ``to_tokens`` and ``encode`` agree.

    TransformerLens would put a beginning-of-sequence token before every prompt, also for models trained without one.
    """
    setattr(model, "_tokenizer" if hasattr(model, "_tokenizer") else "tokenizer", tokenizer)
    if tokenizer is not None:
        prepends = len(tokenizer("")["input_ids"]) > 0
        model.cfg.tokenizer_prepends_bos = model.cfg.default_prepend_bos = prepends
    return model
