"""What a reproduction is: published claims, each with the measured figure, what chance gives, a word and a
sentence."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from mechfourier.results.base import Result

if TYPE_CHECKING:
    import pandas as pd

Word = Literal["stands", "does not stand", "noise", "not measured"]
WORDS: tuple[Word, ...] = ("stands", "does not stand", "noise", "not measured")


@dataclass(frozen=True)
class Claim:
    """One published claim and what became of it.

    ``published`` and ``measured`` are in ``unit`` (None where there is no figure); ``low`` and ``high`` are
    the 95 % interval of ``measured``; ``chance`` is what the control named by ``chance_is`` gives for the
    same figure. ``word``: *stands*; *does not stand* (something is there, but not what was claimed); *noise*
    (no more than shuffled labels, or the same network with random weights, gives); *not measured*, with the
    reason in ``sentence``.
    """

    claim: str
    source: str
    unit: str
    published: float | None
    measured: float | None
    low: float | None
    high: float | None
    chance: float | None
    chance_is: str
    word: str
    sentence: str


def claim(
    text: str,
    word: Word,
    sentence: str,
    *,
    source: str,
    unit: str = "",
    published: float | None = None,
    measured: float | None = None,
    interval: tuple[float, float] | None = None,
    chance: float | None = None,
    chance_is: str = "",
) -> Claim:
    """A ``Claim`` from keywords."""
    low, high = interval if interval is not None else (None, None)
    return Claim(text, source, unit, published, measured, low, high, chance, chance_is, word, sentence)


@dataclass(frozen=True)
class Reproduction(Result, kind="reproduction", part="mechfourier.figures.sections:reproduction_part"):
    """One experiment on one set of weights. ``weights`` is the content hash of the model ("" where none was
    there); ``settings`` are those that decide whether it has to be run again; ``seconds`` of wall time."""

    experiment: str
    title: str
    model: str
    weights: str = field(kw_only=True)  # type: ignore[assignment]  # its own meaning, and always given
    settings: dict[str, str]
    claims: tuple[Claim, ...]
    command: str
    seconds: float

    def count(self, word: str) -> int:
        """How many claims got this word."""
        return sum(each.word == word for each in self.claims)

    @property
    def summary(self) -> str:
        """The words with their numbers."""
        return ", ".join(f"{self.count(word)} {word}" for word in WORDS if self.count(word))

    def __str__(self) -> str:
        lines = [f"{self.experiment} on {self.model}: {self.summary}"]
        lines += [f"  {each.word}: {each.claim}. {each.sentence}" for each in self.claims]
        return "\n".join(lines)

    def frame(self) -> "pd.DataFrame":
        """One row per claim."""
        import pandas as pd

        return pd.DataFrame([_row(each) for each in self.claims])

    def plot(self) -> Any:
        """Published, measured and chance side by side, one group per claim that has a figure."""
        import plotly.graph_objects as go

        frame = self.frame()
        shown = frame[frame["published"].notna() | frame["measured"].notna()]
        figure = go.Figure()
        for column in ("published", "measured", "chance"):
            figure.add_bar(name=column, x=shown["claim"], y=shown[column])
        units = ", ".join(dict.fromkeys(unit for unit in shown["unit"] if unit))
        return figure.update_layout(barmode="group", yaxis_title=units, xaxis_title="")


def _row(each: Claim) -> dict[str, Any]:
    nan = float("nan")
    numbers = {key: nan if (v := getattr(each, key)) is None else v for key in _NUMBERS}
    return {"claim": each.claim, "unit": each.unit, **numbers, "word": each.word, "sentence": each.sentence}


_NUMBERS = ("published", "measured", "low", "high", "chance")
