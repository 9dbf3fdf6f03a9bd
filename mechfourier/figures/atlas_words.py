"""Colours and letters of the words in the matrix of an atlas: no word is told by its colour alone."""

from mechfourier.figures.shapes import STRIP, UNDECIDED

STRONG = 0.6
"""Strength of a cell from which its own colour decides which ink reads on it."""
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


def ink_on(word: str, strength: float = 1.0) -> str:
    """Ink that reads on the colour of ``word``, on light and dark pages; faint cells take the page's own."""
    if strength < STRONG:
        return "var(--ink)"
    red, green, blue = (int(colour(word)[i : i + 2], 16) for i in (1, 3, 5))
    light = 0.299 * red + 0.587 * green + 0.114 * blue
    return "#1f2328" if light > 105 else "#ffffff"


def letter(word: str) -> str:
    """One character in the cell; a question mark where two shapes are left."""
    return LETTERS.get(word, "?")
