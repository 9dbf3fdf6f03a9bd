"""``mechfourier probe`` as people run it: verdict first, one JSON object, one sentence for what is wrong."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from mechfourier.cli import main

FAST = ["--permutations", "99", "--no-controls", "--no-cache"]


def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str
) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["mechfourier", "probe", *arguments])
    with pytest.raises(SystemExit) as stopped:
        main()
    printed = capsys.readouterr()
    code = stopped.value.code
    return (0 if code is None else int(code)), printed.out, printed.err


def test_the_verdict_comes_first_and_the_figure_last(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    code, out, _ = run(monkeypatch, capsys, "calendar", "--domain", "months", "--out", str(tmp_path), *FAST)
    lines = out.strip().splitlines()
    assert code == 0
    assert lines[0].startswith("circular (not tested for use): months in calendar at blocks.")
    assert "hook point" in out and "error (months)" in out
    figure = Path(lines[-1].removeprefix("figure: "))
    assert figure.is_file() and figure.with_suffix(".json").is_file()


def test_json_is_one_object_on_standard_output(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    code, out, err = run(
        monkeypatch,
        capsys,
        "calendar",
        "--domain",
        "days",
        "--json",
        "--layers",
        "0",
        "--out",
        str(tmp_path),
        *FAST,
    )
    read = json.loads(out)
    assert code == 0 and out.count("\n") == 1
    assert read["model"] == "calendar" and read["domain"] == "days" and read["n"] == 7
    assert [row["site"] for row in read["sites"]] == ["blocks.0.hook_resid_post"]
    assert set(read["best"]) == {"site", "k", "r2"} and len(read["sites"][0]["spectrum"]) == 3
    assert "wrote" in err


def test_an_operation_is_probed_on_request(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    code, out, _ = run(
        monkeypatch, capsys, "calendar", "--domain", "days", "--design", "operation", "--cycles", "2",
        "--out", str(tmp_path), *FAST,
    )  # fmt: skip
    assert code == 0 and "specificity" in out and "mechfourier lens calendar --domain days" in out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["calendar", "--domain", "moths"], "months"),
        (["calender", "--domain", "months"], "calendar"),
        (["calendar", "--sites", "resid_pst"], "resid_post"),
        (["calendar", "--layers", "99"], "99"),
        (["calendar", "--design", "sum"], "auto, value, operation"),
        (["calendar", "--permutations", "3"], "99"),
        (["calendar", "--position", "middle"], "'value' nor 'last'"),
    ],
)
def test_wrong_calls_are_one_sentence_and_write_nothing(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    arguments: list[str],
    told: str,
) -> None:
    code, out, err = run(monkeypatch, capsys, *arguments, "--out", str(tmp_path / "out"), "--no-cache")
    assert code == 2 and out == "" and told in err and err.startswith("error: ") and "Traceback" not in err
    assert not (tmp_path / "out").exists()


def test_help_does_not_import_torch() -> None:
    code = "import sys; sys.argv = ['mechfourier', 'probe', '--help']\nfrom mechfourier.cli import main\ntry:\n main()\nexcept SystemExit: pass\nassert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--permutations" in done.stdout
