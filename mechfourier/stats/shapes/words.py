"""From the contest to a word: what is left when every rejected shape is gone."""

from mechfourier.stats.shapes.catalogue import SHAPES
from mechfourier.stats.shapes.decide import LEVEL, Decision

CIRCULAR = "circular"
CIRCLES = (CIRCULAR, "flattened circle")
DISTINCT = "values distinguishable"
WORDS = {
    "closed": CIRCULAR,
    "nearly closed": "nearly closed",
    "arc": "open curve",
    "arc beside a line": "open curve",
    "polynomial": "open curve",
    "smooth path": "open curve",
    "line": "line",
    "wave": "wave",
    "one direction": "wave",
    "clusters": "clusters",
    "nearly one turn": "other period",
    "other period": "other period",
    "other period beside a line": "other period",
    "classes": "other period",
    "distinct values": DISTINCT,
}
"""The word that an adequate shape stands for."""
IN_SENTENCE = {CIRCULAR: "circle"}
RICHER = {
    "line": {"open curve", CIRCULAR, "nearly closed", "other period"},
    "wave": {"open curve", CIRCULAR, "nearly closed", "other period"},
}
"""Shapes that hold another as a special case: they never do worse than it, except for their parameters."""
FREE = "one direction"
"""A rival of the circle, but no word: it is fitted to every value, and holds lines and waves."""
FLAT = 0.3
"""Aspect below which a circle is called flattened."""


def word_of(decision: Decision) -> str:
    """The word of one table, before the number of sites is taken into account."""
    if decision.circular:
        return CIRCULAR
    if decision.adequate["distinct values"] >= LEVEL:
        return DISTINCT
    return without_circle(decision)


def without_circle(decision: Decision) -> str:
    """The word where a circle is not proven: the shape that is left, or the two that cannot be told apart."""
    scores = word_scores(decision)
    left = {WORDS[name] for name, p in decision.adequate.items() if p >= LEVEL and name != FREE} - {DISTINCT}
    if decision.free:
        left.discard(CIRCULAR)
    left = {word for word in left if decision.predicts(shapes_of(word))}
    for simple, richer in RICHER.items():
        if simple in left:
            left -= {word for word in richer if scores.get(word, 0.0) >= scores[simple]}
    ranked = sorted(left, key=lambda word: scores[word])
    if not ranked:
        others = [word for word in scores if word not in (DISTINCT, CIRCULAR)]
        best = min(others, key=lambda word: scores[word])
        return best if decision.predicts(shapes_of(best)) else DISTINCT
    if ranked == [CIRCULAR]:
        ranked.append(_strongest_rival(decision))
    if len(ranked) == 1:
        return ranked[0]
    return "undecided: " + " or ".join(IN_SENTENCE.get(word, word) for word in sorted(ranked[:2]))


def shapes_of(word: str) -> tuple[str, ...]:
    """Names in the contest of the shapes that a word stands for, of either word where it is undecided."""
    parts = word.removeprefix("undecided: ").split(" or ")
    names = [name for name, stands_for in WORDS.items() if stands_for in parts]
    if {"circle", *CIRCLES} & set(parts):
        names += [shape.name for shape in SHAPES if shape.closed]
    return tuple(name for name in names if name not in ("closed", "distinct values"))


def _strongest_rival(decision: Decision) -> str:
    name = max(decision.rejects, key=lambda rival: decision.rejects[rival])
    return WORDS[name] if WORDS[name] != DISTINCT else "no order"


def word_scores(decision: Decision) -> dict[str, float]:
    """Left-out error of the best shape of every word."""
    scores: dict[str, float] = {}
    closed = decision.designs.closed_names
    for name, score in decision.scores.items():
        if name == FREE:
            continue
        word = CIRCULAR if name in closed else WORDS[name]
        scores[word] = min(score, scores.get(word, float("inf")))
    return scores
