"""What is in a folder of captured activations after a capture."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mechfourier.harvest.index import DTYPES
from mechfourier.results.base import Result

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class CaptureResult(Result, kind="activations"):
    """What is in the folder now. ``made``, ``kept`` and ``repaired`` count shards: new, found whole, found
    damaged and made again."""

    model: str
    dataset: str
    folder: str
    dtype: str
    sites: tuple[str, ...]
    widths: tuple[int, ...]
    tokens: int
    shards: int
    made: int
    kept: int
    repaired: int
    bytes: int
    seconds: float
    notes: tuple[str, ...]

    def frame(self) -> "pd.DataFrame":
        """One row per site: its width, and the bytes of its activations."""
        import pandas as pd

        size = DTYPES[self.dtype].itemsize * self.tokens
        return pd.DataFrame(
            [{"site": s, "width": w, "bytes": size * w} for s, w in zip(self.sites, self.widths, strict=True)]
        )

    def plot(self) -> Any:
        """Bytes per site."""
        import plotly.express as px

        return px.bar(self.frame(), x="site", y="bytes")

    def __str__(self) -> str:
        head = (
            f"{self.tokens:,} tokens of {self.dataset} through {self.model} at {len(self.sites)} sites: "
            f"{self.shards} shards, "
            f"{size_text(self.bytes)} in {self.folder}"
        )
        work = (
            f"{self.made} shards made, {self.kept} found whole, {self.repaired} repaired, in "
            f"{self.seconds:.0f} s"
        )
        return "\n".join([head, work, *(f"note: {note}" for note in self.notes)])


def size_text(count: float) -> str:
    """Bytes for people, in powers of 1024."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.2f} TiB"
