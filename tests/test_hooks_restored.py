"""Interventions always restore the model and never silently do nothing; bad parts and values are said."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
import torch
from hook_models import D_MODEL, IDS, N_HEADS, SITE, basis, read, toy, transformer

from mechfourier.errors import HookNeverFired, InterventionChangedNothing, OutOfRange, UnknownSite, UsageError
from mechfourier.hooks import add, capture, intervene, mean, patch, project_out, resample, rotate, zero
from mechfourier.hooks.interventions import edit_patch
from mechfourier.hooks.site import Site


def hooks_on(model: Any) -> int:
    return sum(len(point._forward_hooks) + len(point.fwd_hooks) for point in model.hook_dict.values())


MAKERS: list[Callable[[Any], AbstractContextManager[None]]] = [
    lambda model: zero(model, SITE),
    lambda model: mean(model, SITE, torch.ones(D_MODEL)),
    lambda model: resample(model, SITE),
    lambda model: project_out(model, SITE, basis(2)),
    lambda model: patch(model, SITE, torch.ones(6, D_MODEL)),
    lambda model: add(model, SITE, torch.ones(D_MODEL)),
    lambda model: rotate(model, SITE, basis(2), 1.0),
]


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_they_restore_whatever_happens(make: Any, error: type[BaseException]) -> None:
    before, count = read(transformer(), IDS), hooks_on(transformer())
    with pytest.raises(error), make(transformer()):
        assert hooks_on(transformer()) > count
        raise error("in the block")
    assert hooks_on(transformer()) == count
    assert torch.equal(read(transformer(), IDS), before)


@pytest.mark.parametrize("make", MAKERS)
def test_they_say_when_the_hook_never_fired(make: Any) -> None:
    with pytest.raises(HookNeverFired, match=r"blocks\.1\.hook_resid_post did not run"), make(toy()):
        pass
    assert hooks_on(toy()) == 0


def test_they_say_when_nothing_changed() -> None:
    frozen = capture(toy(), IDS, SITE, "all")[SITE]
    for make in (
        lambda: patch(toy(), SITE, frozen),
        lambda: add(toy(), SITE, torch.zeros(D_MODEL)),
        lambda: rotate(toy(), SITE, basis(2), 0.0),
        lambda: zero(toy(), SITE, rows=[77]),
        lambda: resample(toy(), SITE, rows=[0]),
    ):
        with pytest.raises(InterventionChangedNothing, match=r"at blocks\.1\.hook_resid_post in toy"), make():
            toy()(IDS)
    with intervene(toy(), [edit_patch(SITE, frozen)], must_change=False):
        toy()(IDS)


def test_a_site_after_the_end_of_a_capture_never_fires() -> None:
    with pytest.raises(HookNeverFired), zero(toy(), SITE):
        capture(toy(), IDS, Site("resid_post", 0))


@pytest.mark.parametrize(
    ("part", "error", "words"),
    [
        (
            {"dims": 16},
            OutOfRange,
            r"dimension 16 of blocks\.1\.hook_resid_post is out of range: it has 16 \(0-15\)",
        ),
        ({"dims": -17}, OutOfRange, "dimension -17"),
        ({"dims": []}, UsageError, "dims is empty"),
        ({"dims": 1, "subspace": basis(1)}, UsageError, "not both"),
        ({"subspace": torch.ones(D_MODEL, 2)}, UsageError, "orthonormal"),
        ({"subspace": basis(2, d=8)}, OutOfRange, "lies in 8 dimensions, and .* has 16"),
        ({"subspace": basis(2).T}, UsageError, "r ≤ d"),
        ({"positions": 5}, OutOfRange, "position 5 .*it has 5"),
        ({"positions": torch.tensor([0, 1])}, OutOfRange, "entries for 2 prompts, and prompt 5"),
        ({"dims": torch.zeros(2, 1, dtype=torch.long)}, OutOfRange, "dims has entries for 2 prompts"),
        ({"head": 0}, UsageError, "no heads"),
    ],
)
def test_bad_parts(part: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words), zero(toy(), SITE, **part):
        toy()(IDS)
    assert hooks_on(toy()) == 0


def test_bad_values() -> None:
    with pytest.raises(UsageError, match="two columns"):
        rotate(toy(), SITE, basis(3), 1.0)
    with (
        pytest.raises(OutOfRange, match="donors has entries for 2 prompts"),
        patch(toy(), SITE, torch.ones(2, D_MODEL)),
    ):
        toy()(IDS)
    with (
        pytest.raises(UsageError, match="donors have 3 positions"),
        patch(toy(), SITE, torch.ones(6, 3, D_MODEL)),
    ):
        toy()(IDS)
    with pytest.raises(UsageError, match=r"\[prompt, d\] or \[prompt, pos, d\]"):
        patch(toy(), SITE, torch.ones(6, 1, 2, 3, D_MODEL))
    with pytest.raises(UnknownSite, match="closest"), zero(toy(), Site("resid_pots", 1)):
        pass
    with (
        pytest.raises(OutOfRange, match=f"head {N_HEADS} of"),
        zero(transformer(), Site("z", 0), head=N_HEADS),
    ):
        transformer()(IDS)
