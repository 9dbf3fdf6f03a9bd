"""Every reading of a state dict answers a few questions; the one that answers best is read in full."""

import dataclasses
import functools
import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Int
from torch import Tensor

from mechfourier.errors import BadCheckpoint
from mechfourier.progress import tracked
from mechfourier.toys.one_layer.task import S5, SMALLEST_MODULUS, TASKS, all_pairs, task
from mechfourier.toys.reading.acceptance import shifted_rule
from mechfourier.toys.reading.chain import chain_readings, is_chain
from mechfourier.toys.reading.readings import MOST_READINGS, Reading, neighbours, readings, usual_question
from mechfourier.toys.reading.settings import ACTS, Hints
from mechfourier.toys.reading.tensors import Assigned

SAMPLE = 64
GLANCE = 16
ENOUGH = 0.9
"""A reading that answers this share of the sample ends the search."""
SHORT_LIST = 8
LOOK, ROUNDS, WORTH, MORE = 192, 3, 0.2, 0.002
LESS = 0.95
"""Questions by which readings near the best are compared, how often, from which accuracy on, and by how much
more accuracy or less loss."""


@dataclass(frozen=True)
class Found:
    """The best reading with the ``table`` of its task, all its answers, and the other readings that were
    looked at in full (what, accuracy)."""

    reading: Reading
    task: str
    table: Int[Tensor, "p p"]
    answers: Int[Tensor, "p p"]
    tried: int
    others: tuple[tuple[str, float], ...] = field(default=())

    def acts(self) -> tuple[str, ...]:
        """Other activations with which it answers as many of a sample of questions: answers alone do not tell
        them apart."""
        config = self.reading.config
        pairs = torch.randint(0, config.p, (LOOK, 2), generator=torch.Generator().manual_seed(1))
        right = {
            act: dataclasses.replace(self.reading, config=dataclasses.replace(config, act=act)).loss(
                pairs, self.table
            )[0]
            for act in ACTS
        }
        least = right.get(config.act, 1.0) - MORE
        return tuple(act for act in ACTS if act != config.act and right[act] >= least)

    @property
    def accuracy(self) -> float:
        return float((self.answers == self.table).double().mean())


def search(tensors: Mapping[str, Tensor], assigned: Assigned, hints: Hints) -> Found:
    """The reading that answers most; raises ``BadCheckpoint`` where the tensors are those of no network."""
    best = _shortest(chain_readings(tensors, assigned, hints), hints) if is_chain(assigned) else Short()
    if (best.rows and best.rows[0][0] < ENOUGH * SAMPLE) or not best.rows:
        try:
            best = _shortest(readings(tensors, assigned, hints), hints, best)
        except BadCheckpoint:
            if not best.rows:
                raise
    if not best.rows:
        _refuse(tensors, assigned)
    whole = [_whole(reading, hints, best.tried) for _, _, reading, _ in best.rows]
    whole.sort(key=lambda each: -each.accuracy)
    others = tuple((_told(each), each.accuracy) for each in whole[1:4])
    return dataclasses.replace(_settled(whole[0], tensors, hints), others=others)


def _settled(found: Found, tensors: Mapping[str, Tensor], hints: Hints) -> Found:
    """The best of the readings near one that answers well: a network read with another activation or other
    heads may still answer nearly all. One of more accuracy is taken, or another activation of as much
    and less loss (at equal size of the logits), until none is better."""
    p, tried = found.reading.config.p, found.tried
    pairs = torch.randint(0, p, (LOOK, 2), generator=torch.Generator().manual_seed(1))
    best, score = found.reading, found.reading.loss(pairs, found.table)
    for _ in range(ROUNDS if found.accuracy > WORTH else 0):
        before = best
        for other in _near(best, tensors, hints):
            tried += 1
            if other.config.p != p:
                continue
            right, loss = other.loss(pairs, found.table)
            same = dataclasses.replace(other.config, act=best.config.act) == best.config
            if right > score[0] + MORE or (same and right >= score[0] and loss < score[1] * LESS):
                best, score = other, (right, loss)
        if best is before:
            break
    return found if best is found.reading else _whole(best, hints, tried)


def otherwise(found: Found, hints: Hints) -> str:
    """What the network answers better than its task where questions are written in the likeliest way; empty
    where that is nothing."""
    usual = None if found.reading.config.widths else usual_question(found.reading, hints)
    if usual is None:
        return ""
    p = usual.config.p
    name, share = shifted_rule(usual.answers(all_pairs(p)).reshape(p, p))
    if share <= found.accuracy:
        return ""
    return f"and {share:.1%} as {name!r} with questions read as {usual.question}"


def _near(reading: Reading, tensors: Mapping[str, Tensor], hints: Hints) -> Iterable[Reading]:
    if reading.config.widths:
        ways = itertools.islice(chain_readings(tensors, reading.assigned, hints), MOST_READINGS)
        return [each for each in ways if each.question == reading.question]
    return neighbours(reading, tensors, reading.assigned, hints)


@dataclass(frozen=True)
class Short:
    """The readings that answered most of the sample: (right, −order, reading, task), and how many were
    tried."""

    rows: tuple[tuple[int, int, Reading, str], ...] = ()
    tried: int = 0


def _shortest(ways: Iterable[Reading], hints: Hints, before: Short | None = None) -> Short:
    """Screen readings until one answers well."""
    before = before or Short()
    best, tried = list(before.rows), before.tried
    for reading in tracked(itertools.islice(ways, MOST_READINGS), "readings", MOST_READINGS):
        tried += 1
        right, name = _screened(reading, hints)
        best.append((right, -tried, reading, name))
        best = sorted(best, key=lambda row: row[:2], reverse=True)[:SHORT_LIST]
        if right >= ENOUGH * SAMPLE:
            break
    return Short(tuple(best), tried)


def _told(found: Found) -> str:
    config = found.reading.config
    parts = [
        found.task,
        str(found.reading.question),
        config.act,
        f"{config.n_heads} head{'s' * (config.n_heads != 1)}",
    ]
    parts += [f"{config.attention} attention"] if config.attention != "softmax" else []
    return ", ".join(parts)


def _whole(reading: Reading, hints: Hints, tried: int) -> Found:
    p = reading.config.p
    answers = reading.answers(all_pairs(p)).reshape(p, p)
    tables = _tables(p, hints)
    name = max(tables, key=lambda each: float((answers == tables[each]).double().mean()))
    return Found(reading, name, tables[name], answers, tried * len(tables))


def _tables(p: int, hints: Hints) -> dict[str, Tensor]:
    """The tasks that this p suits, by name."""
    if hints.table is not None:
        return {"table": hints.table} if len(hints.table) == p else {}
    names = hints.tasks or tuple(TASKS)
    return {name: _table(name, p) for name in names if name != "s5" or p == len(S5)}


@functools.lru_cache(maxsize=256)
def _table(name: str, p: int) -> Tensor:
    return task(name).table(p)


def _screened(reading: Reading, hints: Hints) -> tuple[int, str]:
    """How many of a sample of questions are answered right, and the task for which these are most."""
    p = reading.config.p
    tables = _tables(p, hints)
    if not tables:
        return 0, ""
    pairs = torch.randint(0, p, (SAMPLE, 2), generator=torch.Generator().manual_seed(0))
    best = (0, "")
    for part in (pairs[:GLANCE], pairs):  # most readings answer next to none of the first few
        answers = reading.answers(part)
        best = max(
            (int((answers == table[part[:, 0], part[:, 1]]).sum()), name) for name, table in tables.items()
        )
        if best[0] < 2:
            break
    return best


def _refuse(tensors: Mapping[str, Tensor], assigned: Assigned) -> None:
    roles = {role for _, role in assigned.slots}
    needed = {"W_E": "an embedding", "W_U": "an unembedding"}
    lacks = [what for role, what in needed.items() if role not in roles]
    if lacks:
        raise BadCheckpoint(
            f"among its {len(tensors)} tensors ({', '.join(list(tensors)[:4])} …) {' and '.join(lacks)} of "
            f"{SMALLEST_MODULUS} tokens or more is not found; say which tensor it is in a key map (--map)"
        )
    shapes = ", ".join(f"{name} {tuple(tensors[name].shape)}" for name in list(assigned.slots.values())[:6])
    raise BadCheckpoint(
        f"its tensors do not fit together as a network on modular arithmetic ({shapes} …); say what they are "
        "in a key map (--map)"
    )
