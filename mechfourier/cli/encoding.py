"""Terminals and pipes that know few letters: what they cannot show is written in letters that they can."""

import codecs
import io
import sys
import unicodedata

SPELT = {
    **{
        "δ": "delta",
        "Δ": "Delta",
        "φ": "phi",
        "π": "pi",
        "κ": "kappa",
        "σ": "sigma",
        "θ": "theta",
        "ε": "eps",
    },
    **{
        "≥": ">=",
        "≤": "<=",
        "≈": "~",
        "×": "x",
        "–": "-",
        "—": "-",
        "−": "-",
        "…": "...",
        "·": "*",
        "±": "+-",
    },
    **{"→": "->", "←": "<-", "↔": "<->", "∞": "inf", "√": "sqrt", "²": "2", "“": '"', "”": '"', "’": "'"},
}


def spelt(error: UnicodeError) -> tuple[str, int]:
    """An error handler of codecs: letters that an encoding lacks, in ASCII; ``?`` for what has no such form."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    wanting = error.object[error.start : error.end]
    return "".join(SPELT.get(letter) or _without_marks(letter) for letter in wanting), error.end


def _without_marks(letter: str) -> str:
    plain = unicodedata.normalize("NFKD", letter).encode("ascii", "ignore").decode()
    return plain or "?"


def show_everything() -> None:
    """Let standard output and error of any encoding take every text: nothing is lost after hours of work."""
    codecs.register_error("spelt", spelt)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="spelt")
