"""The header of a GGUF file, read without torch and without believing it: what the file is, its tensors, its
quantisation.

The format is https://github.com/ggml-org/ggml/blob/master/docs/gguf.md (versions 2 and 3). Every count and
length is held against the length of the file before anything of that size is made, so that a header that lies
costs no memory.
"""

import mmap
import re
import struct
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from mechfourier.errors import BadCheckpoint, UnknownModel

MAGIC = b"GGUF"
VERSIONS = (2, 3)
MOST_DIMENSIONS = 4  # ggml's own limit
LONGEST_KEPT = 4096  # an array with more elements (a vocabulary, its scores, its merges) is stepped over
STRING, ARRAY = 8, 9
# value type -> struct letter (the format's table of metadata value types)
SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
# tensor type -> (name, elements of a block, bytes of a block)
TENSOR_TYPES: dict[int, tuple[str, int, int]] = {
    0: ("F32", 1, 4),
    1: ("F16", 1, 2),
    2: ("Q4_0", 32, 18),
    3: ("Q4_1", 32, 20),
    6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24),
    8: ("Q8_0", 32, 34),
    9: ("Q8_1", 32, 40),
    10: ("Q2_K", 256, 84),
    11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176),
    14: ("Q6_K", 256, 210),
    15: ("Q8_K", 256, 292),
    16: ("IQ2_XXS", 256, 66),
    17: ("IQ2_XS", 256, 74),
    18: ("IQ3_XXS", 256, 98),
    19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18),
    21: ("IQ3_S", 256, 110),
    22: ("IQ2_S", 256, 82),
    23: ("IQ4_XS", 256, 136),
    24: ("I8", 1, 1),
    25: ("I16", 1, 2),
    26: ("I32", 1, 4),
    27: ("I64", 1, 8),
    28: ("F64", 1, 8),
    29: ("IQ1_M", 256, 56),
    30: ("BF16", 1, 2),
    34: ("TQ1_0", 256, 54),
    35: ("TQ2_0", 256, 66),
    39: ("MXFP4", 32, 17),
}
# general.file_type -> the name that llama.cpp gives the mixture
FILE_TYPES = {
    0: "F32",
    1: "F16",
    2: "Q4_0",
    3: "Q4_1",
    7: "Q8_0",
    8: "Q5_0",
    9: "Q5_1",
    10: "Q2_K",
    11: "Q3_K_S",
    12: "Q3_K_M",
    13: "Q3_K_L",
    14: "Q4_K_S",
    15: "Q4_K_M",
    16: "Q5_K_S",
    17: "Q5_K_M",
    18: "Q6_K",
    19: "IQ2_XXS",
    20: "IQ2_XS",
    21: "Q2_K_S",
    22: "IQ3_XS",
    23: "IQ3_XXS",
    24: "IQ1_S",
    25: "IQ4_NL",
    26: "IQ3_S",
    27: "IQ3_M",
    28: "IQ2_S",
    29: "IQ2_M",
    30: "IQ4_XS",
    31: "IQ1_M",
    32: "BF16",
    36: "TQ1_0",
    37: "TQ2_0",
    38: "MXFP4_MOE",
}
FLOATS = ("F32", "F16", "BF16", "F64")


@dataclass(frozen=True)
class TensorInfo:
    """One tensor of the file: ``shape`` in torch's order (the slowest axis first), ``start`` in bytes from
    the file's beginning."""

    name: str
    shape: tuple[int, ...]
    type: str
    start: int
    bytes: int

    @property
    def elements(self) -> int:
        return prod(self.shape)


@dataclass(frozen=True)
class Header:
    """What a GGUF file says of itself. Arrays of more than ``LONGEST_KEPT`` elements stand in ``metadata`` as
    their length alone."""

    path: Path
    metadata: dict[str, Any]
    tensors: tuple[TensorInfo, ...]

    @property
    def architecture(self) -> str:
        return str(self.metadata.get("general.architecture", ""))

    @property
    def parameters(self) -> int:
        """Numbers in all tensors."""
        return sum(tensor.elements for tensor in self.tensors)

    @property
    def quantisation(self) -> str:
        """The name of the mixture (``Q4_K_M``); the type that holds most numbers where the file names none
        that it holds."""
        counts: Counter[str] = Counter()
        for tensor in self.tensors:
            counts[tensor.type] += tensor.elements
        kind = self.metadata.get("general.file_type")
        named = FILE_TYPES.get(kind, "") if isinstance(kind, int) else ""
        base = re.sub(r"_(S|M|L|XS|MOE)$", "", named)
        return named if base in counts or named in counts else counts.most_common(1)[0][0]

    def value(self, key: str, default: Any = None) -> Any:
        """The metadata of the file's own architecture: ``value("block_count")`` is ``qwen2.block_count``."""
        return self.metadata.get(f"{self.architecture}.{key}", default)

    def tensor(self, name: str) -> TensorInfo | None:
        return next((tensor for tensor in self.tensors if tensor.name == name), None)


def is_gguf(path: Path) -> bool:
    """Whether ``path`` is a file that claims to be GGUF, by its first bytes or by its name."""
    try:
        with path.open("rb") as file:
            return file.read(4) == MAGIC or path.suffix.lower() == ".gguf"
    except OSError:
        return False


def read_gguf_header(path: str | Path) -> Header:
    """The header of a GGUF file, in a tenth of a second for a vocabulary of 262,144 tokens.

    Raises ``BadCheckpoint`` where the file is no GGUF, is cut short or contradicts itself, and
    ``UnknownModel`` where it holds something other than a whole language model (an adapter, the vision part
    of a model, one of several split files).
    """
    path = Path(path)
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            header = _parse(path, data)
    except (OSError, ValueError, struct.error, UnicodeDecodeError, OverflowError) as error:
        raise BadCheckpoint(
            f"{path} is truncated or no GGUF file ({_reason(error)}); fetch it again"
        ) from error
    _refuse_parts(header)
    return header


def _reason(error: BaseException) -> str:
    if isinstance(error, OSError):
        return error.strerror or "it cannot be read"
    if isinstance(error, UnicodeDecodeError):
        return "a name in it is no UTF-8"
    return "it is empty" if "empty file" in str(error) else str(error)


class _Cursor:
    """A place in the file; every step is held against the end."""

    def __init__(self, data: mmap.mmap, place: int) -> None:
        self.data, self.place, self.end = data, place, len(data)

    def skip(self, count: int) -> int:
        """Step over ``count`` bytes and return where they began."""
        start = self.place
        if count > self.end - start:
            raise ValueError(f"{count:,} bytes are announced at byte {start:,} of {self.end:,}")
        self.place = start + count
        return start

    def unpack(self, letters: str) -> tuple[Any, ...]:
        layout = "<" + letters
        return struct.unpack_from(layout, self.data, self.skip(struct.calcsize(layout)))

    def count(self, least: int) -> int:
        """A number of things that take at least ``least`` bytes each."""
        (number,) = self.unpack("Q")
        if number * least > self.end - self.place:
            raise ValueError(f"it announces {number:,} entries and is {self.end:,} bytes long")
        return number

    def string(self) -> str:
        length = self.count(1)
        start = self.skip(length)
        return self.data[start : start + length].decode("utf-8")


def _parse(path: Path, data: mmap.mmap) -> Header:
    if data[:4] != MAGIC:
        raise ValueError(f"it begins with {bytes(data[:4])!r}, not with b'GGUF'")
    cursor = _Cursor(data, 4)
    (version,) = cursor.unpack("I")
    if version not in VERSIONS:
        big = int.from_bytes(version.to_bytes(4, "little"), "big") in VERSIONS
        kind = "it is written for big-endian machines" if big else f"version {version}; 2 and 3 can be read"
        raise ValueError(kind)
    tensor_count, pair_count = cursor.count(24), cursor.count(13)
    metadata = {}
    for _ in range(pair_count):
        key = cursor.string()
        (kind,) = cursor.unpack("I")
        metadata[key] = _value(cursor, kind)
    return Header(path, metadata, _tensors(cursor, tensor_count, metadata))


def _value(cursor: _Cursor, kind: int) -> Any:
    if kind == STRING:
        return cursor.string()
    if kind == ARRAY:
        return _array(cursor)
    if kind not in SCALARS:
        raise ValueError(f"metadata of the unknown type {kind}")
    return cursor.unpack(SCALARS[kind])[0]


def _array(cursor: _Cursor) -> Any:
    """The elements, or their number where there are many."""
    (kind,) = cursor.unpack("I")
    if kind == STRING:
        number = cursor.count(8)
        if number <= LONGEST_KEPT:
            return [cursor.string() for _ in range(number)]
        _skip_strings(cursor, number)
        return number
    if kind not in SCALARS:
        raise ValueError(f"an array of the unknown type {kind}")
    number = cursor.count(struct.calcsize(SCALARS[kind]))
    if number <= LONGEST_KEPT:
        return list(cursor.unpack(f"{number}{SCALARS[kind]}"))
    cursor.skip(number * struct.calcsize(SCALARS[kind]))
    return number


def _skip_strings(cursor: _Cursor, number: int) -> None:
    """A loop with nothing in it but the step: a vocabulary has a quarter of a million entries."""
    read: Callable[..., tuple[int]] = struct.Struct("<Q").unpack_from
    data, place, end = cursor.data, cursor.place, cursor.end
    for _ in range(number):
        place += 8 + read(data, place)[0]
        if place > end:
            raise ValueError("a list of words runs over its end")
    cursor.place = place


def _tensors(cursor: _Cursor, number: int, metadata: dict[str, Any]) -> tuple[TensorInfo, ...]:
    alignment = metadata.get("general.alignment", 32)
    if not isinstance(alignment, int) or alignment < 1 or alignment & (alignment - 1):
        raise ValueError(f"general.alignment is {alignment!r}")
    entries = [_entry(cursor) for _ in range(number)]
    start = -(-cursor.place // alignment) * alignment
    found = tuple(TensorInfo(t.name, t.shape, t.type, start + t.start, t.bytes) for t in entries)
    if not found:
        raise ValueError("it holds no tensors")
    if len({tensor.name for tensor in found}) < number:
        raise ValueError("two tensors have one name")
    last = max(found, key=lambda tensor: tensor.start + tensor.bytes)
    if last.start + last.bytes > cursor.end:
        raise ValueError(
            f"{last.name[:60]!r} ends at byte {last.start + last.bytes:,}, the file at {cursor.end:,}"
        )
    return found


def _entry(cursor: _Cursor) -> TensorInfo:
    name = cursor.string()
    (dimensions,) = cursor.unpack("I")
    if not 1 <= dimensions <= MOST_DIMENSIONS:
        raise ValueError(f"a tensor has {dimensions:,} dimensions")
    sizes = cursor.unpack(f"{dimensions}Q")
    kind, start = cursor.unpack("IQ")
    if kind not in TENSOR_TYPES:
        raise ValueError(f"{name[:60]!r} is of the unknown tensor type {kind}")
    label, block, size = TENSOR_TYPES[kind]
    if sizes[0] % block or not prod(sizes):
        raise ValueError(
            f"{name[:60]!r} has rows of {sizes[0]:,} numbers, and {label} holds {block} to a block"
        )
    return TensorInfo(name, tuple(reversed(sizes)), label, start, prod(sizes) // block * size)


def _refuse_parts(header: Header) -> None:
    """A file that is no whole language model, in a sentence that says what it is."""
    kind, architecture = str(header.metadata.get("general.type", "model")), header.architecture
    if kind == "mmproj" or architecture in ("clip", "mmproj"):
        raise UnknownModel(
            f"{header.path} is the vision part of a model ({architecture[:40]!r}, {kind[:40]!r}), not a "
            f"language model; give the file beside it"
        )
    if kind == "adapter":
        raise UnknownModel(
            f"{header.path} is an adapter (LoRA), not a model; merge it into its base and give the merged "
            f"file"
        )
    pieces = header.metadata.get("split.count")
    if isinstance(pieces, int) and pieces > 1:
        raise UnknownModel(
            f"{header.path} is one of {pieces} split files; join them first: llama-gguf-split --merge "
            f"{header.path.name} whole.gguf"
        )
    if not architecture:
        raise BadCheckpoint(f"{header.path} names no architecture (general.architecture); fetch it again")
