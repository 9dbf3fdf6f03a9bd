"""Processes end with the one that they work for, and Ctrl-C is one line whenever it comes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
CHILD = "import os, sys, time; from mechfourier.workers import end_with; end_with(int(sys.argv[1])); print('up', flush=True); time.sleep(60)"
PARENT = """
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", sys.argv[1], str(os.getpid())], stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
time.sleep(60)
"""


def gone(process: int, within: float) -> bool:
    """Whether a process (not a child of this one) ends in time."""
    start = time.monotonic()
    while time.monotonic() - start < within:
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return True
        state = Path(f"/proc/{process}/stat")
        if state.exists() and state.read_text().rsplit(")", 1)[1].split()[0] == "Z":
            return True
        time.sleep(0.1)
    return False


def test_a_worker_ends_when_its_parent_is_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT, CHILD], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert not gone(child, 0.5)
        parent.kill()
    assert gone(child, 10)


def test_a_process_that_is_nobodys_worker_goes_on() -> None:
    code = "import os; from mechfourier.workers import end_with; end_with(os.getpid()); import time; time.sleep(2.5); print('there')"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "there\n"


def interrupted(command: list[str], seconds: float) -> tuple[int, str]:
    """Exit code and errors of a command that is sent Ctrl-C some time after its first line."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "up\n"
        time.sleep(seconds)
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=60)
    return process.returncode, told


@pytest.mark.parametrize("seconds", [0.5, 1.0, 1.6])
def test_ctrl_c_while_modules_are_read_is_one_line(seconds: float, tmp_path: Path) -> None:
    program = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from mechfourier.__main__ import main; print('up', flush=True); main()"
    command = [sys.executable, "-c", program, "probe", "calendar", "--out", str(tmp_path)]
    code, told = interrupted(command, seconds)
    for _ in range(2):  # Python drops an exception raised in a finalizer: such a process is asked again
        if not code:
            code, told = interrupted(command, seconds)
    assert code == 130
    assert told.strip().splitlines()[-1].startswith("error: interrupted") and "Traceback" not in told


def test_a_closed_standard_output_is_no_error() -> None:
    command = f"{sys.executable} -m mechfourier models --json >&-"
    found = subprocess.run(command, shell=True, capture_output=True, text=True)
    assert (found.returncode, found.stderr) == (0, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no full device here")
def test_a_full_standard_output_is_one_sentence() -> None:
    command = f"{sys.executable} -m mechfourier models --json > /dev/full"
    found = subprocess.run(command, shell=True, capture_output=True, text=True)
    assert found.returncode == 1 and found.stderr == "error: no space left on the disk\n"
