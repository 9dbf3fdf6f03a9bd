"""What a dictionary is trained on: token sequences from texts, data sets and the model's own tasks, mixed by weight.

A stream is the same every time it is made, so that a lost shard can be captured again and nothing else. Two kinds of
sequences never reach training: a share of all (chosen by a hash of their tokens, so that the same sentence is held out
wherever it turns up), and those that begin like every second template of a packaged domain. ``evaluate`` uses the
first, ``score`` the second.
"""

import dataclasses
import functools
import hashlib
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from mechfourier.errors import NotExpressible, OutOfRange, UsageError
from mechfourier.hooks.site import model_name
from mechfourier.models.interface import Encoding, encode
from mechfourier.probes.design import read_positions
from mechfourier.probes.domains import Domain, list_domains

IGNORED = -100  # no loss at this position, as in torch's cross-entropy
OWN = "own"
DOCUMENTS_AT_ONCE = 256  # tokenised together
BUILDERS = {
    ".txt": "text", ".md": "text", ".json": "json", ".jsonl": "json", ".csv": "csv", ".parquet": "parquet", ".arrow": "arrow"
}  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One sequence: its tokens, the positions whose activations count, and the token wanted after every position.

    ``document`` is the number of its record in the source, ``start`` the place of its first token there.
    """

    ids: tuple[int, ...]
    keep: tuple[int, ...]
    targets: tuple[int, ...]
    document: int = 0
    start: int = 0

    @property
    def held_key(self) -> bytes:
        return hashlib.blake2b(repr(self.ids).encode(), digest_size=8).digest()


@dataclass(frozen=True)
class Source:
    """Where text comes from and how much of the mixture it is (in tokens).

    ``name``: ``"own"`` (the model's own task), a file (.txt: a document per line; .jsonl, .csv, .parquet: the column
    ``column``), a folder saved by ``datasets``, or the name of a data set on the hub (``name:split:column``).
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
        parts = [where] if Path(where).expanduser().exists() else where.split(":")
        if not parts[0].strip() or len(parts) > 3:
            raise UsageError(
                f"cannot read the text source {text!r}; write own, a file, or name:split:column, each with =weight"
            )
        return cls(parts[0], share, *[part for part in parts[1:] if part])


@dataclass(frozen=True)
class Reading:
    """Which positions of a sequence count: ``"all"`` with text, from number ``skip`` on, or the ``"last"`` one."""

    positions: str = "auto"
    skip: int = 0
    context: int = 128
    held_out: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.positions not in ("auto", "all", "last"):
            raise UsageError(f"positions {self.positions!r} is none of auto, all, last")
        if not 0 < self.held_out <= 0.5:
            raise OutOfRange(f"held_out is {self.held_out}; hold out more than 0 and at most half (0.1)")
        if self.context < 2 or self.skip < 0:
            raise OutOfRange(f"context {self.context} must be at least 2, and skip {self.skip} at least 0")

    def kept(self, encoding: Encoding, *, last: bool) -> tuple[int, ...]:
        if self.positions == "last" or (self.positions == "auto" and last):
            return (encoding.last,)
        text = [i for i, (a, b) in enumerate(encoding.spans) if b > a] or range(len(encoding.ids))
        return tuple(i for i in text if i >= self.skip)


def rows(model: Any, source: Source, reading: Reading) -> Iterator[Row]:
    """The sequences of one source from its beginning. Raises ``UsageError`` where there is no such text."""
    if source.name == OWN:
        yield from own_rows(model, reading)
        return
    texts = _documents(source)
    while batch := list(islice(texts, DOCUMENTS_AT_ONCE)):
        encodings = encode(model, [text for _, text in batch])
        for (number, _), encoding in zip(batch, encodings, strict=True):
            yield from _windows(encoding, reading, _context(model, reading), number)


def _context(model: Any, reading: Reading) -> int:
    return min(reading.context, getattr(model.cfg, "n_ctx", None) or reading.context)


def _windows(encoding: Encoding, reading: Reading, context: int, document: int) -> Iterator[Row]:
    """A document in pieces that fit; the last piece may be short, and one without a next token is left out."""
    for start in range(0, len(encoding.ids) - 1, context):
        ids = encoding.ids[start : start + context]
        piece = Encoding(ids, encoding.spans[start : start + context])
        keep = reading.kept(piece, last=False)
        if keep:
            yield Row(ids, keep, (*ids[1:], IGNORED), document, start)


def _documents(source: Source) -> Iterator[tuple[int, str]]:
    """The texts of a file or data set with the numbers of their records, streamed: nothing is held or copied."""
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

    path = Path(source.name).expanduser()
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
            f"no text {source.name!r}: it is not 'own', no file or folder here, and no data set could be opened ({reason}). "
            "Give a .txt, .jsonl or .parquet file"
        ) from error


def has_own(model: Any) -> bool:
    """Whether this project knows what the model was trained on."""
    return _own_grid(model) or _own_calendar(model)


def _own_grid(model: Any) -> bool:
    from mechfourier.models.one_layer import OneLayerTransformer

    return isinstance(model, OneLayerTransformer)


def _own_calendar(model: Any) -> bool:
    """A tokenizer with the calendar's words reads the calendar's sentences."""
    vocabulary = getattr(getattr(model, "tokenizer", None), "vocab", None)
    return vocabulary is not None and len(vocabulary) < 10_000 and _calendar_vocabulary() <= set(vocabulary)


@functools.cache
def _calendar_vocabulary() -> set[str]:
    from mechfourier.tasks.calendar_tokens import vocabulary

    return set(vocabulary())


def own_rows(model: Any, reading: Reading) -> Iterator[Row]:
    """All that the model's own task consists of, in an order drawn from the seed; raises ``UsageError`` where it has none."""
    if _own_grid(model):
        found = _grid_rows(model, reading)
    elif _own_calendar(model):
        found = _calendar_rows(model, reading)
    else:
        raise UsageError(
            f"{model_name(model)} has no task of its own here to take text from; give a file or a data set: --text corpus.txt"
        )
    random.Random(reading.seed).shuffle(found)
    yield from found


def _grid_rows(model: Any, reading: Reading) -> list[Row]:
    """Every question of a modular task; its answer is read, and only then trained, at the last position."""
    from mechfourier.tasks.modular import all_pairs, task, tokens_of

    p = model.cfg.p
    tokens = tokens_of(all_pairs(p), p)[:, : model.cfg.n_ctx]
    answers = task(model.cfg.task).table(p).flatten().tolist()
    width = tokens.shape[1]
    spans = tuple((i, i + 1) for i in range(width))
    keep = reading.kept(Encoding((0,) * width, spans), last=True)
    head = (IGNORED,) * (width - 1)
    return [
        Row(tuple(ids), keep, (*head, answer), number)
        for number, (ids, answer) in enumerate(zip(tokens.tolist(), answers, strict=True))
    ]


def _calendar_rows(model: Any, reading: Reading) -> list[Row]:
    """The calendar corpus: operations (a loss on the answer only, as in its training) and running text."""
    from mechfourier.tasks.calendar import operations
    from mechfourier.tasks.calendar_text import held_out_text, training_text

    sentences = [s for operation in operations() for s in operation.sentences]
    prompts = encode(model, [s.prompt for s in sentences])
    answers = encode(model, [s.answer for s in sentences])
    asked = [
        Row(e.ids, reading.kept(e, last=False), (*[IGNORED] * (len(e.ids) - 1), answer.ids[0]), number)
        for number, (e, answer) in enumerate(zip(prompts, answers, strict=True))
    ]
    texts = [*training_text(), *held_out_text()]
    context = _context(model, reading)
    running = [
        row
        for number, e in enumerate(encode(model, texts), len(asked))
        for row in _windows(e, reading, context, number)
    ]
    return [row for row in (*asked, *running) if row.keep]


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


def mixed_rows(model: Any, sources: Sequence[Source], reading: Reading) -> Iterator[Row]:
    """All sources, always the one furthest behind its weight next, until every one has been read to its end.

    Shares are exact in tokens. A shorter source begins again while a longer one goes on. Raises ``UsageError`` where a
    source holds no text.
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
    """Which sequences training never sees: a share of all, and every second template of the packaged domains."""

    def __init__(self, model: Any, reading: Reading) -> None:
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


def held_out_beginnings(model: Any) -> Iterator[tuple[int, ...]]:
    """The prompts of those templates as tokens, up to and with the one that is read, where the model can express them."""
    for domain in list_domains():
        for template in held_out_templates(domain).templates:
            read = value_prompts(model, dataclasses.replace(domain, templates=(template,)))
            if read is not None:
                yield from (encoding.ids[: place + 1] for encoding, place in read)


def value_prompts(model: Any, domain: Domain) -> list[tuple[Encoding, int]] | None:
    """The prompts of a domain's value design as tokens, each with the position to read; None where the model lacks a word."""
    design = domain.value_design()
    try:
        encodings = encode(model, design.prompts)
    except NotExpressible:
        return None
    return list(zip(encodings, read_positions(design, encodings).tolist(), strict=True))


def training_rows(model: Any, sources: Sequence[Source], reading: Reading) -> Iterator[Row]:
    """The mixture without what is held out."""
    out = HeldOut(model, reading)
    return (row for row in mixed_rows(model, sources, reading) if row not in out)


def held_out_rows(model: Any, sources: Sequence[Source], reading: Reading) -> Iterator[Row]:
    """What training never saw of the mixture, each sequence once."""
    out, seen = HeldOut(model, reading), set[bytes]()
    for row in mixed_rows(model, sources, reading):
        if row in out and row.held_key not in seen:
            seen.add(row.held_key)
            yield row
