"""A run folder made in a moment: mixtures of untrained weights and the closed-form solution, which grok by
construction."""

from pathlib import Path

from mechfourier.fourier.analytic import analytic_weights
from mechfourier.models.checkpoint import save_checkpoint
from mechfourier.toys.one_layer.weights import OneLayerConfig, initial_weights
from mechfourier.training.run_folder import RunFolder

P = 13


def write_run(folder: Path, *, checkpoints: int = 6, p: int = P, metrics: bool = True) -> Path:
    """``checkpoints`` files from untrained to closed form, a configuration with a split, and metrics to
    match."""
    config = OneLayerConfig(p=p)
    final = {name: value.float() for name, value in analytic_weights(p).items()}
    start = initial_weights(config, seed=0)
    run = RunFolder(folder)
    for index in range(checkpoints):
        mix = index / max(1, checkpoints - 1)
        run.write_checkpoint({k: (1 - mix) * start[k] + mix * final[k] for k in final}, 10 * 2**index)
    training = {"seed": 0, "split_seed": 0, "train_fraction": 0.5, "recipe": {"name": "fast"}}
    save_checkpoint(folder, final, {**config.to_dict(), "training": training})
    if metrics:
        run.write_metrics([_row(10 * 2**i, i / max(1, checkpoints - 1)) for i in range(checkpoints)])
    return folder


def _row(step: int, mix: float) -> dict[str, float | int]:
    return {
        "step": step,
        "seconds": 0.5 * step,
        "train_loss": 3 * (1 - mix) ** 2 + 1e-6,
        "test_loss": 3 * (1 - mix) + 1e-4,
        "train_accuracy": min(1.0, 2 * mix),
        "test_accuracy": mix,
    }
