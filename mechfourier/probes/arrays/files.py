"""Files of arrays as named tensors and columns: nothing in them is run, and what is large is mapped into memory."""

import contextlib
import json
import math
import struct
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mechfourier.errors import BadCheckpoint, MechFourierError, UnsafeCheckpoint, UsageError, nearest
from mechfourier.files import keep_inside, own_path, read_text
from mechfourier.models.checkpoint import read_safetensors
from mechfourier.models.folder import brief
from mechfourier.models.memory import gigabytes, need_memory
from mechfourier.models.strangers import load_weights_only
from mechfourier.progress import progress

Chunks = tuple[Tensor, ...]
"""One tensor, or the pieces of one along its rows."""
BOMB_SIZE, BOMB_RATIO = 256 * 2**20, 64
"""What unpacks to more than this, and to so many times its size on disk, is no file of activations."""
BATCH_ROWS = 4096
ARROW = b"ARROW1"
LFS = b"version https://git-lfs"
PAGES = (b"<!doctype", b"<html", b"<?xml")
READABLE = ".npy, .npz, .safetensors, a PyTorch file (read without running code), .parquet, .arrow, or a folder of datasets.save_to_disk"


@dataclass(frozen=True, eq=False)
class Opened:
    """``arrays``: numbers by name, in pieces along the first axis where the file is cut into pieces. ``columns``: one text or
    number per row. ``table``: every array is [row, d]."""

    arrays: dict[str, Chunks]
    columns: dict[str, np.ndarray] = field(default_factory=dict)
    table: bool = False


def open_arrays(path: str | Path, aside: tuple[str, ...] = ()) -> Opened:
    """The arrays of a file, by what it holds and not by its name. ``aside``: columns of tables that are labels.

    Raises ``UsageError`` where there is no such file or it is of another kind, ``UnsafeCheckpoint`` where reading it would run
    code, and ``BadCheckpoint`` where it is damaged or unpacks to far more than it holds.
    """
    path = own_path(path)
    if path.is_dir():
        return _dataset(path, aside)
    if not path.is_file():
        raise UsageError(_not_there(path))
    if not path.stat().st_size:
        raise BadCheckpoint(f"{path} is empty; fetch or write it again")
    with path.open("rb") as file:
        head = file.read(64)
    read = _reader(path, head)
    return read(path, aside) if read in (_parquet, _arrow_file, _arrow_stream) else read(path)


def _not_there(path: Path) -> str:
    if path.is_symlink() and not path.exists():
        return f"{path} is a link to a file that is not there; give the file itself"
    if path.exists():
        return f"{path} is no regular file (a device, a pipe or a socket), and is not read; give a file of arrays"
    known = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
    return f"no file of arrays at {path}; nearest in its folder: {nearest(path.name, known)}"


def _reader(path: Path, head: bytes) -> Callable[..., Opened]:
    lowered = head.lstrip().lower()
    if head.startswith(LFS):
        raise BadCheckpoint(f"{path} is a Git LFS pointer, not the file itself; fetch it with: git lfs pull")
    if lowered.startswith(PAGES):
        raise BadCheckpoint(f"{path} is a web page, not a file of arrays; download the file itself")
    if head.startswith(b"\x93NUMPY"):
        return _npy
    if head.startswith(b"PK\x03\x04"):
        return _zip
    if head.startswith(b"PAR1"):
        return _parquet
    if head.startswith(ARROW):
        return _arrow_file
    if path.suffix == ".arrow":
        return _arrow_stream
    if head[8:9] == b"{":
        return lambda file: Opened({name: (each,) for name, each in read_safetensors(file).items()})
    if head.startswith(b"\x80") and path.suffix in (".pt", ".pth", ".bin"):
        return _torch
    if head.startswith(b"\x80"):
        raise UnsafeCheckpoint(
            f"{path} is a pickle, which can run any code when it is read, and is refused; where you trust its author, open it "
            "there and save the arrays alone: numpy.savez(file, **arrays)"
        )
    raise UsageError(f"{path} is no file of arrays that can be read ({READABLE})")


def tensor_of(array: Any, name: str) -> Tensor:
    """An array as a tensor that shares its memory; raises ``UsageError`` for what holds no numbers.

    Other byte orders and negative strides, which PyTorch has not, are copied.
    """
    if isinstance(array, Tensor):
        if array.layout != torch.strided or array.device.type == "meta" or array.is_nested:
            raise UsageError(
                f"{name!r} is a tensor without its numbers in memory, row by row (sparse, nested or meta); give a dense one"
            )
        return array.detach()
    if isinstance(array, np.ma.MaskedArray) and np.ma.is_masked(array):
        raise UsageError(
            f"{name!r} has {np.ma.count_masked(array)} masked numbers; leave out the rows that hold them"
        )
    try:
        array = np.asarray(array)
    except ValueError as error:  # lists of different lengths
        raise UsageError(
            f"{name!r} has rows of different lengths ({brief(error)}); give every row as many numbers"
        ) from error
    if array.dtype == object or array.dtype.kind not in "fiub":
        raise UsageError(f"{name!r} holds {array.dtype} and no real numbers; give floating-point activations")
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    if array.dtype == np.longdouble:
        array = array.astype(np.float64)
    if any(stride < 0 for stride in array.strides):
        array = np.ascontiguousarray(array)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # memory that is mapped to be read only; nothing here writes
        return torch.from_numpy(array)


def _told(path: Path, error: BaseException) -> MechFourierError:
    if any(told in str(error) for told in ("allow_pickle", "Object arrays", "Python objects")):
        return UnsafeCheckpoint(
            f"{path} holds Python objects, which need code to be read, and is refused; save plain arrays: "
            f"numpy.savez(file, acts=acts, labels=labels)"
        )
    return BadCheckpoint(f"{path} is truncated or damaged ({brief(error)}); fetch or write it again")


def _npy(path: Path) -> Opened:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # NumPy reads the header with Python's parser, whose errors are of many kinds
        raise _told(path, error) from error
    return _of_arrays({path.stem: array})


def _of_arrays(found: dict[str, np.ndarray]) -> Opened:
    """Text is a column of labels; all else an array."""
    texts = {name: array.astype(str) for name, array in found.items() if array.dtype.kind in "US"}
    arrays = {name: (tensor_of(a, name),) for name, a in found.items() if name not in texts}
    return Opened(arrays, texts)


def _zip(path: Path) -> Opened:
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            if any(member.filename.endswith("data.pkl") for member in members):
                return _torch(path, mapped=all(m.compress_type == zipfile.ZIP_STORED for m in members))
            _refuse_bomb(path, sum(member.file_size for member in members))
            with path.open("rb") as file:
                found = {m.filename.removesuffix(".npy"): _member(path, archive, m, file) for m in members}
    except (ValueError, OSError, EOFError, SyntaxError, RuntimeError, NotImplementedError, zipfile.BadZipFile, struct.error, TypeError) as error:  # fmt: skip
        raise _told(path, error) from error
    return _of_arrays(found)


def _member(path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo, file: Any) -> np.ndarray:
    """One array of an npz file; mapped into memory where it is not compressed."""
    with archive.open(member) as opened:
        shape, fortran, dtype = _header(opened)
        start = opened.tell()
        if dtype.hasobject:
            raise ValueError("Object arrays cannot be loaded when allow_pickle=False")
        if math.prod(shape) * dtype.itemsize != member.file_size - start:
            raise ValueError(f"{member.filename} does not hold what its header says")
        if member.compress_type != zipfile.ZIP_STORED or not math.prod(shape):
            flat = np.frombuffer(opened.read(), dtype)
            return flat.reshape(shape, order="F" if fortran else "C")
    file.seek(member.header_offset + 26)
    name, extra = struct.unpack("<HH", file.read(4))
    offset = member.header_offset + 30 + name + extra + start
    return np.memmap(path, dtype, "r", offset, shape, "F" if fortran else "C")


def _header(file: Any) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return read(file)


def _refuse_bomb(path: Path, size: int) -> None:
    """Raise where a small file says that it unpacks to very much, or to more than the memory holds."""
    if size > BOMB_SIZE and size > BOMB_RATIO * path.stat().st_size:
        raise BadCheckpoint(
            f"{path} would unpack to {gigabytes(size)}, {size // max(path.stat().st_size, 1)} times its size, and is not read; "
            f"activations do not compress so well"
        )


def _torch(path: Path, mapped: bool = False) -> Opened:
    arrays: dict[str, Chunks] = {}
    columns: dict[str, np.ndarray] = {}
    for name, value in _leaves(load_weights_only(path, mapped=mapped), ""):
        if isinstance(value, Tensor):
            arrays[name] = (tensor_of(value, name),)
            _refuse_bomb(path, value.numel() * value.element_size())  # an expanded one repeats a few numbers
        else:
            columns[name] = np.asarray(value)
    if not arrays:
        raise BadCheckpoint(f"{path} holds no tensors; save them with torch.save({{'acts': acts}}, path)")
    return Opened(arrays, columns)


def _leaves(value: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    """Tensors by dotted names, and lists of texts or numbers, which are labels."""
    if isinstance(value, Tensor):
        yield prefix or "tensor", value
    elif isinstance(value, dict):
        for key, child in value.items():
            yield from _leaves(child, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(value, list | tuple) and value:
        if all(isinstance(each, str | int | float) for each in value):
            yield prefix or "list", list(value)
        else:
            for key, child in enumerate(value):
                yield from _leaves(child, f"{prefix}.{key}" if prefix else str(key))


def _parquet(path: Path, aside: tuple[str, ...]) -> Opened:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path, memory_map=True)
        about = file.metadata
        size = sum(about.row_group(i).total_byte_size for i in range(about.num_row_groups))
        _refuse_bomb(path, max(size, about.num_rows * about.num_columns))
        need_memory(f"{path}", size, "write fewer sites into one file")
        parts: list[pa.RecordBatch] = []
        with progress(f"reading {path.name}", about.num_rows) as bar:
            for batch in file.iter_batches(BATCH_ROWS):
                parts.append(batch)
                bar.advance(batch.num_rows)
    except (pa.ArrowException, OSError) as error:
        raise _told(path, error) from error
    return of_arrow(pa.Table.from_batches(parts, file.schema_arrow), aside)


def _arrow_file(path: Path, aside: tuple[str, ...]) -> Opened:
    """An Arrow file (also Feather), mapped."""
    import pyarrow as pa

    try:
        return of_arrow(pa.ipc.open_file(pa.memory_map(str(path))).read_all(), aside)
    except (pa.ArrowException, OSError) as error:
        raise _told(path, error) from error


def _arrow_stream(path: Path, aside: tuple[str, ...]) -> Opened:
    """An Arrow stream, as datasets writes it."""
    import datasets

    try:
        found = datasets.Dataset.from_file(str(path))
    except Exception as error:  # pyarrow's, and those of a schema that datasets does not know
        raise _told(path, error) from error
    return of_arrow(found.data.table, aside)


def _dataset(path: Path, aside: tuple[str, ...]) -> Opened:
    """A folder of ``datasets.save_to_disk``: Arrow files, which hold no code."""
    import datasets

    if (path / "dataset_dict.json").is_file():
        splits = [each.name for each in sorted(path.iterdir()) if each.is_dir()]
        raise UsageError(
            f"{path} holds several splits; give one of them: {', '.join(str(path / s) for s in splits)}"
        )
    if not (path / "state.json").is_file():
        raise UsageError(
            f"{path} is a folder, and not one that datasets.save_to_disk wrote; give a file ({READABLE})"
        )
    keep_inside(path, *(each.name for each in path.iterdir()))
    try:
        named = [str(f["filename"]) for f in json.loads(read_text(path / "state.json"))["_data_files"]]
        keep_inside(path, *named)
        found = datasets.load_from_disk(str(path))
    except MechFourierError:
        raise
    except Exception as error:
        raise _told(path, error) from error
    return of_dataset(found, aside)


def of_dataset(found: Any, aside: tuple[str, ...] = ()) -> Opened:
    """A ``datasets.Dataset`` on its own memory; what was selected or shuffled is gathered first."""
    names = {
        name: tuple(known) for name, each in found.features.items() if (known := getattr(each, "names", None))
    }
    table = (found.flatten_indices() if found._indices is not None else found).data.table
    return of_arrow(table, aside, names)


def of_arrow(table: Any, aside: tuple[str, ...] = (), names: Mapping[str, tuple[str, ...]] = {}) -> Opened:
    """Columns of lists are [row, d], float columns together one more; texts and whole numbers are labels.

    ``names``: what the whole numbers of a column stand for, in their order (``datasets.ClassLabel``; where it is not given, it is
    read from what ``datasets`` writes into the schema).
    """
    import pyarrow as pa

    repeated = [name for name, count in Counter(table.column_names).items() if count > 1]
    if repeated:
        raise UsageError(
            f"the table has several columns called {repeated[0]!r}; give every column a name of its own"
        )
    if not table.num_rows:
        raise UsageError("the table has no rows; give activations, a row each")
    names = names or _class_names(table)
    arrays: dict[str, Chunks] = {}
    columns: dict[str, np.ndarray] = {}
    loose: list[str] = []
    for name in table.column_names:
        column = table.column(name)
        kind = column.type.storage_type if isinstance(column.type, pa.BaseExtensionType) else column.type
        if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
            arrays[name] = tuple(_rows_of(chunk, name) for chunk in column.chunks if len(chunk))
        elif pa.types.is_floating(kind) and name not in aside:
            loose.append(name)
        elif not pa.types.is_nested(kind):
            plain = column.to_numpy()
            if name in names:
                plain = _by_name(plain, names[name], name)
            columns[name] = plain if plain.dtype.kind in "fiub" else np.asarray([str(each) for each in plain])
    if loose and not arrays and len(loose) > 1:
        arrays["columns"] = (
            torch.stack([tensor_of(table.column(n).to_numpy().copy(), n) for n in loose], 1),
        )
    else:
        columns |= {name: table.column(name).to_numpy() for name in loose}
    return Opened(arrays, columns, table=True)


def _class_names(table: Any) -> dict[str, tuple[str, ...]]:
    """The names of the classes of whole numbers, as ``datasets`` writes them into the schema of a file."""
    with contextlib.suppress(ValueError, TypeError, AttributeError):  # another program's metadata
        told = json.loads((table.schema.metadata or {}).get(b"huggingface", b"{}"))
        features = told.get("info", {}).get("features", {})
        return {
            name: tuple(map(str, known)) for name, each in features.items() if (known := each.get("names"))
        }
    return {}


def _by_name(codes: np.ndarray, names: tuple[str, ...], column: str) -> np.ndarray:
    """Classes by their names and not by their numbers, whose order says nothing of the values'."""
    if not np.isin(codes, np.arange(len(names))).all():
        lost = int((~np.isin(codes, np.arange(len(names)))).sum())
        raise UsageError(
            f"{lost} of {len(codes)} rows have no class in column {column!r}; leave out the rows without a label"
        )
    return np.asarray(names)[codes.astype(np.int64)]


def _rows_of(chunk: Any, name: str) -> Tensor:
    """[row, d] of a column of lists, without a copy; raises where lists differ in length or are missing."""
    if hasattr(chunk, "storage"):
        chunk = chunk.storage
    flat = chunk.flatten()
    if hasattr(flat, "storage"):
        flat = flat.storage
    if chunk.null_count:
        raise UsageError(
            f"column {name!r} has rows without a vector: {chunk.null_count} of {len(chunk)}; leave such rows out"
        )
    if len(flat) % len(chunk):
        raise UsageError(
            f"column {name!r} has rows of different lengths; every row needs a vector of the same length"
        )
    if hasattr(chunk, "value_lengths") and chunk.value_lengths().value_counts().__len__() > 1:
        raise UsageError(
            f"column {name!r} has rows of different lengths; every row needs a vector of the same length"
        )
    if flat.null_count or not str(flat.type).startswith(("float", "double", "halffloat")):
        raise UsageError(f"column {name!r} holds lists of {flat.type}; give lists of floating-point numbers")
    return tensor_of(flat.to_numpy(zero_copy_only=True), name).reshape(len(chunk), -1)
