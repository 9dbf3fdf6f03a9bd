"""The models of every modulus on the command line; nothing heavy is imported before one trains."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mechfourier.errors import UsageError, nearest

if TYPE_CHECKING:
    from mechfourier.toys.universal.train import MirasRun

FORMS = ("shared", "plain", "faithful")


FORM = Annotated[
    str,
    typer.Option(
        "--form", help="shared or plain (numbers by value; they extrapolate), or faithful (tokens and SinPE)."
    ),
]
MODULI = Annotated[
    str, typer.Option("--moduli", help="all (2 to 120 but 15, 25, …), primes, or sparse (24 of 2 to 199).")
]
LARGEST = Annotated[
    int | None,
    typer.Option("--largest", help="Largest modulus to train on (120; 79 for primes).", min=2, max=100_000),
]
CURRICULUM = Annotated[
    bool | None,
    typer.Option("--curriculum/--no-curriculum", help="Raise the cap on the moduli over the first 45 %."),
]
CURRICULUM_FROM = Annotated[
    int | None, typer.Option("--curriculum-from", help="The cap to begin with (24).", min=2, max=100_000)
]
MEMORY = Annotated[
    str | None,
    typer.Option(
        "--memory", help="faithful: none, feedforward or titans (feedforward; none for primes with ce)."
    ),
]


def train(
    *,
    form: FORM = "shared",
    moduli: MODULI = "all",
    largest: LARGEST = None,
    loss: Annotated[str, typer.Option("--loss", help="ce, or reinforce (faithful only).")] = "ce",
    curriculum: CURRICULUM = None,
    curriculum_from: CURRICULUM_FROM = None,
    memory: MEMORY = None,
    steps: int | None = None,
    batch: int | None = None,
    seed: int = 0,
    out: Path | None = None,
    resume: bool = False,
    device: str = "cpu",
) -> "MirasRun":
    """Train a transformer that answers (a + b) mod m for moduli it never saw.

    shared and plain encode numbers by value and go on past the trained range; faithful reads a and b as
    tokens and m as sinusoids, and ends where its tokens do. Measure it with: mechfourier sweep-accuracy OUT
    """
    if form not in FORMS:
        raise UsageError(f"no form {form!r}; closest: {nearest(form, FORMS)}; known: {', '.join(FORMS)}")
    from mechfourier.toys.universal.recipes import plan
    from mechfourier.toys.universal.train import train_miras

    chosen = plan(
        form,
        moduli=moduli,
        largest=largest,
        loss=loss,
        memory=memory,
        steps=steps,
        batch=batch,
        curriculum=curriculum,
        curriculum_from=curriculum_from,
    )
    folder = out or Path(f"runs/miras-{form}-{moduli}-{loss}-{seed}")
    return train_miras(
        folder, chosen.config, chosen.split, chosen.recipe, seed=seed, resume=resume, device=device
    )
