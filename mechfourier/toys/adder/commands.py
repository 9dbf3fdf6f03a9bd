"""The adder on the command line; nothing heavy is imported before it trains."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from mechfourier.toys.adder.train import AdderRun


def train(
    *,
    recipe: Annotated[
        str,
        typer.Option(
            "--recipe",
            help="generalising, faithful, faithful-fresh, decoder-only, or one thing left out: no-padding, "
            "no-sharpening, "
            "no-chains, coupled.",
        ),
    ] = "generalising",
    seed: int = 0,
    steps: int | None = None,
    out: Path | None = None,
    resume: bool = False,
    device: str = "cpu",
    say: Callable[[str], None] = lambda line: None,
) -> "AdderRun":
    """Train an adder on fresh problems of one to five digits; one pair of numbers in ten is never trained on.

    Exact match by greedy decoding is printed at every evaluation. Then: mechfourier sweep-accuracy OUT,
    mechfourier analyze OUT
    """
    from mechfourier.toys.adder.train import train_adder

    def report(step: int, metrics: dict[str, float]) -> None:
        shares = " ".join(f"{k.removeprefix('accuracy_')}:{v:.0%}" for k, v in metrics.items())
        say(f"step {step}: exact match by digits {shares}")

    folder = out or Path(f"runs/adder-{recipe}-{seed}")
    return train_adder(
        folder, settings=recipe, seed=seed, steps=steps, resume=resume, device=device, on_evaluate=report
    )
