"""How much memory there is, and what is said where that will not do."""

from pathlib import Path

import pytest
from tiny_folders import write_model

from mechfourier.errors import MechFourierError
from mechfourier.models import load, memory
from mechfourier.models.memory import available_memory, gigabytes, need_memory


def system(root: Path, *, meminfo: str = "", **files: str) -> dict[str, Path]:
    (root / "meminfo").write_text(meminfo)
    for name, text in files.items():
        (root / name.replace("_", ".", 1)).write_text(text)
    return {"meminfo": root / "meminfo", "cgroup": root}


MACHINE = "MemTotal: 9000 kB\nMemAvailable: 5000 kB\nSwapFree: 1000 kB\n"


def test_the_machine_and_its_containers_limit(tmp_path: Path) -> None:
    assert available_memory(**system(tmp_path, meminfo=MACHINE)) == 6000 * 1024
    unlimited = system(tmp_path, meminfo=MACHINE, memory_max="max\n", memory_current="1\n")
    assert available_memory(**unlimited) == 6000 * 1024
    limited = system(
        tmp_path,
        meminfo=MACHINE,
        memory_max="900\n",
        memory_current="800\n",
        memory_stat="anon 1\ninactive_file 50\n",
    )
    assert available_memory(**limited) == 150
    (tmp_path / "memory").mkdir()
    for name, text in (("limit_in_bytes", 2**63 - 4096), ("usage_in_bytes", 1)):
        (tmp_path / "memory" / f"memory.{name}").write_text(str(text))
    (tmp_path / "memory.max").unlink()
    assert available_memory(meminfo=tmp_path / "meminfo", cgroup=tmp_path) == 6000 * 1024


def test_here_it_is_known() -> None:
    found = available_memory()
    assert found is None or 10**6 < found < 10**15


def test_memory_that_will_not_suffice_is_said_before_loading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_model(tmp_path / "model")
    monkeypatch.setattr(memory, "available_memory", lambda: 200_000_000)
    with pytest.raises(
        MechFourierError, match=r"parameters in float32\) needs 269 MB of memory and 200 MB are available"
    ):
        load(folder)
    monkeypatch.setattr(memory, "available_memory", lambda: None)  # a system that does not say
    need_memory("anything", 10**18, "")
    assert load(folder)


def test_sizes_for_people() -> None:
    assert [gigabytes(n) for n in (12, 12_000, 870_000_000, 1_072_419_256)] == [
        "12 bytes",
        "12 kB",
        "870 MB",
        "1.1 GB",
    ]
