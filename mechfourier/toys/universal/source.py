"""Where a universal model comes from, and its answers to many questions."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from mechfourier.errors import UsageError
from mechfourier.models.catalogue import DATA
from mechfourier.models.folder import CONFIG, read_config
from mechfourier.models.registry import load
from mechfourier.progress import progress
from mechfourier.toys.opening import open_run
from mechfourier.toys.universal.config import config_from
from mechfourier.toys.universal.model import build
from mechfourier.toys.universal.task import ModuliSplit, answers, moduli

QUESTIONS_AT_ONCE = 2**20  # activations of one draw per batch


@dataclass(frozen=True)
class Opened:
    """A model, the moduli it was trained on, and what to call it."""

    model: Any
    split: ModuliSplit
    name: str

    def role(self, m: int) -> str:
        """``trained``, ``held out`` (inside the trained range) or ``beyond``."""
        if m in self.split.train:
            return "trained"
        return "beyond" if m > self.split.largest else "held out"


def open_miras(run: str | Path | Any) -> Opened:
    """A run folder, a checkpoint of one, a packaged name, or a model at hand (then trained on 2..120 is
    assumed).

    Raises ``UsageError`` for a model of another architecture.
    """
    if not isinstance(run, str | Path):
        return Opened(_ours(run), moduli("all"), run.mechfourier_name)
    path = Path(run)
    if path.is_file():
        opened = open_run(path, "miras")
        return Opened(
            build(config_from(opened.config), opened.weights).eval(), _split_of(opened.config), str(path)
        )
    folder = path if (path / CONFIG).is_file() else DATA / str(run)
    config = read_config(folder) if (folder / CONFIG).is_file() else {}
    return Opened(_ours(load(str(run))), _split_of(config), str(run))


def _split_of(config: dict[str, Any]) -> ModuliSplit:
    training = config.get("training", {})
    return moduli(training.get("moduli", "all"), largest=training.get("largest", 120))


def _ours(model: Any) -> Any:
    if not hasattr(model, "answer_logits"):
        raise UsageError(
            f"{getattr(model, 'mechfourier_name', type(model).__name__)} is no model of every modulus; give "
            f"miras or a run "
            "of mechfourier train miras"
        )
    return model


@torch.no_grad()
def predictions(
    model: Any, questions: Int[Tensor, "question 3"], *, negatives: bool = True
) -> Int[Tensor, " question"]:
    """The best of all numbers the model can name, none masked and, by value, those below 0 too; hooks passed
    by."""
    model.check(questions)
    size = max(64, QUESTIONS_AT_ONCE // (16 * int(model.cfg.d_model)))
    found = []
    with progress("answer", total=len(questions)) as bar:
        for part in questions.split(size):
            found.append(model.best(part, negatives=negatives))
            bar.advance(len(part))
    return torch.cat(found)


def right(model: Any, questions: Int[Tensor, "question 3"], *, negatives: bool = True) -> Tensor:
    """Bool [question]: answered rightly."""
    return predictions(model, questions, negatives=negatives) == answers(questions)
