"""Networks of MLPs alone: the embeddings of a and b added or side by side, or one-hot inputs, then linear
maps with an activation between them."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mechfourier.toys.modular.config import ModularConfig
from mechfourier.toys.reading.axes import Ours
from mechfourier.toys.reading.questions import Question, questions
from mechfourier.toys.reading.readings import Reading, fitted
from mechfourier.toys.reading.settings import Hints
from mechfourier.toys.reading.tensors import Assigned

ATTENTION = {f"{kind}_{x}" for kind in "Wb" for x in ("Q", "K", "V", "QKV", "O")} | {"W_pos"}
TABLES = ("W_E", "W_E2")


@dataclass(frozen=True)
class Start:
    """What the first map reads: ``embed`` [token, d], with a table for each operand where there are two."""

    embed: Tensor
    two: bool
    told: str


def is_chain(assigned: Assigned) -> bool:
    """Whether there is no attention, no position and no norm, but a map."""
    roles = {role for _, role in assigned.slots}
    norms = any(role.startswith("ln") for role in roles)
    maps = roles - set(TABLES) - {"W_U", "b_U"}
    return not roles & ATTENTION and not norms and bool(maps or assigned.free)


def chain_readings(tensors: Mapping[str, Tensor], assigned: Assigned, hints: Hints) -> Iterator[Reading]:
    """Every reading: acts, how the first map reads its operands, whether its bias counts once or for each."""
    acts = [hints.act] if hints.act else ["relu", "square", "gelu", "tanh", "silu", "sigmoid"]
    for act, twice, flip in itertools.product(acts, (1, 2), (False, True)):
        for start, maps in _starts(tensors, assigned, flip):
            ours = _ours(start, maps, twice)
            two, answers = start.two, ours.weights["unembed.W_U"].shape[1]
            for question in questions(len(start.embed), answers, 2, hints.questions, two_tables=two):
                reading = _reading(ours, assigned, question, maps, act)
                if len(question.form.words) == 2 and reading is not None:
                    yield reading


Map = tuple[str, Tensor, Tensor | None]  # its name, [in, out], its bias


def _starts(
    tensors: Mapping[str, Tensor], assigned: Assigned, flip: bool
) -> Iterator[tuple[Start, list[Map]]]:
    """``flip``: square maps are the other way round than their names suggest."""
    roles = {role: name for (_, role), name in assigned.slots.items()}
    tables = [tensors[roles[role]].detach() for role in TABLES if role in roles]
    maps = _maps(
        tensors, [name for name in tensors if name not in [roles.get(role) for role in TABLES]], assigned
    )
    if not maps:
        return
    inputs = set(maps[0][1].shape)
    for table in _turned(tables):
        width = table[0].shape[1]
        if width in inputs and (chain := _joined(maps, width, flip)):
            yield Start(torch.cat(table), len(table) == 2, "a and b added"), chain
        if 2 * width in inputs and (chain := _joined(maps, 2 * width, flip)):
            first, second = table[0], table[-1]
            wide = torch.block_diag(first, second)
            yield Start(wide, True, "a and b side by side"), chain
    if not tables:
        yield from _one_hot(maps, flip)


def _one_hot(maps: list[Map], flip: bool) -> Iterator[tuple[Start, list[Map]]]:
    """The first map is the table of embeddings; what follows it is the identity with its bias."""
    for inputs in sorted(set(maps[0][1].shape), reverse=True):
        if chain := _joined(maps, inputs, flip):
            name, table, bias = chain[0]
            yield (
                Start(table, False, "one-hot"),
                [(name, torch.eye(table.shape[1], dtype=table.dtype), bias), *chain[1:]],
            )


def _turned(tables: list[Tensor]) -> Iterator[list[Tensor]]:
    if tables:
        yield tables
        yield [table.T for table in tables]


def _maps(tensors: Mapping[str, Tensor], names: Sequence[str], assigned: Assigned) -> list[Map]:
    """Matrices in the order of the file, the unembedding last, each with the bias of its stem."""
    last = assigned.slots.get((None, "W_U"))
    kept = [name for name in names if name not in assigned.left_out]
    matrices = [name for name in kept if tensors[name].ndim == 2]
    matrices.sort(key=lambda name: name == last)
    biases = {_stem(name): tensors[name].detach() for name in kept if tensors[name].ndim == 1}
    return [(name, tensors[name].detach(), biases.get(_stem(name))) for name in matrices]


def _stem(name: str) -> str:
    stem, _, last = name.rpartition(".")
    return stem if last in ("weight", "bias") else last.lower().lstrip("wb").strip("_") + stem


def _joined(maps: list[Map], width: int, flip: bool) -> list[Map]:
    """The maps as [in, out] from ``width`` on; empty where they do not follow each other."""
    out: list[Map] = []
    for name, matrix, bias in maps:
        rows, columns = matrix.shape
        turn = columns == width and (rows != width or name.lower().endswith("weight") != flip)
        if width not in (rows, columns):
            return []
        matrix = matrix.T if turn else matrix
        width = matrix.shape[1]
        if bias is not None and len(bias) != width:
            return []
        out.append((name, matrix, bias))
    return out


def _ours(start: Start, maps: list[Map], twice: int) -> Ours:
    weights, how = {"embed.W_E": start.embed.float()}, {}
    for layer, (name, matrix, bias) in enumerate(maps):
        ours = ("unembed.W_U", "unembed.b_U") if layer == len(maps) - 1 else _block_names(layer)
        weights[ours[0]] = matrix.float().contiguous()
        how[ours[0]] = (name, f"map {layer + 1}" + (f", {start.told}" if layer == 0 else ""))
        if bias is not None:
            weights[ours[1]] = bias.float() * (twice if layer == 0 else 1)
    return Ours(weights, how)


def _block_names(layer: int) -> tuple[str, str]:
    return f"blocks.{layer}.mlp.W_in", f"blocks.{layer}.mlp.b_in"


def _reading(ours: Ours, assigned: Assigned, question: Question, maps: list[Map], act: str) -> Reading | None:
    form = question.form
    widths = tuple([maps[0][1].shape[0], *(matrix.shape[1] for _, matrix, _ in maps[:-1])])
    config = ModularConfig(
        p=form.p,
        d_model=widths[0],
        n_heads=1,
        d_head=1,
        d_mlp=widths[-1],
        n_layers=len(widths) - 1,
        n_ctx=len(form.words),
        act=act,
        attention="none",
        widths=widths,
        form=" ".join(form.words),
        vocabularies=form.vocabularies,
    )
    return fitted(Reading(ours, assigned, question, config, question.cut(ours.weights)))
