"""Errors, atomic files, results and the cheap start of the package."""

import dataclasses
import errno
import math
import resource
import subprocess
import sys
from pathlib import Path

import pytest

import mechfourier as mf
from mechfourier.errors import BadCheckpoint, MechFourierError, MissingExtra, nearest, need
from mechfourier.files import atomic_path, write_json, write_text
from mechfourier.results.base import Result, plain


@dataclasses.dataclass(frozen=True)
class Point(Result):
    name: str
    at: tuple[float, ...]
    inner: "Point | None" = None
    table: dict[str, tuple[int, int]] = dataclasses.field(default_factory=dict)


def test_nearest_finds_the_typo_and_falls_back_to_the_first_options() -> None:
    assert nearest("mnths", ["days", "months", "hours"]).startswith("months")
    assert nearest("QWEN3-0.6b", ["qwen3-0.6b", "minilm"]).startswith("qwen3-0.6b")
    assert nearest("zzz", ["days", "months"]) == "days, months"
    assert nearest("x", []) == "none"


def test_an_error_is_one_line_that_moves_no_cursor() -> None:
    error = MechFourierError("no tensor 'a\x1b[31m\nb' in folder ژوئیه\u200cها")
    assert str(error) == "no tensor 'a\\x1b[31m\\nb' in folder ژوئیه\u200cها"


def test_need_names_the_pip_command() -> None:
    assert need("json", extra="x").loads("1") == 1
    with pytest.raises(MissingExtra, match=r"pip install 'mechfourier\[ray\]'"):
        need("no_such_module_here", extra="ray")


def test_atomic_path_leaves_nothing_behind_on_error(tmp_path: Path) -> None:
    target = tmp_path / "sub" / "file.txt"
    write_text(target, "old")
    with pytest.raises(RuntimeError), atomic_path(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert target.read_text() == "old"
    assert [p.name for p in target.parent.iterdir()] == ["file.txt"]


@pytest.mark.parametrize(("code", "words"), [(errno.ENOSPC, "no space left"), (errno.EROFS, "cannot write")])
def test_disk_errors_become_one_sentence(tmp_path: Path, code: int, words: str) -> None:
    with pytest.raises(MechFourierError, match=words), atomic_path(tmp_path / "f"):
        raise OSError(code, "said by the system")
    assert list(tmp_path.iterdir()) == []


def test_results_round_trip_through_json(tmp_path: Path) -> None:
    result = Point("a", (1.0, 2.5), Point("b", ()), {"x": (1, 2)})
    assert Point.from_json(result.to_json()) == result
    assert Point.from_json(result.save(tmp_path / "r.json").read_text()) == result


def test_a_non_finite_number_is_null_in_json_and_nan_again_on_the_way_back() -> None:
    result = Point("a", (math.nan, math.inf))
    assert plain(result)["at"] == [None, None]
    assert all(math.isnan(x) for x in Point.from_json(result.to_json()).at)
    with pytest.raises(ValueError, match="JSON"):
        write_json(Path("never-written.json"), math.nan)


@pytest.mark.parametrize("text", ["", "[]", '{"name": "a"}', "{", '{"name": 1, "at": 3}'])
def test_a_foreign_json_is_refused_in_one_sentence(text: str) -> None:
    with pytest.raises(BadCheckpoint, match="no Point"):
        Point.from_json(text)


def test_an_unknown_public_name_gives_the_nearest() -> None:
    with pytest.raises(AttributeError, match="closest: probe"):
        mf.prob


@pytest.mark.parametrize("code", ["import mechfourier", "from mechfourier.cli import app"])
def test_starting_up_imports_no_heavy_library(code: str) -> None:
    heavy = "{'torch', 'transformer_lens', 'transformers', 'plotly', 'pandas', 'numpy', 'scipy'}"
    script = f"{code}; import sys; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_command_answers_version_and_help() -> None:
    for option, expected in (("--version", mf.__version__), ("--help", "Usage: mechfourier")):
        done = subprocess.run(
            [sys.executable, "-m", "mechfourier", option], capture_output=True, text=True, check=True
        )
        assert expected in done.stdout
        assert "Traceback" not in done.stderr


def _processor_seconds(*arguments: str) -> float:
    """Of a process, start of Python included: processor time, which other work on the machine hardly
    changes."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


@pytest.mark.parametrize(
    ("arguments", "limit"), [(("-m", "mechfourier", "--help"), 0.5), (("-c", "import mechfourier"), 0.2)]
)
def test_start_up_is_quick(arguments: tuple[str, ...], limit: float) -> None:
    assert min(_processor_seconds(*arguments) for _ in range(4)) < limit
