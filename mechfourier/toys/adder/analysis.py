"""``mechfourier analyze RUN`` for an adder: everything that is measured about one model, in one result."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from mechfourier.errors import OutOfRange
from mechfourier.hooks.site import sites
from mechfourier.results.base import plain
from mechfourier.toys.adder.ablation import Ablation, ablations
from mechfourier.toys.adder.accuracy import correct_characters
from mechfourier.toys.adder.alignment import HeadAlignment, alignment
from mechfourier.toys.adder.carry import CarryPatch, carry_patching
from mechfourier.toys.adder.draw import draw
from mechfourier.toys.adder.logits import LogitShape, logit_shape
from mechfourier.toys.adder.neurons import SumNeurons, sum_neurons
from mechfourier.toys.adder.quantities import QuantityReading, read_quantities
from mechfourier.toys.adder.source import open_adder
from mechfourier.toys.adder.weights import (
    EmbeddingSpectrum,
    MatrixSpectrum,
    embedding_spectra,
    matrix_spectra,
)
from mechfourier.toys.result import WrittenResult
from mechfourier.training.run_folder import RunFolder

if TYPE_CHECKING:
    import pandas as pd

DIGITS, PLACE = 6, 2
PROBLEMS = 256
# of a neuron's variance in one harmonic of the digit sum, as Nanda et al. (2023) ask of one frequency
PERIODIC = 0.85
CARRY_DISTANCES = (1, 2, 3)


@dataclass(frozen=True)
class HistoryRow:
    """One evaluation of the training run: exact match by number of digits."""

    step: int
    train_loss: float
    accuracy: dict[str, float]


@dataclass(frozen=True)
class AdderAnalysis(
    WrittenResult,
    kind="adder-analysis",
    schema=2,
    figure="mechfourier.toys.adder.analysis_figures:quantities_figure",
    part="mechfourier.toys.adder.analysis_figures:analysis_part",
    renamed={"kind": "architecture"},
):
    """All that is known of one adder, at the answer digit of significance ``place`` (0: units) of two
    ``digits``-digit operands.

    ``positions``: share of right characters in the order they are written. Each part's own class says what
    its numbers mean; ``notes`` say what could not be asked.
    """

    model: str
    architecture: str
    parameters: int
    digits: int
    place: int
    seed: int
    exact: float
    positions: tuple[float, ...]
    history: tuple[HistoryRow, ...]
    quantities: tuple[QuantityReading, ...]
    embeddings: tuple[EmbeddingSpectrum, ...]
    neurons: tuple[SumNeurons, ...]
    heads: tuple[HeadAlignment, ...]
    carries: tuple[CarryPatch, ...]
    ablations: tuple[Ablation, ...]
    logits: LogitShape
    matrices: tuple[MatrixSpectrum, ...]
    notes: tuple[str, ...]

    def frame(self) -> "pd.DataFrame":
        """One row per quantity and site."""
        import pandas as pd

        rows = [
            {"quantity": q.quantity, "design": q.design, "where": q.where, "verdict": q.verdict, **plain(s)}
            for q in self.quantities
            for s in q.sites
        ]
        return pd.DataFrame(rows)

    def summary(self) -> dict[str, Any]:
        """The keys of ``mechfourier analyze --json``."""
        return {
            "model": self.model,
            "kind": self.architecture,
            "parameters": self.parameters,
            "digits": self.digits,
            "place": self.place,
            "exact": self.exact,
            "verdicts": [
                {
                    "quantity": q.quantity,
                    "design": q.design,
                    "where": q.where,
                    "verdict": q.verdict,
                    "site": q.best,
                }
                for q in self.quantities
            ],
            "embeddings": [plain(e) for e in self.embeddings],
            "periodic_neurons": [
                {
                    "site": n.site,
                    "live": n.live,
                    "significant": n.significant,
                    "periodic_85": n.count(PERIODIC),
                }
                for n in self.neurons
            ],
            "heads": [
                {"site": h.site, "head": h.head, "aligned": h.aligned, "weight": max(h.weights)}
                for h in self.heads
            ],
            "carry": [plain(c) for c in self.carries if c.recovered >= 0.1],
            "logits_circulant": self.logits.circulant,
            "notes": list(self.notes),
        }

    def tables(self) -> "dict[str, pd.DataFrame]":
        import pandas as pd

        inside = {"heads": self.heads, "carries": self.carries, "ablations": self.ablations}
        return {"quantities": self.frame()} | {
            n: pd.DataFrame([plain(x) for x in rows]) for n, rows in inside.items()
        }

    def __str__(self) -> str:
        return "\n".join(_sentences(self))


def analyze(
    run: Any, *, place: int = PLACE, digits: int = DIGITS, permutations: int = 300, seed: int = 0
) -> AdderAnalysis:
    """Take an adder apart (a run folder, a checkpoint, a packaged name or a model).

    ``place``: significance of the answer digit that is asked about; ``digits`` of both operands (fewer where
    the model has positions for fewer). Raises ``UsageError`` where the run is no adder and ``OutOfRange`` for
    a place without digits above and below.
    """
    model, _ = open_adder(run)
    limit, notes = model.cfg.max_digits, []
    if limit is not None and digits > limit:
        notes.append(
            f"{model.mechfourier_name} has positions for {limit} digits: asked with {limit} in place of "
            f"{digits}"
        )
        digits = limit
    if not 1 <= place < digits - 1:
        raise OutOfRange(
            f"place {place} of {digits} digits has no digit below or above it; choose 1 to {digits - 2}"
        )
    p = draw(PROBLEMS, torch.Generator().manual_seed(seed), len_a=digits, len_b=digits)
    right = correct_characters(model, p)
    if float(right.all(1).double().mean()) < 0.5:
        notes.append(
            "it answers fewer than half of these problems: what its sites know may be of no use to it"
        )
    return AdderAnalysis(
        model=model.mechfourier_name,
        architecture=model.cfg.kind,
        parameters=sum(w.numel() for w in model.parameters()),
        digits=digits,
        place=place,
        seed=seed,
        exact=float(right.all(1).double().mean()),
        positions=tuple(right.double().mean(0).tolist()),
        history=history(run),
        quantities=read_quantities(model, place=place, digits=digits, permutations=permutations, seed=seed),
        embeddings=embedding_spectra(model, seed=seed),
        neurons=tuple(_neurons(model, place, digits, seed)),
        heads=alignment(model, digits=digits, seed=seed),
        carries=_carries(model, digits, seed, notes),
        ablations=ablations(model, digits=digits, seed=seed),
        logits=logit_shape(model, digits=digits, seed=seed),
        matrices=matrix_spectra(model),
        notes=tuple(notes),
    )


def history(run: Any) -> tuple[HistoryRow, ...]:
    """The evaluations of a training run; nothing for a model or a packaged name."""
    if not isinstance(run, str | Path) or not Path(run).is_dir():
        return ()
    frame = RunFolder(run).read_metrics()
    columns = [c for c in frame.columns if c.startswith("accuracy_")]
    if not columns:
        return ()
    return tuple(
        HistoryRow(
            int(row["step"]),
            float(row["train_loss"]),
            {c.removeprefix("accuracy_"): float(row[c]) for c in columns},
        )
        for row in frame.dropna(subset=columns).to_dict("records")
    )


def _neurons(model: Any, place: int, digits: int, seed: int) -> list[SumNeurons]:
    found = []
    for site in (s for s in sites(model) if s.kind == "mlp_post"):
        where = "value" if site.stack == "encoder" else "last"
        found.append(sum_neurons(model, site, place=place, digits=digits, where=where, seed=seed))
    return found


def _carries(model: Any, digits: int, seed: int, notes: list[str]) -> tuple[CarryPatch, ...]:
    if not model.cfg.reverse:
        notes.append(
            "carries were not patched: this model writes the most significant digit first, before any carry "
            "is settled"
        )
        return ()
    place = digits - 2
    distances = [d for d in CARRY_DISTANCES if d <= place]
    return carry_patching(model, digits=digits, place=place, distances=distances, seed=seed)


def _sentences(r: AdderAnalysis) -> list[str]:
    lines = [
        f"{r.model}: {r.architecture} adder, {r.parameters:,} parameters; {r.exact:.1%} of {PROBLEMS} "
        f"problems of {r.digits} digits answered exactly",
        f"what the sites know, at significance {r.place} (verdict; site where a linear map reads most, held "
        f"out)",
    ]
    for q in r.quantities:
        readable = [s for s in q.sites if s.decoded == s.decoded]
        best = max(readable, key=lambda s: s.decoded, default=None)
        reads = (
            ""
            if best is None
            else f"; {best.site} reads {best.decoded:.0%} (chance {best.chance:.0%}, null {best.null:.0%})"
        )
        lines.append(f"  {q.quantity:<18}{q.design:<10}{q.where:<24}{q.verdict}{reads}")
    lines.append("digit vectors (share of power at k = 1..5; p against shuffled digits)")
    for e in r.embeddings:
        lines.append(
            f"  {e.matrix:<6}{' '.join(f'{s:.2f}' for s in e.shares)}   k = {e.k}, p = {e.p:.3g}; on a line "
            f"{e.line:.2f}, p = {e.line_p:.3g}"
        )
    lines.append("neurons over the grid of both digits (no carry coming in)")
    for n in r.neurons:
        lines.append(
            f"  {n.site:<26}{n.live} live of {n.total}; {n.significant} have a harmonic of the digit sum "
            f"(family-wise p < .05), one harmonic "
            f"explains {PERIODIC:.0%} of {n.count(PERIODIC)}, any function of (a + b) mod 10 {PERIODIC:.0%} "
            f"of "
            f"{sum(x >= PERIODIC for x in n.mod_sum)}, a and b apart {PERIODIC:.0%} of "
            f"{sum(x >= PERIODIC for x in n.additive)}; power at k = 1..5 "
            f"{' '.join(f'{x:.2f}' for x in n.concentration)} (largest of random orders "
            f"{n.concentration_null:.2f})"
        )
    lines.append("attention: relative significance read most (0: the same digit, −1: the one below)")
    for h in r.heads:
        lines.append(
            f"  {h.site:<36}head {h.head}   {h.aligned:+d}   weight {max(h.weights):.2f}, + and =: "
            f"{h.special:.2f}, farther {h.rest:.2f}"
        )
    if r.carries:
        lines.append("carry: share of the donor's answer that a patch brings, where it is 10 % or more")
        for c in r.carries:
            if c.recovered >= 0.1:
                lines.append(
                    f"  begun {c.distance} below   {c.site:<32}place {c.place:+d}   {c.recovered:.2f} "
                    f"[{c.low:.2f}, {c.high:.2f}]"
                )
    lines.append("ablations: exact match left, worst category")
    for (site, unit, what), group in _by_unit(r.ablations).items():
        worst = min(group, key=lambda a: a.exact)
        lines.append(f"  {site:<32}{what} {unit:<5}{worst.exact:7.1%}   ({worst.category})")
    lines.append(
        f"logits: {r.logits.circulant:.1%} of their variance depends on the difference from the right digit "
        f"alone; smallest margin {r.logits.worst:.2f}"
    )
    return [*lines, *(f"note: {n}" for n in r.notes)]


def _by_unit(rows: tuple[Ablation, ...]) -> dict[tuple[str, int, str], list[Ablation]]:
    found: dict[tuple[str, int, str], list[Ablation]] = {}
    for row in rows:
        found.setdefault((row.site, row.unit, row.what), []).append(row)
    return found
