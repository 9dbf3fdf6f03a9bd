"""What the extrapolating model computes: how phases are composed, and what decides the wrap.

Every number enters twice, as waves φ(v) and as a size s·v. Here the two are changed apart from each other, so
that the answer says which of them decided: a wave turned by δ is the wave of v + δ, whatever the size says.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechfourier.errors import UsageError
from mechfourier.results.base import Result
from mechfourier.toys.universal.forward_pass import Hook, no_hook, scores, test_scale, with_negatives
from mechfourier.toys.universal.task import answers, boundary, sample, wraps

if TYPE_CHECKING:
    import pandas as pd

    from mechfourier.toys.universal.model import ExtrapolatingTransformer

TURNS = (1, 2, 5)
MOVES = (25, 100)  # sizes as those of m = 1,000 and m = 4,000 at the least scale, .05
AT_ONCE = 128
NAMES = ("m", "a", "b")


@dataclass(frozen=True)
class Effect:
    """An intervention at one modulus. Accuracies after it, on questions that wrap and that do not;
    ``as_predicted`` is the share of all answers that are what the intervention predicts (NaN where it
    predicts none)."""

    m: int
    what: str
    wrap_accuracy: float
    no_wrap_accuracy: float
    as_predicted: float


@dataclass(frozen=True)
class Threshold:
    """Where the decision tips: the share of answers a + b − m as the size of m is moved, the waves staying.

    ``margin`` is (a + b − m) as the sizes have it, in units of 1; ``cell`` what the waves have (−1 or 0);
    ``wrapped`` the share answered a + b − m.
    """

    m: int
    cell: int
    margin: float
    wrapped: float


@dataclass(frozen=True)
class Algorithm(Result, kind="universal-algorithm"):
    """Interventions, thresholds and how exactly h points at the answer (``phase_error``: median |angle| in
    radians between h and φ(c) over questions and frequencies, by modulus)."""

    moduli: tuple[int, ...]
    effects: tuple[Effect, ...]
    thresholds: tuple[Threshold, ...]
    phase_error: tuple[float, ...]

    def frame(self) -> "pd.DataFrame":
        """The interventions, one row per modulus and intervention."""
        import pandas as pd

        return pd.DataFrame([vars(effect) for effect in self.effects])

    def tipping_points(self) -> dict[tuple[int, int], float]:
        """(m, cell) -> the margin at which half the answers wrap (linear between measured points); NaN where
        none is."""
        keys = dict.fromkeys((row.m, row.cell) for row in self.thresholds)
        return {key: _crossing([r for r in self.thresholds if (r.m, r.cell) == key]) for key in keys}

    def __str__(self) -> str:
        lines = [f"{'m':>5}  {'intervention':<34} {'wrap':>7} {'no wrap':>8} {'predicted':>10}"]
        for e in self.effects:
            told = "" if math.isnan(e.as_predicted) else f"{e.as_predicted:10.1%}"
            lines.append(f"{e.m:>5}  {e.what:<34} {e.wrap_accuracy:7.1%} {e.no_wrap_accuracy:8.1%} {told}")
        for (m, cell), margin in self.tipping_points().items():
            lines.append(f"m = {m}, waves say a + b − m = {cell}: wraps once the sizes say {margin:.2f}")
        error = ", ".join(f"{m}: {e:.3f}" for m, e in zip(self.moduli, self.phase_error, strict=True))
        return "\n".join([*lines, f"median angle between h and φ(answer), radians: {error}"])


def _crossing(rows: Sequence[Threshold]) -> float:
    ordered = sorted(rows, key=lambda row: row.margin)
    for low, high in itertools.pairwise(ordered):
        if low.wrapped < 0.5 <= high.wrapped:
            return low.margin + (0.5 - low.wrapped) / (high.wrapped - low.wrapped) * (
                high.margin - low.margin
            )
    return math.nan


def study_algorithm(
    model: "ExtrapolatingTransformer",
    *,
    moduli: Sequence[int] = (23, 60, 113, 199),
    count: int = 300,
    seed: int = 0,
) -> Algorithm:
    """Turn waves, move sizes and silence parts of the model, on ``count`` random questions of every modulus.

    Raises ``UsageError`` for a model that does not read numbers by value.
    """
    if not hasattr(model, "written"):
        raise UsageError(f"{model.mechfourier_name} does not read numbers by value; study miras")
    generator = torch.Generator().manual_seed(seed)
    effects, thresholds, errors = [], [], []
    for m in moduli:
        bench = _Bench(model, sample([m], count, generator), generator)
        effects += [*bench.turns(), *bench.sizes_alone(), *bench.silenced()]
        thresholds += _thresholds(model, m)
        errors.append(bench.phase_error())
    return Algorithm(tuple(moduli), tuple(effects), tuple(thresholds), tuple(errors))


def waves_of(
    model: "ExtrapolatingTransformer", values: Float[Tensor, "*batch"]
) -> Float[Tensor, "*batch draw two_freq"]:
    """φ(v), also between the whole numbers."""
    turns = values.double()[..., None, None] * model.frequencies
    phase = 2 * math.pi * (turns % 1.0)
    return torch.cat([phase.cos(), phase.sin()], dim=-1).float()


@torch.no_grad()
def answered(
    model: "ExtrapolatingTransformer", waves: Tensor, sizes: Tensor, hook: Hook = no_hook
) -> Int[Tensor, " question"]:
    """The best number, below 0 or not, for waves and sizes that need not belong together."""
    candidates, zero = with_negatives(model.table), len(model.table) - 1
    parts = zip(waves.split(AT_ONCE), sizes.split(AT_ONCE), strict=True)
    return torch.cat([scores(model.written(w, s, hook=hook), candidates).argmax(1) - zero for w, s in parts])


@dataclass(frozen=True, eq=False)
class _Bench:
    """Questions of one modulus, to be asked in changed ways."""

    model: "ExtrapolatingTransformer"
    questions: Int[Tensor, "question 3"]
    generator: torch.Generator

    @property
    def m(self) -> int:
        return int(self.questions[0, 0])

    def effect(
        self, what: str, values: Tensor, sizes: Tensor, predicted: Tensor | None = None, hook: Hook = no_hook
    ) -> Effect:
        """Ask with the waves of ``values`` and these sizes."""
        found = answered(self.model, waves_of(self.model, values), sizes, hook)
        hit, over = found == answers(self.questions), wraps(self.questions)
        share = math.nan if predicted is None else float((found == predicted).double().mean())
        return Effect(
            self.m, what, float(hit[over].double().mean()), float(hit[~over].double().mean()), share
        )

    def turns(self) -> list[Effect]:
        """Waves of one number turned by δ, sizes untouched: a and b should move the answer by δ, m by −δ
        where it wraps."""
        q, sizes, found = self.questions.double(), self.model.sizes(self.questions), []
        over, right = wraps(self.questions).long(), answers(self.questions)
        for column, name in enumerate(NAMES):
            for turn in TURNS:
                moved = q.clone()
                moved[:, column] += turn
                predicted = right - turn * over if column == 0 else right + turn
                found.append(self.effect(f"waves of {name} turned by {turn}", moved, sizes, predicted))
        return found

    def sizes_alone(self) -> list[Effect]:
        """Sizes taken away or contradicting the waves."""
        q, sizes = self.questions.double(), self.model.sizes(self.questions)
        scrambled = q.clone()
        scrambled[:, 0] = torch.rand(len(q), generator=self.generator).double() * 1000
        total = self.questions[:, 1] + self.questions[:, 2]
        huge, tiny = sizes.clone(), sizes.clone()
        huge[:, 0], tiny[:, 0] = sizes[:, 1] + sizes[:, 2] + 5 * sizes[:, 0].mean() / self.m, 0.0
        right, both = answers(self.questions), torch.tensor([2.0, 1.0, 1.0])
        return [
            self.effect("nothing changed", q, sizes, right),
            *(
                self.effect(f"sizes of a and b + {move}, of m + {2 * move}", q, sizes + move * both, right)
                for move in MOVES
            ),
            self.effect("sizes all zero", q, torch.zeros_like(sizes)),
            self.effect("waves of m random", q.where(torch.tensor([False, True, True]), scrambled), sizes),
            self.effect("size of m above that of a + b", q, huge, total),
            self.effect("size of m zero", q, tiny, (total - self.m)),
        ]

    def silenced(self) -> list[Effect]:
        """Parts of the network that write nothing (zero ablation, at every position)."""
        q, sizes = self.questions.double(), self.model.sizes(self.questions)
        parts = [
            f"blocks.{i}.hook_{kind}"
            for i in range(self.model.cfg.n_layers)
            for kind in ("attn_out", "mlp_out")
        ]
        halves = [f"blocks.{i}.mlp.hook_post" for i in range(self.model.cfg.n_layers)]
        found = [self.effect(f"{name} zero", q, sizes, hook=_zero(name)) for name in parts]
        for name in halves:
            for half, kind in enumerate(("bilinear", "sigmoid")):
                label = f"{name.split('.mlp')[0]} {kind} units zero"
                found.append(self.effect(label, q, sizes, hook=_zero(name, half, self.model.cfg.gates)))
        return found

    @torch.no_grad()
    def phase_error(self) -> float:
        """Median |angle| between h and φ(answer), in radians, over questions and frequencies."""
        model, sizes = self.model, self.model.sizes(self.questions)
        h = model.written(model.table[self.questions], sizes).unflatten(1, model.table.shape[1:])
        target = model.table[answers(self.questions)]
        half = h.shape[-1] // 2
        written = torch.complex(h[..., :half], h[..., half:])
        wanted = torch.complex(target[..., :half], target[..., half:])
        return float((written * wanted.conj()).angle().abs().median())


def _zero(name: str, half: int | None = None, gates: int = 0) -> Hook:
    """A hook that silences one activation, or one half of every draw's gates."""

    def hook(at: str, value: Tensor) -> Tensor:
        if at != name:
            return value
        if half is None:
            return torch.zeros_like(value)
        keep = torch.ones(2, gates // 2)
        keep[half] = 0
        return value * keep.flatten().repeat(value.shape[-1] // gates)

    return hook


def _thresholds(model: "ExtrapolatingTransformer", m: int) -> list[Threshold]:
    """At the questions next to the wrap: move the size of m in steps of .25 and see where the answer tips
    over."""
    cells = boundary(m)
    cells = cells[torch.linspace(0, len(cells) - 1, min(len(cells), 80)).long()]
    over = (cells[:, 1] + cells[:, 2] - m).double()
    scale, sizes, rows = test_scale(model.cfg, cells[:, 0]), model.sizes(cells), []
    for step in torch.arange(-3.0, 3.01, 0.25):
        moved = sizes.clone()
        moved[:, 0] += scale * step
        found = answered(model, model.table[cells], moved)
        for cell in (-1, 0):
            here = over == cell
            wrapped = found[here] == (cells[here, 1] + cells[here, 2] - m) % model.cfg.n_values
            share = (
                float(wrapped.double().mean()) if cell == 0 else float((found[here] != m - 1).double().mean())
            )
            rows.append(Threshold(m, cell, float(cell - step), share))
    return rows
