"""Every published claim about a language model on the two real models: the table of
docs/from-grokking-fourier.md.

Run: python -m benchmarks.reproduce_models [MODEL …] [--only EXPERIMENT …]   (an hour on two cores for both)
python -m benchmarks.reproduce_models --page   (only writes the page from the results)

An experiment that is in the results with the same weights and settings is not run again, and the grids of an
interrupted one are kept in ``--out``. ``--samples`` and ``--attended`` take fewer prompts for the ablations, the lens
and attention, ``--most`` the first moduli of a list, which is recorded in the settings.
"""

import argparse
import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.marked import between

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "benchmarks" / "results" / "reproduce_models.json"
PAGE = ROOT / "docs" / "from-grokking-fourier.md"
MODELS = ("gemma3-270m", "qwen2.5-0.5b")
FIRST, LAST = "<!-- table claims -->", "<!-- end -->"
DASH = "–"
DEFAULT = {"samples": ("",), "attended": ("100",), "most": ("0",)}  # of the settings
TOLD = {
    "stands": "**stands**",
    "does not stand": "does not stand",
    "noise": "does not stand (noise)",
    "cannot be asked": "cannot be asked (accuracy at chance)",
    "not measured": "not measured",
}
Data = dict[str, Any]


def read() -> Data:
    """The results so far."""
    return json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.is_file() else {"models": {}}


def keep(data: Data) -> None:
    """Write the results with where they come from."""
    from mechfourier.files import write_json
    from mechfourier.results.base import plain
    from mechfourier.results.provenance import provenance

    write_json(RESULT, plain(data | {"provenance": provenance()}))


def experiments() -> list[str]:
    """The experiments on a language model, in the order of the catalogue."""
    from mechfourier.reproduce.catalogue import EXPERIMENTS
    from mechfourier.reproduce.experiment import LANGUAGE

    return [each.name for each in EXPERIMENTS if each.needs == LANGUAGE]


def run(models: list[str], only: list[str], out: Path, **fewer: Any) -> None:
    """Measure what is not there yet, experiment by experiment; ``fewer``: settings that are not the default."""
    from mechfourier.reproduce.catalogue import chosen
    from mechfourier.reproduce.run import one
    from mechfourier.reproduce.session import Session
    from mechfourier.reproduce.settings import Settings

    for name in models:
        session = Session(name, None, Settings(**fewer), out / name)
        asked = {each.name: each for each in chosen(only)}
        for experiment in (asked[each] for each in (only or experiments())):
            kept = _found(read(), name)["experiments"].get(experiment.name)
            if kept and (kept["weights"], kept["settings"]) == (session.weights, session.settings.plain()):
                continue
            print(f"{name}: {experiment.name}", file=sys.stderr, flush=True)
            cpu, load = time.process_time(), os.getloadavg()[0]
            row = one(session, experiment).to_dict()
            row |= {"cpu_seconds": round(time.process_time() - cpu, 1), "load_average": round(load, 1)}
            peak = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2)
            data = read()  # another model may have been measured meanwhile
            found = _found(data, name)
            found["experiments"][experiment.name] = row
            found["peak_gb"] = max(peak, found.get("peak_gb", 0.0))
            keep(data)


def _found(data: Data, name: str) -> Data:
    return data["models"].setdefault(name, {"experiments": {}})


# the page


def table(data: Data) -> str:
    """One line per claim: what was published, and for every model what the published method gives, what the
    controls give, and what our test says."""
    names = [name for name in MODELS if name in data["models"]]
    heads = " | ".join(f"{name}: method | untrained | shuffled | our test" for name in names)
    rows = [f"| experiment | claim | published | {heads} |", "|---" * (3 + 4 * len(names)) + "|"]
    found = [data["models"][name]["experiments"] for name in names]
    for experiment in experiments():
        columns = [each.get(experiment, {}).get("claims", []) for each in found]
        for i, claim in enumerate(max(columns, key=len, default=[])):
            cells = [" | ".join(_cells(column[i] if i < len(column) else None)) for column in columns]
            published = _figure(claim["published"], claim["unit"])
            rows.append(f"| {experiment} | {_plain(claim['claim'])} | {published} | {' | '.join(cells)} |")
    return "\n".join(rows)


def _plain(text: str) -> str:
    """The claim without the dimension, which is another one in every model."""
    head, _, rest = text.partition(": ")
    return rest if head.startswith("dimension ") else text


def _cells(claim: Data | None) -> list[str]:
    if claim is None:
        return [DASH] * 4
    unit = claim["unit"]
    controls = [claim.get(name) for name in ("untrained", "shuffled")]
    told = [DASH if c is None else f"{_figure(c['figure'], unit)}, {c['word']}" for c in controls]
    return [_figure(claim["measured"], unit), *told, TOLD[claim["word"]]]


def _figure(value: float | None, unit: str) -> str:
    if value is None:
        return DASH
    return f"{100 * value:.1f} %" if unit == "share right" else f"{value:.4g}"


def sums(data: Data) -> str:
    """How long it took, and the count of words per model."""
    lines = []
    for name in MODELS:
        found = data["models"].get(name)
        if found is None:
            lines.append(f"- `mechfourier reproduce --model {name}`: not run yet.")
            continue
        rows = found["experiments"].values()
        cpu, wall = sum(r["cpu_seconds"] for r in rows), sum(r["seconds"] for r in rows)
        claims = [claim["word"] for row in rows for claim in row["claims"]]
        left = ", ".join(each for each in experiments() if each not in found["experiments"])
        words = ", ".join(f"{claims.count(word)} {told}" for word, told in TOLD.items() if word in claims)
        lines.append(
            f"- `mechfourier reproduce --model {name}`: {len(claims)} claims, {words}. {cpu / 60:.0f} "
            f"minutes of processor time on one thread ({wall / 60:.0f} by the clock beside other work), "
            f"{found['peak_gb']:.1f} GB of memory.{f' Not run yet: {left}.' if left else ''}{_fewer(found)}"
        )
    return "\n".join(lines)


def _fewer(found: Data) -> str:
    """Which experiments asked fewer prompts or moduli than by default."""
    asked = {"samples": "{} prompts", "attended": "{} prompts a modulus", "most": "the first {} moduli"}
    of = {"samples": ("ablation", "logit-lens"), "attended": ("attention",), "most": ("primes", "range")}
    told = [
        f"{name} ({text.format(row['settings'][key])})"
        for name, row in found["experiments"].items()
        for key, text in asked.items()
        if name.startswith(of[key]) and row["settings"][key] not in DEFAULT[key]
    ]
    return f" Fewer than by default: {', '.join(told)}." if told else ""


def page(text: str, data: Data) -> str:
    """The page with the table of these results."""
    return between(text, FIRST, LAST, f"{table(data)}\n\n{sums(data)}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="*", default=list(MODELS))
    parser.add_argument("--only", nargs="*", default=[], help="experiments, by name")
    parser.add_argument("--out", type=Path, default=Path("mechfourier-out/reproduce-models"))
    parser.add_argument(
        "--samples", type=int, help="prompts of an ablation and of the lens (default: all 529)"
    )
    parser.add_argument(
        "--attended", type=int, default=100, help="prompts per modulus whose attention is read"
    )
    parser.add_argument("--most", type=int, default=0, help="moduli of a list that are asked (default: all)")
    parser.add_argument("--page", action="store_true", help="measure nothing")
    options = parser.parse_args()
    if not options.page:
        fewer = {"samples": options.samples, "attended": options.attended, "most": options.most}
        run(options.models, options.only, options.out, **fewer)
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8"), read()), encoding="utf-8")


if __name__ == "__main__":
    main()
