"""Reading back: the memory of the files themselves, rows that lead to their text, and batches that SAELens
trains on."""

from pathlib import Path
from typing import Any

import pytest
import torch
from harvest_text import ALL, model_and_text

from mechfourier.errors import OutOfRange, UnknownSite, UsageError
from mechfourier.harvest import Harvest, capture_dataset, open_harvest
from mechfourier.sae import shards as sae_shards

TOKENS, SHARD = 900, 256
SITE = "blocks.1.hook_resid_post"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    base = tmp_path_factory.mktemp("read")
    model, text = model_and_text(base)
    from mechfourier.models.registry import load

    loaded = load(str(model))
    for dtype in ("float32", "float16", "bfloat16"):
        capture_dataset(
            loaded,
            base / dtype,
            dataset=str(text),
            layers="0-1",
            tokens=TOKENS,
            shard_tokens=SHARD,
            dtype=dtype,
            reading=ALL,
        )
    return {dtype: base / dtype for dtype in ("float32", "float16", "bfloat16")}


@pytest.fixture
def harvest(folders: dict[str, Path]) -> Harvest:
    return open_harvest(folders["float32"])


def mapped(folder: Path) -> list[tuple[int, int]]:
    """The addresses at which files of the folder lie in this process's memory."""
    found = []
    for line in Path("/proc/self/maps").read_text().splitlines():
        if str(folder) in line:
            start, stop = (int(part, 16) for part in line.split()[0].split("-"))
            found.append((start, stop))
    return found


def inside(folder: Path, address: int) -> bool:
    return any(start <= address < stop for start, stop in mapped(folder))


def test_tensors_and_the_dataset_are_the_memory_of_the_files(harvest: Harvest) -> None:
    column = harvest.site(SITE)
    assert [tuple(part.shape) for part in column] == [(256, 48)] * 3 + [(132, 48)]
    assert all(inside(harvest.folder, part.data_ptr()) for part in column)
    assert not inside(harvest.folder, column[0].clone().data_ptr())
    data = harvest.dataset()
    assert data.num_rows == TOKENS and data.column_names == ["token", "document", "position", *harvest.sites]
    for number, chunk in enumerate(data.data.column(SITE).chunks):
        assert chunk.flatten().buffers()[1].address == column[number].data_ptr()
    for number, chunk in enumerate(data.data.column("document").chunks):
        assert chunk.buffers()[1].address == harvest.text("document")[number].data_ptr()


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_the_dataset_gives_the_rows_of_the_tensors(folders: dict[str, Path], dtype: str) -> None:
    harvest = open_harvest(folders[dtype])
    whole = torch.cat(list(harvest.site(SITE)))
    got = harvest.dataset().with_format("torch")[250:520]
    assert torch.equal(got[SITE], whole[250:520].float())
    assert got["position"].tolist() == torch.cat(list(harvest.text("position")))[250:520].tolist()
    chosen = harvest.dataset().filter(lambda row: row["token"] == 5, keep_in_memory=True)
    assert chosen.num_rows == int((torch.cat(list(harvest.text("token"))) == 5).sum()) > 0


def test_what_arrow_cannot_hold_is_said(folders: dict[str, Path]) -> None:
    with pytest.raises(UsageError, match="bfloat16, which Arrow has no type for"):
        open_harvest(folders["bfloat16"]).dataset()


def test_wrong_names_rows_and_batches_are_explained(harvest: Harvest, tmp_path: Path) -> None:
    with pytest.raises(UnknownSite, match=r"closest: blocks\.1\.hook_resid_post"):
        harvest.site("blocks.1.hook_resid_pos")
    with pytest.raises(UsageError, match="choose token, document, position"):
        harvest.text("tokens")
    for row in (-1, TOKENS):
        with pytest.raises(OutOfRange, match=f"row {row} is outside the 900 rows"):
            harvest.where(row)
    for batch in (0, TOKENS + 1):
        with pytest.raises(OutOfRange, match=f"batch of {batch} "):
            harvest.provider(SITE, batch_size=batch)
    with pytest.raises(UsageError, match="holds 2 sites"):
        harvest.provider()
    with pytest.raises(UsageError, match="holds no harvest"):
        open_harvest(tmp_path)


def test_a_row_leads_to_its_text(harvest: Harvest, folders: dict[str, Path]) -> None:
    lines = (folders["float32"].parent / "corpus.txt").read_text().splitlines()
    for row in (0, 255, 256, 700, TOKENS - 1):
        near = harvest.around(row, 3, 3)
        words = lines[near[0].document].split()
        assert [f"w{p.token - 2}" for p in near] == [words[p.position] for p in near]
        assert row in [p.row for p in near] and len({p.document for p in near}) == 1


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_the_provider_gives_every_row_once_per_pass(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch, dtype: str
) -> None:
    monkeypatch.setattr(sae_shards, "BUCKET_BYTES", 300 * 48 * 4)
    harvest = open_harvest(folders[dtype])
    whole = torch.cat(list(harvest.site(SITE))).float()
    passes = []
    for seed in (1, 1, 2):
        batches = harvest.provider(SITE, batch_size=100, seed=seed)
        passes.append([torch.cat([next(batches) for _ in range(9)]) for _ in range(2)])
    for first, second in passes:
        assert sorted(first.tolist()) == sorted(second.tolist()) == sorted(whole.tolist())
        assert not torch.equal(first, second)
    assert torch.equal(passes[0][0], passes[1][0]) and not torch.equal(passes[0][0], passes[2][0])


def test_batches_in_order_are_views(harvest: Harvest) -> None:
    batches = harvest.provider(SITE, batch_size=100, shuffle=False)
    got = [next(batches) for _ in range(11)]
    assert all(inside(harvest.folder, batch.data_ptr()) for batch in got)
    assert torch.equal(torch.cat(got), torch.cat(list(harvest.site(SITE))))
    assert torch.equal(next(batches), got[0])


def test_saelens_trains_on_the_provider(harvest: Harvest) -> None:
    pytest.importorskip("sae_lens")
    from sae_lens import SAETrainer, TopKTrainingSAE, TopKTrainingSAEConfig
    from sae_lens.config import LoggingConfig, SAETrainerConfig

    sae = TopKTrainingSAE(TopKTrainingSAEConfig(d_in=48, d_sae=96, k=8))
    options: dict[str, Any] = {
        "n_checkpoints": 0,
        "checkpoint_path": None,
        "save_final_checkpoint": False,
        "total_training_samples": 60 * 300,
        "device": "cpu",
        "autocast": False,
        "lr": 3e-3,
        "lr_end": 3e-4,
        "lr_scheduler_name": "constant",
        "lr_warm_up_steps": 0,
        "adam_beta1": 0.9,
        "adam_beta2": 0.999,
        "lr_decay_steps": 0,
        "n_restart_cycles": 1,
        "train_batch_size_samples": 300,
        "dead_feature_window": 1000,
        "feature_sampling_window": 2000,
        "logger": LoggingConfig(log_to_wandb=False),
    }
    acts = torch.cat(list(harvest.site(SITE)))

    def error() -> float:
        with torch.no_grad():
            return float(((sae.decode(sae.encode(acts)) - acts) ** 2).mean())

    before = error()
    trainer = SAETrainer(SAETrainerConfig(**options), sae, harvest.provider(SITE, batch_size=300, seed=0))
    trainer.fit()
    assert trainer.n_training_samples == 60 * 300 and error() < 0.5 * before
