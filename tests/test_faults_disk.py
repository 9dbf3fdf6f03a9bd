"""A full disk under the commands that write: one sentence, no half of a file, and once there is room the same
command works.

Trainings, captures and the writers themselves are in test_faults_runs.py and test_harvest.py.
"""

import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from sae_models import tiny_model
from safetensors.torch import load_file
from small_run import write_run
from test_faults_fuzz import call, run_tiny
from test_faults_runs import mounted

from mechfourier.errors import DiskFull, MechFourierError
from mechfourier.sae import shards, training
from mechfourier.sae.settings import Dictionary, Schedule
from mechfourier.sweep import kinds
from mechfourier.sweep.grid import axis
from mechfourier.sweep.run import sweep
from mechfourier.toys.one_layer.model import OneLayerConfig, OneLayerTransformer


def grow(folder: Path, size: str) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size}", str(folder)], check=True)


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


@pytest.fixture()
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "run", checkpoints=2)


@pytest.mark.parametrize(
    ("words", "written"),
    [
        (["probe", "TINY", "--permutations", "99", "--no-controls", "--no-cache", "--out", "OUT"], 2),
        (["lens", "TINY", "--permutations", "20", "--out", "OUT"], 1),
        (["report", "RUN", "--out", "OUT/page.html"], 1),
        (["animate", "RUN", "--out", "OUT/circle.html"], 1),
        (["analyze", "RUN", "--out", "OUT"], 2),
        (["import", "FOREIGN", "--out", "OUT/model"], 2),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_command_on_a_full_disk_leaves_nothing_and_works_once_there_is_room(
    tmp_path: Path, run: Path, words: list[str], written: int
) -> None:
    tiny = tmp_path / "tiny"
    run_tiny(tiny)
    weights = load_file(run / "model.safetensors")
    torch.save(
        OneLayerTransformer(OneLayerConfig(p=13), weights=weights).state_dict(), tmp_path / "foreign.pt"
    )
    with mounted(tmp_path / "small", "size=8k") as out:
        places = {"TINY": tiny, "RUN": run, "FOREIGN": tmp_path / "foreign.pt", "OUT": out}
        filled = [str(places[w]) if w in places else w.replace("OUT", str(out)) for w in words]
        (out / "other").write_bytes(bytes(8192))
        code, said = call(*filled)
        assert code == 1 and said.strip().splitlines()[-1].startswith("error: no space left on the disk"), (
            said
        )
        assert files(out) == ["other"]
        grow(out, "60m")
        code, said = call(*filled)
        assert code == 0, said
        assert len(files(out)) >= 1 + written and not [name for name in files(out) if name.endswith(".part")]


def dictionaries(folder: Path) -> training.SAERun:
    wanted = [Dictionary("blocks.0.mlp.hook_post", "topk", "2x", k=4)]
    return training.train(
        tiny_model(), wanted, folder, schedule=Schedule(tokens=6400, batch=32), control=False, resume=True
    )


@pytest.mark.parametrize("moment", ["shards", "state", "dictionary"])
def test_a_disk_that_fills_up_under_a_dictionary_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    monkeypatch.setattr(shards, "LEAST_ROWS", 100)
    monkeypatch.setattr(shards, "SHARD_BYTES", 1)
    dictionaries(tmp_path / "whole")
    with mounted(tmp_path / "small", "size=3m") as disk:
        filler = disk / "other"

        def fill(*_: Any) -> None:
            with filler.open("ab", buffering=0) as file:
                try:
                    while file.write(bytes(4096)):
                        pass
                except OSError:
                    return

        calls = [0]
        places: dict[str, tuple[Any, str, int]] = {
            "shards": (shards.Shards, "_write", 3),
            "state": (training.RunFolder, "write_config", 1),
            "dictionary": (training, "write_dictionary", 1),
        }
        where, name, at = places[moment]
        real = getattr(where, name)

        def watched(*arguments: Any) -> Any:
            calls[0] += 1
            if calls[0] == at:
                fill()
            return real(*arguments)

        with monkeypatch.context() as patched:
            patched.setattr(where, name, watched)
            with pytest.raises(MechFourierError, match="no space left on the disk"):
                dictionaries(disk / "run")
        assert not list((disk / "run").rglob("*.part"))
        filler.unlink()
        dictionaries(disk / "run")
        one, other = (
            load_file(folder / "sae_weights.safetensors") for folder in (tmp_path / "whole", disk / "run")
        )
        assert set(one) == set(other) and all(torch.equal(one[key], other[key]) for key in one)


def test_a_disk_that_fills_up_under_a_sweep_is_no_failed_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that failed stays failed until --retry-failed; a disk that was full is nobody's fault but its
    own."""

    def heavy(folder: Path, *, seed: int = 0) -> kinds.Row:
        from mechfourier.files import write_text

        write_text(folder / "big", "x" * 40_000)
        return {"big": seed}

    monkeypatch.setitem(kinds.KINDS, "heavy", heavy)
    with mounted(tmp_path / "small", "size=100k") as disk:
        with pytest.raises(DiskFull):
            sweep("heavy", [axis("seed=0:4")], disk / "s", jobs=1)
        assert not list((disk / "s").rglob("*.part"))
        grow(disk, "2m")
        again = sweep("heavy", [axis("seed=0:4")], disk / "s", jobs=1)
        assert (again.done, again.failed) == (4, 0) and again.skipped >= 1
        assert again.frame()["big"].tolist() == [0, 1, 2, 3]
