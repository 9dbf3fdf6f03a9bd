"""What `period_neurons` finds, and how it is said."""

import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mechfourier.causal.neuron_ablation import NeuronsAblated
from mechfourier.domains.reads import TokensRead
from mechfourier.domains.task_spec import NATIVE
from mechfourier.results.base import Result
from mechfourier.stats.intervals import wilson

if TYPE_CHECKING:
    import pandas as pd

LEVEL = 0.05
LEAST = 0.005  # parts of a smaller share are not said
SMALL = 0.8  # size of random neurons, over that of the ones ablated, below which it is said
SHOWN = 3  # neurons that are named in words


@dataclass(frozen=True)
class Writer:
    """A group of parts: its share of the period's part of the lead, with its 95 % interval (bootstrap over prompts)."""

    name: str
    share: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class WritingNeuron:
    """``lead``: what the neuron adds to the period's part of the lead (nats), ``share``: of that part; ``p_value``:
    family-wise over all neurons, answers exchanged; ``peak``: the number, 0 to the period, at which it is most active;
    ``of_own``: how much of all that it adds to the lead has this period (None where it adds nothing)."""

    layer: int
    index: int
    lead: float
    share: float | None
    p_value: float
    peak: float
    of_own: float | None


@dataclass(frozen=True)
class SharedNeurons:
    """One period in another task. ``lead``: its part of that task's lead (nats); ``second``: its neurons beyond
    exchanged answers, ``first`` those of the first task, ``shared`` in both, ``expected`` where sets of these sizes are
    drawn at random, ``p_value`` (hypergeometric). ``correlation``: Spearman, of what all neurons add in either task,
    with its 95 % interval; ``others``: the mean of the same with the other periods of the second task."""

    lead: float
    first: int
    second: int
    shared: int
    expected: float
    p_value: float
    correlation: float
    low: float
    high: float
    others: float | None


@dataclass(frozen=True)
class PeriodWriters:
    """One period. ``lead``: its part of the lead of the right answer (nats) with its 95 % interval, ``share``: of the
    whole lead; ``even``: that share where answers have no preferred period. ``writers``: MLPs, attention, embedding and
    the rest, which add up to 1 (share None where the period's interval holds 0); ``neurons_share``: all neurons
    together, without biases; ``n_half``: the fewest of them that make half of all that is added (what works against it
    apart); ``n_significant``: neurons beyond
    exchanged answers (family-wise p < 0.05). ``neurons``: these, at most 50, or the ten largest. ``ablated``: the
    significant ones taken out, ``shared``: those of another task."""

    period: float
    lead: float
    low: float
    high: float
    share: float
    share_low: float
    share_high: float
    even: float
    writers: tuple[Writer, ...]
    neurons_share: float | None
    n_half: int | None
    n_significant: int
    neurons: tuple[WritingNeuron, ...]
    ablated: NeuronsAblated | None
    shared: SharedNeurons | None


@dataclass(frozen=True)
class PeriodNeurons(
    Result,
    kind="period-neurons",
    command="periods",
    figure="mechfourier.figures.period_neurons:neurons_figure",
    part="mechfourier.figures.period_neurons:neurons_part",
):
    """Who writes each period of the answers ``low`` to ``high``. ``lead``: by how much the right answer's logit exceeds
    the mean of all choices (nats, every answer counting alike) with its 95 % interval. ``against``: the other task,
    ``against_accuracy``: its share of right answers."""

    model: str
    domain: str
    n: int
    n_answers: int
    low: int
    high: int
    n_prompts: int
    accuracy: float
    lead: float
    lead_low: float
    lead_high: float
    n_neurons: int
    width: int
    n_layers: int
    periods: tuple[PeriodWriters, ...]
    against: str | None
    against_accuracy: float | None
    n_permutations: int
    norm: str
    sum_error: float
    notes: tuple[str, ...]
    seed: int
    task: str = NATIVE
    tokens: TokensRead | None = None

    def frame(self) -> "pd.DataFrame":
        """One row per period and neuron listed."""
        import pandas as pd

        columns = ["period", "layer", "index", "lead", "share", "p_value", "peak", "of_own"]
        rows = [{"period": each.period} | vars(neuron) for each in self.periods for neuron in each.neurons]
        return pd.DataFrame(rows, columns=columns)

    def period_frame(self) -> "pd.DataFrame":
        """One row per period: its part of the lead, who writes it, its neurons, their ablation and the other task."""
        import pandas as pd

        rows = []
        for each in self.periods:
            row = {
                k: v for k, v in vars(each).items() if k not in ("writers", "neurons", "ablated", "shared")
            }
            row |= {writer.name: writer.share for writer in each.writers}
            for name, part in (("ablated", each.ablated), ("shared", each.shared)):
                row |= {} if part is None else {f"{name}_{key}": value for key, value in vars(part).items()}
            rows.append(row)
        return pd.DataFrame(rows)

    def __str__(self) -> str:
        lines = [
            f"{self.model}, {self.domain}, task {self.task}: who writes each period of the answer",
            f"{self.n_prompts} prompts with the answers {self.low} to {self.high}, {_percent(self.accuracy)} "
            f"{_between(*wilson(round(self.accuracy * self.n_prompts), self.n_prompts))} right; the right answer leads the "
            f"mean of all by {self.lead:.3g} nats of logit [{self.lead_low:.3g}, {self.lead_high:.3g}]",
        ]
        for each in self.periods:
            lines += _lines(each, self)
        said = [lines[0], *map(_wrapped, [*lines[1:], f"final norm: {self.norm}"])]
        return "\n".join([*said, *(f"note: {note}" for note in self.notes)])


def _wrapped(line: str) -> str:
    indent = " " * (len(line) - len(line.lstrip()))
    return textwrap.fill(line, 80, subsequent_indent=indent + "  ", break_on_hyphens=False)


def _lines(each: PeriodWriters, whole: PeriodNeurons) -> list[str]:
    """What is said of one period."""
    written = ", ".join(
        f"{w.name} {_percent(w.share)} {_between(w.low, w.high)}"
        for w in each.writers
        if w.share is not None and abs(w.share) >= LEAST
    )
    if written and all(w.low is None or w.high is None or w.low <= 0 <= w.high for w in each.writers):
        written += ": undecided, every interval holds 0"
    half = ""
    if each.n_half is not None:
        of = "neuron" if each.n_half == 1 else f"{each.n_half:,} neurons"
        half = f"; half of what all neurons add (what others take away apart) comes from the largest {of}"
    return [
        f"period {period_name(each.period, whole.n)}: {each.lead:.3g} nats [{each.low:.3g}, {each.high:.3g}], "
        f"{_percent(each.share)} {_between(each.share_low, each.share_high)} of the lead (without a preferred period "
        f"{each.even:.0%})",
        f"  written by {written}" if written else "  too little to say who writes it: the interval holds 0",
        f"  {_found(each, whole.n_neurons)}{half}",
        *([] if each.ablated is None else _ablated(each.ablated, each.n_significant)),
        *([] if each.shared is None else [_shared(each.shared)]),
    ]


def _found(each: PeriodWriters, of: int) -> str:
    """The neurons found, by name; the largest one where none is."""
    found = [neuron for neuron in each.neurons if neuron.p_value < LEVEL]
    shown = found[:SHOWN] or each.neurons[:1]
    named = "; ".join(
        f"{n.layer}.{n.index} ({f'{_percent(n.share)}, ' if n.share is not None else ''}p = {n.p_value:.2g})"
        for n in shown
    )
    kind = "largest, as layer.neuron with its share of the part" if found else "the largest, as layer.neuron"
    plural = "neuron" if of == 1 else "neurons"
    return f"found (family-wise p < {LEVEL:g}): {each.n_significant} of {of:,} {plural}; {kind}: {named}"


def period_name(period: float, n: int) -> str:
    """A period as a fraction of the cycle n where it is one and no whole number: "113/23 (4.913)"."""
    k = round(n / period) if period > 0 else 0
    if k and abs(period - round(period)) > 1e-6 and abs(n / k - period) < 1e-9 * n:
        return f"{n}/{k} ({period:.4g})"
    return f"{period:.4g}"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value + 0.0:.0%}".replace("-0%", "0%")


def _between(low: float | None, high: float | None) -> str:
    return f"[{_percent(low)}, {_percent(high)}]"


def _ablated(a: NeuronsAblated, found: int) -> list[str]:
    """What is said of an ablation."""
    beside = (
        f" (random neurons, {a.n_controls} draws: {_percent(a.random_right)}, p = {a.p_right:.2g})"
        if a.p_right is not None
        else ""
    )
    lines = [
        f"  with {_these(a.n_neurons, found)} at the mean (last token): {_percent(a.right)} "
        f"{_between(a.right_low, a.right_high)} of {a.n_prompts} prompts right, {_percent(a.intact)} before{beside}"
    ]
    if a.lead_kept is not None:
        p = "" if a.p_lead is None else f", p = {a.p_lead:.2g}"
        beside = "" if a.random_lead_kept is None else f" (random neurons {_percent(a.random_lead_kept)}{p})"
        rest = "" if a.rest_kept is None else f", of the rest of the lead {_percent(a.rest_kept)}"
        rest += (
            ""
            if not rest or a.random_rest_kept is None
            else f" (random neurons {_percent(a.random_rest_kept)})"
        )
        size = ""
        if a.size_ratio is not None and a.size_ratio < SMALL:
            size = f"; the random neurons write {a.size_ratio:.2g} times as much to the answers as these"
        lines.append(
            f"  then left of the period's part of the lead: {_percent(a.lead_kept)}{beside}{rest}{size}"
        )
    if a.residue is not None:
        random = "" if a.random_residue is None else f", after random neurons {_percent(a.random_residue)}"
        low, guess = a.residue_low, a.residue_guess
        random += "" if low is None or guess is None or low > guess else ": no more than at random"
        lines.append(
            f"  of {a.n_wrong} wrong answers then {_percent(a.residue)} {_between(a.residue_low, a.residue_high)} are "
            f"right modulo the period (wrong at random {_percent(a.residue_guess)}{random})"
        )
    return lines


def _these(count: int, found: int) -> str:
    if count < found:
        return f"the largest {count} of these {found} neurons"
    return "this neuron" if count == 1 else f"these {count} neurons"


def _shared(s: SharedNeurons) -> str:
    sets = ""
    if s.first and s.second:
        sets = f", {s.shared} of its {s.second} shared (by chance {s.expected:.2g}, p = {s.p_value:.2g})"
    others = "" if s.others is None else f"; with its other periods {round(s.others, 2) + 0.0:.2f}"
    return (
        f"  other task: {s.lead:.3g} nats, {s.second} neurons found there{sets}; rank correlation over all neurons "
        f"{s.correlation:.2f} [{s.low:.2f}, {s.high:.2f}]{others}"
    )
