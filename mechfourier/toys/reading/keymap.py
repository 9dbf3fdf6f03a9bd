"""A key map: a TOML file that says which of their tensors is which of ours.

    "their.tensor" = "blocks.0.attn.W_Q"
    "their.linear.weight" = { ours = "blocks.0.mlp.W_in", transpose = true }
    "qkv" = { ours = "blocks.0.attn.W_Q", rows = [0, 128], heads = 4 }
    "their.bias" = ""                                  # not needed

``transpose`` swaps two axes; ``rows`` takes a part of the first axis, before that; ``heads`` splits [d, h·e]
(of W_O: [h·e, d]; of a bias: [h·e]) into heads. Biases that nothing maps to are zero. A tensor may be given
several times, as a list of such tables. Tensors that the map does not name are left out.
"""

import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from einops import rearrange
from torch import Tensor

from mechfourier.errors import UsageError, nearest
from mechfourier.files import read_text

OPTIONS = ("ours", "transpose", "rows", "heads")


def apply_key_map(tensors: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """The tensors under our names and in our axes; raises ``UsageError`` for a map that does not fit."""
    out: dict[str, Tensor] = {}
    for theirs, how in _entries(path):
        if theirs not in tensors:
            raise UsageError(
                f"{path} names {theirs!r}, which the file has not; closest: {nearest(theirs, tensors)}"
            )
        ours = how["ours"]
        if not ours:
            continue
        if ours in out:
            raise UsageError(f"{path} gives {ours!r} twice; map one tensor to it")
        out[ours] = _turned(tensors[theirs], theirs, how, path)
    if not out:
        raise UsageError(f'{path} maps no tensor; write lines like: "their.name" = "embed.W_E"')
    return out


def _entries(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        values = tomllib.loads(read_text(path))
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{path} is no readable TOML ({error}); see the form of a key map in docs/how-to/import.md"
        ) from error
    for theirs, given in _names(values):
        for each in given if isinstance(given, list) else [given]:
            how = {"ours": each} if isinstance(each, str) else each
            if not isinstance(how, dict) or not isinstance(how.get("ours"), str):
                raise UsageError(
                    f'{path}: {theirs!r} = {each!r} names none of our tensors; write "embed.W_E" or {{ ours = "embed.W_E" }}'
                )
            if wrong := next((key for key in how if key not in OPTIONS), None):
                raise UsageError(
                    f"{path}: {theirs!r} has the option {wrong!r}; closest: {nearest(wrong, OPTIONS)}"
                )
            yield theirs, how


def _names(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Names without quotes are nested tables in TOML: joined again."""
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict) and "ours" not in value:
            yield from _names(value, f"{name}.")
        else:
            yield name, value


def _turned(tensor: Tensor, theirs: str, how: Mapping[str, Any], path: Path) -> Tensor:
    rows, heads = how.get("rows"), how.get("heads")
    try:
        if rows is not None:
            start, stop = rows
            if not 0 <= start < stop <= len(tensor):
                raise ValueError(f"rows {start} to {stop} of {len(tensor)}")
            tensor = tensor[start:stop]
        if how.get("transpose"):
            tensor = tensor.mT
        if heads is not None:
            last = how["ours"].rsplit(".", 1)[-1]
            pattern = (
                "(h e) -> h e"
                if tensor.ndim == 1
                else "(h e) d -> h e d"
                if last == "W_O"
                else "d (h e) -> h d e"
            )
            tensor = rearrange(tensor, pattern, h=heads)
    except (ValueError, TypeError, RuntimeError, IndexError) as error:
        first = next(iter(str(error).strip().splitlines()), "")
        raise UsageError(
            f"{path}: {theirs!r} {tuple(tensor.shape)} cannot be taken as {dict(how)} ({first})"
        ) from error
    return tensor
