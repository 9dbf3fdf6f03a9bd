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

from benchmarks.marked import between
from benchmarks.shape_coverage import coverage
from benchmarks.shape_kinds import KINDS, STRANGERS, planted
from mechfourier.files import write_json
from mechfourier.results.provenance import provenance
from mechfourier.stats.intervals import wilson
from mechfourier.stats.shapes import contest

SEED = 40961
"""Of the draws that are reported."""
ROUND_OF = 20
MARKS = "<!-- rates: written by python -m benchmarks.shapes --page -->", "<!-- end of rates -->"
PAGE = Path(__file__).parent.parent / "docs" / "shapes.md"
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
    "n26": Setting(n=26),
    "T3": Setting(templates=3),
    "T12": Setting(templates=12),
    "d1024": Setting(d=1024),
    "t2": Setting(noise="t2"),
    "massive": Setting(noise="massive"),
    "smooth": Setting(noise="smooth"),
    "by-value": Setting(noise="by value"),
    "snr.25": Setting(snr=0.25),
    "snr.12": Setting(snr=1 / 8),
    "snr.06": Setting(snr=1 / 16),
    "snr.03": Setting(snr=1 / 32),
    "snr4": Setting(snr=4),
    "sites28": Setting(sites=28),
}


def words_of(name: str, setting: Setting, draws: range, seed: int) -> collections.Counter[str]:
    """The words of some draws of one kind."""
    counts: collections.Counter[str] = collections.Counter()
    for i in draws:
        rng = np.random.default_rng([seed, i, *name.encode(), setting.n, setting.templates, setting.d])
        one = (KINDS[name], setting.n, setting.templates, setting.d, setting.snr, setting.noise, rng)
        acts = np.stack([planted(*one) for _ in range(setting.sites)])
        counts[contest(acts, seed=i).word] += 1
    return counts


def jobs(parts: list[str], names: list[str], draws: int) -> Iterator[tuple[str, str, range]]:
    """Every kind a few draws further, until all have as many as were asked for."""
    for begun in range(0, draws, ROUND_OF):
        for part in parts:
            for name in names or KINDS:
                yield part, name, range(begun, min(begun + ROUND_OF, draws))


def added(row: dict | None, words: collections.Counter[str]) -> dict:
    """A row of the results with more draws."""
    counts = collections.Counter((row or {}).get("words", {})) + words
    draws, hits = sum(counts.values()), sum(counts[word] for word in ("circular", "flattened circle"))
    low, high = wilson(hits, draws)
    return {"draws": draws, "circular": hits, "interval": [low, high], "words": dict(counts.most_common())}


def markdown(found: dict) -> str:
    """The tables of docs/shapes.md: percent called circular of every kind in every part, and the words of the main
    part; what is outside its bar; coverage of the intervals."""
    parts = [part for part in SETTINGS if part in found]
    lines = [LEAD.format(seed=found["seed"]), ""]
    lines += [f"- *{part}*: {SETTINGS[part]}; {_draws(found[part])} draws" for part in parts]
    lines += ["", "| data | " + " | ".join(parts) + " | words (main) |", "|---" * (len(parts) + 2) + "|"]
    for name, kind in KINDS.items():
        cells = [_cell(found[part].get(name)) for part in parts]
        words = found.get("main", {}).get(name, {}).get("words", {})
        told = ", ".join(f"{word} {count}" for word, count in list(words.items())[:4])
        new = " (new)" if name in STRANGERS else "" if kind.asked else " (not asked)"
        lines.append(f"| {f'**{name}**' if kind.circular else name}{new} | {' | '.join(cells)} | {told} |")
    return "\n".join([*lines, "", *_outside(found, parts), "", *_coverage(found.get("coverage", {}))])


LEAD = """Percent called circular (or flattened circle) [95 % Wilson interval]; kinds in bold are circles. Seed {seed}, by which nothing was chosen; from
`benchmarks/results/shapes.json` (`python -m benchmarks.shapes`). "(new)": kinds that were written after the last change and run once. "(not asked)": no bar, see Limits."""


def _draws(rows: dict) -> str:
    counts = sorted({row["draws"] for row in rows.values()})
    return str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"


def _outside(found: dict, parts: list[str]) -> Iterator[str]:
    """Per part: pooled false circles, and kinds that are out of bar."""
    for part in parts:
        rows = [(name, row) for name, row in found[part].items() if not KINDS[name].circular]
        hits, draws = (sum(row[key] for _, row in rows) for key in ("circular", "draws"))
        out = [
            f"{name} {row['circular']} of {row['draws']}" for name, row in rows if row["interval"][0] > 0.05
        ]
        lost = [
            f"{name} {row['circular']} of {row['draws']}"
            for name, row in found[part].items()
            if KINDS[name].circular and KINDS[name].asked and row["circular"] < 0.95 * row["draws"]
        ]
        if draws:
            yield (
                f"- *{part}*: {hits} of {draws} draws of other kinds called circular ({hits / draws:.1%})"
                + "".join(
                    f"; {what}: {', '.join(names)}"
                    for what, names in (("above 5 %", out), ("circles found in under 95 %", lost))
                    if names
                )
            )


def _coverage(found: dict) -> Iterator[str]:
    """Percent of draws whose 95 % interval holds the noise-free value."""
    if not found:
        return
    numbers = list(dict.fromkeys(number for row in found.values() for number in row))
    yield "Percent of 95 % intervals that hold the value of the noise-free table:"
    yield ""
    yield "| data | " + " | ".join(numbers) + " |"
    yield "|---" * (len(numbers) + 1) + "|"
    for setting, row in found.items():
        cells = [f"{100 * row[n][0] / row[n][1]:.0f}" if n in row else "–" for n in numbers]
        yield f"| {setting} | {' | '.join(cells)} |"


def _cell(row: dict | None) -> str:
    if row is None:
        return "–"
    low, high = row["interval"]
    return f"{100 * row['circular'] / row['draws']:.0f} [{100 * max(low, 0):.0f}, {100 * high:.0f}]"


def write_page(found: dict) -> None:
    """The tables into docs/shapes.md, between their marks."""
    PAGE.write_text(between(PAGE.read_text(encoding="utf-8"), *MARKS, markdown(found)), encoding="utf-8")


def _keep(path: Path, found: dict) -> None:
    """The results, with the machine and the versions that made the last of them."""
    write_json(path, {**found, "provenance": provenance()})


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--draws", type=int, default=40)
    parser.add_argument("--part", nargs="*", default=["main"], choices=list(SETTINGS))
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--kind", nargs="*", default=[])
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--seconds", type=float, default=1e9, help="stop after this long")
    parser.add_argument("--page", action="store_true", help="write the tables of docs/shapes.md")
    parser.add_argument("--coverage", action="store_true", help="coverage of the intervals instead")
    options = parser.parse_args()
    found = json.loads(options.out.read_text()) if options.out.exists() else {}
    if options.page:
        write_page(found)
        return
    if options.coverage:
        found["coverage"] = coverage(options.draws)
        _keep(options.out, found)
        return
    begun = time.time()
    if found.setdefault("seed", options.seed) != options.seed:
        raise SystemExit(f"{options.out} holds draws of seed {found['seed']}; give that, or another --out")
    for part, name, draws in jobs(options.part, options.kind, options.draws):
        row = found.get(part, {}).get(name)
        if row and row["draws"] >= draws.stop:
            continue
        if time.time() - begun > options.seconds:
            break
        draws = range(row["draws"] if row else 0, draws.stop)
        row = added(row, words_of(name, SETTINGS[part], draws, options.seed))
        found.setdefault(part, {})[name] = row
        _keep(options.out, found)
        print(f"{SETTINGS[part]} | {name}: {row['words']}", flush=True)


if __name__ == "__main__":
    main()
