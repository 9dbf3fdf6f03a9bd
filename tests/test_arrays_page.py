"""The page on arrays: its commands run on the files that its first block writes, and say what the page says."""

import json
import re
import shlex
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

from mechfourier.cli import main

PAGE = Path(__file__).resolve().parents[1] / "docs" / "how-to" / "arrays.md"


def test_the_commands_of_the_page_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    text = PAGE.read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    exec(re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)[0], {})
    shell = re.findall(r"^```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE)[0]
    commands = [shlex.split(line, comments=True) for line in shell.splitlines()]
    words = []
    for command in commands:
        monkeypatch.setattr(sys, "argv", [*command, "--permutations", "199"])
        with pytest.raises(SystemExit) as stopped:
            main()
        out = capsys.readouterr().out
        assert not stopped.value.code, command
        words.append(json.loads(out)["verdict"] if "--json" in command else out.split(" (", 1)[0])
    assert words == ["circular"] * 5 + ["torus", "circular"]
    planes = [load_file(path) for path in (tmp_path / "mechfourier-out").glob("*.planes.safetensors")]
    assert len(planes) == 6 and any(
        part["acts.k1.basis"].shape == (64, 2) for part in planes if "acts.k1.basis" in part
    )
