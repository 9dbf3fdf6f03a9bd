"""Files that are read: regular ones only, through one door."""

import os
import re
from pathlib import Path

import pytest

import mechfourier
from mechfourier.errors import UsageError
from mechfourier.files import own_path, read_text
from mechfourier.harvest.read import open_harvest
from mechfourier.results.saved import load_result

OWN = Path(mechfourier.__file__).parent
OF_THE_SYSTEM = {
    "files.py",
    "_lazy.py",
    "pages.py",
    "memory.py",
    "provenance.py",
    "html.py",
    "kinds.py",
    "catalogue.py",
}


def test_texts_are_read_through_one_function() -> None:
    """Whatever else calls ``read_text`` reads the package's own files, or the system's."""
    for path in OWN.rglob("*.py"):
        for line in path.read_text(encoding="utf-8").splitlines():
            if ".read_text(" in line and path.name not in OF_THE_SYSTEM:
                assert re.search(r'\bf\.read_text|files\("', line), f"{path}: {line.strip()}"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes by name here")
def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "index.json")
    with pytest.raises(UsageError, match="is a pipe or a device"):
        read_text(tmp_path / "index.json")
    with pytest.raises(UsageError, match="is a pipe or a device"):
        open_harvest(tmp_path)


def test_a_byte_order_mark_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b"\xef\xbb\xbf{}")
    assert read_text(tmp_path / "a.json") == "{}"


@pytest.mark.parametrize("name", ["", "  ", "a" * 5000, "~nobody-of-that-name/x", "\udcff"])
def test_what_is_no_path_is_one_sentence(name: str) -> None:
    for read in (own_path, load_result, mechfourier.domain, mechfourier.load):
        with pytest.raises(UsageError, match=r"is no path|is empty"):
            read(name)
