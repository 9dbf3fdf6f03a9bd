"""One statement for all sites."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

SILENT = ("noise", "not testable")


@dataclass(frozen=True)
class Headline:
    """The word of the longest run of neighbouring sites, circles first; ``first`` and ``last``: its sites, both included."""

    word: str
    first: int | None
    last: int | None


def combined_p(p_values: Sequence[float]) -> float:
    """One p for "no site is a circle": the Cauchy combination (Liu & Xie 2020) of the p-values below one half.

    It holds its level however neighbouring sites depend on each other, and asks of many sites more than of one.
    """
    if not p_values:
        return 1.0
    lifted = np.tan((0.5 - np.clip(p_values, 1e-12, 0.5)) * np.pi)
    return float(0.5 - np.arctan(lifted.mean()) / np.pi)


def headline(words: Sequence[str]) -> Headline:
    """A circle where there is one; else the word that most neighbouring sites share."""
    runs = _runs(words)
    spoken = [run for run in runs if run.word not in SILENT] or runs
    return max(spoken, key=_weight)


def _weight(run: Headline) -> tuple[bool, int, bool, int]:
    assert run.first is not None and run.last is not None
    decided = not run.word.startswith("undecided")
    return run.word in ("circular", "flattened circle"), run.last - run.first, decided, -run.first


def _runs(words: Sequence[str]) -> list[Headline]:
    runs: list[Headline] = []
    for i, word in enumerate(words):
        if runs and runs[-1].word == word:
            runs[-1] = Headline(word, runs[-1].first, i)
        else:
            runs.append(Headline(word, i, i))
    return runs
