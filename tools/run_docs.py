"""Run the Python blocks of the documentation, and write what they print into the pages.

    python tools/run_docs.py            run everything; exit 1 where a block fails or prints something else
    than the page says python tools/run_docs.py --write    put what the blocks print into the pages python
    tools/run_docs.py docs/concepts.md …   only these pages

The blocks of a page share one namespace, as a reader would type them. ``<!-- not run: why -->`` before a
block leaves it out; a text block that follows ``<!-- prints -->`` is what the Python block before it prints.
"""

import argparse
import contextlib
import io
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

DOCS = Path(__file__).resolve().parents[1] / "docs"
BLOCK = re.compile(
    r"(?:^<!-- not run: (?P<why>[^\n]+?) -->\n\s*)?"
    r"^```python\n(?P<code>.*?)^```\n"
    r"(?:\n*^<!-- prints -->\n+```text\n(?P<prints>.*?)^```\n)?",
    re.DOTALL | re.MULTILINE,
)


@dataclass(frozen=True)
class Block:
    """One Python block: ``why`` it is not run (None: it is), what it ``prints`` (None: not said), ``where``
    that text is."""

    code: str
    line: int
    why: str | None
    prints: str | None
    where: tuple[int, int]


def pages() -> list[Path]:
    """Every page of the documentation."""
    return sorted(DOCS.rglob("*.md"))


def blocks(text: str) -> list[Block]:
    """The Python blocks of a page, in order."""
    return [
        Block(m["code"], text.count("\n", 0, m.start("code")) + 1, m["why"], m["prints"], m.span("prints"))
        for m in BLOCK.finditer(text)
    ]


def run(page: Path) -> Iterator[tuple[Block, str]]:
    """Run a page's blocks in one namespace and an empty folder: each with what it printed. Errors name page
    and line."""
    names: dict[str, object] = {"__name__": f"docs_{page.stem}"}
    for block in blocks(page.read_text(encoding="utf-8")):
        if block.why is None:
            out = io.StringIO()
            # empty lines in front, so that a traceback gives the line of the page
            code = compile("\n" * (block.line - 1) + block.code, str(page), "exec")
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
                exec(code, names)
            yield block, out.getvalue()


def differences(page: Path) -> list[str]:
    """Where a page says that a block prints something else than it does."""
    return [
        f"{page.name}, line {block.line}: the page says\n{block.prints}and it prints\n{printed}"
        for block, printed in run(page)
        if block.prints is not None and block.prints != printed
    ]


def write(page: Path) -> None:
    """Put what the blocks print into the page."""
    text = page.read_text(encoding="utf-8")
    for block, printed in reversed(list(run(page))):
        if block.prints is not None:
            start, stop = block.where
            text = text[:start] + printed + text[stop:]
    page.write_text(text, encoding="utf-8")


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pages", nargs="*", type=Path)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args(arguments)
    wrong: list[str] = []
    chosen = [page.resolve() for page in options.pages or pages()]
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        os.environ.setdefault("MECHFOURIER_CACHE", folder)
        for page in chosen:
            if options.write:
                write(page)
            else:
                wrong += differences(page)
    print("\n".join(wrong) or "every block ran")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
