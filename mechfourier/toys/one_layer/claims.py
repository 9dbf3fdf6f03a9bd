"""The published claims about addition mod p in one layer, measured."""

from pathlib import Path

from mechfourier.models.folder import read_config
from mechfourier.reproduce.result import Claim, Word, claim
from mechfourier.reproduce.session import Session
from mechfourier.reproduce.trained import README, at_least, finished, missing, present, share_right
from mechfourier.stats.intervals import wilson
from mechfourier.toys.one_layer import analyze, find_phases, open_source, progress_curves
from mechfourier.toys.one_layer.train import train_one_layer

KEYS = 5
SMALL = {53: 0.013, 71: 0.005}


def modular_addition(session: Session) -> tuple[Claim, ...]:
    """Accuracy on the pairs that training did not see, and how few frequencies carry it."""
    source = session.source("one-layer", "one-layer")
    present(source)
    opened = open_source(source)
    found = analyze(source, over_run=False, seed=session.settings.seed)
    asked = found.n**2 if opened.train is None else int((~opened.train).sum())
    share = found.accuracy if opened.train is None else found.accuracy_test
    interval = wilson(round(share * asked), asked)
    sparse = found.logit_share > 0.9 and found.logit_share > 2 * found.untrained.logit_share
    return (
        share_right(
            "addition mod 113 generalises",
            at_least(interval, 0.999),
            f"p = {found.p}: {share:.2%} of {asked} pairs not trained on, loss {found.loss_test:.2g} "
            f"(published .0345)",
            published=0.999,
            measured=share,
            interval=interval,
            chance=1 / found.p,
            chance_is="guessing",
        ),
        claim(
            "five key frequencies carry it",
            _keys_word(len(found.key_freqs), sparse),
            f"p = {found.p}: frequencies {', '.join(map(str, found.key_freqs))} hold "
            f"{found.logit_share:.1%} of the logits (untrained {found.untrained.logit_share:.1%})",
            source=README,
            unit="frequencies",
            published=float(KEYS),
            measured=float(len(found.key_freqs)),
        ),
    )


def _keys_word(count: int, sparse: bool) -> Word:
    """The claim is that few frequencies carry it: 3 to 5 by seed (Nanda et al. 2023), so up to 6 is what was
    claimed."""
    if not sparse:
        return "does not stand" if count else "noise"
    return "stands" if 1 <= count <= KEYS + 1 else "does not stand"


def small_primes(session: Session) -> tuple[Claim, ...]:
    """Published as failures; a run of that modulus says otherwise or not."""
    return tuple(_small_prime(session, p, published) for p, published in SMALL.items())


def _small_prime(session: Session, p: int, published: float) -> Claim:
    text, command = f"addition mod {p} does not generalise", f"mechfourier train one-layer --p {p}"
    folder = _one_layer_run(session, p)
    if folder is None:
        return share_right(text, "not measured", missing(command), published=published)
    opened = open_source(folder)
    found = analyze(opened, over_run=False, seed=session.settings.seed)
    asked = 0 if opened.train is None else int((~opened.train).sum())
    if not asked:
        return share_right(
            text, "not measured", f"the train/test split of {folder} is unknown", published=published
        )
    interval = wilson(round(found.accuracy_test * asked), asked)
    word: Word = "does not stand" if interval[0] > published else "stands"
    return share_right(
        text,
        word,
        f"{found.accuracy_test:.2%} of {asked} pairs not trained on",
        published=published,
        measured=found.accuracy_test,
        interval=interval,
        chance=1 / p,
        chance_is="guessing",
    )


def _one_layer_run(session: Session, p: int, recipe: str = "fast") -> Path | None:
    """The run given where it has this modulus, one made before in ``out``, or (``train``) one made now by
    ``recipe``."""
    if session.run is not None and read_config(session.run).get("p") == p:
        return Path(session.run)
    folder = session.trained(f"one-layer-{p}-{recipe}")
    if session.train and not finished(folder):
        train_one_layer(
            folder,
            p=p,
            settings=recipe,
            seed=session.settings.seed,
            resume=True,
            device=session.training_device,
        )
    return folder if finished(folder) else None


def phase_transitions(session: Session) -> tuple[Claim, ...]:
    """Memorisation, circuit formation and clean-up, from the checkpoints of a run."""
    text = "training shows three phases: memorisation, circuit formation, clean-up"
    source = "grokking-fourier, figures; Nanda et al. 2023: 1,400 and 9,400 epochs"
    folder = _phase_run(session)
    if folder is None:
        command = "mechfourier train one-layer --p 113 --recipe classic"
        return (claim(text, "not measured", missing(command), source=source),)
    found = find_phases(progress_curves(folder))
    word: Word = "stands" if found.verdict == "three phases" else "does not stand"
    steps = found.clean_up_from if word == "stands" else found.generalised_at
    unit = "epoch at which clean-up begins" if word == "stands" else "epoch of 99 % test accuracy"
    measured = None if steps is None else float(steps)
    told = " ".join(str(found).split())
    return (claim(text, word, told, source=source, unit=unit, measured=measured),)


def _phase_run(session: Session) -> Path | None:
    run = session.source("one-layer", "")
    if run is not None:
        return Path(run)
    # the fast recipe was made to have no plateau to tell apart
    return _one_layer_run(session, 113, "classic")
