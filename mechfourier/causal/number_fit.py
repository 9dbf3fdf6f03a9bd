"""Numbers as a domain, and what their activations are made of: a line and a circle per period."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy import ndarray
from torch import Tensor

from mechfourier.causal.experiment import SiteActivations
from mechfourier.domains.definition import NUMBER_TEMPLATES, Domain
from mechfourier.domains.task_spec import TaskSpec
from mechfourier.errors import OutOfRange, UsageError

OFFSETS = 10  # second operands of the sums made here: 0 to 9
WHOLE = "whole class mean"
LINE = "line"


def sums(low: int = 0, high: int = 99) -> Domain:
    """Numbers ``low`` to ``high`` as a domain that is no cycle, with the task "number + 0 … 9"."""
    if not 0 <= low < high <= 999:
        raise OutOfRange(f"the range {low}-{high}: give low-high with 0 <= low < high <= 999")
    values = tuple(str(v) for v in range(low, high + 1))
    answers = tuple(str(v) for v in range(low, high + OFFSETS))
    task = TaskSpec("sum", "arithmetic", ("Compute {value} + {offset} =",), answers)
    spaced = TaskSpec("sum-spaced", "arithmetic", task.templates, tuple(f" {answer}" for answer in answers))
    return Domain(
        name=f"numbers-{low}-{high}",
        title=f"numbers {low} to {high}",
        unit="units",
        values=values,
        templates=NUMBER_TEMPLATES,
        operation=None,
        source="generated",
        tasks=(task, spaced),
        cyclic=False,
    )


@dataclass(frozen=True, eq=False)
class NumberFit:
    """Line and circles through the class means of numbers: ``coefficients[part]`` of the part's ``columns_of`` the basis,
    ``r2`` in sample, and the ``condition`` number of the columns (1: orthogonal)."""

    place: SiteActivations
    numbers: Float[ndarray, " n"]
    periods: tuple[float, ...]
    r2: float
    condition: float
    coefficients: Mapping[str, Float[ndarray, "feature d"]]

    def edit(
        self, parts: Sequence[str], value: Int[Tensor, " row"], steps: Int[Tensor, " row"]
    ) -> Float[Tensor, "row d"]:
        """The displacement of these parts from each value by ``steps`` values."""
        if WHOLE in parts:
            return self.place.means[(value + steps) % len(self.numbers)] - self.place.means[value]
        start = self.numbers[value.numpy()]
        target = start + steps.numpy()
        added = sum(
            (columns_of(part, target) - columns_of(part, start)) @ self.coefficients[part] for part in parts
        )
        return torch.from_numpy(np.asarray(added)).float()


def columns_of(part: str, numbers: Float[ndarray, " row"]) -> Float[ndarray, "row feature"]:
    """The columns of the basis that a part has, at any numbers."""
    if part == LINE:
        return numbers[:, None]
    angle = 2 * np.pi * numbers / float(part)
    both = np.stack([np.cos(angle), np.sin(angle)], 1)
    return both[:, :1] if float(part) == 2 else both


def fitted(place: SiteActivations, numbers: Float[ndarray, " n"], periods: tuple[float, ...]) -> NumberFit:
    """Least squares of the class means on a constant, the line and every period; raises ``OutOfRange`` where there
    are too few numbers."""
    names = [LINE, *(f"{period:g}" for period in periods)]
    blocks = [columns_of(name, numbers) for name in names]
    basis = np.hstack([np.ones((len(numbers), 1)), *blocks])
    if np.linalg.matrix_rank(basis) < basis.shape[1] or len(numbers) <= basis.shape[1]:
        raise OutOfRange(
            f"{len(numbers)} numbers cannot tell a line and the periods {', '.join(names[1:])} apart; give fewer periods "
            "or a wider range"
        )
    means = place.means.double().numpy()
    found = np.linalg.lstsq(basis, means, rcond=None)[0]
    rest, centred = means - basis @ found, means - means.mean(0)
    ends = np.cumsum([1, *(block.shape[1] for block in blocks)])
    parts = {name: found[a:b] for name, a, b in zip(names, ends[:-1], ends[1:], strict=True)}
    scaled = (basis - basis.mean(0))[:, 1:]
    condition = float(np.linalg.cond(scaled / np.linalg.norm(scaled, axis=0)))
    r2 = float(1 - (rest**2).sum() / (centred**2).sum())
    return NumberFit(place, numbers, periods, r2, condition, parts)


def check_numbers(values: Sequence[str], name: str) -> None:
    """Raises ``UsageError`` where a value of the domain ``name`` is no number."""
    if (word := next((value for value in values if not value.strip().isdecimal()), None)) is not None:
        raise UsageError(f"the values of {name} are no numbers ({word!r}); choose numbers, mod-N or hours-12")


def numbers_of(values: Sequence[str], name: str) -> Float[ndarray, " n"]:
    """The values as consecutive numbers; raises ``UsageError``."""
    check_numbers(values, name)
    found = np.array([int(value) for value in values], dtype=np.float64)
    if not (np.diff(found) == 1).all():
        raise UsageError(
            f"the values of {name} are not consecutive numbers; choose numbers, mod-N or hours-12"
        )
    return found
