"""Every reading of a state dict answers a few questions; the one that answers best is read in full."""

import dataclasses
import functools
import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
import torch
from jaxtyping import Int
from torch import Tensor

from mechfourier.errors import BadCheckpoint
from mechfourier.toys.one_layer.task import S5, SMALLEST_MODULUS, TASKS, all_pairs, task
from mechfourier.toys.reading.chain import chain_readings, is_chain
from mechfourier.toys.reading.readings import MOST_READINGS, Hints, Reading, readings
from mechfourier.toys.reading.tensors import Assigned

SAMPLE = 64
ENOUGH = 0.9
"""A reading that answers this share of the sample ends the search."""
SHORT_LIST = 8


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

    @property
    def accuracy(self) -> float:
        return float((self.answers == self.table).double().mean())


def search(tensors: Mapping[str, Tensor], assigned: Assigned, hints: Hints) -> Found:
    """The reading that answers most; raises ``BadCheckpoint`` where the tensors are those of no network."""
    best: list[tuple[int, int, Reading, str]] = []
    tried = 0
    ways = chain_readings if is_chain(assigned) else readings
    for reading in itertools.islice(ways(tensors, assigned, hints), MOST_READINGS):
        tried += 1
        right, name = _screened(reading, hints)
        best.append((right, -tried, reading, name))
        best = sorted(best, key=lambda row: row[:2], reverse=True)[:SHORT_LIST]
        if right >= ENOUGH * SAMPLE:
            break
    if not best:
        _refuse(tensors, assigned)
    whole = [_whole(reading, hints, tried) for _, _, reading, _ in best]
    whole.sort(key=lambda each: -each.accuracy)
    others = tuple((_told(each), each.accuracy) for each in whole[1:4])
    return dataclasses.replace(whole[0], others=others)


def _told(found: Found) -> str:
    config = found.reading.config
    parts = [found.task, str(found.reading.question), config.act, f"{config.n_heads} heads"]
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
    answers = reading.answers(pairs)
    return max((int((answers == table[pairs[:, 0], pairs[:, 1]]).sum()), name) for name, table in tables.items())


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
        f"its tensors do not fit together as a network on modular arithmetic ({shapes} …); print how they were "
        "read with --explain, or say what they are in a key map (--map)"
    )
