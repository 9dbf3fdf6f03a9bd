"""What can look like a circle of (a + o) mod n without being one: the confounds of an operation grid.

A cell of the grid is a pair (a, o); its raw sum is s = a + o and its label s mod n. Everything here is about
*cells*: columns are functions on the grid, orthonormal in the plain inner product over cells.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

RANK_TOLERANCE = 1e-6
DIGIT_SUMS = 60
"""Below this many different raw sums, removing the ten units digits would remove the low frequencies that a
circle has to be compared with; there base 10 is one of the other periods instead.
"""


@dataclass(frozen=True, eq=False)
class Grid:
    """A full grid of n values times ``offsets`` (consecutive integers), row-major: cell = a * n_offsets + o.

    ``extra`` holds further confounds, one column per feature. ``digits`` adds the units digit of the raw sum.
    """

    n: int
    n_offsets: int
    first_offset: int = 0
    digits: bool = True
    extra: Float[Tensor, "cell feature"] | None = None

    @cached_property
    def a(self) -> Int[Tensor, " cell"]:
        return torch.arange(self.n).repeat_interleave(self.n_offsets)

    @cached_property
    def offset(self) -> Int[Tensor, " cell"]:
        return (self.first_offset + torch.arange(self.n_offsets)).repeat(self.n)

    @cached_property
    def raw_sum(self) -> Int[Tensor, " cell"]:
        return self.a + self.offset

    @cached_property
    def label(self) -> Int[Tensor, " cell"]:
        return self.raw_sum % self.n

    @property
    def cells(self) -> int:
        return self.n * self.n_offsets

    @property
    def n_sums(self) -> int:
        """How many different raw sums there are; the range over which a period can show."""
        return self.n + self.n_offsets - 1

    @property
    def full_cycles(self) -> int:
        """Whole cycles of n that the offsets fill."""
        return self.n_offsets // self.n

    @property
    def exchangeable(self) -> bool:
        """As many offsets as values, both from 0: every cell (a, o) has a twin (o, a) of the same sum.

        A model that does not tell its operands apart gives both the same activations, so that *any*
        function of the pair {a, o}, random ones too, holds twice its share among the functions of the sum.
        There all statistics look at the means of twins alone, where neither such a function nor plain noise
        has more than its share.
        """
        return self.n_offsets == self.n and self.first_offset == 0

    def folded(self, columns: Float[Tensor, "cell d"]) -> Float[Tensor, "cell d"]:
        """Means of the twins (a, o) and (o, a) where the operands can be exchanged, else ``columns`` as
        they are.
        """
        if not self.exchangeable:
            return columns
        square = rearrange(columns, "(a o) d -> a o d", a=self.n)
        return rearrange((square + square.transpose(0, 1)) / 2, "a o d -> (a o) d")

    @property
    def free_cells(self) -> int:
        """Dimensions of all functions looked at: of the cells, or of their pairs of twins."""
        return self.n * (self.n + 1) // 2 if self.exchangeable else self.cells

    @cached_property
    def confounds(self) -> Float[Tensor, "cell confound"]:
        """Orthonormal basis of the confounds Z."""
        return orthonormal(self.folded(confound_columns(self)))

    @property
    def residual_dof(self) -> int:
        """Dimensions of the residual space (free cells minus the rank of the confounds)."""
        return self.free_cells - self.confounds.shape[1]

    def residual(self, columns: Float[Tensor, "cell d"]) -> Float[Tensor, "cell d"]:
        """``columns`` projected on the residual space: folded, and what the confounds explain removed."""
        basis, columns = self.confounds.to(columns.dtype), self.folded(columns)
        return columns - basis @ (basis.T @ columns)

    @cached_property
    def residual_basis(self) -> Float[Tensor, "cell residual"]:
        """Orthonormal basis of the residual space, explicitly: of small grids only."""
        if not self.exchangeable:
            return _complement(self.confounds)
        pairs = self._pairs
        return pairs @ _complement(pairs.T @ self.confounds)

    @property
    def _pairs(self) -> Float[Tensor, "cell pair"]:
        """Orthonormal indicators of the pairs of twins."""
        twin = self.a.minimum(self.offset) * self.n + self.a.maximum(self.offset)
        columns = one_hot(twin)
        return columns / columns.sum(0).sqrt()

    @cached_property
    def sum_basis(self) -> Float[Tensor, "cell profile"]:
        """Orthonormal basis H of all functions of the raw sum, confounds removed: every period lives in
        here.
        """
        return orthonormal(self.residual(one_hot(self.raw_sum)))

    @cached_property
    def difference_basis(self) -> Float[Tensor, "cell profile"]:
        """The same of all functions of the difference a − o: what a model that adds nothing holds as well."""
        return orthonormal(self.residual(one_hot(self.a - self.offset)))

    @cached_property
    def class_columns(self) -> Float[Tensor, "cell n"]:
        """The n residue classes as indicator columns, confounds removed."""
        return self.residual(one_hot(self.label))

    @cached_property
    def class_gram(self) -> Float[Tensor, "n n"]:
        """Inner products of these columns: what the confounds leave of the classes."""
        return self.class_columns.T @ self.class_columns


def one_hot(index: Int[Tensor, " cell"]) -> Float[Tensor, "cell level"]:
    """Indicator columns of the levels that occur, in float64."""
    levels, position = torch.unique(index, return_inverse=True)
    return torch.nn.functional.one_hot(position, len(levels)).double()


def orthonormal(columns: Float[Tensor, "cell c"]) -> Float[Tensor, "cell rank"]:
    """Orthonormal basis of the span of ``columns`` (scaled to unit norm first), by singular values."""
    norm = columns.norm(dim=0)
    kept = columns[:, norm > RANK_TOLERANCE]
    if kept.shape[1] == 0:
        return columns[:, :0]
    left, values, _ = torch.linalg.svd(kept / kept.norm(dim=0), full_matrices=False)
    return left[:, values > RANK_TOLERANCE * values[0]]


def _complement(basis: Float[Tensor, "row rank"]) -> Float[Tensor, "row rest"]:
    """Orthonormal basis of everything orthogonal to an orthonormal basis."""
    complete, _ = torch.linalg.qr(basis, mode="complete")
    return complete[:, basis.shape[1] :]


def confound_columns(grid: Grid) -> Float[Tensor, "cell confound"]:
    """Z, not yet orthonormal: a and o one-hot, raw sum squared and cubed, token lengths, digits, ``extra``.

    Token identity of either operand, and with it every function of one operand (a linear ramp of the sum
    too), is in the one-hot columns; the rest are the interactions that averaging by label turns into
    cosines. Where the operands can be exchanged, cells with a = o are set aside: they have no twin, and the
    same token twice is a feature of its own (all even sums have one, no odd sum has).
    """
    total = grid.raw_sum.double()
    centred = (total - total.mean()) / max(1.0, float(total.max() - total.min()))
    columns = [one_hot(grid.a), one_hot(grid.offset), torch.stack([centred**2, centred**3], 1)]
    columns.append(token_length_columns(grid.a, grid.offset))
    if grid.digits and grid.n_sums >= DIGIT_SUMS:
        columns.append(one_hot(grid.raw_sum % 10))
    if grid.exchangeable:
        columns.append(one_hot(grid.a) * (grid.a == grid.offset)[:, None])
    if grid.extra is not None:
        extra = grid.extra.double()
        columns.append(extra - extra.mean(0))
    return torch.cat(columns, 1)


def token_length_columns(
    a: Int[Tensor, " cell"], offset: Int[Tensor, " cell"]
) -> Float[Tensor, "cell feature"]:
    """What the written numbers give away: lengths of operands and sum, both of two digits, tens, carry."""
    total = a + offset
    features = [
        (a >= 10) & (offset >= 10),
        total >= 10,
        total >= 100,
        total // 10,
        (a % 10 + offset % 10) >= 10,
    ]
    return torch.stack([feature.double() for feature in features], 1)
