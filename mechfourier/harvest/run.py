"""``capture_dataset``: the activations of a data set, shard by shard, from one process or many."""

import contextlib
import functools
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xxhash

from mechfourier._renamed import renamed
from mechfourier.errors import MechFourierError, UsageError
from mechfourier.files import locked, own_path, remove_leftovers
from mechfourier.harvest.engines import runner_of
from mechfourier.harvest.index import DTYPES, INDEX, Config, Index, Shard, check_folder, fault, read_index
from mechfourier.harvest.jobs import Job, jobs, parse_tokens, shard_rows_for
from mechfourier.harvest.result import CaptureResult, size_text
from mechfourier.harvest.write import make_shard
from mechfourier.hooks.site import model_name, select_sites
from mechfourier.models.interface import Model
from mechfourier.models.registry import load
from mechfourier.models.weights import weights_hash
from mechfourier.progress import Progress, progress
from mechfourier.sae.rows import Reading, Row
from mechfourier.sae.shards import capture_rows, check_site
from mechfourier.sae.text import OWN, Source, rows
from mechfourier.training.run_folder import differences

if TYPE_CHECKING:
    pass


class CaptureInterrupted(MechFourierError):
    """Ctrl-C or SIGTERM; whole shards are kept."""

    exit_code = 130


@dataclass(frozen=True)
class CaptureConfig:
    """What the caller asked for, with the model at hand: its sequences, and what the shards will hold."""

    model: Model
    config: Config
    source: Source
    reading: Reading

    def sequences(self) -> Iterator[Row]:
        return rows(self.model, self.source, self.reading)


@renamed(engine_name="runner", loader="engine")
def capture_dataset(
    model: Model | str | Path,
    out: str | Path,
    *,
    dataset: str | Source = OWN,
    sites: Any = "resid_post",
    layers: Any = None,
    tokens: str | int = "1M",
    dtype: str = "float32",
    shard_tokens: str | int | None = None,
    reading: Reading | None = None,
    workers: int = 1,
    runner: str = "joblib",
    address: str | None = None,
    engine: str = "auto",
    device: str = "auto",
    resume: bool = False,
) -> CaptureResult:
    """Capture ``tokens`` activations of a data set at ``sites`` into the folder ``out``, as sharded
    safetensors with an index.

    The same call again goes on where the last one stopped, repairs damaged shards, goes further for more
    tokens.

    Args: model: a name or folder (what `mechfourier.load` takes), or a loaded model where this process does
    the work. out: the folder. dataset: ``"own"`` (what the model was trained on), a file, a folder saved by
    ``datasets``, or ``name:split:column``. sites, layers: what `mechfourier.hooks.site.select_sites` takes.
    tokens: how many, like ``"10M"``; fewer where the data set ends. dtype: ``float32``, ``float16`` or
    ``bfloat16``. shard_tokens: tokens per shard (default: the power of two that fills about 256 MiB).
    reading: which positions count, and the longest sequence. workers: processes, each with a copy of the
    model. runner: ``joblib`` on this machine, or ``ray``; ``address``: of its cluster (None: one is started
    here). engine, device: as in `mechfourier.load`. resume: raise where there is nothing to go on with.

    Raises ``UnknownSite``, ``OutOfRange`` and ``UsageError`` for a wrong call (a folder with another harvest,
    a data set that changed), ``MechFourierError`` where the disk is full or cannot be written,
    ``CaptureInterrupted`` after Ctrl-C.
    """
    folder = own_path(out).resolve()
    wanted = parse_tokens(tokens)
    check_call(model, workers, runner, dtype)
    found = _begun(folder, resume)
    wish = wish_for(
        model,
        dataset,
        sites,
        layers,
        dtype=dtype,
        shard_tokens=shard_tokens,
        tokens=wanted,
        reading=reading or Reading(),
        engine=engine,
        device=device,
    )
    _check_same(folder, found, wish.config, wanted)
    with locked(folder):
        harvest = _Harvest(folder, wish, _index(folder, wish.config, wanted))
        elsewhere = workers > 1 or runner == "ray"
        work = _work(model, wish, folder, engine=engine, device=device, elsewhere=elsewhere)
        with runner_of(runner, work, workers=workers, address=address, gpus=int("cuda" in device)) as run:
            return harvest.run(run)


def _begun(folder: Path, resume: bool) -> Index | None:
    """The harvest that the folder holds; raises ``UsageError`` where there is none to go on with."""
    check_folder(folder)
    found = read_index(folder)
    if resume and found is None:
        raise UsageError(f"{folder} holds no harvest to go on with; leave --resume out to begin one")
    return found


def _index(folder: Path, config: Config, tokens: int) -> Index:
    """What is there under the lock: what another process wrote since the first look counts."""
    index = replace(read_index(folder) or Index(config, tokens), tokens=tokens, complete=False)
    _check_disk(folder, index)
    return index


def check_call(model: Model | str | Path | None, workers: int, runner: str, dtype: str) -> None:
    """Raise ``UsageError`` for what can be said before a model is loaded."""
    if dtype not in DTYPES:
        raise UsageError(f"no dtype {dtype!r}; choose {', '.join(DTYPES)}")
    if workers < 1:
        raise UsageError(f"{workers} workers cannot capture anything; take at least 1")
    if (workers > 1 or runner == "ray") and not isinstance(model, (str, Path)):
        raise UsageError(
            "several workers load the model themselves; give its name or folder instead of the object"
        )


def wish_for(
    model: Model | str | Path,
    dataset: str | Source,
    sites: Any,
    layers: Any,
    *,
    dtype: str,
    shard_tokens: str | int | None,
    tokens: int,
    reading: Reading,
    engine: str,
    device: str,
) -> CaptureConfig:
    """Look everything up: the model, its sites and their widths, the data set. Raises what
    ``capture_dataset`` raises."""
    source = dataset if isinstance(dataset, Source) else Source.parse(dataset)
    loaded = load(model, engine=engine, device=device) if isinstance(model, (str, Path)) else model
    chosen = [check_site(loaded, site) for site in select_sites(loaded, sites, layers)]
    first = next(rows(loaded, source, reading), None)
    if first is None:
        raise UsageError(f"{source.name!r} holds no text that {model_name(loaded)} can read")
    widths = tuple(acts.shape[1] for acts in capture_rows(loaded, [first], chosen).values())
    # float16 and float32 shards hold equally many bytes, not tokens
    row_bytes = DTYPES[dtype].itemsize * sum(widths)
    config = Config(
        model=model_name(loaded),
        weights=weights_hash(loaded),
        tokenizer=_tokenizer_hash(loaded),
        dataset={"name": source.name, "split": source.split, "column": source.column},
        reading={key: getattr(reading, key) for key in ("positions", "skip", "context")},
        sites=tuple(map(str, chosen)),
        widths=widths,
        dtype=dtype,
        seed=reading.seed,
        shard_rows=parse_tokens(shard_tokens) if shard_tokens is not None else shard_rows_for(row_bytes),
    )
    return CaptureConfig(loaded, config, source, reading)


def _tokenizer_hash(model: Model) -> str:
    """XXH3 of a fast tokenizer's own JSON; the class of the model where it reads prompts itself."""
    backend = getattr(getattr(model, "tokenizer", None), "backend_tokenizer", None)
    return type(model).__name__ if backend is None else xxhash.xxh3_128_hexdigest(backend.to_str().encode())


def _check_same(folder: Path, found: Index | None, config: Config, tokens: int) -> None:
    if found is None:
        return
    if unlike := differences(_plain(found.config), _plain(config)):
        raise UsageError(
            f"{folder} holds another harvest: {'; '.join(unlike)}. Go on with the same options, or choose "
            f"another --out"
        )
    if found.tokens > tokens:
        raise UsageError(
            f"{folder} is a harvest of {found.tokens:,} tokens; ask for at least as many, or choose another "
            f"--out"
        )


def _plain(config: Config) -> dict[str, Any]:
    return {**asdict(config), "sites": ",".join(config.sites), "widths": ",".join(map(str, config.widths))}


def _check_disk(folder: Path, index: Index) -> None:
    need = (index.tokens - index.rows) * index.config.row_bytes
    free = shutil.disk_usage(folder).free
    if need > free:
        raise MechFourierError(
            f"{index.tokens:,} tokens take {size_text(need)} more, and {folder} has {size_text(free)} free; "
            f"take fewer --tokens or "
            "sites, --dtype float16, or another --out"
        )


def _work(
    model: Model | str | Path, wish: CaptureConfig, folder: Path, *, engine: str, device: str, elsewhere: bool
) -> Callable[[Job], Shard]:
    if not elsewhere or not isinstance(model, str | Path):
        return lambda job: make_shard(wish.model, wish.config, job, folder)
    # a worker may have another working directory
    path = own_path(model)
    name = str(path.resolve()) if path.exists() else str(model)
    return Worker(name, engine, device, wish.config, str(folder))


@dataclass(frozen=True)
class Worker:
    """Makes shards in another process, with the model loaded there once."""

    model: str
    loader: str
    device: str
    config: Config
    folder: str

    def __call__(self, job: Job) -> Shard:
        from mechfourier.progress import hidden

        model = _loaded(self.model, self.loader, self.device)
        if weights_hash(model) != self.config.weights:
            raise MechFourierError(
                f"a worker found other weights under {self.model!r} than this process did; give the same "
                f"folder to all of them"
            )
        with hidden():
            return make_shard(model, self.config, job, Path(self.folder))


@functools.lru_cache(maxsize=1)
def _loaded(name: str, loader: str, device: str) -> Any:
    return load(name, engine=loader, device=device)


class _Harvest:
    """One pass over the data set: which shards are there, which are to be made."""

    def __init__(self, folder: Path, wish: CaptureConfig, index: Index) -> None:
        self.folder, self.wish, self.index = folder, wish, index
        self.made = self.kept = self.repaired = self.seen = 0
        self.text_changed = UsageError(
            f"{wish.source.name!r} is not the text that {folder} was begun with; bring it back, or choose "
            f"another --out"
        )

    def run(self, engine: Callable[[Iterator[Job]], Iterator[Shard]]) -> CaptureResult:
        started = time.monotonic()
        remove_leftovers(self.folder / "shard-*", self.folder / INDEX)
        self.index.write(self.folder)
        try:
            with _interruptible(), progress("capture", self.index.tokens) as bar:
                for shard in engine(self._missing(bar)):
                    self.index = self.index.having(shard)
                    self.index.write(self.folder)
                    self.made += 1
                    self._tell(bar, shard)
        except KeyboardInterrupt:
            raise CaptureInterrupted(
                f"stopped; {len(self.index.shards)} of {self.index.expected} shards are kept in "
                f"{self.folder}, and the same command goes on"
            ) from None
        return self._finished(time.monotonic() - started)

    def _missing(self, bar: Progress) -> Iterator[Job]:
        """The shards that are not there, or not whole. Raises ``UsageError`` where the text is no longer the
        same."""
        for job in jobs(self.wish.sequences(), self.index.config.shard_rows, self.index.tokens):
            self.seen += 1
            known = self.index.shards.get(job.number)
            if known is not None and known.rows >= job.rows:
                if (known.rows, known.text) != (job.rows, job.text_checksum()):
                    raise self.text_changed
                if fault(self.folder, known) is None:
                    self.kept += 1
                    self._tell(bar, known)
                    continue
                self.repaired, self.made = self.repaired + 1, self.made - 1
            yield job
        if any(number >= self.seen for number in self.index.shards):
            raise self.text_changed

    def _tell(self, bar: Progress, shard: Shard) -> None:
        bar.note(f"{self.made + self.kept + self.repaired} of {self.index.expected} shards")
        bar.advance(shard.rows)

    def _finished(self, seconds: float) -> CaptureResult:
        self.index = replace(self.index, complete=True)
        self.index.write(self.folder)
        config, count = self.index.config, self.index.rows
        notes = () if count >= self.index.tokens else (f"the data set ended after {count:,} tokens",)
        return CaptureResult(
            model=config.model,
            dataset=config.dataset["name"],
            folder=str(self.folder),
            dtype=config.dtype,
            sites=config.sites,
            widths=config.widths,
            tokens=count,
            shards=len(self.index.shards),
            made=self.made,
            kept=self.kept,
            repaired=self.repaired,
            bytes=sum(shard.bytes for shard in self.index.shards.values()),
            seconds=seconds,
            notes=notes,
        )


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """SIGTERM (a scheduler's) stops as Ctrl-C does."""

    def stop(_number: int, _frame: Any) -> None:
        raise KeyboardInterrupt

    try:
        before = signal.signal(signal.SIGTERM, stop)
    except ValueError:  # not in the main thread
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
