"""The store gives back exactly what was captured, never what was captured from something else, and never
damage."""

import errno
import multiprocessing
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from hook_models import Toy, tokens, toy, transformer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mechfourier.errors import MechFourierError, UsageError
from mechfourier.files import default_folder
from mechfourier.hooks.capture import Activations, capture
from mechfourier.hooks.run import hooked
from mechfourier.hooks.site import Site
from mechfourier.hooks.store import ActivationStore

RESID = Site("resid_post", 1)


def same(a: Activations, b: Activations) -> bool:
    logits = a.logits is b.logits or (
        a.logits is not None and b.logits is not None and torch.equal(a.logits, b.logits)
    )
    return a.sites == b.sites and logits and all(torch.equal(a[site], b[site]) for site in a.sites)


@pytest.fixture
def store(tmp_path: Path) -> ActivationStore:
    return ActivationStore(tmp_path / "store")


def test_the_second_run_does_not_run_the_model(store: ActivationStore) -> None:
    model, ids = Toy(), tokens(6, 4)
    first = capture(model, ids, "resid_post", logits=True, store=store)
    ran = model.blocks_run
    second = capture(model, ids, "resid_post", logits=True, store=ActivationStore(store.root))
    assert model.blocks_run == ran > 0
    assert same(first, second)
    assert same(first, capture(model, ids, "resid_post", logits=True))


def test_only_what_is_missing_is_computed(store: ActivationStore) -> None:
    model, ids = Toy(), tokens(6, 4)
    capture(model, ids, Site("resid_post", 0), store=store)
    assert model.blocks_run == 1
    capture(model, ids, ["embed", Site("resid_post", 0)], store=store)
    assert model.blocks_run == 1, "the embedding alone needs no block"
    both = capture(model, ids, "resid_post", store=store)
    assert model.blocks_run == 3 and both.stack().shape == (2, 6, 16)


def test_nothing_else_is_ever_taken_for_it(store: ActivationStore) -> None:
    model, ids = Toy(), tokens(6, 4)
    capture(model, ids, RESID, store=store)

    def ran(**changes: Any) -> bool:
        before = model.blocks_run
        request: dict[str, Any] = {"prompts": ids, "sites": RESID, "positions": "last"} | changes
        fresh = capture(model, store=store, **request)
        assert same(fresh, capture(model, **request))
        return model.blocks_run - before > 2  # two of them are the comparison's

    assert not ran()
    assert not ran(positions=-1), "the same positions in other words"
    assert ran(positions=0) and ran(positions="all")
    assert ran(positions=torch.full((6, 1), 3)), "another shape"
    assert ran(prompts=tokens(6, 4, seed=1)) and ran(prompts=ids.flip(0))
    with torch.no_grad():
        model.head.weight.mul_(1.01)
    assert ran()
    with torch.no_grad():
        model.embed.weight[int(ids[0, 0]), 0] += 1
    assert ran()
    model.double()
    assert ran()


def test_interventions_go_past_the_store(store: ActivationStore) -> None:
    model, ids = toy(), tokens(3, 4)
    clean = capture(model, ids, RESID, store=store)
    with hooked(model, [(Site("resid_pre", 0), lambda value: value * 0)]):
        edited = capture(model, ids, RESID, store=store)
    assert not torch.equal(clean[RESID], edited[RESID])
    assert same(capture(model, ids, RESID, store=store), clean)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(where=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7), cut=st.booleans())
def test_a_flipped_bit_or_a_lost_end_is_noticed(
    store: ActivationStore, where: float, bit: int, cut: bool
) -> None:
    value = torch.arange(12.0).reshape(3, 4)
    store.put("aa" * 32, value, site="x")
    (path,) = store.folder.rglob("*.safetensors")
    content = bytearray(path.read_bytes())
    place = int(where * len(content))
    content[place] ^= 1 << bit
    path.write_bytes(content[:place] if cut else content)
    found = store.get("aa" * 32)
    # A flip in the header's free text (whose model, which site) leaves the array as it was.
    assert found is None or (not cut and torch.equal(found, value) and found.dtype == value.dtype)
    if found is None:
        assert not path.exists()


def test_a_damaged_shard_is_computed_again(store: ActivationStore) -> None:
    model, ids = Toy(), tokens(3, 4)
    first = capture(model, ids, RESID, store=store)
    (path,) = store.folder.rglob("*.safetensors")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert same(capture(model, ids, RESID, store=store), first)
    ran = model.blocks_run
    assert same(capture(model, ids, RESID, store=store), first) and model.blocks_run == ran


def test_a_shard_under_another_name_is_refused(store: ActivationStore) -> None:
    store.put("ab" * 32, torch.ones(3))
    (path,) = store.folder.rglob("*.safetensors")
    path.rename(path.with_name("ac" * 32 + ".safetensors"))
    (store.folder / "ab").rename(store.folder / "ac")
    assert store.get("ac" * 32) is None


def test_the_least_recently_used_go_first(tmp_path: Path) -> None:
    one = ActivationStore(tmp_path)
    one.put("00" * 32, torch.zeros(1000))
    per_shard = one.size()
    store = ActivationStore(tmp_path, max_bytes=3 * per_shard)
    for i in range(3):
        store.put(f"{i:02d}" * 32, torch.zeros(1000))
        (path,) = (store.folder / f"{i:02d}").iterdir()
        os.utime(path, (i, i))
    assert store.get("00" * 32) is not None, "reading makes it the most recently used"
    store.put("03" * 32, torch.zeros(1000))
    assert {shard.key[:2] for shard in store.ls()} == {"00", "02", "03"}
    assert store.size() <= store.max_bytes


def test_ls_and_clear(store: ActivationStore) -> None:
    capture(transformer(), tokens(3, 4), "resid_post,embed", store=store)
    shards = store.ls()
    assert {shard.site for shard in shards} == {
        "hook_embed",
        *(f"blocks.{i}.hook_resid_post" for i in range(3)),
    }
    assert all(shard.shape == (3, 16) and shard.model == "HookedTransformer" for shard in shards)
    assert sum(shard.bytes for shard in shards) == store.size() == store.clear()
    assert store.ls() == () and store.size() == 0


def test_what_killed_processes_left_is_removed(store: ActivationStore) -> None:
    store.put("00" * 32, torch.zeros(10))
    part = store.folder / "00" / ".x.safetensors.y.part"
    part.write_bytes(b"half")
    assert len(store.ls()) == 1
    store.clear()
    assert not part.exists()


def test_a_full_disk_costs_the_cache_and_not_the_result(
    store: ActivationStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("mechfourier.hooks.store.save_file", full)
    with pytest.warns(RuntimeWarning, match="not stored: cannot write in .*No space left.*MECHFOURIER_CACHE"):
        found = capture(toy(), tokens(2, 3), RESID, store=store)
    assert same(found, capture(toy(), tokens(2, 3), RESID))
    with pytest.raises(MechFourierError, match="no space left"):
        store.put("aa" * 32, torch.ones(1))
    assert not list(store.folder.rglob("*.*"))


def test_the_default_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert default_folder() == tmp_path / "cache"
    monkeypatch.delenv("MECHFOURIER_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert default_folder() == Path("/somewhere/mechfourier")
    with pytest.raises(UsageError, match="at least 1; got 0"):
        ActivationStore(max_bytes=0)


def _hammer(folder: str, worker: int, failures: Any) -> None:
    """Write, read and evict the same keys as another process does; every read must be whole or absent."""
    store = ActivationStore(folder, max_bytes=60_000)
    for turn in range(60):
        number = (turn * 7 + worker) % 8
        key = f"{number:02d}" * 32
        value = store.get(key)
        if value is not None and not torch.equal(value, torch.full((2000,), float(number))):
            failures.put((worker, turn))
        store.put(key, torch.full((2000,), float(number)))


def test_two_processes_share_it(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    failures = context.Queue()
    workers = [context.Process(target=_hammer, args=(str(tmp_path), i, failures)) for i in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert failures.empty()
    store = ActivationStore(tmp_path, max_bytes=60_000)
    assert 0 < store.size() <= 60_000
    assert not list(store.folder.rglob("*.part"))


@pytest.mark.parametrize("kind", ["register_forward_hook", "register_forward_pre_hook"])
def test_a_hook_of_pytorch_goes_past_the_store(store: ActivationStore, kind: str) -> None:
    model, ids = transformer(), tokens(6, 4)
    clean = capture(model, ids, RESID, store=store)
    block = model.get_submodule("blocks.0.mlp" if kind == "register_forward_hook" else "blocks.1")
    handle = getattr(block, kind)(lambda module, args, *output: (output or args)[0] * 0 + 1)
    changed = capture(model, ids, RESID, store=store)
    handle.remove()
    assert not torch.equal(changed[RESID], clean[RESID])
    assert same(capture(model, ids, RESID, store=store), clean)
