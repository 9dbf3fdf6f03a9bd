"""The claims about networks that were trained: addition mod p, the adder, and the models of every modulus."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mechfourier.errors import MechFourierError, UsageError
from mechfourier.models.folder import CONFIG, WEIGHTS, read_config
from mechfourier.reproduce.result import Claim, Word, claim
from mechfourier.reproduce.session import Session
from mechfourier.stats.intervals import wilson

README = "grokking-fourier, README.md"
RIGHT = "share right"
KEYS = 5
SMALL = {53: 0.013, 71: 0.005}
HELD_OUT = {
    15: 1.0,
    25: 1.0,
    35: 1.0,
    45: 1.0,
    55: 1.0,
    65: 1.0,
    75: 1.0,
    85: 1.0,
    95: 1.0,
    105: 1.0,
    115: 0.998,
}
BEYOND = {121: 0.916, 124: 0.696, 149: 0.262, 199: 0.173}
UNSEEN_PRIMES = {71: 0.675, 101: 0.11}
BETWEEN = (30, 75, 120)
SEEN_PRIMES = (5, 7, 11)
LEARNED = 0.95


def compare(measured: float, interval: tuple[float, float], published: float) -> Word:
    """A published accuracy *stands* where the interval of the measured one reaches it."""
    return "stands" if interval[0] <= published <= interval[1] else "does not stand"


def at_least(interval: tuple[float, float], published: float) -> Word:
    """A published success stands where it is matched or passed."""
    return "stands" if interval[1] >= published else "does not stand"


def modular_addition(session: Session) -> tuple[Claim, ...]:
    """Accuracy on the pairs that training did not see, and how few frequencies carry it."""
    from mechfourier.toys.one_layer import analyze, open_source

    source = session.source("one-layer", "one-layer")
    _present(source)
    opened = open_source(source)
    found = analyze(source, over_run=False, seed=session.settings.seed)
    asked = found.n**2 if opened.train is None else int((~opened.train).sum())
    share = found.accuracy if opened.train is None else found.accuracy_test
    interval = wilson(round(share * asked), asked)
    sparse = found.logit_share > 0.9 and found.logit_share > 2 * found.untrained.logit_share
    return (
        claim(
            "addition mod 113 generalises", at_least(interval, 0.999), f"p = {found.p}: {share:.2%} of {asked} pairs not trained on, loss {found.loss_test:.2g} (published .0345)",
            source=README, unit=RIGHT, published=0.999, measured=share, interval=interval, chance=1 / found.p, chance_is="guessing",
        ),
        claim(
            "five key frequencies carry it", _keys_word(len(found.key_freqs), sparse), f"p = {found.p}: frequencies {', '.join(map(str, found.key_freqs))} hold {found.logit_share:.1%} of the logits (untrained {found.untrained.logit_share:.1%})",
            source=README, unit="frequencies", published=float(KEYS), measured=float(len(found.key_freqs)),
        ),
    )  # fmt: skip


def _keys_word(count: int, sparse: bool) -> Word:
    """The claim is that few frequencies carry it: 3 to 5 by seed (Nanda et al. 2023), so up to 6 is what was claimed."""
    if not sparse:
        return "does not stand" if count else "noise"
    return "stands" if 1 <= count <= KEYS + 1 else "does not stand"


def _present(source: Any) -> None:
    """Refuse to go on without weights."""
    if source is None:
        raise UsageError("there is no trained network here; give one with --run FOLDER")


def small_primes(session: Session) -> tuple[Claim, ...]:
    """Published as failures; a run of that modulus says otherwise or not."""
    return tuple(_small_prime(session, p, published) for p, published in SMALL.items())


def _small_prime(session: Session, p: int, published: float) -> Claim:
    text, command = f"addition mod {p} does not generalise", f"mechfourier train one-layer --p {p}"
    folder = _one_layer_run(session, p)
    if folder is None:
        return claim(text, "not measured", _missing(command), source=README, unit=RIGHT, published=published)
    from mechfourier.toys.one_layer import analyze, open_source

    opened = open_source(folder)
    found = analyze(opened, over_run=False, seed=session.settings.seed)
    asked = 0 if opened.train is None else int((~opened.train).sum())
    if not asked:
        return claim(
            text,
            "not measured",
            f"the train/test split of {folder} is unknown",
            source=README,
            unit=RIGHT,
            published=published,
        )
    interval = wilson(round(found.accuracy_test * asked), asked)
    word: Word = "does not stand" if interval[0] > published else "stands"
    return claim(
        text, word, f"{found.accuracy_test:.2%} of {asked} pairs not trained on", source=README, unit=RIGHT,
        published=published, measured=found.accuracy_test, interval=interval, chance=1 / p, chance_is="guessing",
    )  # fmt: skip


def _one_layer_run(session: Session, p: int, recipe: str = "fast") -> Path | None:
    """The run given where it has this modulus, one made before in ``out``, or (``train``) one made now by ``recipe``."""
    if session.run is not None and read_config(session.run).get("p") == p:
        return Path(session.run)
    folder = session.trained(f"one-layer-{p}-{recipe}")
    if session.train and not _finished(folder):
        from mechfourier.toys.one_layer.train import train_one_layer

        train_one_layer(
            folder,
            p=p,
            settings=recipe,
            seed=session.settings.seed,
            resume=True,
            device=session.training_device,
        )
    return folder if _finished(folder) else None


def _finished(folder: Path) -> bool:
    """A training writes its weights when it is done."""
    return (folder / WEIGHTS).is_file()


def _missing(command: str) -> str:
    return f"no such run here; train one ({command}) and give it with --run, or let --train do it"


def phase_transitions(session: Session) -> tuple[Claim, ...]:
    """Memorisation, circuit formation and clean-up, from the checkpoints of a run."""
    from mechfourier.toys.one_layer import find_phases, progress_curves

    text = "training shows three phases: memorisation, circuit formation, clean-up"
    source = "grokking-fourier, figures; Nanda et al. 2023: 1,400 and 9,400 epochs"
    folder = _phase_run(session)
    if folder is None:
        command = "mechfourier train one-layer --p 113 --recipe classic"
        return (claim(text, "not measured", _missing(command), source=source),)
    found = find_phases(progress_curves(folder))
    word: Word = "stands" if found.verdict == "three phases" else "does not stand"
    steps = found.clean_up_from if word == "stands" else found.generalised_at
    return (
        claim(
            text, word, " ".join(str(found).split()), source=source, unit="epoch at which clean-up begins" if word == "stands" else "epoch of 99 % test accuracy",
            measured=None if steps is None else float(steps),
        ),
    )  # fmt: skip


def _phase_run(session: Session) -> Path | None:
    run = session.source("one-layer", "")
    if run is not None:
        return Path(run)
    return _one_layer_run(
        session, 113, "classic"
    )  # the fast recipe was made to have no plateau to tell apart


def adder(session: Session) -> tuple[Claim, ...]:
    """Exact match on the lengths of the training and one digit beyond."""
    from mechfourier.toys.adder import sweep_accuracy

    source = session.source("adder", "adder")
    _present(source)
    per_cell = max(1, session.settings.problems // 25)
    found = sweep_accuracy(
        source, samples=per_cell, max_digits=6, category_samples=1, lengths=(1,), seed=session.settings.seed
    )
    cells = [share for share in found.shares if share.group == "lengths"]
    known = [s for s in cells if max(s.a, s.b) <= found.trained_digits]
    longer = [s for s in cells if max(s.a, s.b) == 6]
    return (
        _summed("problems of the trained lengths, never trained on", known, 0.962, success=True),
        _summed("problems of six digits fail", longer, 0.0, success=False),
    )


def _summed(text: str, cells: Sequence[Any], published: float, *, success: bool) -> Claim:
    if not cells:
        return claim(
            text,
            "not measured",
            "this network has no positions for such problems",
            source=README,
            unit=RIGHT,
            published=published,
        )
    right, total = sum(s.right for s in cells), sum(s.total for s in cells)
    interval = wilson(right, total)
    word = at_least(interval, published) if success else compare(right / total, interval, published)
    return claim(
        text, word, f"{right} of {total} exactly right", source=README, unit=RIGHT, published=published,
        measured=right / total, interval=interval,
    )  # fmt: skip


def miras_universal(session: Session) -> tuple[Claim, ...]:
    """Held-out moduli inside the trained range, and the ceiling beyond it."""
    source = session.source("miras", "miras")
    moduli = {**dict(list(HELD_OUT.items())[-(session.settings.most or len(HELD_OUT)) :]), **BEYOND}
    return _moduli(session, source, moduli, ceiling=True)


def miras_primes(session: Session) -> tuple[Claim, ...]:
    """Trained on primes to 79: unseen primes inside and beyond the range."""
    return _trained(session, UNSEEN_PRIMES, {"moduli": "primes", "loss": "ce"})


def miras_sparse(session: Session) -> tuple[Claim, ...]:
    """Trained on 24 moduli: those in between."""
    return _trained(session, dict.fromkeys(BETWEEN), {"moduli": "sparse", "loss": "ce"})


def miras_rl(session: Session) -> tuple[Claim, ...]:
    """Policy gradient on primes: the small ones it was trained on."""
    return _trained(session, dict.fromkeys(SEEN_PRIMES), {"moduli": "primes", "loss": "reinforce"})


def _trained(
    session: Session, moduli: Mapping[int, float | None], wanted: dict[str, str]
) -> tuple[Claim, ...]:
    """Claims that need a run on these moduli with this loss."""
    source = session.source("miras", "")
    if source is not None and _training(source) != wanted:
        source = None
    if source is None and session.train:
        source = _train_miras(session, wanted)
    if source is None:
        command = "mechfourier train miras --form faithful " + " ".join(
            f"--{key} {value}" for key, value in wanted.items() if value != "ce"
        )
        return tuple(
            claim(
                _modulus_text(m),
                "not measured",
                _missing(command),
                source=README,
                unit=RIGHT,
                published=published,
            )
            for m, published in moduli.items()
        )
    return _moduli(session, source, moduli)


def _training(source: str | Path) -> dict[str, str]:
    """The moduli and the loss that a run was trained with."""
    folder = Path(source)
    training = read_config(folder).get("training", {}) if (folder / CONFIG).is_file() else {}
    return {"moduli": str(training.get("moduli")), "loss": str(training.get("recipe", {}).get("loss"))}


def _train_miras(session: Session, wanted: dict[str, str]) -> Path:
    from mechfourier.toys.universal.recipes import plan
    from mechfourier.toys.universal.train import train_miras

    chosen = plan("faithful", **wanted)  # type: ignore[arg-type]
    folder = session.trained(f"miras-{wanted['moduli']}-{wanted['loss']}")
    if not _finished(folder):
        train_miras(
            folder, chosen.config, chosen.split, chosen.recipe, seed=session.settings.seed, resume=True,
            device=session.training_device,
        )  # fmt: skip
    return folder


def _modulus_text(m: int) -> str:
    return f"(a + b) mod {m}"


def _moduli(
    session: Session, source: str | Path | None, moduli: Mapping[int, float | None], *, ceiling: bool = False
) -> tuple[Claim, ...]:
    """A claim per modulus; beyond the trained range (``ceiling``) the claim is a failure, refuted by doing better."""
    from mechfourier.toys.universal import sweep_accuracy

    _present(source)
    claims = []
    for m, published in moduli.items():
        try:
            (row,) = sweep_accuracy(
                source, only=(m,), samples=session.settings.problems, seed=session.settings.seed
            ).moduli
        except MechFourierError as error:
            claims.append(
                claim(
                    _modulus_text(m),
                    "not measured",
                    str(error),
                    source=README,
                    unit=RIGHT,
                    published=published,
                )
            )
            continue
        interval = (row.low, row.high)
        target = LEARNED if published is None else published
        failure = ceiling and row.role == "beyond"
        word = compare(row.accuracy, interval, target) if failure else at_least(interval, target)
        told = f"{row.questions - row.errors} of {row.questions} right; never wrapping {row.never_wrap:.1%}; {row.boundary_errors} of {row.boundary_questions} next to the wrap wrong"
        claims.append(
            claim(
                f"{_modulus_text(m)}, {row.role}" + (": the ceiling" if failure else ""), word, told, source=README, unit=RIGHT, published=published,
                measured=row.accuracy, interval=interval, chance=row.never_wrap, chance_is="never wrapping",
            )
        )  # fmt: skip
    return tuple(claims)
