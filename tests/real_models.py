"""The real language models that tests marked ``real`` run on: found as a user's are, and never downloaded by
a test.

``pytest.mark.real`` tests take ``real_model("gemma3-270m")`` (or ``"qwen2.5-0.5b"``), or ``real_folder``: the
model's Hugging Face folder; or a skip with the reason. Install the weights with ``make test-real``, or name a folder of
models in ``$MECHFOURIER_MODELS``.
"""

import contextlib
import functools
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mechfourier.errors import MechFourierError
from mechfourier.models.registry import load, resolve

NAMES = ("gemma3-270m", "qwen2.5-0.5b")
# read before a test's own cache takes its place: what is converted once serves every test and every worker
CACHE = os.environ.get("MECHFOURIER_REAL_CACHE") or os.environ.get("MECHFOURIER_CACHE")


def real_folder(name: str) -> Path:
    """The folder of the real model ``name``, converted once into the user's cache; skips where its weights
    are absent."""
    with _users_cache():
        try:
            return resolve(name).absolute()
        except MechFourierError as error:
            pytest.skip(f"the weights of {name} are not here: {error}")


@functools.lru_cache(maxsize=2)
def real_model(name: str) -> Any:
    """The real model ``name``, loaded and checked once for all tests of a worker, which leave it as it is."""
    folder = real_folder(name)
    with _users_cache():
        return load(folder)


@contextlib.contextmanager
def _users_cache() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        if CACHE is not None:
            patch.setenv("MECHFOURIER_CACHE", CACHE)
        else:
            patch.delenv("MECHFOURIER_CACHE", raising=False)
        # a test that has changed its working directory must not find a folder of that name there
        patch.chdir(tempfile.gettempdir())
        yield
