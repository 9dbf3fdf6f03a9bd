"""docs/benchmarks.md is what the committed results say, and the bars can fail."""

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    sys.path.insert(0, str(ROOT))
    try:
        from benchmarks import page
    finally:
        sys.path.remove(str(ROOT))
    return page


def test_the_page_is_as_the_results() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.page", "--check"], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_bar_reads_its_file(tool: ModuleType) -> None:
    results = tool.read_results()
    for bar in tool.BARS:
        value, told = bar.figure(results[bar.file])
        assert isinstance(value, int | float) and any(letter.isdigit() for letter in told)
        assert bar.met(results[bar.file]) == (value >= bar.limit if bar.sense == ">=" else value <= bar.limit)


def test_a_missed_bar_is_named_first(tool: ModuleType) -> None:
    slow = {
        "startup": {
            "help": {"processor_seconds": 3.0, "seconds": 4.0},
            "import": {"processor_seconds": 0.1, "seconds": 0.1},
        }
    }
    text = tool.page(slow)
    assert "1 of 2 bars are met. Not met: start-up, mechfourier --help." in text
    assert "| 3 s of processor time (4 s by the clock) | **not met** |" in text
    assert "| startup.json | not recorded | not recorded | not recorded |" in text


def test_every_script_runs_in_make_bench(tool: ModuleType) -> None:
    from benchmarks.run import SCRIPTS, command

    scripts = {
        path.stem
        for path in (ROOT / "benchmarks").glob("*.py")
        if "RESULTS" in path.read_text(encoding="utf-8")
    }
    assert scripts - {"page", "method"} <= set(SCRIPTS)  # these two only write pages
    assert command("figures_speed") == "python -m benchmarks.figures_speed"
