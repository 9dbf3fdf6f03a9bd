"""Where the reading position looks: attention to each named role of a prompt, and the Fourier content of every head.

The null asks whether roles matter at all: within every prompt the roles change places at random. A head that looks at one *position* looks at
one role too, since prompts of one template are built alike; the interval and the Fourier content, not the p-value, carry the reading.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from einops import rearrange
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from mechfourier.errors import UsageError
from mechfourier.fourier.dft import line_power
from mechfourier.hooks.capture import Activations, capture
from mechfourier.hooks.site import Site, model_name, select_sites
from mechfourier.probes.domains import Domain
from mechfourier.probes.null import check_permutations
from mechfourier.probes.prepare import Questions, questions
from mechfourier.probes.roles import ROLES, role_spans, role_tokens
from mechfourier.probes.task_spec import NATIVE
from mechfourier.result import Result

BOOTSTRAPS = 1000


@dataclass(frozen=True)
class RoleAttention:
    """Mean attention of one head to all tokens of a role, with a 95 % bootstrap interval over prompts. ``null_mean``: roles
    shuffled within prompts; ``p_value``: family-wise over heads and roles."""

    layer: int
    head: int
    role: str
    attention: float
    low: float
    high: float
    null_mean: float
    p_value: float


@dataclass(frozen=True)
class HeadFourier:
    """Fourier content of one head over the (a, offset) grid, as shares of its variance over the cells, in [0, 1].

    ``what``: ``"z"`` (the head's output, summed over its dimensions) or the attention to a role. ``sum_line``: functions
    of (a + offset) mod n, of which ``best_k`` holds ``best_share``; ``a_only`` and ``offset_only``: functions of one operand's
    residue; ``rest``: everything else."""

    layer: int
    head: int
    what: str
    sum_line: float
    a_only: float
    offset_only: float
    rest: float
    best_k: int
    best_share: float


@dataclass(frozen=True)
class AttentionResult(Result):
    """Attention from the reading position of a domain's operation. ``modulus_excess``: attention to the modulus token less the
    mean of the other roles, at the head where it is largest, with its interval (None where the prompt names no modulus)."""

    model: str
    domain: str
    n: int
    prompts: int
    roles: tuple[RoleAttention, ...]
    fourier: tuple[HeadFourier, ...]
    modulus_head: tuple[int, int] | None
    modulus_excess: tuple[float, float, float] | None
    notes: tuple[str, ...]

    def __str__(self) -> str:
        lines = [
            f"{self.model}, {self.domain}: attention of the reading position over {self.prompts} prompts"
        ]
        for role in ROLES:
            rows = [r for r in self.roles if r.role == role]
            if rows:
                top = max(rows, key=lambda r: r.attention)
                lines.append(
                    f"  {role}: most at layer {top.layer} head {top.head}, {top.attention:.2f} "
                    f"[{top.low:.2f}, {top.high:.2f}] (roles shuffled {top.null_mean:.2f}, p = {top.p_value:.3g})"
                )
        lines.append(f"  {self.route()}")
        return "\n".join(lines)

    def route(self) -> str:
        """One sentence: does attention route by modulus?"""
        if self.modulus_excess is None or self.modulus_head is None:
            return "the prompts name no modulus, so attention cannot route by it"
        excess, low, high = self.modulus_excess
        word = (
            "looks at the modulus more than at the other roles"
            if low > 0
            else "does not single out the modulus"
        )
        layer, head = self.modulus_head
        return f"attention {word}: at most {excess:+.2f} [{low:+.2f}, {high:+.2f}] above them (layer {layer} head {head})"

    def plot(self) -> Any:
        """Mean attention of every head to every role."""
        from mechfourier.figures.inside import roles_figure

        return roles_figure(self)

    def frame(self) -> pd.DataFrame:
        return pd.DataFrame([vars(row) for row in self.roles])

    def fourier_frame(self) -> pd.DataFrame:
        """The Fourier content of every head's output and attention."""
        return pd.DataFrame([vars(row) for row in self.fourier])


def attention(
    model: Any,
    domain: Domain,
    *,
    task: str = NATIVE,
    layers: str | None = None,
    cycles: int = 1,
    permutations: int = 500,
    seed: int = 0,
) -> AttentionResult:
    """Attention from the last position of every cell's prompt to its roles; see ``AttentionResult``.

    ``task``: an arithmetic task of the domain, as roles and Fourier content are those of (a, offset). Raises ``UsageError`` for a model without attention patterns at its hook points.
    """
    check_permutations(permutations)
    asked = questions(model, domain, task=task, cycles=cycles, seed=seed)
    patterns = select_sites(model, "pattern", layers)
    if not patterns:
        raise UsageError(f"{model_name(model)} has no attention pattern hook points; see: mechfourier hooks")
    outputs = [Site("z", site.layer, site.stack) for site in patterns]
    last = torch.tensor([len(e.ids) - 1 for e in asked.encodings])
    acts = capture(model, asked.encodings, [*patterns, *outputs], last)
    names, values = _role_values(asked, acts, patterns)
    rows, excess = _role_rows(names, values, patterns, permutations=permutations, seed=seed)
    return AttentionResult(
        model=model_name(model),
        domain=domain.name,
        n=domain.n,
        prompts=len(asked.encodings),
        roles=tuple(rows),
        fourier=tuple(_fourier_rows(asked, acts, patterns, outputs, names, values)),
        modulus_head=excess[0] if excess else None,
        modulus_excess=excess[1] if excess else None,
        notes=asked.notes,
    )


def _role_values(
    asked: Questions, acts: Activations, patterns: tuple[Site, ...]
) -> tuple[list[str], Float[Tensor, "site prompt head role"]]:
    """Attention summed over the tokens of every role."""
    spans = role_spans(asked.design)
    tokens = [role_tokens(spans[i], e) for i, e in zip(asked.rows.tolist(), asked.encodings, strict=True)]
    names = [role for role in ROLES if all(t.get(role) for t in tokens)]  # a token model has no token for "+"
    stacked = torch.stack([acts[site] for site in patterns])
    mask = torch.zeros(len(tokens), len(names), stacked.shape[-1])
    for p, by_role in enumerate(tokens):
        for r, role in enumerate(names):
            mask[p, r, list(by_role[role])] = 1.0
    return names, torch.einsum("sphk,prk->sphr", stacked, mask)


def _role_rows(
    names: list[str],
    values: Float[Tensor, "site prompt head role"],
    patterns: tuple[Site, ...],
    *,
    permutations: int,
    seed: int,
) -> tuple[list[RoleAttention], tuple[tuple[int, int], tuple[float, float, float]] | None]:
    flat = rearrange(values.numpy().astype(np.float64), "s p h r -> p (s h) r")
    rng = np.random.default_rng(seed)
    low, high = _bootstrap(flat, rng)
    p = _role_p(flat, permutations=permutations, rng=rng)
    heads = values.shape[2]
    rows = [
        RoleAttention(
            layer=int(patterns[unit // heads].layer or 0), head=unit % heads, role=role,
            attention=float(flat[:, unit, r].mean()), low=float(low[unit, r]), high=float(high[unit, r]),
            null_mean=float(flat[:, unit].mean()), p_value=float(p[unit, r]),
        )
        for unit in range(flat.shape[1]) for r, role in enumerate(names)
    ]  # fmt: skip
    if "modulus" not in names:
        return rows, None
    m = names.index("modulus")
    excess = flat[:, :, m] - np.delete(flat, m, axis=2).mean(2)
    unit = int(excess.mean(0).argmax())
    e_low, e_high = _bootstrap(excess[:, unit : unit + 1, None], rng)
    head = (int(patterns[unit // heads].layer or 0), unit % heads)
    return rows, (head, (float(excess[:, unit].mean()), float(e_low[0, 0]), float(e_high[0, 0])))


def _bootstrap(
    values: Float[ndarray, "prompt unit role"], rng: np.random.Generator
) -> tuple[Float[ndarray, "unit role"], Float[ndarray, "unit role"]]:
    """95 % percentile interval of the mean over prompts: one product of resampling weights with the values."""
    prompts = len(values)
    weights = rng.multinomial(prompts, np.full(prompts, 1 / prompts), size=BOOTSTRAPS) / prompts
    means = np.tensordot(weights, values, axes=1)
    low, high = np.quantile(means, [0.025, 0.975], axis=0)
    return low, high


def _role_p(
    values: Float[ndarray, "prompt unit role"], *, permutations: int, rng: np.random.Generator
) -> Float[ndarray, "unit role"]:
    """Family-wise p of the studentised excess of every role over the mean of the roles, roles shuffled within prompts."""

    def studentised(x: ndarray) -> ndarray:
        centred = x - x.mean(2, keepdims=True)
        return centred.mean(0) / (centred.std(0) / np.sqrt(len(x)) + 1e-12)

    observed = studentised(values)
    prompts, _, roles = values.shape
    best = []
    for _ in range(permutations):
        order = rng.permuted(np.broadcast_to(np.arange(roles), (prompts, roles)), axis=1)
        best.append(studentised(np.take_along_axis(values, order[:, None], axis=2)).max())
    return np.asarray((1 + (np.array(best)[:, None, None] >= observed).sum(0)) / (permutations + 1))


def _fourier_rows(
    asked: Questions,
    acts: Activations,
    patterns: tuple[Site, ...],
    outputs: list[Site],
    names: list[str],
    values: Float[Tensor, "site prompt head role"],
) -> list[HeadFourier]:
    shape = asked.design.shape
    rows = []
    for s, site in enumerate(patterns):
        signals = {f"attention to {name}": values[s, :, :, r : r + 1] for r, name in enumerate(names)}
        signals["z"] = acts[outputs[s]]
        for what, signal in signals.items():
            grid = rearrange(signal.double(), "(a o) head d -> a o head d", a=shape[0])
            rows += _content(grid, int(site.layer or 0), what)
    return rows


def _content(grid: Float[Tensor, "a o head d"], layer: int, what: str) -> list[HeadFourier]:
    """Power on the lines of the 2-D spectrum, summed over a head's dimensions, as shares of the variance over cells."""
    power = line_power(grid)
    line, a, o = (p.sum(-1) for p in (power.sum, power.a_only, power.b_only))
    total = ((grid - grid.mean((0, 1))) ** 2).sum((0, 1, 3))
    varies = total > 1e-12 * (grid**2).sum((0, 1, 3)).clamp_min(1e-30)
    share = torch.where(varies, 1.0 / total.clamp_min(1e-30), 0.0)
    line, a, o = line * share, a.sum(0) * share, o.sum(0) * share
    return [
        HeadFourier(
            layer=layer, head=h, what=what,
            sum_line=float(line[:, h].sum()), a_only=float(a[h]), offset_only=float(o[h]),
            rest=float((1 - line[:, h].sum() - a[h] - o[h]).clamp_min(0)) if varies[h] else 0.0,
            best_k=1 + int(line[:, h].argmax()), best_share=float(line[:, h].max()),
        )
        for h in range(grid.shape[2])
    ]  # fmt: skip
