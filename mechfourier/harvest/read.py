"""Reading a harvest back: memory-mapped shards, a ``datasets.Dataset`` on the same memory, batches for
SAELens.

A safetensors file that torch maps into memory is not copied: its pages come from the disk when they are
looked at, and the kernel drops them again. A shard is verified against its checksum before its first number
is given out.
"""

import bisect
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from torch import Tensor

from mechfourier._arguments import checked
from mechfourier.errors import BadCheckpoint, MechFourierError, OutOfRange, UnknownSite, UsageError, nearest
from mechfourier.harvest.check import existing
from mechfourier.harvest.index import Config, Shard, fault
from mechfourier.sae import shards as sae_shards
from mechfourier.sae.shards import Stream

if TYPE_CHECKING:
    import datasets

TEXT = ("token", "document", "position")


@checked
def open_harvest(folder: str | Path, *, partial: bool = False, verify: bool = True) -> "Harvest":
    """Open what ``capture_dataset`` wrote.

    ``partial``: take the shards that are there where it is not finished. ``verify=False`` compares sizes
    instead of checksums (for a harvest that ``mechfourier capture --verify`` has just read in full). Raises
    ``UsageError`` where there is none, ``BadCheckpoint`` for a damaged one, ``MechFourierError`` for an
    unfinished one.
    """
    path, index = existing(folder)
    if not (index.complete or partial):
        raise MechFourierError(
            f"the harvest in {path} has {len(index.shards)} of {index.expected} shards; finish it with its "
            f"capture command, "
            "or open it with partial=True"
        )
    return Harvest(
        path, index.config, tuple(index.shards[number] for number in sorted(index.shards)), verify=verify
    )


@dataclass(frozen=True)
class Place:
    """Where a row comes from: its token, the number of its document in the data set, and its position
    there."""

    row: int
    token: int
    document: int
    position: int


class Column:
    """One site (or ``token``, ``document``, ``position``) as memory-mapped tensors, one per shard, opened
    when they are used."""

    def __init__(self, harvest: "Harvest", name: str) -> None:
        self.harvest, self.name = harvest, name

    def __len__(self) -> int:
        """The number of shards."""
        return len(self.harvest.shards)

    def __getitem__(self, shard: int) -> Tensor:
        return self.harvest.tensor(range(len(self))[shard], self.name)

    def __iter__(self) -> Iterator[Tensor]:
        return (self[shard] for shard in range(len(self)))

    def row(self, number: int) -> Tensor:
        """One row of the whole, as a view."""
        shard, offset = self.harvest.locate(number)
        return self[shard][offset]


class Harvest:
    """A harvest on disk. Rows are tokens in the order of the data set, numbered from 0 over all shards."""

    def __init__(
        self, folder: Path, config: Config, shards: tuple[Shard, ...], *, verify: bool = True
    ) -> None:
        self.folder, self.config, self.shards, self.verify = folder, config, shards, verify
        self._ends = list(itertools.accumulate(shard.rows for shard in shards))
        self._open: dict[int, Any] = {}

    @property
    def sites(self) -> tuple[str, ...]:
        return self.config.sites

    @property
    def rows(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __len__(self) -> int:
        return self.rows

    def __repr__(self) -> str:
        return (
            f"Harvest({self.folder}: {self.rows:,} tokens, {len(self.sites)} sites, {self.config.dtype}, "
            f"{len(self.shards)} shards)"
        )

    # memory-mapped tensors

    def site(self, name: Any) -> Column:
        """The activations of a site, ``[row, d]`` per shard; raises ``UnknownSite``."""
        wanted = str(name)
        if wanted not in self.sites:
            raise UnknownSite(
                f"{wanted!r} is not in {self.folder}; closest: {nearest(wanted, self.sites)}. Capture it "
                f"into another --out"
            )
        return Column(self, wanted)

    def text(self, name: str) -> Column:
        """``token``, ``document`` or ``position`` of every row, ``[row]`` per shard."""
        if name not in TEXT:
            raise UsageError(f"no text column {name!r}; choose {', '.join(TEXT)}")
        return Column(self, name)

    def tensor(self, shard: int, name: str) -> Tensor:
        """A column of one shard: memory of the file itself, not a copy. Raises ``BadCheckpoint`` where the
        file is not whole."""
        if shard not in self._open:
            self._open[shard] = self._opened(self.shards[shard])
        return self._open[shard].get_tensor(name)

    def _opened(self, shard: Shard) -> Any:
        path = self.folder / shard.file
        wrong = fault(self.folder, shard) if self.verify else _wrong_size(path, shard)
        try:
            if wrong is None:
                return safe_open(path, framework="pt")
        except (OSError, SafetensorError) as error:
            wrong = f"unreadable ({error})"
        raise BadCheckpoint(
            f"{path} is {wrong}; run the capture command of {self.folder} again: only such shards are made "
            f"anew"
        )

    def locate(self, row: int) -> tuple[int, int]:
        """The shard of a row, and its place in it."""
        if not 0 <= row < self.rows:
            raise OutOfRange(f"row {row} is outside the {self.rows:,} rows of {self.folder}")
        shard = bisect.bisect_right(self._ends, row)
        return shard, row - (self._ends[shard] - self.shards[shard].rows)

    # back to the text

    def where(self, row: int) -> Place:
        """The token of a row, its document and its position there."""
        return Place(row, *(int(self.text(name).row(row)) for name in TEXT))

    def around(self, row: int, before: int = 8, after: int = 8) -> list[Place]:
        """The captured tokens of the same document from ``before`` rows before a row to ``after`` rows after
        it."""
        here = self.where(row)
        near = (self.where(n) for n in range(max(0, row - before), min(self.rows, row + after + 1)))
        return [place for place in near if place.document == here.document]

    # for other libraries

    def dataset(self) -> "datasets.Dataset":
        """A ``datasets.Dataset`` whose columns (``token``, ``document``, ``position`` and the sites) are the
        mapped files: no copy.

        What it gives out (``[0:64]``, ``with_format("torch")``) is copied row by row, as ``datasets`` does;
        ``with_format("arrow")`` is not. Raises ``UsageError`` for bfloat16, which Arrow has no type for.
        """
        import datasets
        import pyarrow as pa
        from datasets.table import InMemoryTable

        if self.config.dtype == "bfloat16":
            raise UsageError(
                f"{self.folder} holds bfloat16, which Arrow has no type for; use .site() or .provider(), or "
                f"capture with --dtype float16"
            )
        names = (*TEXT, *self.sites)
        columns = {name: pa.chunked_array([_arrow(part) for part in Column(self, name)]) for name in names}
        # without a fingerprint of ours, datasets would read all of it to make one
        fingerprint = _fingerprint(self.shards)
        return datasets.Dataset(InMemoryTable(pa.table(columns)), fingerprint=fingerprint)

    def provider(
        self, site: Any = None, *, batch_size: int = 4096, seed: int = 0, shuffle: bool = True
    ) -> Iterator[Float[Tensor, "batch d"]]:
        """Batches of one site without end, float32: the data provider of SAELens's ``SAETrainer``.

        Shuffled: every row once per pass, another order in each (a bucket of at most 128 MiB is in memory).
        ``shuffle=False``: in the order of the text, views of the mapped files (for a float32 harvest nothing
        is copied); the last batch of a shard may be smaller.
        """
        if site is None:
            site, *others = self.sites
            if others:
                raise UsageError(f"{self.folder} holds {len(others) + 1} sites; name one, like {site}")
        column = self.site(site)
        if not 1 <= batch_size <= self.rows:
            raise OutOfRange(
                f"a batch of {batch_size} does not fit {self.rows:,} rows; take 1 to {self.rows}"
            )
        if shuffle:
            return Stream(_OneSite(self, column.name), batch_size, seed=seed).of(column.name)
        return _in_order(column, batch_size)


def _wrong_size(path: Path, shard: Shard) -> str | None:
    size = path.stat().st_size if path.is_file() else None
    return None if size == shard.bytes else "lost" if size is None else "of another size"


def _arrow(values: Tensor) -> Any:
    """A tensor as an Arrow array on the same memory."""
    import pyarrow as pa

    array = values.numpy()
    flat = pa.Array.from_buffers(pa.from_numpy_dtype(array.dtype), array.size, [None, pa.py_buffer(array)])
    return flat if values.ndim == 1 else pa.FixedSizeListArray.from_arrays(flat, values.shape[1])


def _fingerprint(shards: Sequence[Shard]) -> str:
    import xxhash

    return xxhash.xxh3_64_hexdigest("".join(shard.checksum for shard in shards).encode())


def _in_order(column: Column, batch_size: int) -> Iterator[Float[Tensor, "batch d"]]:
    while True:
        for part in column:
            yield from (batch.to(torch.float32) for batch in part.split(batch_size))


class _OneSite:
    """A site of a harvest as what ``sae.shards.Stream`` shuffles: bucket k is the k-th slice of every
    shard."""

    complete = True

    def __init__(self, harvest: Harvest, name: str) -> None:
        self.harvest, self.name, self.folder = harvest, name, harvest.folder
        self.sites: tuple[str, ...] = (name,)
        self.widths = (harvest.config.widths[harvest.sites.index(name)],)
        self.rows = harvest.rows
        size = 4 * self.rows * self.widths[0]  # batches are float32
        self.buckets = max(1, -(-size // sae_shards.BUCKET_BYTES))

    def bucket(self, number: int) -> dict[str, Tensor]:
        column = self.harvest.site(self.name)
        slices = ((i, *self._slice(shard, number)) for i, shard in enumerate(self.harvest.shards))
        rows = torch.cat([column[i][start:stop] for i, start, stop in slices if stop > start])
        return {self.name: rows.float()}

    def bucket_rows(self, number: int) -> int:
        return sum(stop - start for start, stop in (self._slice(s, number) for s in self.harvest.shards))

    def _slice(self, shard: Shard, number: int) -> tuple[int, int]:
        return shard.rows * number // self.buckets, shard.rows * (number + 1) // self.buckets
