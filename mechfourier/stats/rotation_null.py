"""Family-wise null of the plane statistic: random rotations of the residual space of the confounds.

Permuting and sign-flipping the rows of VᵀY in the residual space (Huh & Jhun 2001) depends on the arbitrary
choice of its basis V; a random rotation (Langsrud 2005) is the same group averaged over all bases, and exact
for Gaussian noise on the smallest grid. Rotating the data is rotating the few sinusoids instead: one small
random frame per draw, the same for all hook points and dimensions, and one matrix product.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from mechfourier.stats.confounds import Grid, orthonormal
from mechfourier.stats.specificity import smaller_eigenvalue

CHUNK_BYTES = 192 * 2**20
DENSE_CELLS = 3000
"""Up to this many cells the residual space gets an explicit basis."""


@dataclass(frozen=True, eq=False)
class RotationNull:
    """Maxima per draw. ``plane``: T per hook point, in spreads of its own null, largest over k; ``dims``:
    partial R² of the best dimension and k."""

    plane: Float[Tensor, "draw site"]
    dims: Float[Tensor, "draw site"]
    mean: Float[Tensor, " site"]
    spread: Float[Tensor, " site"]


def coordinates(grid: Grid, residual: Float[Tensor, "cell d"]) -> Float[Tensor, "row d"]:
    """``residual`` in an orthonormal basis of a space that holds it: same inner products, as few rows as
    possible."""
    cells, width = residual.shape
    if width < grid.residual_dof and (cells > DENSE_CELLS or 2 * width < cells):
        gram = residual.double().T @ residual.double()
        values, vectors = torch.linalg.eigh(gram)
        kept = values > 1e-10 * values[-1].clamp_min(1e-300)
        return (values[kept].sqrt()[:, None] * vectors[:, kept].T).to(residual.dtype)
    return grid.residual_basis.to(residual.dtype).T @ residual


def random_frames(
    draws: int, size: int, rows: int, dof: int, generator: torch.Generator
) -> Float[Tensor, "draw size rows"]:
    """The first ``rows`` coordinates of ``size`` random orthonormal vectors in ``dof`` dimensions.

    Exact: G (size x dof, Gaussian) orthonormalised by the Cholesky factor of G Gᵀ; the part of G Gᵀ beyond
    ``rows`` is a Wishart matrix, drawn by Bartlett's decomposition instead of column by column.
    """
    gaussian = torch.randn(draws, size, rows, generator=generator)
    gram = gaussian @ gaussian.transpose(1, 2)
    if dof > rows:
        gram = gram + _wishart(draws, size, dof - rows, generator)
    return torch.linalg.solve_triangular(torch.linalg.cholesky(gram), gaussian, upper=False)


def _wishart(draws: int, size: int, dof: int, generator: torch.Generator) -> Float[Tensor, "draw size size"]:
    if dof < size:
        rest = torch.randn(draws, size, dof, generator=generator)
        return rest @ rest.transpose(1, 2)
    lower = torch.tril(torch.randn(draws, size, size, generator=generator), diagonal=-1)
    shape = (dof - torch.arange(size, dtype=torch.float32)) / 2
    chi2 = 2 * torch._standard_gamma(shape.expand(draws, size).contiguous(), generator=generator)
    lower = lower + torch.diag_embed(chi2.sqrt())
    return lower @ lower.transpose(1, 2)


def rotation_null(
    grid: Grid,
    planes: Float[Tensor, "k 2 cell"],
    residual: Float[Tensor, "cell site d"],
    *,
    permutations: int,
    seed: int,
) -> RotationNull:
    """Largest statistics of ``permutations`` random rotations.

    ``planes``: the harmonics' orthonormal planes in the residual space. ``residual``: activations in the
    residual space, every dimension scaled to unit norm (or zero), so that squared scores are partial R².
    """
    sites, width = residual.shape[1:]
    rows = coordinates(grid, residual.flatten(1).float())
    flat = planes.flatten(0, 1)
    frame = orthonormal(flat.T)
    mixing = (flat @ frame).float()
    generator = torch.Generator().manual_seed(seed)
    chunk = max(1, int(CHUNK_BYTES / 4 / max(1, flat.shape[0] * sites * width)))
    plane, dims = [], []
    for start in range(0, permutations, chunk):
        count = min(chunk, permutations - start)
        drawn = mixing @ random_frames(count, frame.shape[1], rows.shape[0], grid.residual_dof, generator)
        scores = (drawn.flatten(0, 1) @ rows).reshape(count, -1, 2, sites, width)
        cross = (scores[:, :, 0] * scores[:, :, 1]).sum(-1)
        squares = scores.square_()
        energy = squares.sum(-1)
        plane.append(smaller_eigenvalue(energy[:, :, 0], energy[:, :, 1], cross))
        dims.append(squares[:, :, 0].add_(squares[:, :, 1]).amax((1, -1)))
    drawn_planes = torch.cat(plane).double()
    mean, spread = drawn_planes.mean((0, 1)), drawn_planes.std((0, 1)).clamp_min(1e-12)
    return RotationNull(((drawn_planes - mean) / spread).amax(1), torch.cat(dims).double(), mean, spread)
