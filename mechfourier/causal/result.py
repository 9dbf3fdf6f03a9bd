"""What an ablation found, as a table, a figure and a text; and what was certified of an edit."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mechfourier.domains.reads import TokensRead
from mechfourier.domains.task_spec import NATIVE
from mechfourier.results.base import Result

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Performance:
    """``accuracy``: share of prompts whose right answer is the best candidate (chance is 1/n);
    ``greedy_accuracy``: the same for greedy decoding over the whole vocabulary; ``logit_diff``:
    log-probability of the right answer minus the mean of the other n − 1, in nats (cosines for a model
    without logits); ``perplexity`` of held-out text."""

    accuracy: float
    logit_diff: float
    greedy_accuracy: float | None
    perplexity: float | None
    accuracy_wrap: float | None
    accuracy_no_wrap: float | None


@dataclass(frozen=True)
class Idle:
    """The largest change of a score by an edit that is none, relative to the largest score."""

    edit: str
    change: float


@dataclass(frozen=True)
class Certificate:
    """``reader``: the hook point where a change at ``site`` was looked for ("scores": none was there).
    ``arrived``: the change there relative to the one made: 1 where the stream passes it on as it is.
    ``idle``: edits that are none."""

    site: str
    position: str
    reader: str
    arrived: float
    idle: tuple[Idle, ...]

    def __str__(self) -> str:
        worst = max((each.change for each in self.idle), default=0.0)
        names = ", ".join(each.edit for each in self.idle)
        return (
            f"edits certified on this model: a change at {self.site} arrives at {self.reader} "
            f"({self.arrived:.4g} of it); {names}: scores change by {worst:.1g} at most"
        )


@dataclass(frozen=True)
class AblationResult(
    Result,
    kind="ablation",
    command="ablate",
    figure="mechfourier.figures.causal:ablation_figure",
    part="mechfourier.figures.causal:ablation_part",
):
    """What an ablation did. ``logit_diff_ci`` is the 95 % interval of the change ablated − base; ``kl`` is
    KL(base ‖ ablated) in nats per token of held-out text; ``p_controls`` is the share of matched controls
    that hurt at least as much, (1 + #{Δ_control ≥ Δ}) / (n_controls + 1) with Δ the drop of ``logit_diff``;
    ``specificity`` is that drop minus the rise of text surprisal, each in standard deviations between prompts
    or sentences."""

    model: str
    domain: str
    n: int
    site: str
    dims: tuple[int, ...] | None
    rank: int
    mode: str
    positions: str
    outcome: str
    n_prompts: int
    cycles: int
    base: Performance
    ablated: Performance
    logit_diff_change: float
    logit_diff_ci: tuple[float, float]
    mcnemar_p: float
    became_wrong: int
    became_right: int
    kl: float | None
    kl_ci: tuple[float, float] | None
    specificity: float | None
    p_controls: float | None
    n_controls: int
    n_control_dims: int
    control_changes: tuple[float, ...]
    control_variance_ratio: float | None
    n_control_prompts: int
    notes: tuple[str, ...]
    seed: int
    task: str = NATIVE
    tokens: TokensRead | None = None
    certificate: Certificate | None = None

    def frame(self) -> "pd.DataFrame":
        """One row per measure: before, after, and the change."""
        import pandas as pd

        names = [
            "accuracy",
            "greedy_accuracy",
            "accuracy_no_wrap",
            "accuracy_wrap",
            "logit_diff",
            "perplexity",
        ]
        pairs = [(name, getattr(self.base, name), getattr(self.ablated, name)) for name in names]
        rows = [
            (name, float(b), float(a), float(a - b))
            for name, b, a in pairs
            if b is not None and a is not None
        ]
        return pd.DataFrame(rows, columns=["measure", "base", "ablated", "change"])

    @property
    def what(self) -> str:
        """What was ablated, in words."""
        if self.dims is None:
            return f"a subspace of {self.rank} dimensions"
        shown = ", ".join(map(str, self.dims[:6])) + (", …" if len(self.dims) > 6 else "")
        return f"dimension{'s' * (len(self.dims) > 1)} {shown}"

    def __str__(self) -> str:
        lines = [
            f"{self.mode} ablation of {self.what} at {self.site} of {self.model}, {self.domain}, task "
            f"{self.task} ({self.n_prompts} prompts, {self.outcome})",
            self.frame().to_string(index=False, float_format=lambda v: f"{v:.4g}"),
            f"logit difference {self.logit_diff_change:+.4g}, 95 % [{self.logit_diff_ci[0]:.4g}, "
            f"{self.logit_diff_ci[1]:.4g}]; "
            f"{self.became_wrong} became wrong, {self.became_right} right (McNemar p = {self.mcnemar_p:.3g})",
        ]
        if self.p_controls is not None:
            lines.append(f"p against {self.n_controls} matched controls = {self.p_controls:.3g}")
        if self.kl is not None:
            lines.append(
                f"KL on held-out text {self.kl:.4g} nats per token; specificity {self.specificity or 0.0:.3g}"
            )
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])
