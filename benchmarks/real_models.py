"""What ``probe``, ``tasks`` and ``study`` say of real pretrained language models: the tables of
docs/real-models.md.

Run: python -m benchmarks.real_models [MODEL …] [--domains months,days] [--steps probe,tasks,study,sums,neurons]   (an hour
on two cores for both models) python -m benchmarks.real_models --page
(only writes the page from the results)

Every model is loaded once and its results are kept one by one, so that an interrupted run goes on. The page's
tables stand between ``<!-- table … -->`` marks; a test compares them with the results.
"""

import argparse
import json
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.cells import Data, p_value, percent, timed
from benchmarks.marked import between
from benchmarks.real_neurons import credited, neurons_table, shared_table

ROOT = Path(__file__).resolve().parents[1]
RESULT, PAGE = ROOT / "benchmarks" / "results" / "real_models.json", ROOT / "docs" / "real-models.md"
MODELS = ("gemma3-270m", "qwen2.5-0.5b")
STUDIED = ("months", "days")  # domains with a task that both models answer, studied by default


def read() -> Data:
    """The results so far."""
    return json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.is_file() else {}


def keep(data: Data) -> None:
    """Write the results with where they come from."""
    from mechfourier.files import write_json
    from mechfourier.results.base import plain
    from mechfourier.results.provenance import provenance

    write_json(RESULT, plain({**data, "provenance": provenance()}))


def probed(model: Any, name: str) -> Data:
    """The probe's verdict with the numbers that a table has room for."""
    import mechfourier as mf

    result, seconds = timed(lambda: mf.probe(model, name))
    return {**probe_row(result), **seconds}


def probe_row(result: Any) -> Data:
    """What the page says of a probe; ``contest``: the reasons of the contest at the hook point that speaks for the verdict."""
    best, value = result.best, result.value
    site = None if value is None else value.best_site
    contest = None if site is None else site.contest
    return {
        "n": result.n, "verdict": result.verdict, "p": value and value.circle_p, "site": best and best.site, "k": best and best.k,
        "share": best and best.r2, "layers": result.layers, "words": [row.word for row in result.sites],
        "label": contest and contest.label, "contest": [*site.reasons, *contest.reasons] if site and contest else [],
        "reasons": list(result.reasons), "notes": list(result.notes),
    }  # fmt: skip


def asked(model: Any, name: str) -> Data:
    """The accuracy of every task of the domain."""
    import mechfourier as mf

    result, seconds = timed(lambda: mf.tasks(model, name))
    rows = [
        {
            "task": row.task,
            "kind": row.kind,
            "right": row.accuracy.right,
            "prompts": row.accuracy.prompts,
            "low": row.accuracy.low,
            "high": row.accuracy.high,
            "greedy": row.greedy.share,
            "p": row.p_holm,
            "answered": row.answered,
        }
        for row in result.tasks
    ]
    return {"rows": rows, "unasked": list(result.unasked), **seconds}


def studied(model: Any, name: str) -> Data:
    """Whether the model uses what the probe sees, how much, and where; parts of an interrupted study are kept
    beside the results."""
    import mechfourier as mf

    result, seconds = timed(lambda: mf.study(model, name, folder=RESULT.parent / ".unfinished"))
    return {**study_row(result), **seconds}


def study_row(result: Any) -> Data:
    """What the page says of a study."""
    from mechfourier.causal.heads import strongest
    from mechfourier.causal.usage import spans

    turn, ablation, where = result.rotation, result.ablation, result.map
    return {
        "verdict": result.verdict,
        "used": result.used,
        "task": result.task,
        "accuracy": result.accuracy,
        "site": result.site,
        "position": result.position,
        "ks": list(result.ks),
        "reasons": list(result.reasons),
        "notes": list(result.notes),
        "exact": turn and turn.exact_share,
        "exact_ci": turn and list(turn.exact_ci),
        "random": turn and turn.random_share,
        "rotation_p": turn and turn.directed_p,
        "logit_diff_change": ablation and ablation.logit_diff_change,
        "ablation_p": ablation and ablation.p_controls,
        "share": result.share and vars(result.share),
        "share_difference": result.share_difference and vars(result.share_difference),
        "ladder": [vars(rung) for rung in result.ladder],
        "along": result.along,
        "used_at": where and {p: spans(where.used(p)) for p in where.positions},
        "moves_at": where and [where.moves_at, where.low, where.high],
        "heads": where and [vars(head) for head in strongest(where.heads)[:5]],
        "certificate": result.certificate and str(result.certificate),
    }


def summed(model: Any, name: str) -> Data:
    """What the line and every period of an operand do to the answer of a sum of one-digit numbers."""
    import mechfourier as mf

    result, seconds = timed(lambda: mf.periods(model, name))
    about = {
        key: getattr(result, key) for key in ("task", "site", "accuracy", "n_prompts", "fit_r2", "notes")
    }
    return {
        **about,
        "parts": [vars(p) for p in result.parts],
        "power": [vars(p) for p in result.power],
        **seconds,
    }


STEPS: dict[str, Callable[[Any, str], Data]] = {
    "probe": probed,
    "tasks": asked,
    "study": studied,
    "sums": summed,
    "neurons": credited,
}
ONLY: dict[str, tuple[str, ...]] = {"study": STUDIED, "sums": ("numbers",), "neurons": ("numbers",)}


def run(models: list[str], domains: list[str], steps: list[str]) -> None:
    """Measure what is not there yet."""
    import mechfourier as mf

    data = read()
    data.pop("provenance", None)
    for name in models:
        found = data.setdefault(name, {})
        model, seconds = timed(lambda name=name: mf.load(name))
        found["load"] = seconds
        for domain in domains:
            part = found.setdefault("domains", {}).setdefault(domain, {})
            for step in steps:
                if step not in part and domain in ONLY.get(step, (domain,)):
                    print(f"{name}: {step} {domain}", file=sys.stderr, flush=True)
                    part[step] = STEPS[step](model, domain)
                    found["peak_gb"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2)
                    keep(data)
        del model


# the page


def tables(data: Data) -> dict[str, str]:
    """The tables of the page by name."""
    return {
        f"{what} {model}": make(data[model])
        for model in MODELS
        if model in data
        for what, make in TABLES.items()
    }


def _probe_table(found: Data) -> str:
    rows = [
        "| domain | n | version 0.1 | verdict | where | best hook point | why |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, part in found["domains"].items():
        if (p := part.get("probe")) is None:
            continue
        why = "; ".join([*p.get("contest", ()), *(() if p.get("contest") else p["reasons"][:1])])
        rows.append(
            f"| {name} | {p['n']} | {part.get('version_0_1', '–')} | **{p['verdict']}** | {_where(p)} "
            f"| {p['site'] or '–'}{_label(p)} | {why} |"
        )
    return "\n".join(rows)


def _label(p: Data) -> str:
    label = p.get("label")
    return f": {label}" if label and label not in ("noise", "not testable") else ""


def _where(p: Data) -> str:
    """How many layers have the verdict, and which, and what the others have."""
    words = p.get("words", [])
    if not words or p["verdict"] == "not testable":
        return "–"
    counts = {word: words.count(word) for word in dict.fromkeys(words)}
    first, last = p["layers"] or ("–", "–")
    others = ", ".join(f"{word} {count}" for word, count in counts.items() if word != p["verdict"])
    own = f"{counts.get(p['verdict'], 0)} of {len(words)} layers, {first} to {last}"
    return f"{own}; {others}" if others else own


def _task_table(found: Data) -> str:
    rows = [
        "| domain | task | kind | right among the candidates | 95 % interval | greedy | above chance |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, part in found["domains"].items():
        for row in part.get("tasks", {"rows": []})["rows"]:
            answered = f"yes (p = {p_value(row['p'])})" if row["answered"] else "no"
            rows.append(
                f"| {name} | {row['task']} | {row['kind']} | {row['right']} of {row['prompts']} "
                f"| {row['low']:.0%} to {row['high']:.0%} | {row['greedy']:.0%} | {answered} |"
            )
    return "\n".join(rows)


def _studies(found: Data) -> list[tuple[str, Data]]:
    return [(name, part["study"]) for name, part in found["domains"].items() if "study" in part]


def _study_table(found: Data) -> str:
    rows = [
        "| domain | task | verdict | turned at | answers that move by exactly δ | in random planes | p | "
        "seconds |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, s in _studies(found):
        where = (
            "–"
            if s["site"] is None
            else f"{s['site']}, {s['position']} token, k = {', '.join(map(str, s['ks']))}"
        )
        exact = "–" if s["exact"] is None else percent(s["exact"], *s["exact_ci"])
        random = "–" if s["random"] is None else f"{s['random']:.1%}"
        rows.append(
            f"| {name} | {s['task'] or '–'} | {s['verdict']}, **{s['used']}** | {where} | {exact} | {random} "
            f"| {p_value(s['rotation_p'])} | {s['wall_s']:.0f} |"
        )
    return "\n".join(rows)


def _ladder_table(found: Data) -> str:
    """Every rung of every study, a column each."""
    studies = [(name, s) for name, s in _studies(found) if s.get("ladder")]
    names = list(dict.fromkeys(rung["name"] for _, s in studies for rung in s["ladder"]))
    rows = [
        f"| edit | {' | '.join(name for name, _ in studies)} |",
        f"|---|{'---|' * len(studies)}",
    ]
    for rung in names:
        cells = []
        for _, s in studies:
            each = next((r for r in s["ladder"] if r["name"] == rung), None)
            cells.append("–" if each is None else percent(each["moved"], each["low"], each["high"]))
        rows.append(f"| {rung} | {' | '.join(cells)} |")
    return "\n".join(rows)


def _where_table(found: Data) -> str:
    """How much, along what, and where."""
    rows = [
        "| domain | circle's share of exact moves | of the score difference | used along | circle used at | "
        "reaches the last token | heads (share of the donor's difference) |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, s in _studies(found):
        if not s.get("share"):
            continue
        parts = (s["share"], s["share_difference"])
        shares = [percent(part["value"], part["low"], part["high"]) for part in parts]
        used = "; ".join(f"{p} token: {layers or 'nowhere'}" for p, layers in (s["used_at"] or {}).items())
        at, low, high = s["moves_at"] or (None, None, None)
        reaches = "–" if at is None else f"layer {at} [{low}, {high}]"
        heads = ", ".join(f"{h['layer']}.{h['head']} ({h['recovered']:.0%})" for h in s["heads"] or ())
        rows.append(
            f"| {name} | {shares[0]} | {shares[1]} | {s['along'] or 'neither'} | {used} | {reaches} "
            f"| {heads or '–'} |"
        )
    return "\n".join(rows)


def _lists_table(found: Data) -> str:
    """Lists that are no cycle, read in the sentences of the domain ``numbers``."""
    rows = ["| list | n | verdict | where |", "|---|---|---|---|"]
    for name, p in found.get("lists", {}).items():
        rows.append(f"| {name} | {p['n']} | {p['verdict']} | {_where(p)} |")
    return "\n".join(rows)


WHOLE, OF_WHOLE = "whole class mean", ("of_whole", "of_whole_low", "of_whole_high")


def _sums_table(found: Data) -> str:
    """One row per part of the operand."""
    rows = [
        "| part of the first number | answers moved by exactly δ | of what the whole class mean moves | by δ modulo the period | random directions |",
        "|---|---|---|---|---|",
    ]
    for part in found.get("domains", {}).get("numbers", {}).get("sums", {}).get("parts", []):
        chance = "–" if part["random"] is None else f"{part['random']:.1%} (p = {p_value(part['p_value'])})"
        rows.append(
            f"| {part['name']} | {percent(part['exact'], part['low'], part['high'])} "
            f"| {percent(*(part[key] if part['name'] != WHOLE else None for key in OF_WHOLE))} "
            f"| {percent(part['moved'], part['moved_low'], part['moved_high'])} | {chance} |"
        )
    return "\n".join(rows)


TABLES: dict[str, Callable[[Data], str]] = {
    "probe": _probe_table,
    "lists": _lists_table,
    "tasks": _task_table,
    "study": _study_table,
    "ladder": _ladder_table,
    "where": _where_table,
    "sums": _sums_table,
    "neurons": neurons_table,
    "shared": shared_table,
}


def with_tables(text: str, data: Data) -> str:
    """``text`` with every table between its marks replaced by that of ``data``."""
    for name, table in tables(data).items():
        text = between(text, f"<!-- table {name} -->", "<!-- end -->", table)
    return text


def main() -> int:
    """Measure, then write the page; ``--page`` only writes it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", default=list(MODELS))
    parser.add_argument("--domains", help="names with commas (default: all packaged ones)")
    parser.add_argument("--steps", default=",".join(STEPS), help="some of: %(default)s")
    parser.add_argument("--page", action="store_true", help="only write the page")
    chosen = parser.parse_args()
    if not chosen.page:
        from mechfourier.domains.definition import list_domains

        names = chosen.domains.split(",") if chosen.domains else [domain.name for domain in list_domains()]
        run(chosen.models, names, chosen.steps.split(","))
    PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8"), read()), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
