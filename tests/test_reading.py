"""Foreign checkpoints: the same network in every layout; what is none; files that are something else."""

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_lines import output_of
from foreign_layouts import LAYOUTS, A, M, P, packaged, progress_measures, respelled, saved, small_network
from torch import Tensor, nn
from typer.testing import CliRunner

from mechfourier.cli.app import app
from mechfourier.errors import BadCheckpoint, MechFourierError, UnsafeCheckpoint, UsageError
from mechfourier.models.registry import load
from mechfourier.models.strangers import load_foreign
from mechfourier.toys.one_layer import analyze
from mechfourier.toys.reading import import_checkpoint, read
from mechfourier.toys.reading.acceptance import accept
from mechfourier.toys.reading.imported import Wish


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    return packaged()


@pytest.mark.parametrize("layout", list(LAYOUTS))
def test_every_layout_of_one_network_is_the_same_network(
    layout: str, weights: dict[str, Tensor], tmp_path: Path
) -> None:
    path = saved(LAYOUTS[layout](weights), tmp_path / "theirs.pt")
    found = import_checkpoint(path, tmp_path / "ours")
    assert found.accuracy == 1.0 and not found.refused
    for name, tensor in weights.items():
        assert torch.equal(found.weights[name], tensor), name
    assert any("left out" in line for line in found.explained) == (
        layout in ("progress-measures", "gpt2", "copies")
    )


def test_the_analysis_of_a_layout_is_that_of_the_network(weights: dict[str, Tensor], tmp_path: Path) -> None:
    path = saved(LAYOUTS["fused"](weights), tmp_path / "theirs.pt")
    import_checkpoint(path, tmp_path / "ours")
    ours, theirs = (analyze(source, over_run=False).to_dict() for source in ("one-layer", tmp_path / "ours"))
    for key in (
        "accuracy",
        "loss",
        "key_freqs",
        "w_l_power",
        "gini_W_L",
        "distance_irrelevance",
        "trig_loss",
    ):
        assert theirs[key] == pytest.approx(ours[key], abs=1e-6), key


@pytest.mark.slow
@pytest.mark.parametrize(("seed", "is_read"), [(0, True), (1, True), (3, False), (6, False)])
def test_names_that_say_nothing_are_read_right_or_refused(
    weights: dict[str, Tensor], seed: int, is_read: bool
) -> None:
    """Four draws; `benchmarks/foreign.py` has thirty, and five hundred files that are no such network."""
    if not is_read:
        with pytest.raises(BadCheckpoint):
            read(respelled(weights, seed))
        return
    found = read(respelled(weights, seed))
    assert not found.refused and found.accuracy == 1.0
    assert all(torch.equal(found.weights[name], tensor) for name, tensor in weights.items())


@pytest.mark.slow
def test_a_wrong_reading_of_such_names_is_refused_though_it_answers_nine_in_ten(
    weights: dict[str, Tensor],
) -> None:
    found = read(respelled(weights, 15))
    assert 0.9 < found.accuracy < 0.99 and "--map" in found.refused


def test_a_few_names_that_say_nothing(weights: dict[str, Tensor]) -> None:
    generator = torch.Generator().manual_seed(0)
    small = small_network()
    names = torch.randperm(len(small), generator=generator).tolist()
    state = {f"p{at}": list(small.values())[at] for at in names}
    found = read(state)
    assert found.accuracy == 1.0 and found.layout == "unnamed"
    for name, tensor in small.items():
        assert torch.equal(found.weights[name], tensor)


@pytest.mark.parametrize(
    "seed", [*range(4), *(pytest.param(n, marks=pytest.mark.slow) for n in range(4, 20))]
)
def test_what_is_no_network_on_the_task_is_refused(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    p = 13 + 2 * (seed % 4)
    state = small_network(p)
    kind = seed % 4
    if kind == 0:
        state = {name: torch.randn(value.shape, generator=generator) for name, value in state.items()}
    elif kind == 1:
        order = torch.cat([torch.randperm(p, generator=generator), torch.tensor([p])])
        state["embed.W_E"] = state["embed.W_E"][order]
    elif kind == 2:  # another task: 3 (a + b) + 1
        state["unembed.W_U"] = state["unembed.W_U"][:, (torch.arange(p) * 3 + 1) % p]
    else:  # another modulus, with tokens that stand for residues of it
        other = small_network(p - 4)
        rows = [*range(p - 4), *range(4), p - 4]
        state = other | {"embed.W_E": other["embed.W_E"][rows]}
        state["unembed.W_U"] = torch.cat([other["unembed.W_U"], torch.zeros(32, 4)], 1)
    found = read(state)
    assert found.refused, (found.accuracy, found.notes)
    if kind == 3:
        assert f"mod {p - 4}" in found.refused


def test_a_quarter_that_is_right_by_a_wrong_reading_is_refused_and_a_memorised_one_is_not() -> None:
    p, generator = 59, torch.Generator().manual_seed(0)
    a, b = torch.meshgrid(torch.arange(p), torch.arange(p), indexing="ij")
    table = (a + b) % p
    noise = torch.randint(0, p, (p, p), generator=generator)
    memorised = torch.where(torch.rand(p, p, generator=generator) < 0.3, table, noise)
    assert accept(memorised, table, tried=100).reason == ""
    corner = torch.where((a < p // 2) & (b >= p // 2), table, noise)
    assert "follows" in accept(corner, table, tried=100).reason
    assert "a + b mod 58" in accept((a + b) % 58, table, tried=100).reason
    assert "without a modulus" in accept(a + b, table, tried=100).reason
    assert accept(noise, table, tried=1).p_value > 1e-6


def test_below_nine_tenths_a_warning_says_what_else_was_tried() -> None:
    state = small_network(29)
    state["unembed.W_U"] = state["unembed.W_U"] + 3 * torch.randn(
        32, 29, generator=torch.Generator().manual_seed(3)
    )
    found = read(state)
    assert 0.2 < found.accuracy < 0.9 and not found.refused
    assert any(note.startswith("warning: only") and "also tried" in note for note in found.notes)


def test_a_key_map(tmp_path: Path) -> None:
    small = small_network()
    state = {
        "E": small["embed.W_E"].T,
        "where": small["pos_embed.W_pos"],
        "qkv": torch.cat([small[f"{A}W_{x}"].permute(1, 0, 2).reshape(32, 32).T for x in "QKV"]),
        "o": small[f"{A}W_O"].reshape(32, 32),
        "up": small[f"{M}W_in"],
        "down": small[f"{M}W_out"],
        "U": small["unembed.W_U"],
        "statistics": torch.zeros(7, 7),
    }
    lines = [
        'E = { ours = "embed.W_E", transpose = true }',
        'where = "pos_embed.W_pos"',
        "qkv = [",
        *(
            f'  {{ ours = "{A}W_{x}", rows = [{32 * at}, {32 * at + 32}], transpose = true, heads = 4 }},'
            for at, x in enumerate("QKV")
        ),
        "]",
        f'o = {{ ours = "{A}W_O", heads = 4 }}',
        f'up = "{M}W_in"',
        f'down = "{M}W_out"',
        'U = "unembed.W_U"',
        'statistics = ""',
    ]
    (tmp_path / "map.toml").write_text("\n".join(lines))
    found = read(state, Wish(key_map=tmp_path / "map.toml"))
    assert found.accuracy == 1.0
    assert all(torch.equal(found.weights[name], value) for name, value in small.items())
    for line, word in (
        ('nothing = "embed.W_E"', "nothing"),
        ('E = { ours = "embed.W_E", turn = 1 }', "transpose"),
    ):
        (tmp_path / "bad.toml").write_text(line)
        with pytest.raises(UsageError, match=word):
            read(state, Wish(key_map=tmp_path / "bad.toml"))


def test_a_table_of_its_own(tmp_path: Path) -> None:
    order = torch.randperm(P, generator=torch.Generator().manual_seed(5))
    small = small_network()
    small["unembed.W_U"] = small["unembed.W_U"][:, order]  # answers renamed: a task without a name
    a, b = torch.meshgrid(torch.arange(P), torch.arange(P), indexing="ij")
    table = torch.argsort(order)[(a + b) % P]
    np.save(tmp_path / "table.npy", table.numpy())
    saved(small, tmp_path / "theirs.pt")
    with pytest.raises(BadCheckpoint, match="--table"):
        import_checkpoint(tmp_path / "theirs.pt", tmp_path / "no")
    found = import_checkpoint(tmp_path / "theirs.pt", tmp_path / "ours", table=tmp_path / "table.npy")
    assert (found.accuracy, found.config.task) == (1.0, "table")
    model: Any = load(str(tmp_path / "ours"))
    assert torch.equal(model.cfg.answers, table)
    assert model.encode(["3 ∘ 4 ="])[0].ids == (3, 4, P)
    np.save(tmp_path / "bad.npy", np.full((3, 3), 7))
    with pytest.raises(UsageError, match="0 to 2"):
        read(small, Wish(table=tmp_path / "bad.npy"))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"<!DOCTYPE html><html><title>404</title>", "HTML page"),
        (b"\n  <html>", "HTML page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12\n", "git lfs pull"),
        (b"\x89HDF\r\n\x1a\n", "HDF5"),
        (b"\x1f\x8b\x08\x00", "gzip"),
        (b'{"a": 1}', "JSON"),
        (b"", "empty"),
        (b"PK\x05\x06" + bytes(18), "zip archive"),
    ],
)
@pytest.mark.parametrize("name", ["model.pt", "model.safetensors"])
def test_what_a_file_is_instead_is_said(content: bytes, words: str, name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadCheckpoint, match=words):
        load_foreign(tmp_path / name)


def test_a_whole_model_is_refused_by_its_class(tmp_path: Path) -> None:
    saved(nn.Linear(2, 2), tmp_path / "whole.pt")
    with pytest.raises(UnsafeCheckpoint, match=r"torch\.nn\.modules\.linear\.Linear"):
        load_foreign(tmp_path / "whole.pt")


def test_npz_and_numpy_numbers_are_read(tmp_path: Path) -> None:
    small = small_network()
    arrays: Any = {name: value.numpy() for name, value in small.items()}
    np.savez(tmp_path / "theirs.npz", **arrays)
    assert import_checkpoint(tmp_path / "theirs.npz", tmp_path / "ours").accuracy == 1.0
    saved({"model": small, "best": np.float64(0.5), "n": np.int64(3)}, tmp_path / "scalars.pt")
    tensors, values = load_foreign(tmp_path / "scalars.pt")
    assert len(tensors) == len(small) and values["best"] == 0.5 and values["n"] == 3
    np.savez(tmp_path / "objects.npz", a=np.array([{}], dtype=object))
    with pytest.raises(UnsafeCheckpoint, match="pickled"):
        load_foreign(tmp_path / "objects.npz")


def test_a_file_that_unpacks_to_more_than_it_can_be_is_refused_by_what_it_declares(tmp_path: Path) -> None:
    source = io.BytesIO()
    torch.save({"w": torch.zeros(4)}, source)
    with (
        zipfile.ZipFile(source) as small,
        zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as bomb,
    ):
        for member in small.infolist():
            if not member.filename.endswith("data/0"):
                bomb.writestr(member, small.read(member))
        with bomb.open("archive/data/0", "w", force_zip64=True) as large:
            for _ in range(1100):
                large.write(bytes(2**20))
    assert (tmp_path / "bomb.pt").stat().st_size < 2 * 2**20
    with pytest.raises(BadCheckpoint, match=r"unpacks to 1\.1 GB"):
        load_foreign(tmp_path / "bomb.pt")
    saved({"w": torch.zeros(1).expand(20_000, 20_000)}, tmp_path / "expanded.pt")
    with pytest.raises(BadCheckpoint, match=r"1\.5 GB"):
        load_foreign(tmp_path / "expanded.pt")


def test_a_vocabulary_that_would_run_for_hours_is_refused_before_work(tmp_path: Path) -> None:
    state = small_network() | {"embed.W_E": torch.zeros(10_001, 32), "unembed.W_U": torch.zeros(32, 10_000)}
    with pytest.raises(BadCheckpoint, match="10,001"):
        read(state)


def test_the_published_networks(shared_data: Path, tmp_path: Path) -> None:
    """Zhong et al.: two vocabularies, and the distance irrelevance of the table of its authors."""
    folder = shared_data / "two-vocabularies"
    if not folder.is_dir():
        pytest.skip("needs ../shared/data")
    found = import_checkpoint(folder / "model_18c9ev5v5p.pt", tmp_path / "ours")
    assert (found.accuracy, found.config.p, found.config.vocabularies) == (1.0, 59, 2)
    analysis = analyze(tmp_path / "ours")
    assert analysis.distance_irrelevance_best_wrong == pytest.approx(0.1808, abs=5e-5)
    assert read(load_foreign(folder / "model_18c9ev5v5p.pt")[0]).config.p == 59  # without its configuration


def test_explain_prints_every_tensor(tmp_path: Path) -> None:
    state = progress_measures(small_network(d_head=8))
    saved(state, tmp_path / "theirs.pt")
    text = output_of("import", tmp_path / "theirs.pt", "--out", tmp_path / "ours", "--explain")
    assert all(name in text for name in state)
    assert "transposed" in text and "left out, no weights" in text
    with pytest.raises(MechFourierError, match="extra"):
        CliRunner().invoke(
            app,
            [
                "import",
                str(saved(state | {"extra": torch.ones(3, 3, 3)}, tmp_path / "x.pt")),
                "--out",
                str(tmp_path / "x"),
            ],
            catch_exceptions=False,
        )
