"""How often the contest of shapes says "circular" of planted data that is a circle, and of data that is none.

``python -m benchmarks.shapes [--draws 40] [--part NAME …]`` adds to benchmarks/results/shapes.json; parts
that are there with as many draws are not run again.
"""

import argparse
import collections
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.shape_coverage import coverage
from benchmarks.shape_kinds import KINDS, planted
from mechfourier.stats.intervals import wilson
from mechfourier.stats.shapes import contest

RESULTS = Path(__file__).parent / "results" / "shapes.json"


@dataclass(frozen=True)
class Setting:
    n: int = 12
    templates: int = 8
    d: int = 64
    snr: float = 1.0
    noise: str = "white"
    sites: int = 1

    def __str__(self) -> str:
        return (
            f"n {self.n}, T {self.templates}, d {self.d}, snr {self.snr:g}, {self.noise}, {self.sites} sites"
        )


SETTINGS: dict[str, Setting] = {
    "main": Setting(),
    "n5": Setting(n=5),
    "n7": Setting(n=7),
    "n24": Setting(n=24),
    "T3": Setting(templates=3),
    "T12": Setting(templates=12),
    "d1024": Setting(d=1024),
    "t2": Setting(noise="t2"),
    "massive": Setting(noise="massive"),
    "smooth": Setting(noise="smooth"),
    "by-value": Setting(noise="by value"),
    "snr.25": Setting(snr=0.25),
    "snr.06": Setting(snr=1 / 16),
    "snr.03": Setting(snr=1 / 32),
    "snr4": Setting(snr=4),
    "sites28": Setting(sites=28),
}


def words_of(name: str, setting: Setting, draws: int) -> dict[str, int]:
    counts: collections.Counter[str] = collections.Counter()
    for i in range(draws):
        rng = np.random.default_rng([i, *name.encode(), setting.n, setting.templates, setting.d])
        acts = np.stack(
            [
                planted(KINDS[name], setting.n, setting.templates, setting.d, setting.snr, setting.noise, rng)
                for _ in range(setting.sites)
            ]
        )
        counts[contest(acts, seed=i).word] += 1
    return dict(counts.most_common())


def jobs(parts: list[str], names: list[str], draws: int) -> Iterator[tuple[str, str, int]]:
    for part in parts:
        for name in names or KINDS:
            yield part, name, draws


def markdown(found: dict) -> str:
    """The table of docs/shapes.md: percent called circular of every kind in every part, and the words of the
    main part."""
    parts = [part for part in SETTINGS if part in found]
    lines = ["| data | " + " | ".join(parts) + " | words |", "|---" * (len(parts) + 2) + "|"]
    for name, kind in KINDS.items():
        rows = {part: found[part][name] for part in parts if name in found[part]}
        if not rows:
            continue
        cells = [_cell(rows.get(part)) for part in parts]
        words = collections.Counter()
        for row in rows.values():
            words.update(row["words"])
        told = ", ".join(f"{word} {count}" for word, count in words.most_common(4))
        lines.append(f"| {f'**{name}**' if kind.circular else name} | " + " | ".join(cells) + f" | {told} |")
    return "\n".join(lines)


def _cell(row: dict | None) -> str:
    if row is None:
        return "–"
    low, high = row["interval"]
    return f"{100 * row['circular'] / row['draws']:.0f} [{100 * low:.0f}, {100 * high:.0f}]"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--draws", type=int, default=40)
    parser.add_argument("--part", nargs="*", default=["main"], choices=list(SETTINGS))
    parser.add_argument("--kind", nargs="*", default=[])
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--seconds", type=float, default=1e9, help="stop after this long")
    parser.add_argument("--table", action="store_true", help="print the table of docs/shapes.md")
    parser.add_argument("--coverage", action="store_true", help="coverage of the intervals instead")
    options = parser.parse_args()
    found = json.loads(options.out.read_text()) if options.out.exists() else {}
    if options.table:
        print(markdown(found))
        return
    if options.coverage:
        found["coverage"] = coverage(options.draws)
        options.out.write_text(json.dumps(found, indent=1) + "\n")
        return
    begun = time.time()
    for part, name, draws in jobs(options.part, options.kind, options.draws):
        row = found.get(part, {}).get(name)
        if time.time() - begun > options.seconds or (row and row["draws"] >= draws):
            continue
        words = words_of(name, SETTINGS[part], draws)
        hits = sum(count for word, count in words.items() if word in ("circular", "flattened circle"))
        row = {"draws": draws, "circular": hits, "interval": wilson(hits, draws), "words": words}
        found.setdefault(part, {})[name] = row
        options.out.write_text(json.dumps(found, indent=1) + "\n")
        print(f"{SETTINGS[part]} | {name}: {words}", flush=True)


if __name__ == "__main__":
    main()
