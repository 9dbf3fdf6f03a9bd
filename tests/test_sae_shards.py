"""Shards: every row once per pass, in another order every time, the same from any place, and whole again
after damage."""

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sae_models import MLP, stored, tiny_model

from mechfourier.errors import BadCheckpoint, MechFourierError, UnknownSite, UsageError
from mechfourier.hooks.capture import capture
from mechfourier.hooks.site import Site
from mechfourier.sae import shards as module
from mechfourier.sae.own import own_rows
from mechfourier.sae.rows import Reading
from mechfourier.sae.shards import Shards, Stream, capture_rows, check_site


def numbered(count: int, d: int = 3) -> torch.Tensor:
    return torch.arange(count, dtype=torch.float32)[:, None].expand(count, d).contiguous()


def read(stream: Stream, batches: int) -> torch.Tensor:
    return torch.cat([next(stream)[MLP][:, 0] for _ in range(batches)])


@given(st.integers(10, 200), st.integers(1, 7), st.integers(1, 64), st.integers(1, 5))
def test_every_row_comes_once_per_pass(
    tmp_path_factory, count: int, batch: int, bucket: int, parts: int
) -> None:
    before = module.BUCKET_BYTES
    try:
        module.BUCKET_BYTES = bucket * 12
        folder = tmp_path_factory.mktemp("shards")
        stream = Stream(stored(folder, numbered(count), parts=parts), batch, seed=1)
        seen = read(stream, -(-2 * count // batch))
    finally:
        module.BUCKET_BYTES = before
    first, second = seen[:count], seen[count : 2 * count]
    assert sorted(first.tolist()) == sorted(second.tolist()) == list(range(count))


def test_passes_differ_and_neighbours_do_not_stay_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BUCKET_BYTES", 500 * 12)
    stream = Stream(stored(tmp_path, numbered(4000), parts=8), 100, seed=0)
    first, second = read(stream, 40), read(stream, 40)
    assert not torch.equal(first, second)
    # a shuffled order has no memory of where a row lay: no correlation with it, and rarely two neighbours
    # side by side
    place = torch.arange(4000).float()
    assert abs(torch.corrcoef(torch.stack([place, first]))[0, 1]) < 0.08
    assert int(((first[1:] - first[:-1]).abs() == 1).sum()) < 20


def test_seeking_gives_the_same_as_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BUCKET_BYTES", 40 * 12)
    shards = stored(tmp_path, numbered(101))
    whole = [next(stream)[MLP] for stream in [Stream(shards, 8, seed=3)] for _ in range(40)]
    for place in (0, 1, 12, 13, 30):
        again = Stream(shards, 8, seed=3)
        again.seek(place)
        assert torch.equal(next(again)[MLP], whole[place])


def test_a_bucket_holds_a_bounded_number_of_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BUCKET_BYTES", 64 * 12)
    for count in (100, 1000, 3000):
        shards = stored(tmp_path / str(count), numbered(count), parts=5)
        assert max(shards.bucket_rows(i) for i in range(shards.buckets)) <= 64 + 5


@pytest.mark.parametrize("damage", ["lost", "cut"])
def test_a_damaged_shard_is_named_and_captured_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    monkeypatch.setattr(module, "LEAST_ROWS", 100)
    monkeypatch.setattr(module, "SHARD_BYTES", 0)
    model = tiny_model()

    def collect() -> Shards:
        return Shards(tmp_path, (MLP,), (24,), 0).collect(model, own_rows(model, Reading()), 10_000)

    whole = collect()
    before = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in tmp_path.glob("shard-*")}
    assert len(before) == 6 and whole.rows == 23**2
    victim = tmp_path / "shard-00002.safetensors"
    if damage == "lost":
        victim.unlink()
    else:
        victim.write_bytes(before[victim.name][0][:-40])
    with pytest.raises(BadCheckpoint, match=r"shard-00002.*--resume"):
        whole.bucket(0)
    collect()
    for path in tmp_path.glob("shard-*"):
        content, written = before[path.name]
        assert path.read_bytes() == content
        assert (path.stat().st_mtime_ns == written) == (path != victim)


def test_what_was_captured_is_what_capture_gives() -> None:
    model = tiny_model(7)
    rows = list(own_rows(model, Reading(positions="all")))
    sites = [Site.parse(MLP), Site("z", 0)]
    acts = capture_rows(model, rows, sites)
    wanted = capture(model, torch.tensor([row.ids for row in rows]), sites, "all")
    assert torch.allclose(acts[MLP], wanted[MLP].flatten(0, 1))
    assert torch.allclose(acts[str(sites[1])], wanted[sites[1]].flatten(2).flatten(0, 1))


def test_nan_activations_stop_before_anything_is_written(tmp_path: Path) -> None:
    model = tiny_model()
    with torch.no_grad():
        model.blocks[0].mlp.W_in[0, 0] = float("nan")  # type: ignore[union-attr, index]
    with pytest.raises(MechFourierError, match="NaN or infinite"):
        Shards(tmp_path, (MLP,), (24,), 0).collect(model, own_rows(model, Reading()), 1000)
    assert not list(tmp_path.glob("shard-*"))


def test_wrong_sites_are_refused() -> None:
    with pytest.raises(UnknownSite, match=r"closest.*mlp\.hook_post"):
        check_site(tiny_model(), "blocks.0.mlp.hook_pots")
    with pytest.raises(UsageError, match="attention"):
        check_site(tiny_model(), "blocks.0.attn.hook_pattern")


def test_a_disk_that_is_too_small_is_said_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"GiB free.*--rows"):
        Shards(tmp_path, (MLP,), (24,), 0).collect(tiny_model(), own_rows(tiny_model(), Reading()), 10**13)


def test_an_empty_stream_and_an_unfinished_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no sequence"):
        Shards(tmp_path, (MLP,), (24,), 0).collect(tiny_model(), iter(()), 10)
    with pytest.raises(MechFourierError, match="not complete"):
        Stream(Shards(tmp_path, (MLP,), (24,), 0), 4, seed=0)
