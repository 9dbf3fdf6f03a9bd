"""Other people's files of tensors: what they are, by their first bytes, how large they say they are, and their
tensors without running code."""

import pickle
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mechfourier.errors import BadCheckpoint, UnsafeCheckpoint, UsageError, nearest
from mechfourier.models.folder import PICKLES, brief
from mechfourier.models.tensor_files import read_safetensors

LARGEST = 2**30
"""Bytes of tensors that are read: networks on modular arithmetic are a thousand times smaller."""
STARTS = (
    (b"version https://git-lfs", "a Git LFS pointer, not the weights", "fetch them with: git lfs pull"),
    (b"<!doctype", "an HTML page, not weights", "download the raw file"),
    (b"<html", "an HTML page, not weights", "download the raw file"),
    (b"<?xml", "an XML page, not weights", "download the raw file"),
    (b"\x89hdf", "an HDF5 file", "save its arrays with numpy.savez, under their names"),
    (b"gguf", "a GGUF file of a language model", "read it with: mechfourier probe"),
    (b"\x1f\x8b", "a gzip archive", "unpack it and give the file inside"),
    (b"\xfd7zxz", "an xz archive", "unpack it and give the file inside"),
    (b"7z\xbc\xaf", "a 7-zip archive", "unpack it and give the file inside"),
    (b"%pdf", "a PDF", "give the file with the weights"),
    (b"\x89png", "a picture", "give the file with the weights"),
)


def load_foreign(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors of somebody else's checkpoint, and its other values (numbers, truth values, text): safetensors,
    .npz, or a PyTorch file read with ``weights_only=True``.

    Nested dicts and lists are flattened to dotted names (``model.embed.W_E``). Raises ``UnsafeCheckpoint`` for
    a pickle that needs code, ``BadCheckpoint`` for what holds no tensors, is damaged, or says that it is
    larger than a network on modular arithmetic can be.
    """
    path = Path(path)
    if path.is_dir():
        inside = [p.name for p in path.iterdir() if p.suffix in (*PICKLES, ".safetensors", ".npz")]
        raise UsageError(
            f"{path} is a folder; give the file of weights in it ({', '.join(inside[:3]) or 'there is none'})"
        )
    if not path.is_file():
        known = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        raise UsageError(f"no checkpoint file at {path}; nearest in its folder: {nearest(path.name, known)}")
    kind = _kind(path)
    if kind == "safetensors":
        values: Any = read_safetensors(path)
    else:
        values = _arrays(path) if kind == "numpy" else load_weights_only(path)
    tensors, others = _flat(values)
    if not tensors:
        held = f"a {type(values).__name__}" if not isinstance(values, Mapping) else "no tensors"
        raise BadCheckpoint(f"{path} holds {held}; give a file with a state dict")
    _refuse_size(
        path, sum(each.numel() * each.element_size() for each in tensors.values()), "its tensors take"
    )
    return tensors, others


def _kind(path: Path) -> str:
    """``safetensors``, ``numpy`` or ``torch``; what is none of them is refused by name."""
    with path.open("rb") as file:
        start = file.read(64)
    if not start:
        raise BadCheckpoint(f"{path} is empty, so truncated or no PyTorch file; fetch it again")
    lowered = start.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    for mark, what, instead in STARTS:
        if lowered.startswith(mark):
            raise BadCheckpoint(f"{path} is {what}; {instead}")
    if lowered.startswith((b"{", b"[")) and b"\0" not in start:  # a safetensors file begins with a number
        raise BadCheckpoint(f"{path} is a JSON text; give the file with the weights")
    if start.startswith(b"\x93NUMPY"):
        return "numpy"
    if start.startswith(b"PK"):
        return _kind_of_zip(path)
    return "torch" if path.suffix.lower() in PICKLES or start.startswith(b"\x80") else "safetensors"


def _kind_of_zip(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise BadCheckpoint(
            f"{path} is truncated or no PyTorch file ({brief(error)}); fetch it again"
        ) from error
    _refuse_size(path, sum(member.file_size for member in members), "it unpacks to")
    names = [member.filename for member in members]
    if any(name.endswith("data.pkl") for name in names):
        return "torch"
    if names and all(name.endswith(".npy") for name in names):
        return "numpy"
    raise BadCheckpoint(
        f"{path} is a zip archive of {len(names)} files ({', '.join(names[:3])} …), not a checkpoint; unpack it "
        "and give the file with the weights"
    )


def _refuse_size(path: Path, size: int, what: str) -> None:
    if size > LARGEST:
        raise BadCheckpoint(
            f"{path} ({path.stat().st_size / 2**20:.1f} MB) is refused: {what} {size / 2**30:.1f} GB, and networks on "
            f"modular arithmetic stay under {LARGEST / 2**30:.0f} GB; give the state dict alone"
        )


def _arrays(path: Path) -> dict[str, np.ndarray]:
    """Arrays of an .npz or .npy file, without its pickled ones."""
    try:
        if not zipfile.is_zipfile(path):
            return {path.stem: np.load(path, allow_pickle=False)}
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError, zipfile.BadZipFile, EOFError) as error:
        if "pickle" in str(error).lower():
            raise UnsafeCheckpoint(
                f"{path} holds pickled Python objects and is refused; save plain arrays with numpy.savez"
            ) from error
        raise BadCheckpoint(f"{path} is a damaged NumPy file ({brief(error)}); fetch it again") from error


def _numpy_plain() -> list[Any]:
    """What NumPy's numbers and arrays are pickled as: constructors that hold data and run nothing."""
    from numpy._core import multiarray

    dtypes = [
        getattr(np.dtypes, name) for name in dir(np.dtypes) if name.endswith("DType") and "Object" not in name
    ]
    plain: list[Any] = [multiarray.scalar, multiarray._reconstruct, np.ndarray, np.dtype, *dtypes]
    return [
        *plain,
        (multiarray.scalar, "numpy.core.multiarray.scalar"),
        (multiarray._reconstruct, "numpy.core.multiarray._reconstruct"),
    ]


def load_weights_only(path: Path, *, mapped: bool = False) -> Any:
    """What a PyTorch file holds, read without running code; ``mapped`` into memory where it is an archive that is not
    compressed, instead of copied."""
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(_numpy_plain()):
            warnings.simplefilter("ignore")  # torch remarks on the pickle protocol
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except Exception as error:  # torch raises RuntimeError, EOFError, KeyError … for a damaged file
        if why := _needs_code(error):
            raise UnsafeCheckpoint(
                f"{path} needs code to be read ({why}) and is refused; where you trust its author, open it "
                f"there and "
                "save its state dict alone: torch.save(model.state_dict(), path)"
            ) from error
        raise BadCheckpoint(
            f"{path} is truncated or no PyTorch file ({brief(error)}); fetch it again"
        ) from error


def _needs_code(error: Exception) -> str | None:
    """What torch's ``weights_only`` reader refused, in a few words; None where the file is merely damaged."""
    text = str(error)
    if "TorchScript" in text:
        return "a TorchScript archive"
    if not isinstance(error, pickle.UnpicklingError):
        return None
    named = re.search(
        r"GLOBAL (\S+)|[Tt]rying to (?:load|instantiate|call)\w* (?:unsupported )?(?:class|function)? ?(\S+)",
        text,
    )
    name = (named[1] or named[2]) if named else ""
    if name:
        return f"it calls {name} to rebuild a pickled object"
    return "it holds instructions that only a full unpickler follows"


def _flat(value: Any) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors by dotted name, and the plain values by the last part of theirs, in lower case."""
    tensors: dict[str, Tensor] = {}
    others: dict[str, Any] = {}
    for name, leaf in _leaves(value, ""):
        if isinstance(leaf, np.ndarray) and leaf.dtype.kind in "fiub" and leaf.ndim:
            tensors[name or "array"] = torch.from_numpy(np.ascontiguousarray(leaf))
        elif isinstance(leaf, Tensor):
            tensors[name or "tensor"] = leaf.detach()
        elif isinstance(leaf, np.generic | np.ndarray) and leaf.ndim == 0:
            others.setdefault(name.rsplit(".", 1)[-1].lower(), leaf.item())
        elif isinstance(leaf, bool | int | float | str):
            others.setdefault(name.rsplit(".", 1)[-1].lower(), leaf)
    return tensors, others


def _leaves(value: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        children: Any = value.items()
    elif isinstance(value, list | tuple):
        children = enumerate(value)
    else:
        yield prefix, value
        return
    for key, child in children:
        yield from _leaves(child, f"{prefix}.{key}" if prefix else str(key))
