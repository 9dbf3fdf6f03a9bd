"""Shapes are checked at run time in every test: jaxtyping annotations are enforced by beartype."""

import os
from collections import Counter
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# one thread per worker, set before torch is imported: two workers with two spinning threads each take four
# times as long on two cores
os.environ.setdefault("OMP_NUM_THREADS", "1")

from hypothesis import settings
from runtime_types import calls, install

CHECKED = [
    "models",
    "domains",
    "stats",
    "toys",
    "training",
    "fourier",
    "hooks",
    "probes",
    "causal",
    "sae",
    "harvest",
    "figures",
    "sweep",
    "reproduce",
    "atlas",
]
install([f"mechfourier.{layer}" for layer in CHECKED])

# the first example of a test pays for imports, and the machine may be busy: no limit per example
settings.register_profile("mechfourier", deadline=None, max_examples=30, derandomize=True)
settings.load_profile("mechfourier")

LONGEST = ("test_real_studies.py", "test_notebooks.py", "test_atlas.py", "test_causal_rule.py")
"""Files of few tests that take minutes: a worker that began one last would leave the other idle."""

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, then those of many tests (with --no-loadscope-reorder)."""
    tests = Counter(item.path for item in items)
    first = {name: index for index, name in enumerate(LONGEST)}
    items.sort(key=lambda item: (first.get(item.path.name, len(LONGEST)), -tests[item.path]))


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes the user's activation store."""
    monkeypatch.setenv("MECHFOURIER_CACHE", str(tmp_path / "cache"))


@pytest.fixture(autouse=True)
def _shapes_are_checked() -> None:
    """In the first calls of every test."""
    calls.clear()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of development data that does not ship with the package."""
    if not SHARED.is_dir():
        pytest.skip("the development data (../shared/data) is not here")
    return SHARED


@pytest.fixture(scope="module")
def browser() -> Generator[Any]:
    """A headless Chromium, for modules that are skipped where there is none."""
    from playwright.sync_api import sync_playwright

    from mechfourier.figures.png import find_chromium

    with sync_playwright() as play:
        opened = play.chromium.launch(executable_path=find_chromium(), args=["--no-sandbox"])
        yield opened
        opened.close()


def _skip_what_left(error: BaseException) -> None:
    """TransformerLens 4 has no HookedTransformer: what is about it alone is skipped there, with the
    reason."""
    if "TransformerLens 4" in str(error) or "left TransformerLens in 4.0" in str(error):
        pytest.skip(str(error).split(".")[0])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup() -> Generator[None]:
    try:
        return (yield)
    except Exception as error:
        _skip_what_left(error)
        raise


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None]:
    try:
        return (yield)
    except Exception as error:
        _skip_what_left(error)
        raise
