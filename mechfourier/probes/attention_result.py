"""What was found where the reading position looks."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from mechfourier.domains.reads import TokensRead
from mechfourier.domains.task_spec import NATIVE
from mechfourier.probes.head_content import HeadFourier
from mechfourier.probes.roles import SINKS, WORDS
from mechfourier.results.base import Result

LEVEL = 0.05
SINK_HEAD = 0.5
"""Mean attention to the sink from which a head counts as a sink head: more than to all other tokens together."""


@dataclass(frozen=True)
class RoleAttention:
    """Mean attention of one head to all tokens of a role, with a 95 % bootstrap interval over prompts.
    ``null_mean``: roles shuffled within prompts; ``p_value``: family-wise over heads and roles. Words are
    shuffled among words; the sink among all roles."""

    layer: int
    head: int
    role: str
    attention: float
    low: float
    high: float
    null_mean: float
    p_value: float


@dataclass(frozen=True)
class AttentionResult(
    Result,
    kind="attention",
    figure="mechfourier.figures.inside:roles_figure",
    part="mechfourier.figures.inside:attention_part",
):
    """Attention from the reading position of a domain's operation. ``modulus_excess``: attention to the
    modulus token less the mean of the other words, at the head where it is largest, with its interval (None
    where the prompt names no modulus). ``sink_heads``: of ``heads`` heads, those that put most of their
    attention on the sink. ``tokens``: what is read."""

    model: str
    domain: str
    n: int
    prompts: int
    roles: tuple[RoleAttention, ...]
    fourier: tuple[HeadFourier, ...]
    modulus_head: tuple[int, int] | None
    modulus_excess: tuple[float, float, float] | None
    notes: tuple[str, ...]
    tokens: TokensRead | None = None
    task: str = NATIVE

    def __str__(self) -> str:
        lines = [
            f"{self.model}, {self.domain}, task {self.task}: attention of the reading position over "
            f"{self.prompts} prompts"
        ]
        if told := self.sink():
            lines.append(f"  {told}")
        for role in WORDS:
            rows = [r for r in self.roles if r.role == role]
            if rows:
                top = max(rows, key=lambda r: r.attention)
                lines.append(
                    f"  {role}: most at layer {top.layer} head {top.head}, {top.attention:.2f} "
                    f"[{top.low:.2f}, {top.high:.2f}] (roles shuffled {top.null_mean:.2f}, p = "
                    f"{top.p_value:.2g})"
                )
        return "\n".join([*lines, f"  {self.route()}", f"  {self.carries()}"])

    def sink(self) -> str:
        """One sentence on the attention sink; empty where the first position is a word with a role of its
        own."""
        rows = [r for r in self.roles if r.role in SINKS]
        if not rows:
            return ""
        heads = [r for r in rows if r.attention > SINK_HEAD]
        top = max(rows, key=lambda r: r.attention)
        shown = (
            self.tokens.templates[0].tokens[0] if self.tokens is not None and self.tokens.templates else ""
        )
        return (
            f"attention sink ({rows[0].role}{f' {shown!r}' if shown else ''}): {len(heads)} of {len(rows)} "
            f"heads put more than "
            f"half of their attention there (median head "
            f"{float(np.median([r.attention for r in rows])):.2f}; most at layer "
            f"{top.layer} head {top.head}, {top.attention:.2f} [{top.low:.2f}, {top.high:.2f}])"
        )

    def route(self) -> str:
        """One sentence: does attention route by modulus?"""
        if self.modulus_excess is None or self.modulus_head is None:
            return "the prompts name no modulus, so attention cannot route by it"
        excess, low, high = self.modulus_excess
        word = (
            "looks at the modulus more than at the other words"
            if low > 0
            else "does not single out the modulus"
        )
        layer, head = self.modulus_head
        return (
            f"attention {word}: at most {excess:+.2f} [{low:+.2f}, {high:+.2f}] above them (layer {layer} "
            f"head {head})"
        )

    def carriers(self) -> tuple[HeadFourier, ...]:
        """Heads whose output holds more of (a + offset) mod n than an even spread and than its null, the
        largest share first."""
        rows = [r for r in self.fourier if r.what == "z" and r.sum_line > r.even and r.p_value < LEVEL]
        return tuple(sorted(rows, key=lambda r: -r.sum_line))

    def carries(self) -> str:
        """One sentence: do heads carry the answer?"""
        rows = [r for r in self.fourier if r.what == "z"]
        if not rows:
            return "no head was measured"
        found, top = self.carriers(), max(rows, key=lambda r: r.sum_line)
        even = f"an even spread gives {top.even:.1%}"
        if not found:
            return (
                f"no head's output carries (a + offset) mod {self.n} above chance: at most "
                f"{top.sum_line:.1%} of its variance (layer "
                f"{top.layer} head {top.head}; offsets permuted {top.chance:.1%}, family-wise p = "
                f"{top.p_value:.2g}; {even})"
            )
        return (
            f"{len(found)} of {len(rows)} heads carry (a + offset) mod {self.n} in their output above "
            f"chance ({even}, family-wise "
            f"p < {LEVEL:g}): most at layer {found[0].layer} head {found[0].head}, {found[0].sum_line:.1%}"
        )

    def frame(self) -> pd.DataFrame:
        return pd.DataFrame([vars(row) for row in self.roles])

    def fourier_frame(self) -> pd.DataFrame:
        """The Fourier content of every head's output and attention."""
        return pd.DataFrame([vars(row) for row in self.fourier])
