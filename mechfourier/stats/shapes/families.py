"""All designs of all shapes for a number of values, as one linear form each."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from mechfourier.stats.shapes.catalogue import SHAPES
from mechfourier.stats.shapes.designs import Design, Places, refined, weight


@dataclass(frozen=True)
class Family:
    """All designs of all shapes for one set of values, in the order of :data:`SHAPES`.

    ``weights``: generalised cross-validation as a linear form, score = ⟨weights, G⟩ with G the Gram matrix of
    the value means: ‖(1 − S) m‖² · m / tr(1 − S)², the leave-one-value-out error with the free parameters
    paid for (Golub, Heath & Wahba 1979). ``grid``: those of the points of the grids.
    """

    places: Places
    names: tuple[str, ...]
    designs: tuple[Design, ...]
    starts: Int[ndarray, " shape"]
    grid: Float[ndarray, "design m2"] = field(repr=False)
    base: "Family | None" = field(default=None, repr=False)
    fitted: dict[int, Float[ndarray, " m2"]] = field(default_factory=dict, repr=False)
    """Rows that differ from those of the grid, which all tables of these values share: one of its own would be
    several megabytes for every site."""

    def refined(self, indices: Iterable[int], gram: Float[ndarray, "m m"]) -> "Family":
        """The same with these designs fitted to a Gram matrix between the points of their grids."""
        designs, fitted = list(self.designs), dict(self.fitted)
        for i in indices:
            designs[i] = refined(designs[i], gram)
            fitted[i] = weight(designs[i].smoother)
        return replace(self, designs=tuple(designs), base=self.base or self, fitted=fitted)

    def bare(self) -> "Family":
        """The same without what was computed for simulations."""
        return replace(self)

    @property
    def weights(self) -> Float[ndarray, "design m2"]:
        """The linear form of every design."""
        return self.forms(range(len(self.designs))) if self.fitted else self.grid

    def forms(self, indices: Sequence[int]) -> Float[ndarray, "chosen m2"]:
        """``weights`` of some designs."""
        rows = self.grid[list(indices)]
        for at, i in enumerate(indices):
            if i in self.fitted:
                rows[at] = self.fitted[i]
        return rows

    @cached_property
    def upper(self) -> tuple[Int[ndarray, " h"], Int[ndarray, " h"]]:
        """Row and column of the upper triangle, which is all of a symmetric matrix."""
        return np.triu_indices(len(self.places.kept))

    @cached_property
    def packed(self) -> Float[ndarray, "design h"]:
        """``weights`` on the upper triangle, in single precision, for simulations."""
        if self.base is None:
            return self._pack(self.grid)
        rows = self.base.packed.copy()
        for i, row in self.fitted.items():
            rows[i] = self._pack(row)
        return rows

    def _pack(self, rows: Float[ndarray, "*design m2"]) -> Float[ndarray, "*design h"]:
        down, right = self.upper
        m = len(self.places.kept)
        both = np.where(down == right, 1.0, 2.0)
        return (rows.reshape(*rows.shape[:-1], m, m)[..., down, right] * both).astype(np.float32)

    def members(self, name: str) -> range:
        """Indices of the designs of one shape."""
        i = self.names.index(name)
        ends = [*self.starts[1:], len(self.designs)]
        return range(int(self.starts[i]), int(ends[i]))

    def siblings(self, index: int) -> list[int]:
        """Designs of the same shape, for shapes that choose by their error."""
        name = self.names[int(np.searchsorted(self.starts, index, side="right")) - 1]
        return [index] if name in ("smooth path", "one direction") else list(self.members(name))

    @property
    def closed(self) -> list[int]:
        """Positions in ``names`` of the closed shapes."""
        return [self.names.index(s.name) for s in SHAPES if s.closed and s.name in self.names]

    @property
    def closed_names(self) -> list[str]:
        return [self.names[i] for i in self.closed]

    @property
    def open_names(self) -> list[str]:
        """Names of the shapes that are no circles."""
        return [s.name for s in SHAPES if not s.closed and s.name in self.names]

    @property
    def rivals(self) -> list[str]:
        """Names of the shapes that have to be rejected."""
        return [s.name for s in SHAPES if s.rival and s.name in self.names]

    @cached_property
    def _likelihoods(self) -> tuple[Float[ndarray, "path m2"], Float[ndarray, " path"]]:
        projectors, constants = [], []
        for i in self.members("smooth path"):
            design = self.designs[i]
            assert design.kernel is not None
            rest = np.eye(len(design.kernel)) - design.smoother
            precision = rest / design.nugget
            row_sum = np.linalg.inv(design.kernel + design.nugget * np.eye(len(rest))).sum()
            logdet = np.linalg.slogdet(design.kernel + design.nugget * np.eye(len(rest)))[1]
            projectors.append(precision.ravel())
            constants.append(logdet + np.log(row_sum))
        return np.stack(projectors), np.array(constants)

    def path_likelihood(self, gram: Float[ndarray, "m m"]) -> Float[ndarray, " path"]:
        """Restricted log likelihood of every smooth path, with its scale profiled out (up to factors that all
        share)."""
        projectors, constants = self._likelihoods
        return -(len(gram) - 1) * np.log(np.maximum(projectors @ gram.ravel(), 1e-300)) - constants


def family(n: int, without: int | None = None) -> Family:
    """Every design for n values on a cycle, one of them set aside or none; made once."""
    return _family(n, without)


@lru_cache(maxsize=64)
def _family(n: int, without: int | None) -> Family:
    places = Places(n, np.array([v for v in range(n) if v != without]))
    groups = {shape.name: tuple(shape.designs(places)) for shape in SHAPES}
    groups = {name: designs for name, designs in groups.items() if designs}
    sizes = [len(designs) for designs in groups.values()]
    designs = tuple(design for group in groups.values() for design in group)
    weights = np.stack([weight(design.smoother) for design in designs])
    return Family(places, tuple(groups), designs, np.cumsum([0, *sizes[:-1]]), weights)
