"""The claims about ablations in a language model: one dimension set to zero, what becomes of the answers and of
plain text."""

from dataclasses import dataclass, replace
from typing import Any

import torch

from mechfourier.causal.ablate import ablate
from mechfourier.causal.experiment import Experiment
from mechfourier.causal.result import AblationResult
from mechfourier.domains.definition import domain as find_domain
from mechfourier.domains.sampling import balanced_sample
from mechfourier.hooks.interventions import edit_zero, intervene
from mechfourier.hooks.site import Site
from mechfourier.reproduce.grid import measured
from mechfourier.reproduce.result import Claim, Control, Word, claim
from mechfourier.reproduce.session import Session
from mechfourier.reproduce.sums import EMERGENT
from mechfourier.stats.intervals import wilson
from mechfourier.stats.paired import chance_note, mcnemar

MODULUS = "mod-23"
SHARE, PERPLEXITY = "share right", "perplexity"
ABLATED_PROMPTS = 50  # of the published ablations; what the controls are asked


@dataclass(frozen=True)
class Ablated:
    """A published ablation: zero at every position after ``layer``; shares of 50 prompts, perplexity of ten
    sentences."""

    layer: int
    dim: int
    after: float
    perplexity: float
    text: str


LAYER7 = Ablated(
    7,
    8,
    0.12,
    18.40,
    "the answers need it (28 % → 12 % of 50 right) and text does not (perplexity 18.81 → 18.40)",
)
LAYER9 = Ablated(9, 35, 0.04, 408.0, "the answers need it (28 % → 4 % of 50 right; perplexity 18.81 → 408)")


def ablation_layer7_dim8(session: Session) -> tuple[Claim, ...]:
    """Dimension 8 after layer 7, set to zero."""
    return _ablation(session, LAYER7)


def ablation_layer9_dim35(session: Session) -> tuple[Claim, ...]:
    """Dimension 35 after layer 9, set to zero."""
    return _ablation(session, LAYER9)


@dataclass(frozen=True)
class Ablations:
    """One dimension set to zero: in the network, in the re-initialised one, and judged by shuffled
    answers."""

    found: AblationResult
    untrained: AblationResult
    shuffled: Control


def _ablation(session: Session, published: Ablated) -> tuple[Claim, ...]:
    site, dim = _place(session, published)
    kept: Any = f"ablation {site} {dim}"
    if kept not in session.kept:
        session.kept[kept] = _ablated(session, site, dim)
    done: Ablations = session.kept[kept]
    found, blank = done.found, done.untrained
    word, sentence = judge_ablation(found)
    where = f"dimension {dim} after layer {site.layer}"
    first = claim(
        f"{where}: {published.text}",
        word,
        sentence,
        source=EMERGENT,
        unit=SHARE,
        published=published.after,
        measured=found.ablated.accuracy,
        interval=_wilson(found.ablated.accuracy, found.n_prompts),
        untrained=Control(blank.ablated.accuracy, as_control(judge_ablation(blank)[0]), _change(blank)),
        shuffled=done.shuffled,
    )
    return (first, _text_claim(done, published, where, word))


def as_control(word: str) -> str:
    """A control that cannot be asked shows nothing."""
    return "noise" if word == "cannot be asked" else word


def _ablated(session: Session, site: Site, dim: int) -> Ablations:
    """The matched controls, which cost far more than the rest, only where the model answers above chance."""
    settings, domain = session.settings, find_domain(MODULUS)
    asked = Experiment.of(session.model, domain, n_prompts=settings.samples, seed=settings.seed)
    able = chance_note(asked.baseline.right, asked.design.n_answers) is None
    found = ablate(
        asked,
        site=site,
        dims=dim,
        mode="zero",
        n_controls=settings.controls if able else 0,
        n_control_prompts=settings.control_samples,
    )
    few = min(ABLATED_PROMPTS, len(asked))
    blank = ablate(
        session.blank,
        domain,
        site=site,
        dims=dim,
        mode="zero",
        n_prompts=few,
        n_controls=0,
        seed=settings.seed,
    )
    return Ablations(found, blank, shuffled_answers(asked, site, dim, few))


def shuffled_answers(asked: Experiment, site: Site, dim: int, count: int) -> Control:
    """The published ablation, the right answers shuffled over its prompts."""
    part = asked.subset(balanced_sample(asked.task.label, count, seed=asked.seed))
    with intervene(asked.model, [edit_zero(site, dims=dim)]):
        after = part.task.score(asked.model)
    order = torch.randperm(len(part), generator=torch.Generator().manual_seed(asked.seed))
    before, after = (replace(scores, label=scores.label[order]) for scores in (part.baseline, after))
    p, lost, gained = mcnemar(before.right, after.right)
    word = "stands" if p < 0.05 and lost > gained else "noise"
    told = f"{before.accuracy:.1%} → {after.accuracy:.1%} of {len(part)} right, McNemar p = {p:.2g}"
    return Control(after.accuracy, word, told)


def _text_claim(done: Ablations, published: Ablated, where: str, word: Word) -> Claim:
    """Text after the ablation. The claim of a *specific* effect is empty where there is no effect."""
    found, blank = done.found, done.untrained
    text = f"{where}: perplexity of plain text after the ablation"
    base, after = found.base.perplexity, found.ablated.perplexity
    if base is None or after is None or found.kl is None or found.kl_ci is None:
        reason = next(
            (note for note in found.notes if "perplexity" in note), "this model reads no plain text"
        )
        return claim(
            text, "not measured", reason, source=EMERGENT, unit=PERPLEXITY, published=published.perplexity
        )
    told = (
        f"{base:.4g} → {after:.4g}; KL {found.kl:.3g} nats per token [{found.kl_ci[0]:.3g}, "
        f"{found.kl_ci[1]:.3g}]"
    )
    if word in ("noise", "cannot be asked"):
        told += "; with no effect on the answers to be specific for"
    else:
        word = "stands" if (found.specificity or 0.0) > 0 else "does not stand"
        told += f"; answers less text, in standard deviations: {found.specificity:+.2f}"
    change = f"{blank.base.perplexity or 0:.4g} → {blank.ablated.perplexity or 0:.4g}"
    return claim(
        text,
        word,
        told,
        source=EMERGENT,
        unit=PERPLEXITY,
        published=published.perplexity,
        measured=after,
        untrained=Control(blank.ablated.perplexity, as_control(judge_ablation(blank)[0]), change),
    )


def _change(found: AblationResult) -> str:
    low, high = found.logit_diff_ci
    told = (
        f"{found.base.accuracy:.1%} → {found.ablated.accuracy:.1%} of {found.n_prompts} right, logit "
        f"difference {found.logit_diff_change:+.2g} [{low:+.2g}, {high:+.2g}] nats"
    )
    if found.p_controls is None:
        return told
    return f"{told}, p = {found.p_controls:.2g} against {found.n_controls} matched controls"


def judge_ablation(found: AblationResult) -> tuple[Word, str]:
    """An ablation shows use where the model can do the task, the answers suffer, and more than from matched
    controls."""
    change = _change(found)
    chance = next((note for note in found.notes if "at chance" in note), None)
    if chance is not None:
        return "cannot be asked", f"{chance} ({change})"
    if found.p_controls is None or found.p_controls >= 0.05:
        return "noise", f"no more than other dimensions of the same variance: {change}"
    if found.logit_diff_ci[1] >= 0:
        return "does not stand", f"the answers do not suffer: {change}"
    if found.specificity is not None and found.specificity <= 0:
        return (
            "does not stand",
            f"text suffers as much as the answers: {change}, specificity {found.specificity:+.2f}",
        )
    return "stands", change


def _place(session: Session, published: Ablated) -> tuple[Site, int]:
    """The published dimension where this is a network of that shape, else the one that the published search
    finds here."""
    if session.is_qwen3_06b:
        return Site("resid_post", published.layer), published.dim
    grid = measured(session, MODULUS)
    return Site.parse(grid.naive_site), grid.naive_dim


def _wilson(share: float, count: int) -> tuple[float, float]:
    return wilson(round(share * count), count)
