"""``mechfourier probe`` as people run it: verdict first, one JSON object, one sentence for what is wrong."""

import json
import re
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
    code, out, _ = run(monkeypatch, capsys, "calendar", "--domain", "days", "--out", str(tmp_path), *FAST)
    lines = out.strip().splitlines()
    assert code == 0
    assert lines[0].startswith("circular (not tested for use): days in calendar at layer 0 of 2 (after: ")
    assert "hook point" in out and "held-out error" in out and "label-permuted control, in days" in out
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


def test_tokens_are_shown_on_request_and_what_is_read_always(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    call = ["calendar", "--domain", "days", "--out", str(tmp_path), *FAST]
    _, plain, _ = run(monkeypatch, capsys, *call)
    code, out, _ = run(monkeypatch, capsys, *call, "--show-tokens")
    assert code == 0 and "It|is|«Monday»" in out and "«Monday»" not in plain
    assert (
        "read: the value's last token in 84 prompts of 12 templates; prompts begin with their first word"
        in plain
    )
    assert len(list(tmp_path.glob("*.json"))) == 1  # how it is shown does not name another result


def test_eighty_columns_are_enough(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("FORCE_COLOR", "1")
    for design in ("value", "operation"):
        _, out, _ = run(
            monkeypatch,
            capsys,
            "calendar",
            "--domain",
            "days",
            "--design",
            design,
            "--out",
            str(tmp_path),
            *FAST,
        )
        lines = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in out.splitlines()]
        wide = [
            line for line in lines if len(line) > 80 and "mechfourier " not in line and "figure:" not in line
        ]
        assert wide == []
        assert any(line.split()[:2] in (["site", "k"], ["site", "word"]) for line in lines)


def test_a_domain_that_cannot_be_tested_names_no_site_and_no_p(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    _, out, _ = run(monkeypatch, capsys, "calendar", "--domain", "seasons", "--out", str(tmp_path), *FAST)
    assert out.splitlines()[0] == "not testable (not tested for use): seasons in calendar"
    assert "evidence at every hook point" not in out


def test_an_operation_is_probed_on_request(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    code, out, _ = run(
        monkeypatch, capsys, "calendar", "--domain", "days", "--design", "operation", "--cycles", "2",
        "--out", str(tmp_path), *FAST,
    )  # fmt: skip
    assert code == 0 and "period specificity" in out and "mechfourier lens calendar --domain days" in out


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
