"""What is on disk is what the model computes, and a harvest goes on from any state of its folder."""

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from harvest_text import ALL, SHARD, SITES, TOKENS, contents, corpus, cut, harvest, loaded_and_text
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from mechfourier.cli.app import app
from mechfourier.errors import FolderInUse, MechFourierError, OutOfRange, UnknownSite, UsageError
from mechfourier.files import locked
from mechfourier.harvest import CaptureResult, capture_dataset, open_harvest, plan
from mechfourier.harvest.jobs import jobs, parse_tokens, shard_rows_for
from mechfourier.hooks.capture import capture
from mechfourier.sae.rows import Reading, Row
from mechfourier.sae.text import Source, rows


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    return loaded_and_text(tmp_path_factory.mktemp("harvest"))


def test_every_row_is_what_the_model_computes_for_its_token(made: tuple[Any, Path], tmp_path: Path) -> None:
    model, text = made
    harvest(made, tmp_path)
    got = open_harvest(tmp_path)
    assert got.rows == TOKENS and [shard.rows for shard in got.shards] == [SHARD] * 5 + [60]
    lines = text.read_text().splitlines()
    at = 0
    for row in rows(model, Source(str(text)), ALL):
        alone = capture(model, torch.tensor([row.ids]), SITES, "all")
        for position in row.keep[: TOKENS - at]:
            place = got.where(at)
            words = lines[place.document].split()
            assert words[place.position] == f"w{place.token - 2}"
            for name in got.sites:
                torch.testing.assert_close(got.site(name).row(at), alone[name][0, position])
            at += 1
        if at == TOKENS:
            break
    assert at == TOKENS


@given(st.lists(st.integers(1, 30), min_size=1, max_size=20), st.integers(1, 40), st.integers(1, 400))
def test_shards_hold_every_kept_position_once_and_in_order(lengths: list[int], size: int, total: int) -> None:
    stream = [Row(tuple(range(n)), tuple(range(n)), (), number) for number, n in enumerate(lengths)]
    made = list(jobs(stream, size, total))
    wanted = [(number, at) for number, n in enumerate(lengths) for at in range(n)][:total]
    texts = [job.text() for job in made]
    got = [pair for t in texts for pair in zip(t["document"].tolist(), t["position"].tolist(), strict=True)]
    assert got == wanted and [job.number for job in made] == list(range(len(made)))
    assert all(job.rows == size for job in made[:-1]) and 1 <= made[-1].rows <= size


def test_the_same_command_again_changes_nothing(made: tuple[Any, Path], tmp_path: Path) -> None:
    first = harvest(made, tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("shard-*")}
    again = harvest(made, tmp_path, resume=True)
    assert (first.made, again.made, again.kept, again.repaired) == (6, 0, 6, 0)
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.glob("shard-*")}
    assert CaptureResult.from_json(again.to_json()) == again
    assert sum(again.frame()["bytes"].tolist()) < again.bytes


def test_more_tokens_give_what_one_capture_would_have_given(made: tuple[Any, Path], tmp_path: Path) -> None:
    harvest(made, tmp_path / "steps", tokens=200)
    more = harvest(made, tmp_path / "steps")
    harvest(made, tmp_path / "once")
    assert contents(tmp_path / "steps") == contents(tmp_path / "once")
    assert (more.made, more.kept) == (5, 1)  # the second shard held 72 of its 128 tokens


def test_a_folder_of_another_harvest_is_refused_with_the_difference(
    made: tuple[Any, Path], tmp_path: Path
) -> None:
    harvest(made, tmp_path)
    before = contents(tmp_path)
    for changes, said in [
        ({"dtype": "float16"}, "dtype is 'float32' in the folder and 'float16' now"),
        ({"layers": "0"}, "sites is"),
        ({"shard_tokens": 64}, "shard_rows is 128 in the folder and 64 now"),
        ({"reading": Reading(positions="all", context=8)}, "reading.context is 16"),
        ({"tokens": 100}, "harvest of 700 tokens; ask for at least as many"),
    ]:
        with pytest.raises(UsageError, match=re.escape(said)):
            harvest(made, tmp_path, **changes)
    assert contents(tmp_path) == before


def test_a_text_that_changed_is_noticed_before_anything_is_mixed(
    made: tuple[Any, Path], tmp_path: Path
) -> None:
    text = tmp_path / "text.txt"
    out = tmp_path / "out"
    corpus(text)
    harvest(made, out, dataset=str(text), tokens=200)
    before = contents(out)
    corpus(text, seed=1)
    with pytest.raises(UsageError, match="not the text that"):
        harvest(made, out, dataset=str(text), tokens=200)
    text.write_text("w1 w2 w3\n")
    with pytest.raises(UsageError, match="not the text that"):
        harvest(made, out, dataset=str(text), tokens=200)
    assert contents(out) == before


def test_a_data_set_that_ends_is_said(made: tuple[Any, Path], tmp_path: Path) -> None:
    result = harvest(made, tmp_path, tokens="1M", shard_tokens=None)
    assert result.shards == 1 and result.notes == (f"the data set ended after {result.tokens:,} tokens",)
    assert open_harvest(tmp_path).rows == result.tokens < 2000


def test_wrong_calls_are_one_sentence_and_write_nothing(made: tuple[Any, Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    (tmp_path / "empty.txt").write_text("\n\n")
    for changes, kind, said in [
        ({"sites": "resid_pots"}, UnknownSite, "closest: resid_post"),
        ({"sites": "pattern"}, UsageError, "not a vector space"),
        ({"layers": "7"}, OutOfRange, "has layers 0-2"),
        ({"dataset": str(tmp_path / "nowhere.txt")}, UsageError, "no text"),
        ({"dataset": str(tmp_path / "empty.txt")}, UsageError, "holds no text"),
        ({"tokens": 0}, OutOfRange, "at least 1"),
        ({"tokens": "ten"}, UsageError, "write 10M, 500k or 1_000_000"),
        ({"dtype": "int8"}, UsageError, "choose float32, float16, bfloat16"),
        ({"workers": 0}, UsageError, "at least 1"),
        ({"workers": 2}, UsageError, "its name or folder"),
        ({"runner": "slurm"}, UsageError, "joblib or ray"),
        ({"resume": True}, UsageError, "no harvest to go on with"),
        ({"tokens": "900G"}, MechFourierError, "free; take fewer"),
    ]:
        with pytest.raises(kind, match=re.escape(said)) as caught:
            harvest(made, out, **changes)
        assert "\n" not in str(caught.value) and not list(out.glob("[!.]*"))
    (out / "notes.txt").parent.mkdir(exist_ok=True)
    (out / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match=re.escape("holds other files (notes.txt)")):
        harvest(made, out)
    with pytest.raises(UsageError, match="is a file"):
        harvest(made, out / "notes.txt")
    with pytest.raises(MechFourierError, match="Not a directory"):
        harvest(made, out / "notes.txt" / "below")


def test_two_captures_do_not_write_to_one_folder(made: tuple[Any, Path], tmp_path: Path) -> None:
    with locked(tmp_path), pytest.raises(FolderInUse):
        harvest(made, tmp_path)


def test_values_that_float16_cannot_hold_are_refused(made: tuple[Any, Path], tmp_path: Path) -> None:
    model, text = made
    large = copy.deepcopy(model)
    with torch.no_grad():
        large.W_E.mul_(1e6)
    with pytest.raises(MechFourierError, match="which float16 cannot hold"):
        harvest((large, text), tmp_path / "half", sites="embed", layers=None, dtype="float16")
    harvest((large, text), tmp_path / "brain", sites="embed", layers=None, dtype="bfloat16")


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_narrow_dtypes_are_the_float32_values_rounded(
    made: tuple[Any, Path], tmp_path: Path, dtype: str
) -> None:
    harvest(made, tmp_path / "full")
    harvest(made, tmp_path / dtype, dtype=dtype)
    full, narrow = open_harvest(tmp_path / "full"), open_harvest(tmp_path / dtype)
    for a, b in zip(full.site(full.sites[0]), narrow.site(full.sites[0]), strict=True):
        assert b.dtype == getattr(torch, dtype) and torch.equal(a.to(b.dtype), b)


def test_numbers_of_tokens() -> None:
    assert [parse_tokens(t) for t in ("10M", "500k", "1_000_000", "2.5B", "1e3", 7)] == [
        10**7,
        500_000,
        10**6,
        2_500_000_000,
        1000,
        7,
    ]


@given(st.text(max_size=12) | st.integers())
def test_any_number_of_tokens_is_read_or_refused_in_one_sentence(text: str | int) -> None:
    try:
        assert 1 <= parse_tokens(text) < 10**15
    except UsageError as error:
        assert str(error)


@given(st.integers(20, 10**9))
def test_shards_fill_about_a_quarter_of_a_gibibyte(row_bytes: int) -> None:
    held = shard_rows_for(row_bytes)
    assert held & (held - 1) == 0
    assert held == 1024 or 2**27 < held * row_bytes <= 2**28


def test_a_plan_is_what_the_capture_then_takes(made: tuple[Any, Path], tmp_path: Path) -> None:
    model, text = made
    options: dict[str, Any] = {
        "dataset": str(text),
        "layers": 1,
        "tokens": TOKENS,
        "shard_tokens": SHARD,
        "reading": ALL,
    }
    planned = plan(model, tmp_path / "out", **options)
    assert list(tmp_path.iterdir()) == []
    got = capture_dataset(model, tmp_path / "out", **options)
    assert (planned.shards, planned.tokens, planned.sites) == (got.shards, got.tokens, got.sites)
    assert 0 < got.bytes - planned.bytes < 1024 * got.shards  # the heads of the files
    assert planned.hours == pytest.approx(TOKENS / planned.tokens_per_second / 3600)


def test_the_command_captures_verifies_and_plans(made: tuple[Any, Path], tmp_path: Path) -> None:
    _, text = made
    folder = str(text.parent / "qwen3")
    run = CliRunner().invoke
    base = [
        "capture",
        folder,
        "--dataset",
        str(text),
        "--layers",
        "1",
        "--tokens",
        "0.3k",
        "--shard-tokens",
        "128",
        "--out",
    ]
    planned = run(app, [*base, str(tmp_path / "a"), "--plan", "--json"])
    assert json.loads(planned.stdout)["shards"] == 3 and not (tmp_path / "a").exists()
    captured = run(app, [*base, str(tmp_path / "a"), "--json"])
    assert json.loads(captured.stdout)["tokens"] == 300
    assert "3 of 3 shards" in run(app, ["capture", "--verify", str(tmp_path / "a")]).stdout
    cut(tmp_path / "a" / "shard-000001.safetensors")
    checked = run(app, ["capture", "--verify", str(tmp_path / "a")])
    assert checked.exit_code == 1 and "shard-000001.safetensors: cut short" in checked.stdout
    assert isinstance(run(app, ["capture"]).exception, UsageError)
    assert isinstance(run(app, ["capture", "--verify", str(tmp_path / "b")]).exception, UsageError)
