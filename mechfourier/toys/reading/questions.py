"""How a question may be written, given a vocabulary, a number of answers and of positions."""

import functools
import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from mechfourier.errors import BadCheckpoint
from mechfourier.toys.forms import Form
from mechfourier.toys.one_layer.task import SMALLEST_MODULUS

WORDS = {
    2: ("a b",),
    3: ("a b =", "a + b", "^ a b"),
    4: ("a + b =", "a b + =", "^ a b =", "+ a b ="),
    5: ("^ a + b =", "a + b = ?", "a + b % ="),
}
MOST_SPECIALS = 4
MOST_UNUSED = 2
LARGEST_MODULUS = 1000


@dataclass(frozen=True)
class Known:
    """What a configuration says of the questions: None where it does not."""

    p: int | None = None
    two_vocabularies: bool | None = None
    positions: int | None = None


@dataclass(frozen=True)
class Question:
    """``form`` in our order of tokens; ``rows``: their token of each of ours; ``first_answer``: their output
    that stands for 0."""

    form: Form
    rows: tuple[int, ...]
    first_answer: int

    def cut(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """Their tables of tokens, positions and answers as ours."""
        cut = dict(weights)
        embed = (
            torch.cat([cut["embed.W_E"], cut.pop("embed.W_E2")]) if "embed.W_E2" in cut else cut["embed.W_E"]
        )
        cut["embed.W_E"] = embed[list(self.rows)].contiguous()
        n, p = len(self.form.words), self.form.p
        if "pos_embed.W_pos" in cut:
            cut["pos_embed.W_pos"] = cut["pos_embed.W_pos"][:n].contiguous()
        else:
            cut["pos_embed.W_pos"] = embed.new_zeros(n, embed.shape[1])
        answers = slice(self.first_answer, self.first_answer + p)
        cut["unembed.W_U"] = cut["unembed.W_U"][:, answers].contiguous()
        if "unembed.b_U" in cut:
            cut["unembed.b_U"] = cut["unembed.b_U"][answers].contiguous()
        return cut

    def __str__(self) -> str:
        form, start = self.form, self.rows[0]
        text = f"'{' '.join(form.words)}' mod {form.p}"
        text += f", numbers from token {start}" if start else ""
        text += f", b from token {self.rows[form.p]}" if form.vocabularies == 2 else ""
        special = ", ".join(f"{word} is token {self.rows[form.special(word)]}" for word in form.specials)
        text += f", {special}" if special else ""
        return text + (f", answers from output {self.first_answer}" if self.first_answer else "")


@functools.lru_cache(maxsize=64)  # thousands of readings have the same shapes
def questions(
    vocab: int, answers: int, positions: int | None, known: Known, *, two_tables: bool
) -> tuple[Question, ...]:
    """Every way of asking, the likeliest first. ``two_tables``: a and b have one each, one after the other. Where the modulus is
    known, rows of the table after its tokens may be padding."""
    if vocab > 2 * LARGEST_MODULUS + MOST_SPECIALS:
        raise BadCheckpoint(
            f"an embedding of {vocab:,} tokens would ask {vocab**2:,} questions; networks mod p are read up to "
            f"p = {LARGEST_MODULUS}. Other models are probed where they are: mechfourier probe"
        )
    found = {}
    for specials, vocabularies in itertools.product(range(MOST_SPECIALS + 1), (2,) if two_tables else (1, 2)):
        padding = max(0, vocab - specials - vocabularies * known.p) if known.p else 0
        p, rest = divmod(vocab - padding - specials, vocabularies)
        if rest or p < SMALLEST_MODULUS or (answers not in (p, vocab) and p != known.p) or answers < p:
            continue
        for words in _words(positions, known):
            for question, cost in _written(words.split(), p, vocabularies, specials, answers):
                total = (
                    known.p not in (None, p),
                    known.two_vocabularies not in (None, vocabularies == 2),
                    vocabularies == 2 and answers != p and not two_tables,
                    cost + (len(words.split()) != positions) * 2 + WORDS[len(words.split())].index(words),
                )
                found.setdefault(question, total)
    return tuple(sorted(found, key=lambda each: found[each]))


def _words(positions: int | None, known: Known) -> Iterator[str]:
    """The forms of as many positions as there are; of fewer where there are more than a question needs."""
    lengths = [known.positions] if known.positions in WORDS else []
    lengths += [n for n in (positions, 3, 2, 4, 5) if n in WORDS and (positions is None or n <= positions)]
    for length in dict.fromkeys(lengths):
        assert length is not None
        yield from WORDS[length]


def _written(
    words: list[str], p: int, vocabularies: int, specials: int, answers: int
) -> Iterator[tuple[Question, int]]:
    """The questions of one form, with how unusual each is: special tokens before, between or after the
    numbers, in any order; several of them may be one token."""
    form = Form(tuple(words), p, vocabularies)
    needed = len(form.specials)
    if (needed and not specials) or specials - needed > MOST_UNUSED:
        return
    numbers = p * vocabularies
    for start in dict.fromkeys((0, specials, *range(1, specials))):
        free = [*range(start), *range(start + numbers, specials + numbers)]
        if needed <= specials:
            orders = list(itertools.permutations(free, needed))
        else:
            orders = [(token,) * needed for token in free]
        for at, order in enumerate(orders):
            rows = (*range(start, start + numbers), *order)
            cost = (
                (start != 0) + (at > 0) + 6 * (specials - needed if specials > needed else needed - specials)
            )
            for first in dict.fromkeys((0 if answers == p else start, 0)):
                if first + p <= answers:
                    yield Question(form, rows, first), cost + 2 * (first != start and answers != p)
