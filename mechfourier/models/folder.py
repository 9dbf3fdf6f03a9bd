"""Looking at a model folder without torch: its config, its weight files, how many parameters they hold."""

import json
import math
import os
import re
from pathlib import Path
from typing import Any

from mechfourier.errors import BadCheckpoint, UnsafeCheckpoint, WeightsNotFound
from mechfourier.files import read_text, regular

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
CONFIG = "config.json"
ADAPTER_CONFIG = "adapter_config.json"
# Formats that are, or may hold, Python pickles: reading one can run any code its author chose.
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib")
CONVERT = (
    "convert it where you trust its author: from safetensors.torch import save_file; "
    'save_file(torch.load(path, weights_only=True), "model.safetensors")'
)
MAX_HEADER_BYTES = 100_000_000  # the safetensors format's own limit


def brief(error: BaseException) -> str:
    """The first line of an error that says something, cut to a readable length."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    # "Class validation error for …:", "Error(s) in loading state_dict for …:": what is wrong stands below
    told = next((line for line in lines if not line.endswith(":")), lines[0] if lines else "")
    first = re.sub(r"^\w*Error: ", "", told).split(". ")[0]
    return first[:160] if " " in first else f"{type(error).__name__} {first}".strip()


def out_of_memory(error: BaseException) -> bool:
    """Whether an error is PyTorch's or Python's way of saying that memory is full."""
    text = str(error).lower()
    return isinstance(error, MemoryError) or "out of memory" in text or "can't allocate memory" in text


def read_json_object(path: Path) -> dict[str, Any]:
    """A JSON file that holds one object; anything else raises ``BadCheckpoint``."""
    try:
        value = json.loads(read_text(path))
    except (OSError, ValueError, RecursionError) as error:
        raise BadCheckpoint(
            f"{path} is no readable JSON ({brief(error)}); write or fetch it again"
        ) from error
    if not isinstance(value, dict):
        raise BadCheckpoint(
            f"{path} holds a JSON {type(value).__name__}, not an object; write or fetch it again"
        )
    return value


def read_config(folder: str | Path) -> dict[str, Any]:
    """``config.json`` of a model folder; raises ``BadCheckpoint`` where it is missing or unreadable."""
    path = Path(folder) / CONFIG
    if not path.is_file():
        raise BadCheckpoint(
            f"{folder} holds no {CONFIG}, so what its weights are is unknown; a model folder has {CONFIG} "
            f"and {WEIGHTS}"
        )
    return read_json_object(path)


def refuse_pickles(folder: str | Path) -> None:
    """Raise ``UnsafeCheckpoint`` where ``folder`` offers pickled weights, ``BadCheckpoint`` where it is an
    unfinished run; called when it has no safetensors."""
    _say_unfinished(Path(folder))
    found = sorted(p.name for p in Path(folder).iterdir() if p.suffix.lower() in PICKLES)
    if found:
        raise UnsafeCheckpoint(
            f"{Path(folder) / found[0]} is a pickle, which can run code when read, and is refused; {CONVERT}"
        )


def _say_unfinished(folder: Path) -> None:
    """A run of ours that still goes, or was interrupted, has a state and checkpoints and no weights yet: its
    state is no model that somebody pickled."""
    steps = sorted((folder / "checkpoints").glob("step-*.safetensors"))
    if steps or ((folder / "state.pt").is_file() and (folder / CONFIG).is_file()):
        last = f", whose last checkpoint is {steps[-1]}" if steps else ""
        raise BadCheckpoint(f"{folder} is an unfinished run{last}; finish it with --resume")


def weight_files(folder: str | Path) -> list[Path]:
    """The safetensors files of a model folder: one file, or the shards of its index.

    Raises ``UnsafeCheckpoint`` where there are only pickles, ``WeightsNotFound`` where there are no weights,
    and ``BadCheckpoint`` where shards are missing.
    """
    folder = Path(folder)
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    if (folder / INDEX).is_file():
        return _shards(folder)
    refuse_pickles(folder)
    raise WeightsNotFound(
        f"{folder} holds no weights ({WEIGHTS} or {INDEX}); download them into it or give another folder"
    )


def _shards(folder: Path) -> list[Path]:
    weight_map = read_json_object(folder / INDEX).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise BadCheckpoint(f"{folder / INDEX} names no weights; fetch it again")
    strange = [n for n in weight_map.values() if not isinstance(n, str) or Path(n).name != n or "\x00" in n]
    if strange:
        raise BadCheckpoint(
            f"{folder / INDEX} names {strange[0]!r}, which is no file beside it; fetch it again"
        )
    shards = [folder / name for name in sorted(set(weight_map.values()))]
    missing = [shard.name for shard in shards if not os.path.isfile(shard)]  # noqa: PTH113  (Path's own raises for a name longer than any file's)
    if missing:
        raise BadCheckpoint(
            f"{folder} lacks {len(missing)} of its {len(shards)} weight files ({missing[0]}); download them "
            f"again"
        )
    return shards


def has_weights(folder: str | Path) -> bool:
    """Whether ``folder`` is a model folder with a config and complete safetensors weights (nothing is
    read)."""
    try:
        return (Path(folder) / CONFIG).is_file() and bool(weight_files(folder))
    except (BadCheckpoint, UnsafeCheckpoint, WeightsNotFound, OSError):
        return False


def is_adapter(folder: str | Path) -> bool:
    """Whether ``folder`` holds a PEFT adapter and no model of its own (its base lies elsewhere)."""
    return (Path(folder) / ADAPTER_CONFIG).is_file() and not (Path(folder) / CONFIG).is_file()


def read_header(path: str | Path) -> dict[str, Any]:
    """The JSON header of a safetensors file; raises ``BadCheckpoint`` where it or the file's length is
    wrong."""
    path = Path(path)
    try:
        with regular(path).open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > min(MAX_HEADER_BYTES, path.stat().st_size):
                raise ValueError("header longer than the file")
            header = json.loads(file.read(length))
        shapes = [entry["shape"] for name, entry in header.items() if name != "__metadata__"]
        if not all(type(size) is int and size >= 0 for shape in shapes for size in shape):
            raise ValueError("a shape that is no list of sizes")
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        if 8 + length + max(ends, default=0) != path.stat().st_size:
            raise ValueError("the file is not as long as its header says")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
        raise BadCheckpoint(
            f"{path} is truncated or no safetensors file ({brief(error)}); fetch or write it again"
        ) from error
    header.pop("__metadata__", None)
    return header


def count_parameters(folder: str | Path) -> int:
    """Numbers stored in the weight files of ``folder``, from their headers alone."""
    headers = [read_header(path) for path in weight_files(folder)]
    return sum(math.prod(entry["shape"]) for header in headers for entry in header.values())
