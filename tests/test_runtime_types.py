"""Arrays of another shape than an annotation's are refused in tests, in functions and in the fields of
results."""

import numpy as np
import pytest
import torch
from jaxtyping import Float, Int, TypeCheckError
from runtime_types import has_arrays
from torch import Tensor

from mechfourier.hooks.unembed import Unembedding
from mechfourier.stats.analogies import analogies


def test_functions_are_checked() -> None:
    with pytest.raises(TypeCheckError, match="vectors"):
        analogies(np.zeros((3, 4, 5)))


def test_fields_are_checked() -> None:
    with pytest.raises(TypeCheckError, match="weights"):
        Unembedding(torch.zeros(3), None, 0.0)


def test_axes_of_one_name_are_equal() -> None:
    with pytest.raises(TypeCheckError, match="bias"):
        Unembedding(torch.zeros(3, 4), torch.zeros(5), 0.0)


@pytest.mark.parametrize(
    ("hint", "arrays"),
    [
        (Float[Tensor, "d"], True),
        (Int[Tensor, "d"] | str, True),
        (dict[str, list[Float[Tensor, "d"]]], True),
        ("Float[Tensor, 'd'] | None", True),
        (Tensor, False),
        ("list[int]", False),
        (list[int] | None, False),
    ],
)
def test_arrays_are_found_in_every_annotation(hint: object, arrays: bool) -> None:
    assert has_arrays(hint) is arrays
