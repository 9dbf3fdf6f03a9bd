"""Colours and letters of the words in the matrix of an atlas: no word is told by its colour alone."""

from mechfourier.figures.shapes import STRIP, UNDECIDED

PAPERS = ("#ffffff", "#0d1117")
"""What lies under a cell on a light and on a dark page (page.css)."""
INKS = ("#000000", "#ffffff")
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


def inks(word: str, strength: float = 1.0) -> tuple[str, str]:
    """The ink that reads best on the cell of ``word``, on a light and on a dark page (contrast 4.5 or more)."""
    light, dark = (_ink(_mixed(_channels(colour(word)), _channels(paper), strength)) for paper in PAPERS)
    return light, dark


def _ink(shade: list[float]) -> str:
    return max(INKS, key=lambda ink: contrast(_luminance(_channels(ink)), _luminance(shade)))


def contrast(one: float, other: float) -> float:
    """Contrast ratio of two relative luminances (WCAG 2), 1 to 21."""
    return (max(one, other) + 0.05) / (min(one, other) + 0.05)


def _channels(shade: str) -> list[float]:
    return [int(shade[i : i + 2], 16) / 255 for i in (1, 3, 5)]


def _mixed(over: list[float], under: list[float], strength: float) -> list[float]:
    return [strength * a + (1 - strength) * b for a, b in zip(over, under, strict=True)]


def _luminance(channels: list[float]) -> float:
    """Relative luminance of an sRGB colour (WCAG 2)."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def letter(word: str) -> str:
    """One character in the cell; a question mark where two shapes are left."""
    return LETTERS.get(word, "?")
