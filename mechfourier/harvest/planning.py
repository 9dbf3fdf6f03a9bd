"""What a harvest will take: bytes, shards and hours, from the shapes and a few timed batches."""

import itertools
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mechfourier.errors import MechFourierError
from mechfourier.files import own_path
from mechfourier.harvest.index import TEXT_BYTES
from mechfourier.harvest.jobs import jobs, parse_tokens
from mechfourier.harvest.result import size_text
from mechfourier.harvest.run import CaptureConfig, check_call, wish_for
from mechfourier.harvest.write import make_shard
from mechfourier.models.interface import Model
from mechfourier.results.base import Result
from mechfourier.sae.rows import Reading
from mechfourier.sae.text import OWN, Source

if TYPE_CHECKING:
    import pandas as pd

TIMED_SECONDS = 4.0
FIRST_ROWS, MOST_ROWS = 512, 65_536


@dataclass(frozen=True)
class Plan(Result, kind="activations-plan"):
    """``tokens_per_second`` of one worker: capture, file, checksum and flush to the disk of ``--out``.
    ``hours`` of all of it, timed on ``timed_tokens``: ``tokens / (tokens_per_second · workers) / 3600``,
    which holds where workers have cores of their own."""

    model: str
    dataset: str
    dtype: str
    sites: tuple[str, ...]
    widths: tuple[int, ...]
    tokens: int
    workers: int
    token_bytes: int
    shard_tokens: int
    shards: int
    bytes: int
    free_bytes: int
    timed_tokens: int
    tokens_per_second: float
    hours: float

    def frame(self) -> "pd.DataFrame":
        """One row per site: its width and its bytes."""
        import pandas as pd

        item = (self.token_bytes - TEXT_BYTES) // sum(self.widths)
        return pd.DataFrame(
            [
                {"site": s, "width": w, "bytes": item * w * self.tokens}
                for s, w in zip(self.sites, self.widths, strict=True)
            ]
        )

    def plot(self) -> Any:
        """Bytes per site."""
        import plotly.express as px

        return px.bar(self.frame(), x="site", y="bytes")

    def __str__(self) -> str:
        fits = (
            "it fits"
            if self.bytes <= self.free_bytes
            else "it does not fit: fewer --tokens or sites, or --dtype float16"
        )
        return "\n".join(
            [
                f"{self.tokens:,} tokens of {self.dataset} through {self.model} at {len(self.sites)} sites "
                f"({sum(self.widths):,} numbers a token)",
                f"size: {self.token_bytes:,} bytes a token as {self.dtype}, {size_text(self.bytes)} in all, "
                f"{size_text(self.free_bytes)} free: {fits}",
                f"shards: {self.shards:,} of {self.shard_tokens:,} tokens, "
                f"{size_text(self.shard_tokens * self.token_bytes)} each",
                f"time: {self.tokens_per_second:,.0f} tokens a second and worker (timed on "
                f"{self.timed_tokens:,}), "
                f"{_duration(self.hours)} with {self.workers} worker{'s' if self.workers > 1 else ''}",
            ]
        )


def _duration(hours: float) -> str:
    if hours < 1 / 60:
        return f"{hours * 3600:.0f} seconds"
    return f"{hours * 60:.0f} minutes" if hours < 2 else f"{hours:,.1f} hours"


def plan(
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
    engine: str = "auto",
    device: str = "auto",
) -> Plan:
    """What ``capture_dataset`` with the same arguments would take. Times small shards for a few seconds;
    ``out`` is left as it is.

    Raises what ``capture_dataset`` raises for a wrong call.
    """
    wanted = parse_tokens(tokens)
    check_call(None if workers == 1 else model, workers, "joblib", dtype)
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
    config, disk = wish.config, _existing_parent(own_path(out).resolve())
    timed, speed = _timed(wish, disk)
    size = wanted * config.row_bytes
    return Plan(
        model=config.model,
        dataset=config.dataset["name"],
        dtype=config.dtype,
        sites=config.sites,
        widths=config.widths,
        tokens=wanted,
        workers=workers,
        token_bytes=config.row_bytes,
        shard_tokens=config.shard_rows,
        shards=-(-wanted // config.shard_rows),
        bytes=size,
        free_bytes=shutil.disk_usage(disk).free,
        timed_tokens=timed,
        tokens_per_second=speed,
        hours=wanted / (speed * workers) / 3600,
    )


def _existing_parent(folder: Path) -> Path:
    return next(path for path in (folder, *folder.parents) if path.is_dir())


def _timed(wish: CaptureConfig, disk: Path) -> tuple[int, float]:
    """Tokens of the last trial and its tokens per second: shards twice as large each time, until one takes
    seconds."""
    size = FIRST_ROWS
    try:
        with tempfile.TemporaryDirectory(dir=disk, prefix=".mechfourier-plan-") as folder:
            while True:
                job = next(jobs(itertools.islice(wish.sequences(), size), size, size))
                started = time.perf_counter()
                make_shard(wish.model, wish.config, job, Path(folder))
                taken = time.perf_counter() - started
                # a trial that the text was too short for is the last one
                if taken > TIMED_SECONDS / 2 or size >= MOST_ROWS or job.rows < size:
                    return job.rows, job.rows / taken
                size *= 2
    except OSError as error:
        raise MechFourierError(f"cannot write to {disk} ({error.strerror}); choose another --out") from error
