"""The claims about what happens inside a language model: ablations, a dictionary, attention, the logit
lens."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mechfourier.causal.ablate import ablate
from mechfourier.causal.result import AblationResult
from mechfourier.domains.definition import Domain
from mechfourier.domains.definition import domain as find_domain
from mechfourier.domains.design import max_cycles
from mechfourier.errors import MechFourierError
from mechfourier.files import write_text
from mechfourier.hooks.site import Site
from mechfourier.models.weights import reinitialised
from mechfourier.probes.attention import attention
from mechfourier.probes.attention_result import AttentionResult
from mechfourier.probes.lens import LensResult, lens
from mechfourier.reproduce.grid import measured
from mechfourier.reproduce.result import Claim, Word, claim
from mechfourier.reproduce.session import Session
from mechfourier.reproduce.sums import BLANK, EMERGENT, R2
from mechfourier.stats.intervals import wilson

if TYPE_CHECKING:
    from mechfourier.sae.score_result import SAEScore

MODULUS = "mod-23"
ATTENTION = {7: 0.033, 11: 0.034, 17: 0.037, 23: 0.050, 31: 0.045}
SHARE, PERPLEXITY = "share right", "perplexity"
BLANKS, HALF = 4, 0.5
SAE_LAYER, SAE_R2 = 7, 0.9717


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


def _ablation(session: Session, published: Ablated) -> tuple[Claim, ...]:
    site, dim = _place(session, published)
    settings = session.settings
    found = ablate(
        session.model,
        find_domain(MODULUS),
        site=site,
        dims=dim,
        mode="zero",
        n_prompts=settings.samples,
        n_controls=settings.controls,
        n_control_prompts=settings.control_samples,
        seed=settings.seed,
    )
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
        chance=1 / found.n,
        chance_is="guessing among the candidates",
    )
    return (first, _text_claim(found, published, where, word))


def _text_claim(found: AblationResult, published: Ablated, where: str, word: Word) -> Claim:
    """Text after the ablation. The claim of a *specific* effect is empty where there is no effect."""
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
    if word == "noise":
        told += "; with no effect on the answers to be specific for"
    else:
        word = "stands" if (found.specificity or 0.0) > 0 else "does not stand"
        told += f"; answers less text, in standard deviations: {found.specificity:+.2f}"
    return claim(
        text,
        word,
        told,
        source=EMERGENT,
        unit=PERPLEXITY,
        published=published.perplexity,
        measured=after,
        chance=base,
        chance_is="perplexity before",
    )


def judge_ablation(found: AblationResult) -> tuple[Word, str]:
    """An ablation shows use where the model can do the task, the answers suffer, and more than from matched
    controls."""
    change = (
        f"{found.base.accuracy:.1%} → {found.ablated.accuracy:.1%} of {found.n_prompts} right, logit "
        f"difference "
        f"{found.logit_diff_change:+.2g} [{found.logit_diff_ci[0]:+.2g}, {found.logit_diff_ci[1]:+.2g}] "
        f"nats, "
        f"p = {found.p_controls:.2g} against {found.n_controls} matched controls"
    )
    chance = next((note for note in found.notes if "at chance" in note), None)
    if chance is not None:
        return "noise", f"{chance} ({change})"
    if found.p_controls is not None and found.p_controls >= 0.05:
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


def attention_routing(session: Session) -> tuple[Claim, ...]:
    """Attention of the last position to the modulus, for five primes."""
    primes = session.some(tuple(ATTENTION))
    own, *chance = _attentions(session, primes)
    return tuple(_routing(p, own[p], [found[p] for found in chance]) for p in primes)


def _attentions(session: Session, primes: Sequence[int]) -> Iterator[dict[int, AttentionResult]]:
    """Of the network and of its re-initialisations, one at a time: drawing one costs more than its prompts,
    and memory its size."""
    yield _attended(session, session.model, primes)
    yield _attended(session, session.blank, primes)
    for draw in range(1, BLANKS):
        yield _attended(session, reinitialised(session.model, session.settings.seed + draw), primes)


def _attended(session: Session, model: Any, primes: Sequence[int]) -> dict[int, AttentionResult]:
    settings = session.settings
    options = {
        "layers": settings.layers,
        "permutations": min(500, settings.permutations),
        "seed": settings.seed,
    }
    return {p: attention(model, find_domain(f"mod-{p}"), **options) for p in primes}


def _routing(p: int, own: AttentionResult, chance: Sequence[AttentionResult]) -> Claim:
    text = f"attention to the modulus {p} is low and alike for all: attention does not route"
    word, sentence = judge_routing(own, chance)
    return claim(
        text,
        word,
        sentence,
        source=EMERGENT,
        unit="mean attention",
        published=ATTENTION[p],
        measured=_mean(own),
        chance=sum(map(_mean, chance)) / len(chance),
        chance_is=f"{BLANKS} networks with random weights",
    )


def _mean(found: AttentionResult) -> float:
    """Mean attention to the modulus over layers and heads."""
    rows = [row.attention for row in found.roles if row.role == "modulus"]
    return sum(rows) / max(len(rows), 1)


def judge_routing(own: AttentionResult, chance: Sequence[AttentionResult]) -> tuple[Word, str]:
    """The head that singles out the modulus most, against those of networks with random weights (whose heads
    prefer some token too). Routing is refused only to a network with less of it than every one of those, and
    shown by a head that spends half of its attention on the modulus beyond what it gives the other roles, and
    more than all of those."""
    others = [found.modulus_excess for found in chance if found.modulus_excess is not None]
    if own.modulus_excess is None or own.modulus_head is None or not others:
        return "not measured", "the prompts name no modulus"
    excess, low, high = own.modulus_excess
    least, most = min(other[1] for other in others), max(other[2] for other in others)
    told = (
        f"the head that looks at it most (layer {own.modulus_head[0]} head {own.modulus_head[1]}) gives it "
        f"{excess:+.3f} "
        f"[{low:+.3f}, {high:+.3f}] more than the other roles; with random weights {least:+.3f} to "
        f"{most:+.3f}"
    )
    if low > max(most, HALF):
        return "does not stand", f"a head singles the modulus out: {told}"
    if high < least:
        return "stands", told
    return "noise", f"as low an average comes with random weights: {told}"


def logit_lens(session: Session) -> tuple[Claim, ...]:
    """Where in the network the answer of mod 23 and of the months arises."""
    return tuple(_lens(session, name) for name in (MODULUS, "months"))


def _lens(session: Session, name: str) -> Claim:
    text = f"{name}: the right answer is readable in inner layers"
    try:
        found = lens(
            session.model,
            find_domain(name),
            n_prompts=session.settings.samples,
            n_permutations=session.settings.permutations,
            seed=session.settings.seed,
        )
    except MechFourierError as error:
        return claim(text, "not measured", str(error), source="grokking-fourier, figures", unit=SHARE)
    word, sentence = judge_lens(found)
    best = max(found.layers, key=lambda layer: layer.accuracy)
    return claim(
        text,
        word,
        sentence,
        source="grokking-fourier, figures",
        unit=SHARE,
        measured=best.accuracy,
        interval=(best.accuracy_low, best.accuracy_high),
        chance=best.null_accuracy,
        chance_is="right answers shuffled over the prompts",
    )


def judge_lens(found: LensResult) -> tuple[Word, str]:
    """Above shuffled answers after some layer (family-wise over layers), before the last."""
    best = max(found.layers, key=lambda layer: layer.accuracy)
    told = (
        f"best after {best.site}: {best.accuracy:.1%} of {found.prompts} (shuffled "
        f"{best.null_accuracy:.1%}, p = {best.p_value:.2g} over the layers)"
    )
    if best.p_value >= 0.05:
        return "noise", told
    early = [layer.site for layer in found.layers[:-1] if layer.p_value < 0.05]
    if not early:
        return "does not stand", f"only after the last layer; {told}"
    return "stands", f"from {early[0]} on; {told}"


def sae_layer7(session: Session) -> tuple[Claim, ...]:
    """A dictionary trained as published, on 500 activations, and judged on prompts it did not see."""
    from mechfourier.sae.scoring import score
    from mechfourier.sae.settings import Dictionary, Schedule
    from mechfourier.sae.text import Source
    from mechfourier.sae.training import train

    settings, layer = session.settings, min(SAE_LAYER, int(session.model.cfg.n_layers) - 1)
    domain = find_domain(MODULUS)
    key = f"sae-{session.weights[:12]}-{settings.sae_width}-{settings.sae_tokens}-{settings.seed}"
    folder = session.out / key
    prompts = write_text(
        session.out / f"{key}.txt", "\n".join(f"{p} {a}" for p, a in _solved(session.model, domain))
    )
    if not (folder / "mechfourier.json").is_file():
        train(
            session.model,
            [Dictionary(str(Site("resid_post", layer)), "topk", settings.sae_width)],
            folder,
            sources=(Source(str(prompts)),),
            schedule=Schedule(tokens=settings.sae_tokens, batch=250, seed=settings.seed),
            rows=settings.sae_rows,
            resume=folder.exists(),
        )
    found = score(session.model, folder, domain, n_permutations=settings.permutations, seed=settings.seed)
    word, sentence = judge_sae(found)
    blank = next((family for family in found.families if "re-initialised" in family.what), None)
    return (
        claim(
            f"a feature of a dictionary of layer {layer} is cos of (a + b) mod 23",
            word,
            sentence,
            source=EMERGENT,
            unit=R2,
            published=SAE_R2,
            measured=found.families[0].r2,
            chance=None if blank is None else blank.r2,
            chance_is=BLANK,
        ),
    )


def _solved(model: Any, domain: Domain) -> list[tuple[str, str]]:
    """Questions of one cycle with their answers: the text of the dictionary."""
    design = domain.operation_design(1, template=max_cycles(domain, model, 1).template)
    return list(zip(design.prompts, design.answers or (), strict=True))


def judge_sae(found: "SAEScore") -> tuple[Word, str]:
    """A feature is periodic beyond chance, beyond the basis and the control; a circle needs a group of
    them."""
    own, *others = found.families
    where = (
        f"on {found.templates} unseen prompts per value"
        if found.held_out
        else f"on {found.templates} prompts per value"
    )
    told = f"{found.answer} ({where})"
    if own.p_value >= 0.05 or any(own.r2 <= family.r2 for family in others):
        return "noise", told
    return ("stands" if found.cleaner else "does not stand"), told
