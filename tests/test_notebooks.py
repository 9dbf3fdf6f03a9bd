"""The notebooks of the examples: their code runs from top to bottom, and what a cell ends in can be shown."""

import ast
import json
from pathlib import Path
from typing import Any

import pytest
from real_models import real_folder

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def run(name: str, **known: Any) -> list[Any]:
    """Run the code cells in one namespace; the value of every cell's last line, as a notebook shows it."""
    cells = json.loads((EXAMPLES / name).read_text(encoding="utf-8"))["cells"]
    names: dict[str, Any] = dict(known)
    shown = []
    for cell in cells:
        if cell["cell_type"] != "code":
            continue
        assert cell["outputs"] == [], "commit notebooks without outputs"
        tree = ast.parse("".join(cell["source"]))
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, name, "exec"), names)
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), name, "eval"), names)
            shown.append(value)
            if value is not None and not isinstance(value, str):
                assert "<" in value._repr_html_()
    return shown


def test_the_calendar_notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    table, reason, days, *_ = run("atlas_calendar.ipynb")
    assert list(table["domain"]) == ["days", "months", "seasons", "compass"] and reason
    assert days.verdict == table["word"][0] and "<svg" in days._repr_html_()
    printed = capsys.readouterr().out
    assert "answers moved by exactly δ: 100%" in printed and "white noise reaches" in printed


@pytest.mark.real
def test_the_gemma_notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = real_folder("gemma3-270m")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "gemma3-270m").symlink_to(folder, target_is_directory=True)
    monkeypatch.setenv("MECHFOURIER_MODELS", str(tmp_path / "models"))
    table, words, *_ = run("atlas_gemma.ipynb")
    assert list(table["domain"]) == ["days", "months"] and words.shape == (2, 18)
    assert len(list((tmp_path / "atlas-gemma").glob("*.html"))) == 1
