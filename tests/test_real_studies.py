"""A study of a real language model ends in a word. In a file of its own, which one worker takes: minutes each."""

import pytest
from real_models import NAMES, real_model

from mechfourier.causal.study import study


@pytest.mark.real
@pytest.mark.parametrize("name", NAMES)
def test_a_study_of_days_ends_in_used_or_not_used(name: str) -> None:
    """Months: benchmarks/real_models.py."""
    found = study(real_model(name), "days", n_permutations=99, text=(), n_prompts=14)
    assert found.used in ("used", "not used")
    assert found.task == "list" and found.accuracy is not None and found.accuracy >= 0.95
    assert found.rotation is not None and found.rotation.n_controls == 200
    assert f"task {found.task}" in str(found)
