"""The atlases of the documentation as a table: ``python -m benchmarks.atlases calendar gemma3-270m --quick-of gemma3-270m``.

Writes ``results/atlases.json`` and the table in ``docs/how-to/atlas.md``; without models only the table.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

from benchmarks.marked import between
from mechfourier.causal.usage import spans

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "atlases.json"
PAGE = ROOT / "docs" / "how-to" / "atlas.md"
HEAD = """## What an atlas says

The verdict of every packaged domain with the layers where it holds, and, where circles were tested, whether they are
used and the circle's share of what the token says of the value (`python -m benchmarks.atlases`)."""
BEGIN, END = "<!-- atlases -->", "<!-- /atlases -->"


def measured(model: str, *, quick: bool, name: str = "") -> dict[str, Any]:
    """The summary of a model's atlas, and how long it took."""
    from mechfourier.atlas import AtlasResult, atlas
    from mechfourier.models.registry import load

    loaded, began = load(model), time.perf_counter()
    found = atlas(loaded, "all", quick=quick)
    assert isinstance(found, AtlasResult)
    seconds = round(time.perf_counter() - began, 1)
    return {**found.summary(), "model": name or Path(model).name, "quick": quick, "seconds": seconds}


def cell(row: dict[str, Any]) -> str:
    """What an atlas says of one domain."""
    layers = row["layers"]
    told = row["word"] if not layers else f"{row['word']}, {spans(tuple(range(layers[0], layers[1] + 1)))}"
    if row["used"] != "not tested":
        told += f"; {row['used']}" + ("" if row["share"] is None else f", {row['share']:.0%}")
    return told


def table(atlases: list[dict[str, Any]]) -> str:
    """One row per domain, one column per model."""
    heads = [f"{a['model']} ({'quick, ' if a['quick'] else ''}{a['seconds']:.0f} s)" for a in atlases]
    lines = ["| domain | n | " + " | ".join(heads) + " |", "| --- | ---: |" + " --- |" * len(heads)]
    rows = {each["domain"]: each["n"] for a in atlases for each in a["domains"]}
    for domain, n in rows.items():
        found = [{each["domain"]: each for each in a["domains"]}.get(domain) for a in atlases]
        lines.append(
            f"| {domain} | {n} | " + " | ".join("–" if row is None else cell(row) for row in found) + " |"
        )
    return "\n".join(lines)


def written(page: str, atlases: list[dict[str, Any]]) -> str:
    """``page`` with the table between its marks."""
    if BEGIN not in page:
        page = f"{page.rstrip()}\n\n{HEAD}\n\n{BEGIN}\n{END}\n"
    return between(page, BEGIN, END, table(atlases))


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("models", nargs="*", help="names, or NAME=FOLDER")
    asked.add_argument(
        "--quick-of", action="append", default=[], help="names whose circles are not tested for use"
    )
    given = asked.parse_args()
    from mechfourier.files import write_json
    from mechfourier.results.base import plain
    from mechfourier.results.provenance import provenance

    before = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.is_file() else {}
    kept: list[dict[str, Any]] = before.get("atlases", [])
    for each in given.models:
        name, _, folder = each.partition("=")
        found = measured(folder or name, quick=name in given.quick_of, name=name)
        kept = [old for old in kept if old["model"] != name] + [found]
        write_json(RESULTS, plain({"atlases": kept, "provenance": provenance()}))
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8"), kept), encoding="utf-8")


if __name__ == "__main__":
    main()
