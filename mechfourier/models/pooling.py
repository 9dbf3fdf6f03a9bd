"""How a sentence encoder makes one vector of its tokens' vectors, as its own folder says
(sentence-transformers' files)."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from mechfourier.errors import UsageError
from mechfourier.files import read_text
from mechfourier.models.folder import read_json_object

MODULES = "modules.json"
# the names in 1_Pooling/config.json -> ours
MODES = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len",
    "pooling_mode_lasttoken": "last",
    "pooling_mode_weightedmean_tokens": "weightedmean",
}
SPELLINGS = {"mean_sqrt_len_tokens": "mean_sqrt_len", "lasttoken": "last"}


@dataclass(frozen=True)
class Pooling:
    """``mode``: cls (the first token), mean, max, last, mean_sqrt_len (the sum over √tokens) or weightedmean
    (weights 1, 2, 3 …); ``unit``: the result is scaled to Euclidean length 1."""

    mode: str = "mean"
    unit: bool = True

    def __call__(
        self, resid: Float[Tensor, "batch pos d"], mask: Int[Tensor, "batch pos"] | None = None
    ) -> Float[Tensor, "batch d"]:
        """One vector per row, of the tokens that ``mask`` keeps."""
        kept = torch.ones(resid.shape[:2], device=resid.device) if mask is None else mask
        vector = self._pooled(resid, kept)
        return F.normalize(vector, dim=-1) if self.unit else vector

    def _pooled(self, resid: Float[Tensor, "batch pos d"], kept: Tensor) -> Float[Tensor, "batch d"]:
        if self.mode in ("cls", "last"):
            at = kept.long().argmax(dim=1) if self.mode == "cls" else _last(kept)
            return resid[torch.arange(len(resid), device=resid.device), at]
        weight = rearrange(kept.to(resid.dtype), "batch pos -> batch pos 1")
        if self.mode == "max":
            return resid.masked_fill(weight == 0, -torch.inf).amax(dim=1)
        if self.mode == "weightedmean":
            weight = weight * rearrange(
                torch.arange(1, resid.shape[1] + 1, device=resid.device), "pos -> 1 pos 1"
            )
        count = weight.sum(dim=1)
        return (resid * weight).sum(dim=1) / (count.sqrt() if self.mode == "mean_sqrt_len" else count)


def _last(kept: Tensor) -> Tensor:
    places = torch.arange(kept.shape[1], device=kept.device)
    return (kept.long() * places).argmax(dim=1)


def read_pooling(folder: Path) -> Pooling:
    """The pooling of a sentence encoder's folder; the mean, scaled to length 1, where it says nothing.

    Raises ``UsageError`` for steps after the encoder that are not read (a dense layer, several poolings side
    by side).
    """
    kinds, path = [], folder / "1_Pooling"
    if (folder / MODULES).is_file():
        for module in _modules(folder):
            kind = str(module.get("type", "")).rsplit(".", 1)[-1]
            kinds.append(kind)
            path = folder / str(module.get("path")) if kind == "Pooling" else path
        odd = next((kind for kind in kinds if kind not in ("Transformer", "Pooling", "Normalize")), None)
        if odd is not None or (kinds and "Pooling" not in kinds):
            raise UsageError(
                f"{folder / MODULES} has {'a step ' + odd if odd else 'no pooling'} after the encoder, "
                f"which is not read here; take a sentence encoder "
                "that ends in a pooling"
            )
    config = read_json_object(path / "config.json") if (path / "config.json").is_file() else {}
    return Pooling(_mode(path, config), unit=not kinds or "Normalize" in kinds)


def _modules(folder: Path) -> list[dict[str, Any]]:
    import json

    from mechfourier.errors import BadCheckpoint

    try:
        found = json.loads(read_text(folder / MODULES))
    except (OSError, ValueError) as error:
        raise BadCheckpoint(f"{folder / MODULES} is no readable JSON ({error}); fetch it again") from error
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise BadCheckpoint(f"{folder / MODULES} holds no list of modules; fetch it again")
    return found


def _mode(path: Path, config: dict[str, Any]) -> str:
    named = config.get("pooling_mode")
    on = [mode for key, mode in MODES.items() if config.get(key)]
    if named is not None:
        on = [SPELLINGS.get(str(each), str(each)) for each in (named if isinstance(named, list) else [named])]
    strange = [key for key in config if key.startswith("pooling_mode_") and key not in MODES and config[key]]
    if len(on) > 1 or strange or (on and on[0] not in MODES.values()):
        raise UsageError(
            f"{path / 'config.json'} asks for the pooling {' and '.join([*on, *strange])}, which is not "
            f"read here; read are one of: "
            f"{', '.join(MODES.values())}"
        )
    return on[0] if on else "mean"
