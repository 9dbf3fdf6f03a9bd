"""Results of the networks of this folder: how their tables and their page are written."""

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from mechfourier.drawing.html import write_page
from mechfourier.files import write_with
from mechfourier.results.base import Result

if TYPE_CHECKING:
    import pandas as pd


class WrittenResult(Result):
    """A result with files of its own: ``stem.json``, a CSV per table, and ``stem.html``."""

    stem: ClassVar[str] = "analysis"

    def tables(self) -> "dict[str, pd.DataFrame]":
        """The tables by the names of their files."""
        return {self.stem: self.frame()}

    def write(self, folder: str | Path) -> list[Path]:
        """Write the result, its tables and its page; the files, the result first."""
        folder = Path(folder)
        written = [self.save(folder / f"{self.stem}.json")]
        for name, frame in self.tables().items():
            written.append(
                write_with(folder / f"{name}.csv", lambda path, frame=frame: frame.to_csv(path, index=False))
            )
        return [*written, write_page(folder / f"{self.stem}.html", self.part())]
