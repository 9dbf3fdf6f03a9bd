"""What a dictionary is trained on: token sequences from texts, data sets and the model's own tasks, mixed by
weight.

A stream is the same every time it is made, so that a lost shard can be captured again and nothing else. Two
kinds of sequences never reach training: a share of all (chosen by a hash of their tokens, so that the same
sentence is held out wherever it turns up), and those that begin like every second template of a packaged
domain. ``evaluate`` uses the first, ``score`` the second.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from mechfourier.domains.definition import Domain, list_domains
from mechfourier.domains.design import read_positions
from mechfourier.errors import NotExpressible, OutOfRange, UsageError
from mechfourier.files import own_path
from mechfourier.hooks.site import model_name
from mechfourier.models.interface import Encoding, Readable, encode
from mechfourier.sae.own import own_rows
from mechfourier.sae.rows import Reading, Row, context_of, windows

OWN = "own"
DOCUMENTS_AT_ONCE = 256  # tokenised together
BUILDERS = {
    ".txt": "text",
    ".md": "text",
    ".json": "json",
    ".jsonl": "json",
    ".csv": "csv",
    ".parquet": "parquet",
    ".arrow": "arrow",
}


@dataclass(frozen=True)
class Source:
    """Where text comes from and how much of the mixture it is (in tokens).

    ``name``: ``"own"`` (the model's own task), a file (.txt: a document per line; .jsonl, .csv, .parquet: the
    column ``column``), a folder saved by ``datasets``, or the name of a data set on the hub
    (``name:split:column``).
    """

    name: str = OWN
    weight: float = 1.0
    split: str = "train"
    column: str = "text"

    def __post_init__(self) -> None:
        if not 0 < self.weight < float("inf"):
            raise OutOfRange(f"the weight of {self.name!r} is {self.weight}; it must be above 0")

    @classmethod
    def parse(cls, text: str) -> "Source":
        """``own``, ``corpus.txt=0.5``, ``roneneldan/TinyStories:validation:text=2`` as a source."""
        where, equals, weight = text.rpartition("=")
        where = where if equals else weight
        try:
            share = float(weight) if equals else 1.0
        except ValueError:
            raise UsageError(
                f"cannot read the weight in {text!r}; write it as a number: {where}=0.5"
            ) from None
        parts = [where] if where.strip() and own_path(where).exists() else where.split(":")
        if not parts[0].strip() or len(parts) > 3:
            raise UsageError(
                f"cannot read the text source {text!r}; write own, a file, or name:split:column, each with "
                f"=weight"
            )
        return cls(parts[0], share, *[part for part in parts[1:] if part])


def rows(model: Readable, source: Source, reading: Reading) -> Iterator[Row]:
    """The sequences of one source from its beginning. Raises ``UsageError`` where there is no such text."""
    if source.name == OWN:
        yield from own_rows(model, reading)
        return
    texts = _documents(source)
    while batch := list(islice(texts, DOCUMENTS_AT_ONCE)):
        encodings = encode(model, [text for _, text in batch])
        for (number, _), encoding in zip(batch, encodings, strict=True):
            yield from windows(encoding, reading, context_of(model, reading), number)


def _documents(source: Source) -> Iterator[tuple[int, str]]:
    """The texts of a file or data set with the numbers of their records, streamed: nothing is held or
    copied."""
    data = _open(source)
    for number, record in enumerate(data):
        if source.column not in record:
            raise UsageError(
                f"{source.name!r} has no column {source.column!r}; it has {', '.join(map(str, record))}: "
                f"write {source.name}:{source.split}:COLUMN"
            )
        text = record[source.column]
        if not isinstance(text, str):
            raise UsageError(
                f"record {number} of {source.name!r} holds {type(text).__name__} where text was expected"
            )
        if text.strip():
            yield number, text


def _open(source: Source) -> Iterable[dict[str, Any]]:
    import datasets

    path = own_path(source.name)
    try:
        if path.is_dir() and not (path / "dataset_info.json").exists() and (path / source.split).is_dir():
            path = path / source.split
        if path.is_dir() and (path / "dataset_info.json").exists():
            return datasets.load_from_disk(str(path)).to_iterable_dataset()  # type: ignore[union-attr]
        if path.is_file():
            builder = BUILDERS.get(path.suffix.lower(), "text")
            return datasets.load_dataset(builder, data_files=str(path), split="train", streaming=True)  # type: ignore[return-value]
        return datasets.load_dataset(source.name, split=source.split, streaming=True)  # type: ignore[return-value]
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UsageError(
            f"no text {source.name!r}: it is not 'own', no file or folder here, and no data set could be "
            f"opened ({reason}). "
            "Give a .txt, .jsonl or .parquet file"
        ) from error


@dataclass
class _Taken:
    """How much of one source has gone by; it starts again while another one has more to give."""

    source: Source
    rows: Iterator[Row]
    tokens: int = 0
    ended: bool = False
    seen: int = 0

    @property
    def due(self) -> float:
        return self.tokens / self.source.weight


def mixed_rows(model: Readable, sources: Sequence[Source], reading: Reading) -> Iterator[Row]:
    """All sources, always the one furthest behind its weight next, until every one has been read to its end.

    Shares are exact in tokens. A shorter source begins again while a longer one goes on. Raises
    ``UsageError`` where a source holds no text.
    """
    taken = [_Taken(source, rows(model, source, reading)) for source in sources]
    while not all(each.ended for each in taken):
        each = min(taken, key=lambda t: t.due)
        row = next(each.rows, None)
        if row is None:
            if not each.seen:
                raise UsageError(f"{each.source.name!r} holds no text that {model_name(model)} can read")
            each.ended = True
            each.rows = rows(model, each.source, reading)
            continue
        each.seen += 1
        each.tokens += len(row.keep)
        yield row


class HeldOut:
    """Which sequences training never sees: a share of all, and every second template of the packaged
    domains."""

    def __init__(self, model: Readable, reading: Reading) -> None:
        self.limit = int(reading.held_out * 2**64)
        self.beginnings = frozenset(held_out_beginnings(model))
        self.lengths = sorted({len(ids) for ids in self.beginnings})

    def __contains__(self, row: Row) -> bool:
        if any(row.ids[:length] in self.beginnings for length in self.lengths):
            return True
        return int.from_bytes(row.held_key) < self.limit


def held_out_templates(domain: Domain) -> Domain:
    """A packaged domain with the templates that dictionaries are never trained on: every second one."""
    return dataclasses.replace(domain, templates=domain.templates[::2])


def held_out_beginnings(model: Readable) -> Iterator[tuple[int, ...]]:
    """The prompts of those templates as tokens, up to and with the one that is read, where the model can
    express them."""
    for domain in list_domains():
        for template in held_out_templates(domain).templates:
            read = value_prompts(model, dataclasses.replace(domain, templates=(template,)))
            if read is not None:
                yield from (encoding.ids[: place + 1] for encoding, place in read)


def value_prompts(model: Readable, domain: Domain) -> list[tuple[Encoding, int]] | None:
    """The prompts of a domain's value design as tokens, each with the position to read; None where the model
    lacks a word."""
    design = domain.value_design()
    try:
        encodings = encode(model, design.prompts)
    except NotExpressible:
        return None
    return list(zip(encodings, read_positions(design, encodings).tolist(), strict=True))


def training_rows(model: Readable, sources: Sequence[Source], reading: Reading) -> Iterator[Row]:
    """The mixture without what is held out."""
    out = HeldOut(model, reading)
    return (row for row in mixed_rows(model, sources, reading) if row not in out)


def held_out_rows(model: Readable, sources: Sequence[Source], reading: Reading) -> Iterator[Row]:
    """What training never saw of the mixture, each sequence once."""
    out, seen = HeldOut(model, reading), set[bytes]()
    for row in mixed_rows(model, sources, reading):
        if row in out and row.held_key not in seen:
            seen.add(row.held_key)
            yield row
