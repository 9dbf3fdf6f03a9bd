"""``mechfourier train mlp-mod``: the keywords of ``train`` are its options."""

import dataclasses
from pathlib import Path
from typing import Any

# Nothing heavy at the top: the command line reads this module to know the options.


def train(
    *, p: int = 23, out: Path | None = None, seed: int = 0, steps: int = 600, resume: bool = False
) -> Any:
    """Train a perceptron on half of all questions a + b mod p.

    Study it with: mechfourier analyze OUT, mechfourier probe OUT
    """
    from mechfourier.training.loop import run_training

    folder = out or Path(f"runs/mlp-mod-{p}-{seed}")
    return run_training(
        trainee(p, seed, steps), folder, steps=steps, evaluate_at=50, checkpoint_at=(), resume=resume
    )


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What AdamW needs."""

    lr: float = 1e-2
    betas: tuple[float, float] = (0.9, 0.98)
    weight_decay: float = 1.0
    clip: float = 1.0


def trainee(p: int, seed: int, steps: int) -> Any:
    """What the training loop trains."""
    import torch

    from mechfourier.training.descent import Descent, cosine
    from mlp_mod.model import Config, Perceptron

    pairs = torch.cartesian_prod(torch.arange(p), torch.arange(p))
    tokens, answers = torch.cat([pairs, torch.full((p * p, 1), p)], 1), pairs.sum(1) % p
    order = torch.randperm(p * p, generator=torch.Generator().manual_seed(seed))
    kept, left = order[: p * p // 2], order[p * p // 2 :]

    class Trainee(Descent):
        def __init__(self) -> None:
            self.model = Perceptron(Config(p=p), seed)
            super().__init__(dict(self.model.named_parameters()), Recipe(), decays=lambda name, weight: True)

        def config(self) -> dict[str, Any]:
            sizes = {"p": p, "d_model": self.model.cfg.d_model, "d_mlp": self.model.cfg.d_mlp}
            return {"architecture": "mlp-mod", **sizes, "training": {"seed": seed, "steps": steps}}

        def loss(self, rows: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.cross_entropy(self.model(tokens[rows])[:, -1], answers[rows])

        def step(self, index: int) -> dict[str, float]:
            return {"train_loss": self.descend(self.loss(kept), cosine(index, steps, warmup=10))}

        @torch.no_grad()
        def evaluate(self, index: int) -> dict[str, float]:
            right = self.model(tokens[left])[:, -1].argmax(1) == answers[left]
            return {"test_accuracy": float(right.double().mean()), "test_loss": float(self.loss(left))}

    return Trainee()
