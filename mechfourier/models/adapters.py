"""PEFT adapter folders: plain LoRA is merged into the weights of its base, every other kind is refused in one
sentence.

W + (α / r) · B A, with √r in place of r for rank-stabilised LoRA (Hu et al. 2021, arXiv 2106.09685;
Kalajdzievski 2023, arXiv 2312.03732). No code of the adapter runs and PEFT is not needed.
"""

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from mechfourier.errors import BadCheckpoint, UsageError
from mechfourier.models.folder import ADAPTER_CONFIG, has_weights, read_json_object
from mechfourier.models.weight_names import listed

ADAPTER_WEIGHTS = "adapter_model.safetensors"
_LORA = re.compile(
    r"^(?P<module>.+)\.lora_(?P<side>A|B|embedding_A|embedding_B)(\.(?!weight$)\w+)?(\.weight)?$"
)
_SAVED = re.compile(r"\.modules_to_save(\.\w+)?(?=\.(weight|bias)$)")
# settings of adapter_config.json that change what a LoRA computes and are not merged here
_UNKNOWN = (
    "use_dora",
    "use_qalora",
    "use_bdlora",
    "alora_invocation_tokens",
    "megatron_config",
    "trainable_token_indices",
    "layer_replication",
    "arrow_config",
    "lora_bias",
)
# ways to begin training that change the base too: an adapter saved from them is no plain LoRA of the
# published base
_OTHER_BASES = ("pissa", "olora", "corda", "loftq")


@dataclass(frozen=True)
class Adapter:
    """A LoRA as its folder says it."""

    folder: Path
    settings: dict[str, Any]

    @property
    def base_name(self) -> str:
        return str(self.settings.get("base_model_name_or_path") or "")

    @property
    def weights(self) -> Path:
        return self.folder / ADAPTER_WEIGHTS


def adapter_in(folder: Path) -> Adapter | None:
    """The adapter of a folder, or None; raises ``UsageError`` for a kind that is not merged."""
    if not (folder / ADAPTER_CONFIG).is_file():
        if (folder / ADAPTER_WEIGHTS).is_file():
            raise BadCheckpoint(
                f"{folder} holds {ADAPTER_WEIGHTS} without {ADAPTER_CONFIG}, so how it is to be applied is "
                f"unknown; add it, or take the adapter away"
            )
        return None
    settings = read_json_object(folder / ADAPTER_CONFIG)
    kind = str(settings.get("peft_type") or "of no kind")
    odd = next((name for name in _UNKNOWN if settings.get(name)), None)
    begun = str(settings.get("init_lora_weights"))
    if odd is None and begun.startswith(_OTHER_BASES):
        odd = f"init_lora_weights {begun}"
    if kind != "LORA" or odd is not None:
        what = f"of kind {kind}" if kind != "LORA" else f"with {odd}"
        raise UsageError(
            f"the adapter in {folder} is one {what}, and only plain LoRA is merged here; merge it with peft "
            f"(merge_and_unload()) and save the model"
        )
    if not (folder / ADAPTER_WEIGHTS).is_file():
        raise BadCheckpoint(
            f"{folder} has an {ADAPTER_CONFIG} and no {ADAPTER_WEIGHTS}; fetch it, or take {ADAPTER_CONFIG} "
            f"away"
        )
    return Adapter(folder, settings)


def base_of(adapter: Adapter) -> Path:
    """The folder with the weights that the adapter was trained on: the one it names, or its own where it
    names none.

    Raises ``UsageError`` where it names another model and has whole weights beside it: they may be merged
    already.
    """
    own, name = has_weights(adapter.folder), adapter.base_name
    beside = adapter.folder / name
    place = next((p for p in (Path(name).expanduser(), beside) if name and p.is_dir()), None)
    if own and (not name or (place is not None and place.resolve() == adapter.folder.resolve())):
        return adapter.folder
    if own:
        raise UsageError(
            f"{adapter.folder} holds whole weights and an adapter for {name!r}, so whether it is merged "
            f"already is unknown; "
            f"keep the adapter in a folder of its own, or take {ADAPTER_CONFIG} and {ADAPTER_WEIGHTS} away"
        )
    if not name:
        raise BadCheckpoint(
            f"{adapter.folder / ADAPTER_CONFIG} names no base_model_name_or_path; add it, or put the "
            f"adapter beside its base"
        )
    from mechfourier.models.registry import resolve

    return resolve(place) if place is not None else resolve(name)


def merge(
    adapter: Adapter, tensors: dict[str, Tensor], found: dict[str, Tensor], *, inputs_first: bool = False
) -> dict[str, Tensor]:
    """The base's tensors with the adapter's (``found``) merged in; raises ``BadCheckpoint`` for what fits
    nowhere. ``inputs_first``: the base keeps its matrices as [in, out] (GPT-2's Conv1D), whatever
    ``fan_in_fan_out`` says."""
    sides: dict[str, dict[str, Tensor]] = {}
    merged, unused = dict(tensors), []
    _refuse_tied(adapter, tensors, found)
    for full, tensor in found.items():
        name = full.removeprefix("base_model.model.").replace(".base_layer.", ".")
        if match := _LORA.match(name):
            pair = sides.setdefault(match["module"], {})
            if (side := match["side"].removeprefix("embedding_")) in pair:
                raise UsageError(
                    f"{adapter.weights} holds several adapters ({listed([full])}); save the one you want "
                    f"alone"
                )
            pair[side] = tensor
            continue
        target = _target(_SAVED.sub("", name), tensors)
        if target is None or merged[target].shape != tensor.shape:
            unused.append(full)
        else:
            merged[target] = tensor.to(merged[target].dtype)
    for module, pair in sides.items():
        target = _target(f"{module}.weight", tensors)
        if target is None or set(pair) != {"A", "B"}:
            unused.append(module)
        else:
            turned = inputs_first and "embed" not in module and not module.endswith(("wte", "wpe", "lm_head"))
            merged[target] = _merged(adapter, module, merged[target], pair["A"], pair["B"], turned)
    if unused or not found:
        raise BadCheckpoint(
            f"the adapter in {adapter.folder} does not fit its base "
            f"({listed(unused) or 'it holds no tensors'}); it belongs to another model, "
            "or is of a kind that is not merged here: merge it with peft (merge_and_unload())"
        )
    return merged


def _refuse_tied(adapter: Adapter, tensors: dict[str, Tensor], found: dict[str, Tensor]) -> None:
    """An embedding that is the unembedding too: the adapter changes one of them, and here both would
    change."""
    tied = not any(name.endswith(("lm_head.weight", "embed_out.weight", "output.weight")) for name in tensors)
    words = ("embed_tokens", "wte", "embed_in", "word_embeddings", "lora_embedding")
    if tied and (touched := [name for name in found if any(word in name for word in words)]):
        raise UsageError(
            f"the adapter in {adapter.folder} changes the embedding ({listed(touched)}) of a base whose "
            f"unembedding is the same "
            "tensor; merge it with peft (merge_and_unload()) and save the model"
        )


def _target(name: str, tensors: dict[str, Tensor]) -> str | None:
    """The base's name for a tensor: some files leave out the name of the inner model (``transformer.``,
    ``model.``)."""
    if name in tensors:
        return name
    inner = name.partition(".")[2]
    return inner if inner in tensors else None


def _merged(adapter: Adapter, module: str, weight: Tensor, A: Tensor, B: Tensor, turned: bool) -> Tensor:
    settings, rank = adapter.settings, A.shape[0] if A.shape[0] == B.shape[-1] else A.shape[-1]
    alpha = _pattern(settings.get("alpha_pattern"), module, settings.get("lora_alpha", 8))  # peft's default
    stated = _pattern(settings.get("rank_pattern"), module, settings.get("r", 8))
    if stated != rank:
        raise BadCheckpoint(
            f"{adapter.folder / ADAPTER_CONFIG} says rank {stated} where A and B of {module} have {rank}; "
            f"fetch it again"
        )
    scale = float(alpha) / (math.sqrt(stated) if settings.get("use_rslora") else stated)
    try:
        change = B.double() @ A.double() * scale
    except RuntimeError as error:
        raise BadCheckpoint(
            f"the adapter's A and B for {module} do not fit each other; fetch it again"
        ) from error
    if turned or change.shape != weight.shape:  # an embedding's A and B are the other way round
        change = change.T
    if change.shape != weight.shape:
        raise BadCheckpoint(
            f"the adapter in {adapter.folder} gives {module} a change of shape {tuple(change.shape)} where "
            f"its base has {tuple(weight.shape)}; "
            "it belongs to another model"
        )
    return (weight.double() + change).to(weight.dtype)


def _pattern(patterns: Any, module: str, default: Any) -> Any:
    """A value that PEFT gives by the end of a module's name, or the default."""
    matches = (v for k, v in (patterns or {}).items() if re.match(rf"(.*\.)?({k})$", module))
    return next(matches, default)
