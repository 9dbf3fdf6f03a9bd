"""The claims about what happens inside a language model: a dictionary, attention, the logit lens."""

import statistics
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from scipy.stats import t as student

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
from mechfourier.reproduce.ablations import MODULUS, SHARE, as_control
from mechfourier.reproduce.result import Claim, Control, Word, claim
from mechfourier.reproduce.session import Session
from mechfourier.reproduce.sums import EMERGENT, R2

if TYPE_CHECKING:
    from mechfourier.sae.score_result import SAEScore

ATTENTION = {7: 0.033, 11: 0.034, 17: 0.037, 23: 0.050, 31: 0.045}
BLANKS, HALF = 4, 0.5
SAE_LAYER, SAE_R2 = 7, 0.9717


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
        "n_prompts": settings.attended,
        "n_permutations": min(500, settings.permutations),
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
        untrained=Control(_mean(chance[0]), *judge_routing(chance[0], chance[1:])),
        shuffled=Control(_mean(own, "null_mean"), "noise", "the words of every prompt change places"),
    )


def _mean(found: AttentionResult, what: str = "attention") -> float:
    """Mean attention to the modulus over layers and heads."""
    rows = [getattr(row, what) for row in found.roles if row.role == "modulus"]
    return sum(rows) / max(len(rows), 1)


def judge_routing(own: AttentionResult, chance: Sequence[AttentionResult]) -> tuple[Word, str]:
    """The head that singles out the modulus most, against those of networks with random weights (whose heads
    prefer some token too). Routing is refused only to a network with less of it than one more of those would
    have (a 95 % prediction interval), and shown by a head that spends half of its attention on the modulus
    beyond what it gives the other roles, and more than those."""
    others = [found.modulus_excess for found in chance if found.modulus_excess is not None]
    if own.modulus_excess is None or own.modulus_head is None or len(others) < 2:
        return "not measured", "the prompts name no modulus"
    excess, low, high = own.modulus_excess
    heads = [other[0] for other in others]
    wide = float(student.ppf(0.975, len(heads) - 1)) * statistics.stdev(heads) * (1 + 1 / len(heads)) ** 0.5
    # differences of two shares of attention end at one, which the interval of a few draws does not know
    least = max(-1.0, min(statistics.mean(heads) - wide, *(other[1] for other in others)))
    most = min(1.0, max(statistics.mean(heads) + wide, *(other[2] for other in others)))
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
        found = _lensed(session, session.model, name)
        blank = _lensed(session, session.blank, name, task=found.task)  # which could do another one "best"
    except MechFourierError as error:
        return claim(text, "not measured", str(error), source="grokking-fourier, figures", unit=SHARE)
    word, sentence = judge_lens(found)
    best = max(found.layers, key=lambda layer: layer.accuracy)
    theirs, told = judge_lens(blank)
    untrained = max(layer.accuracy for layer in blank.layers)
    return claim(
        text,
        word,
        sentence,
        source="grokking-fourier, figures",
        unit=SHARE,
        measured=best.accuracy,
        interval=(best.accuracy_low, best.accuracy_high),
        untrained=Control(untrained, as_control(theirs), told),
        shuffled=Control(best.null_accuracy, "noise", "right answers shuffled over the prompts"),
    )


def _lensed(session: Session, model: Any, name: str, task: str | None = None) -> LensResult:
    settings = session.settings
    return lens(
        model,
        find_domain(name),
        task=task,
        n_prompts=settings.samples,
        n_permutations=settings.permutations,
        seed=settings.seed,
    )


def judge_lens(found: LensResult) -> tuple[Word, str]:
    """Above shuffled answers after some layer (family-wise over layers), before the last."""
    best = max(found.layers, key=lambda layer: layer.accuracy)
    told = (
        f"task {found.task}, best after {best.site}: {best.accuracy:.1%} of {found.prompts} right among "
        f"{found.choices} first tokens of answers (shuffled {best.null_accuracy:.1%}, p = {best.p_value:.2g} "
        f"over the layers)"
    )
    if best.p_value >= 0.05:
        return "cannot be asked", f"right at chance after every layer; {told}"
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
    own, *others = found.families
    blank = next((family for family in others if "re-initialised" in family.what), None)
    return (
        claim(
            f"a feature of a dictionary of layer {layer} is cos of (a + b) mod 23",
            word,
            sentence,
            source=EMERGENT,
            unit=R2,
            published=SAE_R2,
            measured=own.r2,
            untrained=None if blank is None else _feature_control(blank.r2, blank.p_value),
            shuffled=_feature_control(own.shuffled_r2, 1.0),
        ),
    )


def _feature_control(r2: float, p: float) -> Control:
    """A control shows a periodic feature where its best one is beyond permuted labels."""
    return Control(r2, "stands" if p < 0.05 else "noise", f"family-wise p = {p:.2g}")


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
