"""A random Qwen3-shaped folder, a text it can read and a harvest of both, for the tests of harvests."""

import random
from pathlib import Path
from typing import Any

from tiny_folders import write_model

from mechfourier.harvest import CaptureResult, capture_dataset
from mechfourier.models.registry import load
from mechfourier.sae.rows import Reading
from mechfourier.sae.text import Source

ALL = Reading(positions="all", context=16)
TOKENS, SHARD = 700, 128
SITES = "resid_post,mlp_post"


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


def loaded_and_text(folder: Path) -> tuple[Any, Path]:
    """The model itself, loaded, and the text that lies beside its folder."""
    made, text = model_and_text(folder)
    return load(str(made)), text


def harvest(made: tuple[Any, Path], out: Path, **changes: Any) -> CaptureResult:
    """``capture_dataset`` with the options of these tests."""
    model, text = made
    options: dict[str, Any] = {
        "dataset": Source(str(text)),
        "sites": SITES,
        "layers": "0-1",
        "tokens": TOKENS,
        "shard_tokens": SHARD,
        "reading": ALL,
    }
    return capture_dataset(model, out, **{**options, **changes})


def contents(folder: Path) -> dict[str, bytes]:
    """Every shard of a harvest, byte by byte."""
    return {path.name: path.read_bytes() for path in sorted(folder.glob("shard-*"))}


def cut(path: Path) -> None:
    """As after a copy that stopped."""
    path.write_bytes(path.read_bytes()[:-100])
