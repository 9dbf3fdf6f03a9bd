"""What a reproduction is: published claims, each with the measured figure, what chance gives, a word and a
sentence."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from mechfourier.results.base import Result

if TYPE_CHECKING:
    import pandas as pd

Word = Literal["stands", "does not stand", "noise", "cannot be asked", "not measured"]
WORDS: tuple[Word, ...] = ("stands", "does not stand", "noise", "cannot be asked", "not measured")


@dataclass(frozen=True)
class Control:
    """What a control gives: ``figure`` of the published method in the unit of the claim (None where there is
    none), the ``word`` of our test, and its numbers."""

    figure: float | None
    word: str
    sentence: str


@dataclass(frozen=True)
class Claim:
    """One published claim and what became of it.

    ``published`` and ``measured`` are in ``unit`` (None where there is no figure); ``low`` and ``high`` are
    the 95 % interval of ``measured``; ``chance`` is what the control named by ``chance_is`` gives for the
    same figure. Claims about language models have two controls in its place: the ``untrained`` network and
    ``shuffled`` labels, each with what the published method and what our test says. ``word``: *stands*; *does
    not stand* (something is there, but not what was claimed); *noise* (no more than the controls give);
    *cannot be asked* (the model answers at chance, so that nothing can be the cause of its answers); *not
    measured*, with the reason in ``sentence``.
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
    untrained: Control | None = None
    shuffled: Control | None = None


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
    untrained: Control | None = None,
    shuffled: Control | None = None,
) -> Claim:
    """A ``Claim`` from keywords."""
    low, high = interval if interval is not None else (None, None)
    head = (text, source, unit, published, measured, low, high, chance, chance_is)
    return Claim(*head, word, sentence, untrained, shuffled)


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
        """Published, measured and the controls side by side, one group per claim that has a figure."""
        import plotly.graph_objects as go

        frame = self.frame()
        shown = frame[frame["published"].notna() | frame["measured"].notna()]
        figure = go.Figure()
        for column in (name for name in COLUMNS if bool(frame[name].notna().to_numpy().any())):
            figure.add_bar(name=column, x=shown["claim"], y=shown[column])
        units = ", ".join(dict.fromkeys(unit for unit in shown["unit"] if unit))
        return figure.update_layout(barmode="group", yaxis_title=units, xaxis_title="")


def _row(each: Claim) -> dict[str, Any]:
    values = {key: getattr(each, key) for key in _NUMBERS}
    values |= {"untrained": _figure(each.untrained), "shuffled": _figure(each.shuffled)}
    numbers = {key: float("nan") if value is None else value for key, value in values.items()}
    return {"claim": each.claim, "unit": each.unit, **numbers, "word": each.word, "sentence": each.sentence}


def _figure(control: Control | None) -> float | None:
    return None if control is None else control.figure


_NUMBERS = ("published", "measured", "low", "high", "chance")
COLUMNS = ("published", "measured", "chance", "untrained", "shuffled")
