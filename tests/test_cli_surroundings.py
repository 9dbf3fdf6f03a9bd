"""Odd surroundings: pipes instead of files, and output in encodings without Greek letters."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from command_lines import run as line

from mechfourier.cli.common import report_error
from mechfourier.cli.encoding import spelt
from mechfourier.cli.tables import print_frame
from mechfourier.errors import UsageError
from mechfourier.files import regular


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "mechfourier", *arguments],
        capture_output=True,
        timeout=60,
        env={**os.environ, **environment},
        check=False,
    )


@pytest.mark.parametrize("encoding", ["cp1252", "cp437", "latin-1"])
@pytest.mark.parametrize("command", [["--help"], ["rotate", "--help"], ["study", "--help"]])
def test_help_in_an_encoding_without_greek(encoding: str, command: list[str]) -> None:
    done = run(*command, PYTHONIOENCODING=encoding)
    assert done.returncode == 0, done.stderr
    assert done.stdout.decode(encoding).strip()


def test_json_keeps_every_letter_in_any_encoding() -> None:
    plain = json.loads(run("domains", "--json", PYTHONIOENCODING="utf-8").stdout)
    assert json.loads(run("domains", "--json", PYTHONIOENCODING="cp1252").stdout) == plain


def test_letters_are_spelt() -> None:
    error = UnicodeEncodeError("ascii", "Δ ≥ é 猫", 0, 7, "not there")
    assert spelt(error) == ("Delta >= e ?", 7)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes with names are a matter of POSIX")
def test_a_pipe_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "result.json")
    with pytest.raises(UsageError, match="pipe or a device"):
        regular(tmp_path / "result.json")
    done = run("report", str(tmp_path), "--out", str(tmp_path / "page"))
    assert done.returncode == 2
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(130)])
def test_an_interrupt_is_said(error: BaseException, capsys: pytest.CaptureFixture[str]) -> None:
    assert report_error(error) == 130
    assert "the same command goes on" in capsys.readouterr().err


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="signals to a group of processes are a matter of POSIX")
def test_an_interrupted_sweep_says_so_and_nothing_else(tmp_path: Path) -> None:
    command = ["sweep", "one-layer", "--grid", "p=53,59", "--grid", "seed=0:4", "--jobs", "2"]
    process = subprocess.Popen(
        [sys.executable, "-m", "mechfourier", *command, "--out", str(tmp_path / "runs")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stderr is not None
    assert b"8 runs" in process.stderr.readline()
    marks = tmp_path / "runs"
    for _ in range(300):  # until a run has begun
        if marks.is_dir() and any(marks.rglob("config.json")):
            break
        time.sleep(0.2)
    os.killpg(process.pid, signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"Traceback" not in told
    assert b"interrupted" in told


@pytest.mark.parametrize("group", ["train", "sae", "cache", "domains"])
def test_the_help_of_a_group_is_not_cut(group: str) -> None:
    code, out, _ = line(group, "--help")
    listed = out.split("Commands:\n")[1].rstrip()
    assert code == 0 and "..." not in listed and "…" not in listed and listed.endswith((".", "?"))


def test_a_training_says_what_takes_its_run_apart(tmp_path: Path) -> None:
    folder = tmp_path / "my run"
    _, out, _ = line("train", "one-layer", "--p", "5", "--epochs", "2", "--out", str(folder))
    assert out.rstrip().endswith(f"take it apart: mechfourier analyze '{folder}'")
    _, out, _ = line("analyze", str(folder))
    assert "step None" not in out


def test_a_negative_zero_is_a_zero(capsys: pytest.CaptureFixture[str]) -> None:
    print_frame(pd.DataFrame({"x": [-0.0, 1.5]}))
    assert "-0" not in capsys.readouterr().out


@pytest.mark.parametrize(("columns", "widest"), [("80", 80), ("", 200)])
def test_a_table_in_a_pipe_is_as_wide_as_columns_says(
    columns: str, widest: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    print_frame(pd.DataFrame({f"column number {i}": ["a word or two"] for i in range(12)}))
    lines = capsys.readouterr().out.splitlines()
    assert 0.8 * widest < max(map(len, lines)) <= widest


def test_options_under_their_former_names_say_the_new_one() -> None:
    grid = ("--grid", "seed=0:2", "--set", "model=calendar", "domain=days", "--dry-run")
    for option, warns in (("--engine", True), ("--runner", False)):
        code, _, told = line("sweep", "probe", *grid, option, "joblib")
        assert code == 0 and "2 runs" in told
        assert ("--engine is called --runner" in told) is warns
