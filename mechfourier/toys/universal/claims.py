"""The published claims about the models of every modulus, measured."""

from collections.abc import Mapping
from pathlib import Path

from mechfourier.errors import MechFourierError
from mechfourier.models.folder import CONFIG, read_config
from mechfourier.reproduce.result import Claim
from mechfourier.reproduce.session import Session
from mechfourier.reproduce.trained import at_least, compare, finished, missing, present, share_right
from mechfourier.toys.universal.accuracy import sweep_accuracy
from mechfourier.toys.universal.recipes import plan
from mechfourier.toys.universal.train import train_miras

HELD_OUT = dict.fromkeys(range(15, 116, 10), 1.0) | {115: 0.998}
BEYOND = {121: 0.916, 124: 0.696, 149: 0.262, 199: 0.173}
UNSEEN_PRIMES = {71: 0.675, 101: 0.11}
BETWEEN = (30, 75, 120)
SEEN_PRIMES = (5, 7, 11)
LEARNED = 0.95


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
            share_right(_modulus_text(m), "not measured", missing(command), published=published)
            for m, published in moduli.items()
        )
    return _moduli(session, source, moduli)


def _training(source: str | Path) -> dict[str, str]:
    """The moduli and the loss that a run was trained with."""
    folder = Path(source)
    training = read_config(folder).get("training", {}) if (folder / CONFIG).is_file() else {}
    return {"moduli": str(training.get("moduli")), "loss": str(training.get("recipe", {}).get("loss"))}


def _train_miras(session: Session, wanted: dict[str, str]) -> Path:
    chosen = plan("faithful", **wanted)  # type: ignore[arg-type]
    folder = session.trained(f"miras-{wanted['moduli']}-{wanted['loss']}")
    if not finished(folder):
        train_miras(
            folder,
            chosen.config,
            chosen.split,
            chosen.recipe,
            seed=session.settings.seed,
            resume=True,
            device=session.training_device,
        )
    return folder


def _modulus_text(m: int) -> str:
    return f"(a + b) mod {m}"


def _moduli(
    session: Session, source: str | Path | None, moduli: Mapping[int, float | None], *, ceiling: bool = False
) -> tuple[Claim, ...]:
    """A claim per modulus; beyond the trained range (``ceiling``) the claim is a failure, refuted by doing
    better."""
    present(source)
    claims = []
    for m, published in moduli.items():
        try:
            (row,) = sweep_accuracy(
                source, only=(m,), samples=session.settings.problems, seed=session.settings.seed
            ).moduli
        except MechFourierError as error:
            claims.append(share_right(_modulus_text(m), "not measured", str(error), published=published))
            continue
        interval = (row.low, row.high)
        target = LEARNED if published is None else published
        failure = ceiling and row.role == "beyond"
        word = compare(row.accuracy, interval, target) if failure else at_least(interval, target)
        told = (
            f"{row.questions - row.errors} of {row.questions} right; never wrapping {row.never_wrap:.1%}; "
            f"{row.boundary_errors} of {row.boundary_questions} next to the wrap wrong"
        )
        claims.append(
            share_right(
                f"{_modulus_text(m)}, {row.role}" + (": the ceiling" if failure else ""),
                word,
                told,
                published=published,
                measured=row.accuracy,
                interval=interval,
                chance=row.never_wrap,
                chance_is="never wrapping",
            )
        )
    return tuple(claims)
