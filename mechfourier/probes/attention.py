"""Where the reading position looks: attention to each named role of a prompt, and the Fourier content of
every head.

Attention that has nothing to look for goes to the beginning-of-sequence token, or to the first token where
there is none (Xiao et al.
2024): the attention sink. It has a role of its own, so that it is not taken for the word that stands there,
and in models without such a token prompts never begin with their operand.

The null of the words asks whether roles matter at all: within every prompt the roles change places at random.
A head that looks at one
*position* looks at one role too, since prompts of one template are built alike; the interval and the Fourier
content, not the p-value, carry the reading. The null of the Fourier content permutes the offsets: what is a
function of one operand stays, what belongs to (a + offset) mod n is spread over all functions of both.
"""

from collections.abc import Callable

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from mechfourier._renamed import renamed
from mechfourier.domains.definition import Domain
from mechfourier.domains.definition import domain as find_domain
from mechfourier.domains.prepare import Questions, questions
from mechfourier.domains.reads import templates_of, tokens_asked
from mechfourier.domains.task_spec import NATIVE
from mechfourier.errors import NotExpressible, UsageError
from mechfourier.hooks.capture import Activations, capture
from mechfourier.hooks.site import Site, model_name, select_sites
from mechfourier.models.interface import Model
from mechfourier.probes.attention_result import AttentionResult, RoleAttention
from mechfourier.probes.caveats import first_ratio
from mechfourier.probes.head_content import HeadFourier, head_content
from mechfourier.probes.roles import (
    ROLES,
    SINKS,
    behind_a_word,
    operand_is_first,
    role_spans,
    role_tokens,
    with_sink,
)
from mechfourier.stats.null import check_permutations
from mechfourier.stats.permutation import permutation_p
from mechfourier.stats.sinks import SINK

BOOTSTRAPS = 1000


@renamed(permutations="n_permutations")
def attention(
    model: Model,
    domain: Domain | str,
    *,
    task: str = NATIVE,
    layers: str | None = None,
    cycles: int = 1,
    n_prompts: int | None = None,
    n_permutations: int = 500,
    seed: int = 0,
) -> AttentionResult:
    """Attention from the last position of every cell's prompt to its roles; see ``AttentionResult``.

    ``task``: an arithmetic task of the domain, as roles and Fourier content are those of (a, offset).
    ``n_prompts`` draws that many cells for the roles, without the Fourier content, which takes the whole
    grid. Raises ``UsageError`` for a model without attention patterns at its hook points.
    """
    check_permutations(n_permutations)
    domain = find_domain(domain)

    def ask(of: Domain) -> Questions:
        return questions(model, of, task=task, cycles=cycles, samples=n_prompts, seed=seed)

    asked, notes = _off_the_sink(model, domain, ask(domain), ask)
    patterns = select_sites(model, "pattern", layers)
    if not patterns:
        raise UsageError(f"{model_name(model)} has no attention pattern hook points; see: mechfourier hooks")
    whole = len(asked.rows) == len(asked.design)
    outputs = [Site("z", site.layer, site.stack) for site in patterns] if whole else []
    last = torch.tensor([len(e.ids) - 1 for e in asked.encodings])
    acts = capture(model, asked.encodings, [*patterns, *outputs], last)
    names, values = _role_values(asked, acts, patterns)
    rows, excess = _role_rows(names, values, patterns, permutations=n_permutations, seed=seed)
    return AttentionResult(
        model=model_name(model),
        domain=domain.name,
        n=domain.n,
        prompts=len(asked.encodings),
        roles=tuple(rows),
        fourier=_fourier_rows(asked, acts, patterns, outputs, names, values, n_permutations, seed)
        if whole
        else (),
        modulus_head=excess[0] if excess else None,
        modulus_excess=excess[1] if excess else None,
        notes=(*notes, *asked.notes),
        tokens=tokens_asked(model, asked),
        task=asked.task,
    )


def _off_the_sink(
    model: Model, domain: Domain, asked: Questions, ask: Callable[[Domain], Questions]
) -> tuple[Questions, tuple[str, ...]]:
    """The questions behind a word where their operand would be the attention sink, and a note where it is the
    first token.

    Whether it is the sink is decided by its norm: a model that was trained on such prompts may read its first
    token as any other.
    """
    if not operand_is_first(_tokens(asked)):
        return asked, ()
    ratio = first_ratio(model, asked.encodings)
    if ratio < SINK:
        return asked, (
            f"the first operand is the first token; its norm is at most {ratio:.1f} times the median of "
            f"other tokens, so it is no "
            f"attention sink ({SINK:.0f} or more)",
        )
    template = templates_of(asked.design)[0]
    moved = _asked_behind(model, domain, template, ask)
    if moved is None:
        return asked, (
            "the first operand is the first token: attention to it cannot be told from an attention sink",
        )
    return moved, (
        f"{template!r} begins with its operand, and the first token is the attention sink of this model "
        f"(its norm is {ratio:.0f} times "
        f"the median of other tokens): asked as {templates_of(moved.design)[0]!r}",
    )


def _asked_behind(
    model: Model, domain: Domain, template: str, ask: Callable[[Domain], Questions]
) -> Questions | None:
    """The questions with a word before them; None where the model cannot read that."""
    if getattr(model, "tokenizer", None) is None:
        return None  # a model of tokens has nothing to put before them
    try:
        moved = ask(behind_a_word(domain, template))
    except NotExpressible:
        return None
    return None if operand_is_first(_tokens(moved)) else moved


def _tokens(asked: Questions) -> list[dict[str, tuple[int, ...]]]:
    """The tokens of every role in every prompt, the sink's among them."""
    spans = role_spans(asked.design)
    return [
        with_sink(role_tokens(spans[i], e), e)
        for i, e in zip(asked.rows.tolist(), asked.encodings, strict=True)
    ]


def _role_values(
    asked: Questions, acts: Activations, patterns: tuple[Site, ...]
) -> tuple[list[str], Float[Tensor, "site prompt head role"]]:
    """Attention summed over the tokens of every role."""
    tokens = _tokens(asked)
    names = [role for role in ROLES if all(t.get(role) for t in tokens)]  # a token model has no token for "+"
    lengths = sorted({acts[site].shape[-1] for site in patterns})
    if len(lengths) > 1:
        raise NotExpressible(
            f"the stacks of this model attend to sequences of {' and '.join(map(str, lengths))} tokens, and the roles "
            f"of a prompt stand in one; ablate or patch its heads instead"
        )
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
    p, null_mean = _role_nulls(flat, names, permutations=permutations, rng=rng)
    heads = values.shape[2]
    rows = [
        RoleAttention(
            layer=int(patterns[unit // heads].layer or 0),
            head=unit % heads,
            role=role,
            attention=float(flat[:, unit, r].mean()),
            low=float(low[unit, r]),
            high=float(high[unit, r]),
            null_mean=float(null_mean[unit, r]),
            p_value=float(p[unit, r]),
        )
        for unit in range(flat.shape[1])
        for r, role in enumerate(names)
    ]
    words = [r for r, name in enumerate(names) if name not in SINKS]
    if "modulus" not in names or len(words) < 2:
        return rows, None
    m = names.index("modulus")
    excess = flat[:, :, m] - flat[:, :, [r for r in words if r != m]].mean(2)
    unit = int(excess.mean(0).argmax())
    e_low, e_high = _bootstrap(excess[:, unit : unit + 1, None], rng)
    head = (int(patterns[unit // heads].layer or 0), unit % heads)
    return rows, (head, (float(excess[:, unit].mean()), float(e_low[0, 0]), float(e_high[0, 0])))


def _role_nulls(
    values: Float[ndarray, "prompt unit role"],
    names: list[str],
    *,
    permutations: int,
    rng: np.random.Generator,
) -> tuple[Float[ndarray, "unit role"], Float[ndarray, "unit role"]]:
    """p and null mean of every role: words shuffled among the words (the sink would drown them), the sink
    among all roles."""
    words = [r for r, name in enumerate(names) if name not in SINKS]
    sinks = [r for r, name in enumerate(names) if name in SINKS]
    p, mean = np.ones(values.shape[1:]), np.zeros(values.shape[1:])
    p[:, words] = _role_p(values[:, :, words], permutations=permutations, rng=rng)
    mean[:, words] = values[:, :, words].mean((0, 2))[:, None]
    if sinks:
        p[:, sinks] = _role_p(values, permutations=permutations, rng=rng)[:, sinks]
        mean[:, sinks] = values.mean((0, 2))[:, None]
    return p, mean


def _bootstrap(
    values: Float[ndarray, "prompt unit role"], rng: np.random.Generator
) -> tuple[Float[ndarray, "unit role"], Float[ndarray, "unit role"]]:
    """95 % percentile interval of the mean over prompts: one product of resampling weights with the
    values."""
    prompts = len(values)
    weights = rng.multinomial(prompts, np.full(prompts, 1 / prompts), size=BOOTSTRAPS) / prompts
    means = np.tensordot(weights, values, axes=1)
    low, high = np.quantile(means, [0.025, 0.975], axis=0)
    return low, high


def _role_p(
    values: Float[ndarray, "prompt unit role"], *, permutations: int, rng: np.random.Generator
) -> Float[ndarray, "unit role"]:
    """Family-wise p of the studentised excess of every role over the mean of the roles, roles shuffled within
    prompts."""

    def studentised(x: ndarray) -> ndarray:
        centred = x - x.mean(2, keepdims=True)
        return centred.mean(0) / (centred.std(0) / np.sqrt(len(x)) + 1e-12)

    observed = studentised(values)
    prompts, _, roles = values.shape
    best = []
    for _ in range(permutations):
        order = rng.permuted(np.broadcast_to(np.arange(roles), (prompts, roles)), axis=1)
        best.append(studentised(np.take_along_axis(values, order[:, None], axis=2)).max())
    return permutation_p(observed, np.array(best))


def _fourier_rows(
    asked: Questions,
    acts: Activations,
    patterns: tuple[Site, ...],
    outputs: list[Site],
    names: list[str],
    values: Float[Tensor, "site prompt head role"],
    permutations: int,
    seed: int,
) -> tuple[HeadFourier, ...]:
    """Content of every head's output, and of its attention to every role; each kind is a family of its
    own."""
    rows, layers = asked.design.shape[0], [int(site.layer or 0) for site in patterns]
    signals = {f"attention to {name}": values[..., r : r + 1] for r, name in enumerate(names)}
    signals["z"] = torch.stack([acts[site] for site in outputs])
    found: list[HeadFourier] = []
    for what, signal in signals.items():
        grid = rearrange(signal, "site (a o) head d -> site a o head d", a=rows)
        found += head_content(grid, layers, what, permutations=permutations, seed=seed)
    return tuple(found)
