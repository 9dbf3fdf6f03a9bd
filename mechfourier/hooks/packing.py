"""Which tokens of many prompts have to be run at all, and in which passes.

In a causal model nothing after a position changes what is read there, so a prompt ends at the last position
that is read, padding on its right costs nothing but its own tokens, and a beginning that prompts share is run
once (through the keys and values that it leaves behind). Nothing here touches a model: prompts in, ``Pack``s
of token lines out.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

# What a pass costs beyond its tokens (the weights are read once per pass), in tokens.
PASS_TOKENS = 64

Ids = tuple[int, ...]
Fits = Callable[
    [int, int, int], bool
]  # lines, tokens of the longest, tokens before them -> one pass holds them


@dataclass(frozen=True)
class Line:
    """Tokens that are run once for all ``rows`` (prompts) that begin with them and are read at the same
    positions.

    ``first`` is the first position that is read: a shared beginning ends before it.
    """

    ids: Ids
    rows: tuple[int, ...]
    first: int


@dataclass(frozen=True)
class Beginnings:
    """Beginnings of lines, padded on the right: ``which`` is the one that each line of the pack continues."""

    tokens: Int[Tensor, "beginning pos"]
    mask: Int[Tensor, "beginning pos"]
    which: Int[Tensor, " line"]


@dataclass(frozen=True)
class Pack:
    """Lines of one forward pass, padded on the right.

    ``rows`` are prompts and ``line`` the line that each of them reads; ``start`` is how many tokens of a line
    lie in its beginning; ``mask`` is 1 at tokens and 0 at padding.
    """

    rows: Int[Tensor, " row"]
    line: Int[Tensor, " row"]
    tokens: Int[Tensor, "line pos"]
    mask: Int[Tensor, "line pos"]
    start: Int[Tensor, " line"]
    beginnings: Beginnings | None

    @property
    def cost(self) -> int:
        """In tokens."""
        before = 0 if self.beginnings is None else self.beginnings.tokens.numel() + PASS_TOKENS
        return self.tokens.numel() + PASS_TOKENS + before


def lines_of(ids: Sequence[Ids], read: Sequence[Sequence[int]]) -> list[Line]:
    """One line for all prompts with the same tokens up to the last position in ``read`` and the same
    positions."""
    rows: dict[tuple[Ids, Ids], list[int]] = {}
    for row, (tokens, positions) in enumerate(zip(ids, read, strict=True)):
        rows.setdefault((tokens[: max(positions) + 1], tuple(positions)), []).append(row)
    return [Line(tokens, tuple(found), min(positions)) for (tokens, positions), found in rows.items()]


def packs(lines: Sequence[Line], fits: Fits, *, share: bool) -> list[Pack]:
    """The passes that run ``lines``: the shared part of the plan first, then what shares nothing.

    ``share=False`` runs every line whole.
    """
    cut = cuts(lines) if share else [0] * len(lines)
    groups: list[list[tuple[Line, int]]] = [[], []]
    for line, size in zip(lines, cut, strict=True):
        groups[size == 0].append((line, size))
    return [_pack(chosen) for group in groups for chosen in _batches(group, fits)]


def cuts(lines: Sequence[Line]) -> list[int]:
    """How many first tokens each line takes from a shared beginning, so that the fewest tokens are run.

    Lines with the same beginning form the branches of a tree; a branch either has one beginning as long as
    all of it shares (which saves length × (lines − 1) tokens), or its own branches are better apart.
    """
    order = sorted(range(len(lines)), key=lambda number: lines[number].ids)
    common = [_common(lines[a].ids, lines[b].ids) for a, b in itertools.pairwise(order)]
    found = [0] * len(lines)
    intervals = _tree(common, len(lines))
    saved = [0] * len(intervals)
    alone = [False] * len(intervals)  # whether the branch is one beginning
    for number in reversed(range(len(intervals))):  # children come after their parents
        low, high, length, children = intervals[number]
        length = min([length, *(lines[order[i]].first for i in range(low, high))])
        whole, apart = length * (high - low - 1), sum(saved[child] for child in children)
        saved[number], alone[number] = max(whole, apart), whole > apart
    waiting = [0] if intervals else []
    while waiting:
        low, high, length, children = intervals[waiting[-1]]
        if alone[waiting.pop()]:
            length = min([length, *(lines[order[i]].first for i in range(low, high))])
            for i in range(low, high):
                found[order[i]] = length
        else:
            waiting += children
    return found


def _common(a: Ids, b: Ids) -> int:
    size = min(len(a), len(b))
    return next((i for i in range(size) if a[i] != b[i]), size)


def _tree(common: Sequence[int], count: int) -> list[tuple[int, int, int, list[int]]]:
    """Branches of sorted lines, parents first: from, to, tokens in common, numbers of its branches of two or
    more lines."""
    intervals: list[tuple[int, int, int, list[int]]] = []
    waiting: list[tuple[int, int, int | None]] = [(0, count, None)] if count > 1 else []
    while waiting:
        low, high, parent = waiting.pop()
        length = min(common[low : high - 1])
        number = len(intervals)
        intervals.append((low, high, length, []))
        if parent is not None:
            intervals[parent][3].append(number)
        edges = [low, *(i + 1 for i in range(low, high - 1) if common[i] == length), high]
        waiting += [(a, b, number) for a, b in itertools.pairwise(edges) if b - a > 1]
    return intervals


def _batches(group: list[tuple[Line, int]], fits: Fits) -> list[list[tuple[Line, int]]]:
    """Lines of similar length together, as many as a pass holds; padding in a batch stays below the cost of a
    pass."""
    group = sorted(group, key=lambda item: (item[1] - len(item[0].ids), item[0].ids))
    found: list[list[tuple[Line, int]]] = []
    longest = before = waste = 0
    for line, cut in group:
        size = len(line.ids) - cut
        room = found and fits(len(found[-1]) + 1, longest, max(before, cut))
        if not room or waste + longest - size > PASS_TOKENS:
            found.append([])
            longest, before, waste = size, 0, 0
        found[-1].append((line, cut))
        before, waste = max(before, cut), waste + longest - size
    return found


def _pack(chosen: list[tuple[Line, int]]) -> Pack:
    tokens, mask = padded([line.ids[cut:] for line, cut in chosen])
    rows = [row for line, _ in chosen for row in line.rows]
    line_of = [number for number, (line, _) in enumerate(chosen) for _ in line.rows]
    start = torch.tensor([cut for _, cut in chosen])
    beginnings = None
    if int(start.max()):
        distinct = sorted({line.ids[:cut] for line, cut in chosen}, key=lambda ids: (-len(ids), ids))
        number = {ids: place for place, ids in enumerate(distinct)}
        which = torch.tensor([number[line.ids[:cut]] for line, cut in chosen])
        beginnings = Beginnings(*padded(distinct), which)
    return Pack(torch.tensor(rows), torch.tensor(line_of), tokens, mask, start, beginnings)


def padded(lines: Sequence[Ids]) -> tuple[Int[Tensor, "line pos"], Int[Tensor, "line pos"]]:
    """Lines as one table, filled up on the right with their own last token (always in the vocabulary), and
    the mask."""
    longest = max(map(len, lines))
    tokens = torch.tensor([[*ids, *[ids[-1]] * (longest - len(ids))] for ids in lines])
    mask = torch.tensor([[1] * len(ids) + [0] * (longest - len(ids)) for ids in lines])
    return tokens, mask
