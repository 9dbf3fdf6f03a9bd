"""How long the command line and the package take to answer, as processor time (and by the clock).

    python benchmarks/startup.py

Best of ten processes each. Bars: ``mechfourier --help`` under 0.5 s, ``import mechfourier`` under 0.2 s (the
start of Python itself included in both). Writes benchmarks/results/startup.json.
"""

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

from mechfourier.files import write_json
from mechfourier.results.provenance import machine, versions

RESULTS = Path(__file__).parent / "results" / "startup.json"
COMMANDS = {
    "python": ("-c", "pass"),
    "import": ("-c", "import mechfourier"),
    "help": ("-m", "mechfourier", "--help"),
}


def measure(arguments: tuple[str, ...], rounds: int = 10) -> dict[str, float]:
    """The fastest of ``rounds`` processes: processor seconds (user and system) and seconds by the clock."""
    took = []
    for _ in range(rounds):
        before, start = _children(), time.perf_counter()
        subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
        took.append((_children() - before, time.perf_counter() - start))
    processor, clock = (min(column) for column in zip(*took, strict=True))
    return {"processor_seconds": round(processor, 3), "seconds": round(clock, 3)}


def _children() -> float:
    """Processor seconds of all processes started so far and ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    found = {name: measure(arguments) for name, arguments in COMMANDS.items()}
    write_json(
        RESULTS,
        {**found, "load_average": round(os.getloadavg()[0], 1), "machine": machine(), "versions": versions()},
    )
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
