"""The index of a harvest: what it is of, and the checksum of every shard. It is replaced in one step and
checks itself."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
import xxhash

from mechfourier._version import __version__
from mechfourier.errors import BadCheckpoint, UsageError
from mechfourier.files import read_text, write_json
from mechfourier.results.base import plain, rebuild

INDEX = "index.json"
FORMAT = 1
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
TEXT_BYTES = 4 + 8 + 4  # token, document, position of every row
MOST_ROWS = 2**48
PIECE = 8 * 2**20  # bytes read at a time for a checksum


@dataclass(frozen=True)
class Config:
    """All that decides what the shards hold. A harvest goes on only with the same."""

    model: str
    weights: str
    tokenizer: str
    dataset: Mapping[str, str]
    reading: Mapping[str, Any]
    sites: tuple[str, ...]
    widths: tuple[int, ...]
    dtype: str
    seed: int
    shard_rows: int

    @property
    def row_bytes(self) -> int:
        """Bytes of one token: its activations at all sites, its id, document and position."""
        return DTYPES[self.dtype].itemsize * sum(self.widths) + TEXT_BYTES


@dataclass(frozen=True)
class Shard:
    """One file. ``checksum``: XXH3 of its bytes; ``text``: XXH3 of the tokens, documents and positions it was
    made from."""

    number: int
    file: str
    rows: int
    bytes: int
    checksum: str
    text: str


@dataclass(frozen=True)
class Index:
    """``tokens`` were asked for; ``complete`` once they are there, or the data set has no more."""

    config: Config
    tokens: int
    complete: bool = False
    shards: Mapping[int, Shard] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        return sum(shard.rows for shard in self.shards.values())

    @property
    def expected(self) -> int:
        """The shards that ``tokens`` take."""
        return -(-self.tokens // self.config.shard_rows)

    def having(self, shard: Shard) -> "Index":
        return replace(self, shards={**self.shards, shard.number: shard})

    def write(self, folder: Path) -> None:
        content = self._content()
        write_json(folder / INDEX, {**content, "checksum": _digest(content)})

    def _content(self) -> dict[str, Any]:
        listed = [asdict(self.shards[number]) for number in sorted(self.shards)]
        head = {
            "format": FORMAT,
            "mechfourier": __version__,
            "tokens": self.tokens,
            "complete": self.complete,
        }
        return plain({**head, "config": asdict(self.config), "shards": listed})


def read_index(folder: Path) -> Index | None:
    """The index of a folder, None where it has none; raises ``BadCheckpoint`` for a damaged one."""
    path = folder / INDEX
    try:
        found = json.loads(read_text(path))
        checksum = found.pop("checksum")
        if found.get("format") != FORMAT:
            raise BadCheckpoint(
                f"{path} is of format {found.get('format')!r} and this version reads {FORMAT}; update "
                f"mechfourier"
            )
        if checksum != _digest(found):
            raise ValueError("its checksum does not fit its content")
        shards = rebuild(tuple[Shard, ...], found["shards"])
        index = Index(
            rebuild(Config, found["config"]),
            rebuild(int, found["tokens"]),
            rebuild(bool, found["complete"]),
            {shard.number: shard for shard in shards},
        )
        if len(index.shards) < len(shards):
            raise ValueError("it lists a shard twice")
        _check(index)
        return index
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BadCheckpoint(
            f"the index {path} is damaged ({error}); bring it back from a copy, or choose another --out"
        ) from error


def _check(index: Index) -> None:
    """Raise ``ValueError`` where values of the right type cannot be those of a harvest."""
    config, shards = index.config, index.shards.values()
    if strange := [shard.file for shard in shards if shard.file != shard_name(shard.number)]:
        raise ValueError(f"it names {strange[0]!r}, which is no shard's name")
    if config.dtype not in DTYPES or len(config.widths) != len(config.sites):
        raise ValueError(
            f"{len(config.sites)} sites of {len(config.widths)} widths in {config.dtype} are no harvest's"
        )
    if min(config.shard_rows, index.tokens, *config.widths, *(shard.rows for shard in shards)) < 1:
        raise ValueError("it counts fewer than one row, token or dimension")
    if index.rows > MOST_ROWS:
        raise ValueError(f"it counts {index.rows:,} rows, more than a disk holds")


def shard_name(number: int) -> str:
    """The file of a shard. An index that names another, perhaps outside its folder, is not followed."""
    return f"shard-{number:06d}.safetensors"


def _digest(content: Mapping[str, Any]) -> str:
    """Of the JSON values themselves: the same however a file spaces them."""
    return xxhash.xxh3_128_hexdigest(json.dumps(content, sort_keys=True, ensure_ascii=False).encode())


def file_checksum(path: Path) -> str:
    """XXH3 (128 bits) of a file's bytes, read piece by piece."""
    digest, buffer = xxhash.xxh3_128(), bytearray(PIECE)
    view = memoryview(buffer)
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(buffer):
            digest.update(view[:count])
    return digest.hexdigest()


def fault(folder: Path, shard: Shard) -> str | None:
    """What is wrong with a shard's file: ``"lost"``, ``"cut short"``, ``"altered"``, or None where it is
    whole."""
    path = folder / shard.file
    try:
        if path.stat().st_size != shard.bytes:
            return "cut short" if path.stat().st_size < shard.bytes else "altered"
        return None if file_checksum(path) == shard.checksum else "altered"
    except FileNotFoundError:
        return "lost"
    except OSError as error:
        return f"unreadable ({error.strerror})"


def check_folder(folder: Path) -> None:
    """Raise ``UsageError`` where ``folder`` holds something that is no harvest."""
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file; choose a folder with --out")
    others = (
        [path.name for path in folder.iterdir() if not path.name.startswith(".")] if folder.is_dir() else []
    )
    if others and INDEX not in others:
        raise UsageError(
            f"{folder} holds other files ({', '.join(sorted(others)[:3])}) and no harvest; choose another "
            f"--out"
        )
