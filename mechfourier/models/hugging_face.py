"""Hugging Face folders -> transformers' own models and tokenizers, nothing left out without a word, no code
run."""

import codecs
import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from mechfourier.errors import BadCheckpoint, MechFourierError, UnsafeCheckpoint, UsageError
from mechfourier.models.adapters import Adapter, merge
from mechfourier.models.folder import CONFIG, brief, out_of_memory, read_header, weight_files
from mechfourier.models.text_part import is_text_part, text_config, text_tensors
from mechfourier.models.weight_names import hidden_biases, refuse_untied, refuse_wrong_names, strip_prefixes

INPUTS_FIRST = ("gpt2", "openai-gpt", "ctrl", "imagegpt")  # model types that keep their matrices as [in, out]
# How transformers' classes with a vocabulary head end.
LANGUAGE_MODELS = ("ForCausalLM", "LMHeadModel", "ForMaskedLM")
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")


def load_tokenizer(folder: str | Path) -> Any | None:
    """The Hugging Face tokenizer of a model folder; None where the folder has none."""
    from transformers import AutoTokenizer

    folder = Path(folder)
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        if (folder / "tekken.json").is_file():
            raise UsageError(
                f"{folder} has its tokenizer only as tekken.json (Mistral's own format), which is not read "
                f"here; put the tokenizer.json of the "
                "same model beside it (the transformers version of the repository has one)"
            )
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


def load_hf(
    folder: Path, dtype: torch.dtype, *, adapter: Adapter | None = None, allow_unused: bool = False
) -> Any:
    """The Hugging Face model in evaluation mode. Its own loader only warns of absent and unused weights; here
    they are an error."""
    try:
        config = config_of(folder)
        tensors = strip_prefixes(read_weights(weight_files(folder), dtype))
        if adapter is not None:
            tensors = merge(
                adapter,
                tensors,
                read_weights([adapter.weights], dtype),
                inputs_first=config.model_type in INPUTS_FIRST,
            )
        if is_text_part(folder, config):
            tensors = text_tensors(tensors)
        model_class = language_model(folder, config)
        model, report = model_class.from_pretrained(
            None,
            config=config,
            state_dict=dict(tensors),
            dtype=dtype,
            attn_implementation="eager",
            # a shape that differs is in the report, and refused
            output_loading_info=True,
            ignore_mismatched_sizes=True,
        )
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
    report["unexpected_keys"] = {*report["unexpected_keys"], *hidden_biases(tensors, model.state_dict())}
    refuse_wrong_names(folder, model_class.__name__, report, tensors, allow_unused=allow_unused)
    refuse_untied(folder, model)
    return model.eval()


def config_of(folder: Path) -> Any:
    """The config as transformers completes it; that of its language model where it reads images too."""
    from transformers import AutoConfig

    with tempfile.TemporaryDirectory(prefix="mechfourier-") as copy:
        # which transformers does not read
        if (raw := (folder / CONFIG).read_bytes()).startswith(codecs.BOM_UTF8):
            (Path(copy) / CONFIG).write_bytes(raw.removeprefix(codecs.BOM_UTF8))
            folder = Path(copy)
        config = AutoConfig.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    return text_config(config) or config


def language_model(folder: Path, config: Any) -> Any:
    """The class that config.json names, which must be a language model with one stack of blocks and an output
    matrix."""
    found = _model_class(folder, config)
    if getattr(config, "is_encoder_decoder", False):
        raise UsageError(
            f"{folder} is an encoder-decoder ({found.__name__}), which has two residual streams and answers "
            f"only what a decoder was given; "
            "take a decoder-only language model"
        )
    if not found.__name__.endswith(LANGUAGE_MODELS):
        raise UsageError(
            f"{folder} is a {found.__name__}, which is no language model with a vocabulary head; read are "
            f"those "
            f"({', '.join('…' + end for end in LANGUAGE_MODELS)}) and sentence encoders of the kind BertModel"
        )
    return found


def _model_class(folder: Path, config: Any) -> Any:
    """The class that config.json names; it must be one of transformers' own."""
    import transformers

    name = str((config.architectures or [None])[0])
    found = getattr(transformers, name, None)
    if isinstance(found, type) and issubclass(found, transformers.PreTrainedModel):
        kind = getattr(found, "config_class", None)
        if isinstance(kind, type) and not isinstance(config, kind):
            raise BadCheckpoint(
                f"{folder / CONFIG} names the architecture {name} and the model_type {config.model_type!r}, "
                f"which is another "
                "architecture's; one of the two is wrong: fetch the file again"
            )
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


def read_weights(files: list[Path], dtype: torch.dtype) -> dict[str, Tensor]:
    """Every tensor of the files, floats as ``dtype``; memory-mapped where the file has that dtype already.

    The file is opened anew for each tensor: a mapping lives as long as its handle, and a converted model
    should not share its memory with the whole file it came from.
    """
    tensors: dict[str, Tensor] = {}
    for path in files:
        for name in read_header(path):
            with safe_open(path, framework="pt", device="cpu") as file:
                tensor = file.get_tensor(name)
            tensors[name] = tensor.to(dtype) if tensor.is_floating_point() else tensor
    return tensors
