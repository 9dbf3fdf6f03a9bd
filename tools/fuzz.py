"""Coverage-guided fuzzing of what reads files and words: python tools/fuzz.py TARGET [--seconds 60]

Atheris (``pip install 'mechfourier[fuzz]'``) changes real inputs and keeps the changes that run new lines of
ours. An input may be read or refused with a ``MechFourierError`` of one sentence; anything else is a finding,
and the file with it is named at the end. Half of the changes are made to bytes, half to one value of the JSON
or TOML that the bytes hold. tests/test_faults_fuzz_targets.py runs the same targets without Atheris.
"""

import argparse
import contextlib
import importlib
import json
import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parent))

import fuzz_inputs as inputs

WORDS = (
    b"0:8",
    b"=",
    b",",
    b":log",
    b"1e400",
    b"nan",
    b"inf",
    b"9" * 60,
    b"../",
    b"\\ud800",
    b"[[",
    b'"""',
    b"{value}",
    b"1979-05-27",
)
LONGEST = 20_000  # bytes of one input


def allowed(call: Callable[[], Any]) -> Any:
    """What ``call`` gives, or None where it refuses with one sentence; anything else goes through and is a
    finding."""
    from mechfourier.errors import MechFourierError

    try:
        return call()
    except MechFourierError as error:
        if not str(error).strip():
            raise ValueError(f"a {type(error).__name__} without a sentence") from error
        return None


# targets: bytes and a folder to write in


def domain(data: bytes, _: Path) -> object:
    """A file of a domain. What is read has its prompts."""
    from mechfourier.domains.definition import parse_domain

    text = data.decode("utf-8", "replace")
    found = allowed(lambda: parse_domain(text, name="x", where="x.toml", source="x"))
    if found is not None and len(found.value_design().prompts) != found.n * len(found.templates):
        raise ValueError("a domain that lacks prompts")
    return found


def axis(data: bytes, _: Path) -> object:
    """Axes of a grid, one per line. Every point has a folder of its own name, one part of a path."""
    from mechfourier.sweep import grid

    lines = data.decode("utf-8", "surrogateescape").split("\n")
    found = allowed(lambda: grid.points([grid.axis(line) for line in lines]))
    for point in (found or [])[:3]:
        name = grid.slug(point)
        if Path(name).name != name or name in (".", "..") or "\x00" in name or len(name.encode()) > 255:
            raise ValueError(f"{name!r} is no name of a folder")
    return found


def result(data: bytes, folder: Path) -> object:
    """A saved result. What is read is the same after a trip through JSON."""
    from mechfourier.results.base import Result
    from mechfourier.results.saved import read

    (folder / "result.json").write_bytes(data)
    found = allowed(lambda: read(folder / "result.json"))
    if found is not None and isinstance(found.result, Result):
        again = type(found.result).from_json(found.result.to_json())
        if again.to_json().encode() != found.result.to_json().encode():
            raise ValueError(f"{found.result} becomes {again}")
    return found


def config(data: bytes, folder: Path) -> object:
    """``config.json`` beside the weights of the small model it names (the one-layer network's where it names
    none)."""
    from mechfourier.models.registry import load

    kind = next((name for name in inputs.tiny_models() if name.encode() in data), "one-layer")
    (folder / "model.safetensors").write_bytes(inputs.tiny_models()[kind][1])
    (folder / "config.json").write_bytes(data)
    return allowed(lambda: load(folder, device="cpu"))


def weights(data: bytes, folder: Path) -> object:
    """A safetensors file: as it is, and with the length of its header put right, so that most inputs get to
    the header."""
    from mechfourier.models.checkpoint import read_safetensors
    from mechfourier.models.folder import read_header

    path, found = folder / "w.safetensors", []
    for content in (data, (max(data.rfind(b"}") - 7, 0)).to_bytes(8, "little") + data[8:]):
        path.write_bytes(content)
        found.append((allowed(lambda: read_header(path)), allowed(lambda: read_safetensors(path))))
    return found


def harvest_index(data: bytes, folder: Path) -> object:
    """The index of a harvest: as it is, and with its checksum put right."""
    from mechfourier.harvest.index import INDEX, _digest
    from mechfourier.harvest.read import open_harvest

    def read(content: bytes) -> object:
        (folder / INDEX).write_bytes(content)
        found = allowed(lambda: open_harvest(folder, partial=True, verify=False))
        return found and (repr(found), len(found))

    with contextlib.suppress(ValueError, RecursionError):
        values = json.loads(data)
        if isinstance(values, dict):
            values.pop("checksum", None)
            return read(json.dumps({**values, "checksum": _digest(values)}).encode())
    return read(data)


@dataclass(frozen=True)
class Target:
    """``modules`` are the ones whose lines guide the search."""

    run: Callable[[bytes, Path], object]
    seeds: Callable[[], list[bytes]]
    modules: tuple[str, ...]


TARGETS: dict[str, Target] = {
    "domain": Target(
        domain,
        inputs.domain_seeds,
        ("tomllib", "mechfourier.domains.definition", "mechfourier.domains.design"),
    ),
    "axis": Target(axis, inputs.axis_seeds, ("mechfourier.sweep.grid", "mechfourier.files")),
    "result": Target(
        result, inputs.result_seeds, ("mechfourier.results", "mechfourier.probes", "mechfourier.causal")
    ),
    "config": Target(config, inputs.config_seeds, ("mechfourier.models",)),
    "weights": Target(
        weights, inputs.weights_seeds, ("mechfourier.models.checkpoint", "mechfourier.models.folder")
    ),
    "harvest-index": Target(
        harvest_index, inputs.harvest_index_seeds, ("mechfourier.harvest.index", "mechfourier.harvest.read")
    ),
}

# the search


def search(name: str, seconds: int, folder: Path) -> None:
    """Run Atheris on a target; it ends the process: 0 where nothing was found."""
    try:
        atheris: Any = importlib.import_module("atheris")
    except ImportError:
        sys.exit(
            "fuzzing needs Atheris (Linux, Python 3.11 to 3.13); install it with: pip install "
            "'mechfourier[fuzz]'"
        )
    target = TARGETS[name]
    with atheris.instrument_imports(include=list(target.modules)):
        for module in target.modules:
            importlib.import_module(module)
        seeds = target.seeds()
        for seed in seeds:  # what is imported late is imported now
            target.run(seed, folder)
    corpus = folder / "corpus"
    corpus.mkdir()
    for number, seed in enumerate(seeds):
        (corpus / f"seed-{number}").write_bytes(seed)
    words = folder / "words"
    words.write_text("".join('"' + "".join(f"\\x{byte:02x}" for byte in word) + '"\n' for word in WORDS))

    def mutated(data: bytes, most: int, seed: int) -> bytes:
        other = inputs.altered(data, seed) if seed % 2 else None
        return other if other is not None and len(other) <= most else atheris.Mutate(data, most)

    def once(data: bytes) -> None:
        target.run(data, folder)

    limits = [
        f"-max_total_time={seconds}",
        f"-max_len={LONGEST}",
        "-timeout=20",
        "-rss_limit_mb=6000",
        f"-dict={words}",
    ]
    atheris.Setup(
        [sys.argv[0], *limits, f"-artifact_prefix={name}-", str(corpus)], once, custom_mutator=mutated
    )
    atheris.Fuzz()


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Fuzz what reads files and words, guided by the lines that run."
    )
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--seconds", type=int, default=60)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        search(options.target, options.seconds, Path(folder))


if __name__ == "__main__":
    main()
