"""What people hand over: arrays, mappings, caches, frames and files, taken as they are, without a copy."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from mechfourier.errors import MechFourierError, UsageError
from mechfourier.hooks.capture import Activations
from mechfourier.models.folder import brief
from mechfourier.probes.arrays.files import Opened, of_arrow, of_dataset, open_arrays, tensor_of


@dataclass(frozen=True, eq=False)
class Given:
    """``opened``: the numbers and labels; ``name``: what a result calls them; ``axes``: the names of the axes where the object
    says them; ``coords``: the labels along these axes; ``source``: the path of a file."""

    opened: Opened
    name: str
    axes: tuple[str, ...] = ()
    coords: dict[str, np.ndarray] = field(default_factory=dict)
    source: str = ""


def given(acts: Any, aside: tuple[str, ...] = ()) -> Given:
    """Anything that holds activations: a path, a tensor, an array, a mapping, a TransformerLens ``ActivationCache``, a tensor
    that nnsight saved, a pandas frame, an xarray ``DataArray`` or ``Dataset``, a ``datasets.Dataset``.

    ``aside``: columns of tables that are labels. Raises ``UsageError`` for anything else.
    """
    try:
        return _given(acts, aside)
    except (MechFourierError, MemoryError):
        raise
    except Exception as error:  # other libraries' own, of objects that are not what they look like
        raise UsageError(
            f"this {type(acts).__name__} cannot be read as activations ({type(error).__name__}: {brief(error)}); give an array, a mapping of "
            f"arrays, a frame or a file"
        ) from error


def _given(acts: Any, aside: tuple[str, ...]) -> Given:
    if isinstance(acts, str | Path):
        return Given(open_arrays(acts, aside), Path(acts).name, source=str(acts))
    if isinstance(acts, Activations):
        return Given(
            Opened({str(site): (value,) for site, value in acts.values.items()}), "Activations", ("row", "d")
        )
    if isinstance(getattr(acts, "value", None), Tensor) and not isinstance(acts, Tensor):
        return _given(acts.value, aside)  # a saved proxy of nnsight
    if isinstance(cache := getattr(acts, "cache_dict", None), Mapping):
        held = _mapping({name: value for name, value in cache.items() if value.ndim == 3})
        return Given(held, "ActivationCache", ("row", "pos", "d"))
    if hasattr(acts, "iloc") and hasattr(acts, "columns"):
        return Given(_frame(acts, aside), "frame")
    if hasattr(acts, "dims") and hasattr(acts, "coords"):
        return _labelled(acts)
    if isinstance(acts, Mapping) and any(hasattr(each, "flatten_indices") for each in acts.values()):
        raise UsageError(
            f"several splits of a dataset ({', '.join(map(str, acts))}); give one of them: acts[{next(iter(acts))!r}]"
        )
    if hasattr(acts, "flatten_indices"):
        return Given(of_dataset(acts, aside), "dataset")
    if hasattr(acts, "column_names") and hasattr(acts, "to_batches"):
        return Given(of_arrow(acts, aside), "table")
    if isinstance(acts, Mapping):
        return Given(_mapping(acts), "arrays")
    if isinstance(acts, Tensor | np.ndarray | list | tuple):
        return Given(Opened({"acts": (tensor_of(acts, "acts"),)}), "array")
    raise UsageError(
        f"{type(acts).__name__} is nothing that activations are read from; give an array, a mapping of arrays, a frame or a file"
    )


def _mapping(found: Mapping[Any, Any]) -> Opened:
    arrays, columns = {}, {}
    for key, value in found.items():
        value = getattr(value, "value", value) if not isinstance(value, Tensor | np.ndarray) else value
        plain = value if isinstance(value, Tensor) else np.asarray(value)
        if isinstance(plain, np.ndarray) and plain.dtype.kind in "US":
            columns[str(key)] = plain.astype(str)
        else:
            arrays[str(key)] = (tensor_of(plain, str(key)),)
    return Opened(arrays, columns)


def _frame(frame: Any, aside: tuple[str, ...]) -> Opened:
    """Floating-point columns side by side are one site, and a view where pandas keeps them in one block; the rest are labels."""
    kinds = [getattr(kind, "kind", "O") for kind in frame.dtypes]
    _refuse_columns(frame, kinds, aside)
    floats = [i for i, kind in enumerate(kinds) if kind == "f" and str(frame.columns[i]) not in aside]
    vectors = [i for i, kind in enumerate(kinds) if kind == "O" and _holds_vectors(frame.iloc[:, i])]
    columns = {
        str(frame.columns[i]): _plain(frame.iloc[:, i])
        for i in range(len(kinds))
        if i not in vectors and (i not in floats or len(floats) == 1 or vectors)
    }
    arrays = {
        str(frame.columns[i]): (tensor_of(_stacked(frame.iloc[:, i]), str(frame.columns[i])),)
        for i in vectors
    }
    if not vectors and len(floats) > 1:
        together = floats == list(range(floats[0], floats[-1] + 1))
        part = frame.iloc[:, floats[0] : floats[-1] + 1] if together else frame.iloc[:, floats]
        arrays = {"columns": (tensor_of(part.to_numpy(), "columns"),)}
    levels = {
        str(name): _plain(frame.index.get_level_values(name))
        for name in frame.index.names
        if name is not None
    }
    return Opened(arrays, {**levels, **columns}, table=True)


def _refuse_columns(frame: Any, kinds: list[str], aside: tuple[str, ...]) -> None:
    """Raise ``UsageError`` for what would be left out without a word: a name twice, complex numbers, missing numbers."""
    names = [str(name) for name in frame.columns]
    counts = Counter(names)
    if not len(frame):
        raise UsageError("the frame has no rows; give activations, a row each")
    for i, (name, kind) in enumerate(zip(names, kinds, strict=True)):
        if counts[name] > 1:
            raise UsageError(
                f"the frame has {counts[name]} columns called {name!r}; give every column a name of its own"
            )
        if kind == "c":
            raise UsageError(
                f"column {name!r} holds complex numbers; give their real and imaginary parts as two columns"
            )
        if kind == "O" and name not in aside and (missing := frame.iloc[:, i].isna()).any():
            left = frame.iloc[:, i][~missing]
            if all(
                isinstance(each, float | np.floating | np.ndarray | list | tuple | Tensor) for each in left
            ):
                raise UsageError(
                    f"column {name!r} has {int(missing.sum())} rows without numbers; leave such rows out"
                )


def _holds_vectors(column: Any) -> bool:
    first = column.iloc[0]
    return isinstance(first, np.ndarray | list | tuple | Tensor) and len(first) > 0


def _stacked(column: Any) -> np.ndarray:
    lengths = {len(each) for each in column}
    if len(lengths) > 1:
        raise UsageError(
            f"column {column.name!r} has vectors of {min(lengths)} to {max(lengths)} numbers; every row needs as many"
        )
    return np.stack([np.asarray(each) for each in column])


def _plain(column: Any) -> np.ndarray:
    array = column.to_numpy()
    return array if array.dtype.kind in "fiub" else np.asarray([str(each) for each in column])


def _labelled(acts: Any) -> Given:
    """Objects that name their axes, as xarray's do."""
    several = getattr(acts, "data_vars", None)
    found = (
        {str(name): each for name, each in several.items()}
        if several is not None
        else {str(acts.name or "acts"): acts}
    )
    axes = {tuple(map(str, each.dims)) for each in found.values()}
    if len(axes) != 1:
        raise UsageError(
            f"the arrays have different axes ({'; '.join(' '.join(a) for a in sorted(axes))}); give those of one kind"
        )
    data = {name: getattr(each, "data", each.values) for name, each in found.items()}
    arrays = {
        name: (tensor_of(each if isinstance(each, Tensor) else np.asarray(each), name),)
        for name, each in data.items()
    }
    coords = {str(name): np.asarray(coord) for name, coord in acts.coords.items()}
    return Given(Opened(arrays), next(iter(found)), axes.pop(), coords)
