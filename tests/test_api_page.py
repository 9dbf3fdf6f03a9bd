"""docs/api.md is the public API: a changed name or signature has to change the page too."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[1]
TOOL = ROOT / "tools" / "api_page.py"


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("api_page", TOOL)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_as_the_package() -> None:
    # a process of its own: shape checking wraps what it would describe here
    done = subprocess.run([sys.executable, TOOL, "--check"], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_changed_signature_changes_the_page(tool: ModuleType) -> None:
    def before(site: str, *, seed: int = 0) -> None: ...
    def after(site: str, *, seed: int = 1) -> None: ...

    assert tool.signature(before) == "(site: str, *, seed: int = 0) -> None"
    assert tool.signature(after) != tool.signature(before)


def test_classes_show_fields_and_public_methods(tool: ModuleType) -> None:
    import mechfourier.hooks

    lines = tool.entry(mechfourier.hooks, "Site").splitlines()
    assert lines[0] == "class Site" and "    kind: str" in lines
    assert "    parse(cls, name: str) -> Site" in lines and not any("__" in line for line in lines)


def test_a_page_that_is_old_is_told_so(
    tool: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tool, "PAGE", tmp_path / "api.md")
    monkeypatch.setattr(tool, "MODULES", ("mechfourier.errors_public",))
    monkeypatch.setitem(sys.modules, "mechfourier.errors_public", _module("one"))
    assert tool.main([]) == 0 and tool.main(["--check"]) == 0
    monkeypatch.setitem(sys.modules, "mechfourier.errors_public", _module("one", "two"))
    assert tool.main(["--check"]) == 1
    assert "run: python tools/api_page.py" in capsys.readouterr().out


def _module(*names: str) -> ModuleType:
    module = ModuleType("mechfourier.errors_public", "Small.")
    module.__dict__.update({name: int for name in names}, __all__=list(names))
    return module
