"""What keeps a grid of an operation from being tested, in one sentence each."""

import torch
from torch import Tensor

from mechfourier.errors import OutOfRange, UsageError
from mechfourier.stats.confounds import Grid
from mechfourier.stats.operation_view import spread_of

MIN_VALUES = 5


def check(acts: Tensor, n: int, control: Tensor | None, permutations: int, surrogates: int) -> None:
    if acts.shape[1] != n:
        raise UsageError(
            f"the grid has {acts.shape[1]} values but n is {n}; give activations [site, a, offset, d] with "
            f"n values a"
        )
    if control is not None and control.shape != acts.shape:
        raise UsageError(
            f"the control has shape {tuple(control.shape)}, the activations {tuple(acts.shape)}; they must "
            f"be equal"
        )
    if min(permutations, surrogates) < 99:
        raise OutOfRange(f"{min(permutations, surrogates)} draws cannot give a p below .01; use at least 99")


def untestable(acts: Tensor, n: int) -> str:
    if n < MIN_VALUES:
        return f"{n} values: fewer than {MIN_VALUES} points always lie near some circle"
    if acts.shape[2] < n:
        return f"{acts.shape[2]} offsets do not fill one cycle of {n}; use at least --cycles 1, better 4"
    if holes_in(acts):
        return holes_in(acts)
    return "the activations do not vary over the grid" if flat(acts) else ""


def holes_in(acts: Tensor, whose: str = "") -> str:
    holes = ~torch.isfinite(acts).all(-1)
    if not bool(holes.any()):
        return ""
    count = int(holes.any(0).sum())
    return f"{count} of {holes[0].numel()} cells{whose} have no finite activation: the grid has holes"


def flat(acts: Tensor) -> bool:
    return not bool((spread_of(acts.flatten(1, 2)) > 0).any())


def confounded(grid: Grid) -> str:
    if grid.sum_basis.shape[1] < 4 or grid.residual_dof < 2 * (grid.n // 2) + 2:
        return (
            f"the confounds leave {grid.sum_basis.shape[1]} functions of the sum on a grid of {grid.n} x "
            f"{grid.n_offsets}; "
            "use more offsets"
        )
    return ""


def no_harmonic(grid: Grid) -> str:
    if grid.digits and 10 % grid.n == 0:
        return (
            f"every period of {grid.n} is a period of base-10 digits; only a model that never sees digits "
            f"can be tested (digits=False)"
        )
    return (
        f"no harmonic of {grid.n} passes often enough over raw sums up to {grid.n_sums - 1}; use more "
        f"offsets (--cycles 4)"
    )
