"""A random Qwen3-shaped folder and a text it can read, for the tests of harvests."""

import random
from pathlib import Path

from tiny_folders import write_model

from mechfourier.sae.rows import Reading

ALL = Reading(positions="all", context=16)


def corpus(path: Path, documents: int = 60, seed: int = 0) -> Path:
    """Documents of 2 to 40 words, one per line, with a blank line after every tenth."""
    draw = random.Random(seed)
    lines = []
    for number in range(documents):
        lines.append(" ".join(f"w{draw.randrange(38)}" for _ in range(draw.randint(2, 40))))
        lines += [""] * (number % 10 == 9)
    path.write_text("\n".join(lines) + "\n")
    return path


def model_and_text(folder: Path) -> tuple[Path, Path]:
    return write_model(folder / "qwen3"), corpus(folder / "corpus.txt")
