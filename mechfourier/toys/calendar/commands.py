"""The calendar model on the command line; nothing heavy is imported before it trains."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mechfourier.toys.calendar.train import CalendarRun


def train(
    *,
    out: Path | None = None,
    seed: int = 0,
    steps: int | None = None,
    resume: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> "CalendarRun":
    """Train the calendar model (a small Qwen3) on calendar and modular arithmetic sentences.

    Weights, tokenizer and metrics lie in --out afterwards; study them with: mechfourier probe OUT --domain
    months
    """
    from mechfourier.toys.calendar.train import CalendarRecipe, train_calendar

    def report(step: int, metrics: dict[str, float]) -> None:
        held_out = f"held-out accuracy {metrics['held_out']:.3f} (worst {metrics['worst']:.3f})"
        say(f"step {step}: {held_out}, text perplexity {metrics['perplexity']:.2f}")

    folder = out or Path("runs/calendar")
    if resume and not (folder / "config.json").exists():
        say(f"{folder} holds no run to go on with; starting one")
    recipe = CalendarRecipe(seed=seed) if steps is None else CalendarRecipe(seed=seed, steps=steps)
    return train_calendar(recipe, folder, resume=resume, on_evaluate=report)
