"""Write the error rates of docs/method.md from the committed results: python -m benchmarks.method"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks.marked import between
from benchmarks.shape_kinds import KINDS
from mechfourier.stats.intervals import wilson

ROOT = Path(__file__).resolve().parents[1]
RESULTS, PAGE = ROOT / "benchmarks" / "results", ROOT / "docs" / "method.md"
FIRST, LAST = "<!-- table rates -->", "<!-- end -->"
Data = dict[str, Any]


def read(name: str) -> Data:
    """A committed result."""
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def share(hits: int, trials: int) -> str:
    """A count with its share and 95 % Wilson interval."""
    low, high = wilson(hits, trials)
    return f"{hits} of {trials:,} ({100 * hits / trials:.1f} % [{100 * low:.1f}, {100 * high:.1f}])"


def counted(rows: Iterable[Data], what: str = "circular") -> str:
    """Over generators: how often one was called circular."""
    kept = list(rows)
    return share(sum(row[what] for row in kept), sum(row["trials"] for row in kept))


def strong(row: Data) -> bool:
    """Planted as strongly as the bars ask: at signal-to-noise 1 and from 12 values on."""
    return row["planted"] and row["n"] >= 12 and row["snr"] >= 1


def planted_rows() -> list[tuple[str, str, str, str]]:
    """The planted benchmark, by kind of domain."""
    found = []
    for kind, told in (("operation", "an operation, (a + o) mod n"), ("value", "values on their own")):
        rows = [row for row in read("planted")["generators"] if row["kind"] == kind]
        look = [row for row in rows if not row["planted"]]
        found.append(
            (
                f"{told}: circles, look-alikes of every signal-to-noise ratio",
                counted(filter(strong, rows)),
                counted(look),
                counted(look, "naive"),
            )
        )
    return found


def operation_row() -> tuple[str, str, str, str]:
    """What trained networks hold when they add, and what else two operands make."""
    rows = read("operations")["generators"]
    look = [row for row in rows if not row["planted"]]
    return (
        "operations, further generators (Clock, Pizza, several harmonics; other periods and combinations)",
        counted(row for row in rows if row["planted"]),
        counted(look),
        counted(look, "naive"),
    )


def shape_rows() -> list[tuple[str, str, str, str]]:
    """The contest of shapes, with its worst look-alike by name."""
    main = {name: row for name, row in read("shapes")["main"].items() if "draws" in row and KINDS[name].asked}
    known = {name for name in main if KINDS[name].circular}
    draws = {name: {"circular": row["circular"], "trials": row["draws"]} for name, row in main.items()}
    rest = [name for name in draws if name not in known]
    worst = max(rest, key=lambda name: draws[name]["circular"] / draws[name]["trials"])
    return [
        (
            f"shapes of values: circles, ellipses and other closed curves; {len(rest) - 1} other shapes",
            counted(draws[name] for name in known),
            counted(draws[name] for name in rest if name != worst),
            "–",
        ),
        (f"the worst look-alike of these: {worst}", "–", counted([draws[worst]]), "–"),
    ]


def random_row() -> tuple[str, str, str, str]:
    """Whole networks with random weights."""
    data = read("random_networks")
    verdicts = data["verdicts"]
    circles = sum(words.get("circular", 0) for words in verdicts.values())
    trials = data["draws"] * len(verdicts)
    return ("networks with random weights", "–", share(circles, trials), "–")


def table() -> str:
    """All rows."""
    rows = [*planted_rows(), operation_row(), *shape_rows(), random_row()]
    head = [
        "| data with a known answer | circles called circular | others called circular | best R² > 0.9 on the others |"
    ]
    return "\n".join([*head, "|---|---|---|---|", *(f"| {' | '.join(row)} |" for row in rows)])


def page(text: str) -> str:
    """The page with the table of the committed results."""
    return between(text, FIRST, LAST, table())


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
