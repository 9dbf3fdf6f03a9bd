"""Activations on disk, written as they are captured and read back in a shuffled order, in constant memory.

The rows of a shard are permuted before it is written, and its k-th slice belongs to bucket k. A bucket (one
slice of every shard) fits in memory, and is permuted again when it is read, differently in every pass: any
two rows can end up side by side, and every row comes exactly once per pass (a two-pass shuffle: Rao 1961,
Sandelius 1962). A shard is a function of the stream of sequences, so that one that is lost or cut short is
captured again and no other.
"""

import json
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from einops import rearrange
from jaxtyping import Float, Int
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from mechfourier.errors import BadCheckpoint, MechFourierError, UsageError
from mechfourier.files import read_text, write_json, write_with
from mechfourier.hooks.capture import capture
from mechfourier.hooks.edit import as_vectors
from mechfourier.hooks.site import ATTENTION_KINDS, Site, find_site
from mechfourier.models.interface import Model
from mechfourier.progress import progress
from mechfourier.sae.rows import Row

SHARD_BYTES = 32 * 2**20
BUCKET_BYTES = 128 * 2**20
DISK_BYTES = 16 * 2**30
LEAST_ROWS = 2048  # in a shard
MANIFEST = "manifest.json"


@dataclass(frozen=True)
class ShardInfo:
    """One file: its rows, its bytes, and the sequences ``start:stop`` of the stream it was captured from."""

    file: str
    rows: int
    bytes: int
    start: int
    stop: int


def vectors_of(site: Site, value: Float[Tensor, "row pos *rest"]) -> Float[Tensor, "row pos d"]:
    """Captured activations at all positions as one vector per position, heads side by side."""
    return as_vectors(site, value)


def check_site(model: Model, name: Site | str) -> Site:
    """The site, if a dictionary can be trained on it; raises ``UnknownSite``, and ``UsageError`` for
    attention patterns."""
    site = find_site(model, name)
    if site.kind in ATTENTION_KINDS:
        raise UsageError(
            f"{site} holds attention over keys, one number per position, not a vector space; "
            "choose a site like resid_post, mlp_post or z"
        )
    return site


def capture_groups(
    model: Model, rows: Sequence[Row], sites: Sequence[Site], *, most: int | None = None, pad: int = 1
) -> Iterator[tuple[list[int], dict[str, Float[Tensor, "row pos d"]]]]:
    """The kept positions of ``rows``, up to ``most`` sequences at a time: which rows, and their activations.

    Sequences run together whose lengths, rounded up to a multiple of ``pad``, are equal. With ``pad > 1``
    (for causal models, in which what follows a token does not reach it) shorter ones are filled up at the
    end, and only the first ``len(row.keep)`` positions count.
    """
    by_shape: dict[tuple[int, int], list[int]] = {}
    for number, row in enumerate(rows):
        shape = (len(row.ids), len(row.keep)) if pad == 1 else (-(-len(row.ids) // pad), 0)
        by_shape.setdefault(shape, []).append(number)
    for same in by_shape.values():
        for start in range(0, len(same), most or len(same)):
            group = same[start : start + (most or len(same))]
            tokens = _filled([rows[number].ids for number in group])
            acts = capture(model, tokens, list(sites), _filled([rows[number].keep for number in group]))
            yield group, {str(site): vectors_of(site, acts[site]) for site in sites}


def _filled(lists: Sequence[Sequence[int]]) -> Int[Tensor, "row longest"]:
    """Lists as one array, the shorter ones filled up with their last number."""
    longest = max(map(len, lists))
    return torch.tensor([[*each, *[each[-1]] * (longest - len(each))] for each in lists])


def capture_rows(
    model: Model, rows: Sequence[Row], sites: Sequence[Site]
) -> dict[str, Float[Tensor, "row d"]]:
    """The activations of the kept positions of ``rows`` at every site: one pass of the model for all of
    them."""
    parts: dict[str, list[Tensor]] = {str(site): [] for site in sites}
    for _, acts in capture_groups(model, rows, sites):
        for name, vectors in acts.items():
            parts[name].append(rearrange(vectors, "row pos d -> (row pos) d"))
    return {name: torch.cat(found) for name, found in parts.items()}


def chunks(rows: Iterable[Row], size: int, total: int) -> Iterator[tuple[int, list[Row]]]:
    """Sequences in groups of about ``size`` activations, with the number of each group's first, up to
    ``total`` in all."""
    group: list[Row] = []
    count = start = done = 0
    for number, row in enumerate(rows):
        if done >= total:
            break
        group.append(row)
        count += len(row.keep)
        done += len(row.keep)
        if count >= size:
            yield start, group
            group, count, start = [], 0, number + 1
    if group:
        yield start, group


class Shards:
    """A folder of shards of several sites, complete once ``manifest.json`` says so."""

    def __init__(self, folder: Path, sites: tuple[str, ...], widths: tuple[int, ...], seed: int) -> None:
        self.folder, self.sites, self.widths, self.seed = folder, sites, widths, seed
        self.infos: list[ShardInfo] = []
        self.complete = False

    @property
    def rows(self) -> int:
        return sum(info.rows for info in self.infos)

    @property
    def row_bytes(self) -> int:
        return 4 * sum(self.widths)

    @property
    def shard_rows(self) -> int:
        return max(LEAST_ROWS, SHARD_BYTES // self.row_bytes)

    @property
    def buckets(self) -> int:
        return max(1, -(-self.rows * self.row_bytes // BUCKET_BYTES))

    # writing

    def collect(self, model: Model, stream: Iterable[Row], rows: int) -> "Shards":
        """Capture ``rows`` activations of ``stream`` (fewer where it ends) and write those shards that are
        not there yet.

        Raises ``UsageError`` where the disk is too small or the stream is empty, ``MechFourierError`` for NaN
        activations. What was written before an interrupt is kept and found again.
        """
        known = {info.file: info for info in self._saved()}
        self.infos, sites = [], [Site.parse(name) for name in self.sites]
        with progress("capture activations", rows) as bar:
            for start, group in chunks(stream, self.shard_rows, rows):
                name = f"shard-{len(self.infos):05d}.safetensors"
                info = known.get(name)
                if info is None or info.start != start or not self._whole(info):
                    if not self.infos:
                        self._check_disk(rows)
                    info = self._write(name, (start, start + len(group)), capture_rows(model, group, sites))
                self.infos.append(info)
                self._save()
                bar.note(f"{len(self.infos)} shards")
                bar.advance(info.rows)
        if not self.infos:
            raise UsageError("there is no sequence to train on; name another text, or hold out less")
        self.complete = True
        self._save()
        return self

    def keep(self, parts: Iterable[dict[str, Float[Tensor, "row d"]]]) -> "Shards":
        """Write activations that are there already, a shard per part."""
        self.infos = []
        for part in parts:
            start = self.rows
            span = (start, start + len(part[self.sites[0]]))
            self.infos.append(self._write(f"shard-{len(self.infos):05d}.safetensors", span, part))
        self.complete = True
        self._save()
        return self

    def _write(self, name: str, span: tuple[int, int], acts: dict[str, Tensor]) -> ShardInfo:
        count = len(acts[self.sites[0]])
        number = len(self.infos)
        order = torch.randperm(count, generator=torch.Generator().manual_seed(self.seed * 1_000_003 + number))
        path = self.folder / name
        shuffled = {site: values[order].contiguous() for site, values in acts.items()}
        write_with(path, lambda temporary: save_file(shuffled, temporary))
        return ShardInfo(name, count, path.stat().st_size, *span)

    def _check_disk(self, rows: int) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        need, free = rows * self.row_bytes, shutil.disk_usage(self.folder).free
        # a stream may end before it has given so many rows, so this is no refusal where it could fit
        if need > free and need > DISK_BYTES:
            raise UsageError(
                f"{rows} activations take {need / 2**30:.1f} GiB, and {self.folder} has {free / 2**30:.1f} "
                f"GiB free; "
                "keep fewer of them on disk (--rows), or choose another --out"
            )

    def _save(self) -> None:
        write_json(
            self.folder / MANIFEST,
            {
                "sites": list(self.sites),
                "widths": list(self.widths),
                "seed": self.seed,
                "complete": self.complete,
                "shards": [asdict(info) for info in self.infos],
            },
        )

    # reading

    def _saved(self) -> list[ShardInfo]:
        path = self.folder / MANIFEST
        try:
            found = json.loads(read_text(path))
            same = (found["sites"], found["widths"], found["seed"]) == (
                [*self.sites],
                [*self.widths],
                self.seed,
            )
            return [ShardInfo(**info) for info in found["shards"]] if same else []
        except FileNotFoundError:
            return []
        except (ValueError, KeyError, TypeError, OSError):
            return []  # a damaged manifest: everything is captured again

    def _whole(self, info: ShardInfo) -> bool:
        """Whether the file is there, of its size, and holds what it should; its tensors are not read."""
        path = self.folder / info.file
        try:
            if path.stat().st_size != info.bytes:
                return False
            with safe_open(path, framework="pt") as shard:
                shapes = {name: tuple(shard.get_slice(name).get_shape()) for name in shard.keys()}  # noqa: SIM118
        except (OSError, SafetensorError):
            return False
        return shapes == {
            site: (info.rows, width) for site, width in zip(self.sites, self.widths, strict=True)
        }

    def bucket(self, number: int) -> dict[str, Float[Tensor, "row d"]]:
        """The ``number``-th slice of every shard; raises ``BadCheckpoint`` where a shard is lost or cut
        short."""
        parts: dict[str, list[Tensor]] = {site: [] for site in self.sites}
        for info in self.infos:
            start, stop = self._slice(info, number)
            if stop == start:
                continue
            try:
                with safe_open(self.folder / info.file, framework="pt") as shard:
                    for site in self.sites:
                        parts[site].append(shard.get_slice(site)[start:stop])
            except (OSError, SafetensorError) as error:
                raise BadCheckpoint(
                    f"the activations in {self.folder / info.file} are lost or cut short ({error}); "
                    "go on with --resume: only they are captured again, and the training done so far is kept"
                ) from error
        return {site: torch.cat(found) for site, found in parts.items()}

    def bucket_rows(self, number: int) -> int:
        return sum(stop - start for start, stop in (self._slice(info, number) for info in self.infos))

    def _slice(self, info: ShardInfo, number: int) -> tuple[int, int]:
        return info.rows * number // self.buckets, info.rows * (number + 1) // self.buckets

    def clear(self) -> None:
        """Remove the shards and the manifest, and the folder if nothing else is in it."""
        for path in [*self.folder.glob("shard-*.safetensors"), self.folder / MANIFEST]:
            path.unlink(missing_ok=True)
        if self.folder.is_dir() and not any(self.folder.iterdir()):
            self.folder.rmdir()


@runtime_checkable
class Bucketed(Protocol):
    """What a ``Stream`` shuffles: rows in buckets that fit in memory (``Shards`` here, a harvest
    elsewhere)."""

    @property
    def folder(self) -> Path: ...
    @property
    def complete(self) -> bool: ...
    @property
    def sites(self) -> tuple[str, ...]: ...
    @property
    def widths(self) -> tuple[int, ...]: ...
    @property
    def rows(self) -> int: ...
    @property
    def buckets(self) -> int: ...
    def bucket(self, number: int) -> dict[str, Tensor]: ...
    def bucket_rows(self, number: int) -> int: ...


class Stream:
    """Shuffled batches ``{site: [batch, d]}`` without end: pass after pass over the shards, each in an order
    of its own.

    ``done`` is the number of batches given; setting it by :meth:`seek` goes to any place at once.
    """

    def __init__(self, shards: Bucketed, batch: int, *, seed: int) -> None:
        if not shards.complete:
            raise MechFourierError(
                f"the activations in {shards.folder} are not complete; go on with --resume"
            )
        self.shards, self.batch, self.seed, self.done = shards, batch, seed, 0
        self._sizes = [shards.bucket_rows(number) for number in range(shards.buckets)]
        self._held: tuple[int, dict[str, Tensor]] | None = None
        self._order: tuple[tuple[int, int], Tensor] | None = None

    def seek(self, done: int) -> None:
        """Go on after the batch of that number."""
        self.done = done

    def __iter__(self) -> "Stream":
        return self

    def __next__(self) -> dict[str, Float[Tensor, "batch d"]]:
        parts: list[dict[str, Tensor]] = []
        at, need = self.done * self.batch, self.batch
        while need:
            part, count = self._rows(at, need)
            parts.append(part)
            at, need = at + count, need - count
        self.done += 1
        if len(parts) == 1:
            return parts[0]
        return {site: torch.cat([part[site] for part in parts]) for site in self.shards.sites}

    def of(self, site: str) -> Iterator[Float[Tensor, "batch d"]]:
        """The batches of one site: the data provider of an ``SAETrainer``."""
        return (batch[site] for batch in self)

    def _rows(self, at: int, most: int) -> tuple[dict[str, Tensor], int]:
        """Up to ``most`` rows from place ``at`` of the endless sequence on, without crossing into the next
        bucket."""
        turn, offset = divmod(at, self.shards.rows)
        place = 0
        order = self._turn(turn)
        while offset >= self._sizes[order[place]]:
            offset -= self._sizes[order[place]]
            place += 1
        number = order[place]
        count = min(most, self._sizes[number] - offset)
        chosen = self._permutation(turn, number)[offset : offset + count]
        return {site: values[chosen] for site, values in self._bucket(number).items()}, count

    def _turn(self, turn: int) -> list[int]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + turn)
        return torch.randperm(len(self._sizes), generator=generator).tolist()

    def _permutation(self, turn: int, number: int) -> Tensor:
        if self._order is None or self._order[0] != (turn, number):
            seed = (self.seed * 1_000_003 + turn) * 65_537 + number + 1
            generator = torch.Generator().manual_seed(seed % 2**63)
            self._order = (turn, number), torch.randperm(self._sizes[number], generator=generator)
        return self._order[1]

    def _bucket(self, number: int) -> dict[str, Tensor]:
        if self._held is None or self._held[0] != number:
            self._held = None  # the old one goes before the new one comes
            self._held = number, self.shards.bucket(number)
        return self._held[1]
