"""Write docs/benchmarks.md from the committed results: python -m benchmarks.page (--check: only compare)."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.bars import BARS, Bar, Data
from benchmarks.run import SCRIPTS, command

ROOT = Path(__file__).resolve().parents[1]
RESULTS, PAGE = ROOT / "benchmarks" / "results", ROOT / "docs" / "benchmarks.md"
UNKNOWN = "not recorded"
HEAD = """# Benchmarks

Written by `python -m benchmarks.page` from `benchmarks/results/*.json`; a test compares it with them. `make bench` measures everything
again (hours, on two cores) and writes this page.

Times were taken on two cores that other work shared at the load noted below, so processor seconds decide, with the clock beside
them where it was kept; ratios were measured side by side in one run, against straightforward programs that are in
`benchmarks/baselines` or in the script itself.
"""


def page(results: dict[str, Data]) -> str:
    """The whole page."""
    bars = [bar for bar in BARS if bar.file in results]
    missed = [bar for bar in bars if not bar.met(results[bar.file])]
    head = f"{len(bars) - len(missed)} of {len(bars)} bars are met."
    if missed:
        head += " Not met: " + "; ".join(f"{bar.part.lower()}, {bar.what}" for bar in missed) + "."
    return "\n".join(
        [HEAD, head, "", *_table(bars, results), "", "## Where and how", "", *_origins(results), ""]
    )


def _table(bars: list[Bar], results: dict[str, Data]) -> list[str]:
    rows = ["| part | what | held to | measured | |", "|---|---|---|---|---|"]
    for bar in bars:
        data = results[bar.file]
        met = "met" if bar.met(data) else "**not met**"
        rows.append(f"| {bar.part} | {bar.what} | {bar.held_to} | {bar.figure(data)[1]} | {met} |")
    return rows


def _origins(results: dict[str, Data]) -> list[str]:
    """Machine, versions, load and command of every file."""
    rows = ["| file | machine | versions | load | command |", "|---|---|---|---|---|"]
    for name, data in results.items():
        rows.append(
            f"| {name}.json | {machine(data)} | {versions(data)} | {load(data)} | {_command(name, data)} |"
        )
    return rows


def _command(name: str, data: Data) -> str:
    """What measures it again: a benchmark of ``make bench``, or the command that the file names."""
    told = (
        command(name) if name in SCRIPTS else data.get("command", data.get("provenance", {}).get("command"))
    )
    return f"`{told}`" if told else UNKNOWN


def machine(data: Data) -> str:
    """Processor, cores and threads, as far as the file says."""
    told = data.get("machine")
    if isinstance(told, str):
        return _joined(told, _of(data, "threads", "threads"))
    if not isinstance(told, dict):
        return _joined(_of(data, "threads", "threads"))
    cores = told.get("cpus", told.get("cores"))
    return _joined(
        told.get("processor"),
        told.get("system"),
        f"{cores} cores" if cores else "",
        told.get("memory"),
        _of(told, "threads", "threads") or _of(data, "threads", "threads"),
    )


def versions(data: Data) -> str:
    """Python, torch and the like."""
    places = [data.get("versions", {}), data.get("machine", {}), data]
    found: dict[str, Any] = {}
    for place in places:
        if isinstance(place, dict):
            found |= {
                key: place[key]
                for key in ("python", "torch", "mechfourier")
                if isinstance(place.get(key), str)
            }
    return _joined(*(f"{key} {value}" for key, value in sorted(found.items())))


def load(data: Data) -> str:
    """Load average before or while it was measured."""
    nested = data.get("machine")
    for place in (data, nested if isinstance(nested, dict) else {}):
        for key in ("load_average", "load_average_before"):
            value = place.get(key)
            if isinstance(value, list) and value:
                value = value[0]
            if isinstance(value, int | float):
                return f"{value:.1f}"
    return UNKNOWN


def _of(place: Data, key: str, unit: str) -> str:
    return (
        f"{place[key]} {unit.removesuffix('s') if str(place[key]) == '1' else unit}" if key in place else ""
    )


def _joined(*parts: Any) -> str:
    return ", ".join(str(part) for part in parts if part) or UNKNOWN


def read_results(folder: Path = RESULTS) -> dict[str, Data]:
    """Every result of a benchmark of ``make bench`` or with a bar, by its name, with the machine and versions of its
    ``provenance`` where it keeps them there."""
    known = {*SCRIPTS, *(bar.file for bar in BARS)}
    paths = [path for path in sorted(folder.glob("*.json")) if path.stem in known]
    found = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in paths}
    return {name: data.get("provenance", {}) | data for name, data in found.items()}


def main(arguments: list[str] | None = None) -> int:
    """Write the page, or with --check compare it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 where the page is old")
    now = page(read_results())
    if not parser.parse_args(arguments).check:
        PAGE.write_text(now, encoding="utf-8")
        print(f"wrote {PAGE}")
        return 0
    same = PAGE.is_file() and PAGE.read_text(encoding="utf-8") == now
    print(
        "docs/benchmarks.md is as the results"
        if same
        else "docs/benchmarks.md is old; run: python -m benchmarks.page"
    )
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
