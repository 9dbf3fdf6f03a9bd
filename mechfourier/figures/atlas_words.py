"""Colours and letters of the words in the matrix of an atlas: no word is told by its colour alone."""

from mechfourier.figures.shapes import STRIP, UNDECIDED

LETTERS = {
    "circular": "C",
    "flattened circle": "F",
    "nearly closed": "N",
    "open curve": "O",
    "open arc": "O",
    "modular": "M",
    "wave": "W",
    "line": "L",
    "magnitude": "L",
    "clusters": "K",
    "other period": "P",
    "values distinguishable": "v",
    "token identity": "v",
    "interaction": "i",
    "noise": "·",
    "not testable": "–",
    "not expressible": "–",
}


def colour(word: str) -> str:
    """The colour of a cell."""
    return STRIP.get(word, UNDECIDED)


def letter(word: str) -> str:
    """One character in the cell; a question mark where two shapes are left."""
    return LETTERS.get(word, "?")
