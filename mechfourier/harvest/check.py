"""Are the shards of a harvest what they were when they were written?"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mechfourier.errors import UsageError
from mechfourier.files import own_path
from mechfourier.harvest.index import INDEX, Index, fault, read_index
from mechfourier.progress import tracked
from mechfourier.results.base import Result

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class VerifyResult(Result, kind="activations-check"):
    """``faults``: file and what is wrong with it (``lost``, ``cut short``, ``altered``), for every shard that
    is not whole."""

    folder: str
    shards: int
    expected: int
    complete: bool
    tokens: int
    bytes: int
    faults: tuple[tuple[str, str], ...]

    @property
    def good(self) -> bool:
        return not self.faults

    def frame(self) -> "pd.DataFrame":
        """One row per fault."""
        import pandas as pd

        return pd.DataFrame(self.faults, columns=["file", "fault"])

    def plot(self) -> Any:
        """How many shards have which fault."""
        import plotly.express as px

        return px.histogram(self.frame(), x="fault")

    def __str__(self) -> str:
        whole = (
            f"{self.shards - len(self.faults)} of {self.shards} shards of {self.folder} are whole "
            f"({self.tokens:,} tokens)"
        )
        lines = [f"{file}: {what}" for file, what in self.faults]
        if lines:
            lines.append("the capture command of this folder makes them again")
        if not self.complete:
            lines.append(
                f"the harvest is not finished: {self.expected - self.shards} shards are still to be made"
            )
        return "\n".join([whole, *lines])


def existing(folder: str | Path) -> tuple[Path, Index]:
    """The index of a folder that must hold a harvest; raises ``UsageError`` where it does not."""
    path = own_path(folder)
    index = read_index(path)
    if index is None:
        raise UsageError(
            f"{path} holds no harvest (no {INDEX}); make one with: mechfourier capture MODEL --out {path}"
        )
    return path, index


def verify(folder: str | Path) -> VerifyResult:
    """Read every shard and compare its checksum with the index. Raises ``UsageError`` and, for a damaged
    index, ``BadCheckpoint``."""
    path, index = existing(folder)
    shards = [index.shards[number] for number in sorted(index.shards)]
    found = [(shard.file, fault(path, shard)) for shard in tracked(shards, "verify", len(shards))]
    return VerifyResult(
        folder=str(path),
        shards=len(shards),
        expected=index.expected,
        complete=index.complete,
        tokens=index.rows,
        bytes=sum(shard.bytes for shard in shards),
        faults=tuple((file, what) for file, what in found if what is not None),
    )
