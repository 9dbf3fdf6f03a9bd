"""The documentation: Python blocks run and print what the page says, commands have the options shown, links
lead somewhere."""

import importlib.util
import re
import shlex
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer.main
from extras import needs_minilm

from mechfourier.cli import app

ROOT = Path(__file__).resolve().parents[1]


def _tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("run_docs", ROOT / "tools" / "run_docs.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["run_docs"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


TOOL = _tool()
PAGES = TOOL.pages()
WITH_CODE = [p for p in PAGES if any(b.why is None for b in TOOL.blocks(p.read_text(encoding="utf-8")))]


def _name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", WITH_CODE, ids=_name)
def test_the_python_of_a_page_runs_and_prints_what_it_says(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "minilm" in "".join(b.code for b in TOOL.blocks(page.read_text(encoding="utf-8")) if b.why is None):
        needs_minilm()
    monkeypatch.chdir(tmp_path)  # pages may write files
    assert not TOOL.differences(page)


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_every_python_block_is_seen_by_the_runner(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert len(TOOL.blocks(text)) == len(re.findall(r"^```python", text, re.MULTILINE))
    promised = re.findall(r"^<!-- prints -->$", text, re.MULTILINE)
    assert len(promised) == sum(b.prints is not None for b in TOOL.blocks(text))


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_links_lead_somewhere(page: Path) -> None:
    prose = re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", prose):
        if "://" not in target and not target.startswith("#"):
            assert (page.parent / target.partition("#")[0]).exists(), f"{_name(page)} links to {target}"


def _commands(text: str) -> list[list[str]]:
    """``mechfourier …`` in shell blocks and in inline code, as words."""
    shell = "\n".join(re.findall(r"^```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE))
    lines = [line.strip().removeprefix("$ ") for line in re.sub(r"\\\n", " ", shell).splitlines()]
    inline = [" ".join(code.split()) for code in re.findall(r"(?<!`)`(mechfourier [^`]+)`", text)]
    found = [line for line in (*lines, *inline) if line.startswith("mechfourier ")]
    return [shlex.split(line, comments=True)[1:] for line in found]


def _unknown_option(words: list[str]) -> str | None:
    """The first option or subcommand that the command line does not have."""
    command: Any = typer.main.get_command(app)
    while hasattr(command, "commands") and words and not words[0].startswith("-"):
        names = words[0].split("|")  # `sae train|eval`: two commands in one
        if wrong := [name for name in names if name not in command.commands]:
            return wrong[0]
        command, words = command.commands[names[0]], words[1:]
    known = {
        option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)
    }
    given = [word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)]
    return next((option for option in given if option not in {*known, "--help"}), None)


@pytest.mark.parametrize("page", [*PAGES, ROOT / "README.md"], ids=_name)
def test_the_commands_of_a_page_exist_with_their_options(page: Path) -> None:
    for words in _commands(page.read_text(encoding="utf-8")):
        unknown = _unknown_option(words)
        assert unknown is None, f"{_name(page)}: mechfourier {' '.join(words)} has no {unknown}"


def test_an_option_that_is_not_there_is_found() -> None:
    assert _unknown_option(["probe", "calendar", "--domian", "days"]) == "--domian"
    assert _unknown_option(["sae", "train|evla"]) == "evla"
    assert _unknown_option(["sae", "train", "calendar", "--site", "hook_embed"]) is None


def test_a_page_that_lies_is_found(tmp_path: Path) -> None:
    page = tmp_path / "lie.md"
    page.write_text("```python\nprint(1 + 1)\n```\n\n<!-- prints -->\n```text\n3\n```\n", encoding="utf-8")
    (wrong,) = TOOL.differences(page)
    assert wrong.startswith("lie.md, line 2") and wrong.endswith("it prints\n2\n")
    TOOL.write(page)
    assert not TOOL.differences(page) and "\n2\n" in page.read_text(encoding="utf-8")
