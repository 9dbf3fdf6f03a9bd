"""What keeps a grid of an operation from being tested, in one sentence each."""

import torch
from torch import Tensor

from mechfourier.errors import OutOfRange, UsageError
from mechfourier.stats.confounds import Grid
from mechfourier.stats.operation_view import spread_of

MIN_VALUES = 5
SAME = 1e-3  # of the size of what varies: what one prompt differs from itself by, in another batch


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


def repeats(acts: Tensor, n: int, first_offset: int) -> bool:
    """Offsets n apart have the same activations, and these are no function of the residue class alone: the same
    prompts were given again, or tokens that are the same modulo n. The later cycles bring nothing then, but (a, o) and
    (o, a) of the first have one residue class, and what a network makes of the two is alike.
    """
    if acts.shape[2] <= n or holes_in(acts):
        return False
    cells = acts.double()
    vary = spread_of(cells.flatten(1, 2)).amax(-1) > 0
    once = cells[:, :, :n]
    again = cells[:, :, n:] - cells[:, :, :-n]
    label = (torch.arange(n)[:, None] + torch.arange(n) + first_offset) % n
    by_class = torch.zeros(len(acts), n, acts.shape[-1], dtype=cells.dtype).index_add_(
        1, label.flatten(), once.flatten(1, 2)
    )
    within = once - by_class[:, label] / n
    size = (once - once.mean((1, 2), keepdim=True)).square().mean((1, 2, 3))
    same, class_alone = (part.square().mean((1, 2, 3)) <= SAME**2 * size for part in (again, within))
    return bool((same | ~vary).all()) and not bool((class_alone | ~vary).all())


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
