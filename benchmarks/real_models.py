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
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.marked import between

ROOT = Path(__file__).resolve().parents[1]
RESULT, PAGE = ROOT / "benchmarks" / "results" / "real_models.json", ROOT / "docs" / "real-models.md"
MODELS = ("gemma3-270m", "qwen2.5-0.5b")
STUDIED = ("months", "days")  # domains with a task that both models answer, studied by default
Data = dict[str, Any]


def read() -> Data:
    """The results so far."""
    return json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.is_file() else {}


def keep(data: Data) -> None:
    """Write the results with where they come from."""
    from mechfourier.files import write_json
    from mechfourier.results.base import plain
    from mechfourier.results.provenance import provenance

    write_json(RESULT, plain({**data, "provenance": provenance()}))


def timed(work: Callable[[], Any]) -> tuple[Any, Data]:
    """What ``work`` gives, and its seconds: by the clock and of the processor."""
    clock, cpu = time.monotonic(), time.process_time()
    value = work()
    return value, {"wall_s": round(time.monotonic() - clock, 1), "cpu_s": round(time.process_time() - cpu, 1)}


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


AGAINST = ("next", "hours-12:list")  # tasks whose neurons are compared with those of sums


def credited(model: Any, name: str) -> Data:
    """The neurons that write each period of the answer to a sum of one-digit numbers, and those of other tasks."""
    import mechfourier as mf

    first, seconds = timed(
        lambda: mf.period_neurons(model, name, task="sum", against=AGAINST[0], n_controls=99)
    )
    found = {AGAINST[0]: first}
    for other in AGAINST[1:]:
        found[other] = mf.period_neurons(model, name, task="sum", against=other, n_controls=0)
    keys = (
        "task",
        "accuracy",
        "n_prompts",
        "low",
        "high",
        "lead",
        "lead_low",
        "lead_high",
        "n_neurons",
        "notes",
    )
    return {
        **{key: getattr(first, key) for key in keys},
        "periods": [neurons_row(each) for each in first.periods],
        "against": {
            other: {
                "accuracy": result.against_accuracy,
                "notes": [note for note in result.notes if "compared" in note],
                "shared": {f"{each.period:g}": each.shared and vars(each.shared) for each in result.periods},
            }
            for other, result in found.items()
        },
        **seconds,
    }


def neurons_row(each: Any) -> Data:
    """What the page says of one period: its neurons beyond exchanged answers, at least the largest."""
    kept = [neuron for neuron in each.neurons if neuron.p_value < 0.05] or each.neurons[:1]
    return {
        **{key: value for key, value in vars(each).items() if key != "shared"},
        "writers": {writer.name: vars(writer) for writer in each.writers},
        "neurons": [vars(neuron) for neuron in kept],
        "ablated": each.ablated and vars(each.ablated),
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
            answered = f"yes (p = {_p(row['p'])})" if row["answered"] else "no"
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
        exact = "–" if s["exact"] is None else _percent(s["exact"], *s["exact_ci"])
        random = "–" if s["random"] is None else f"{s['random']:.1%}"
        rows.append(
            f"| {name} | {s['task'] or '–'} | {s['verdict']}, **{s['used']}** | {where} | {exact} | {random} "
            f"| {_p(s['rotation_p'])} | {s['wall_s']:.0f} |"
        )
    return "\n".join(rows)


def _percent(value: float | None, low: float | None, high: float | None) -> str:
    if value is None or low is None or high is None:
        return "–"
    return f"{value:.1%} [{100 * low:.1f}, {100 * high:.1f}]"


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
            cells.append("–" if each is None else _percent(each["moved"], each["low"], each["high"]))
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
        shares = [_percent(part["value"], part["low"], part["high"]) for part in parts]
        used = "; ".join(f"{p} token: {layers or 'nowhere'}" for p, layers in (s["used_at"] or {}).items())
        at, low, high = s["moves_at"] or (None, None, None)
        reaches = "–" if at is None else f"layer {at} [{low}, {high}]"
        heads = ", ".join(f"{h['layer']}.{h['head']} ({h['recovered']:.0%})" for h in s["heads"] or ())
        rows.append(
            f"| {name} | {shares[0]} | {shares[1]} | {s['along'] or 'neither'} | {used} | {reaches} "
            f"| {heads or '–'} |"
        )
    return "\n".join(rows)


def _p(value: float | None) -> str:
    return "–" if value is None else f"{value:.2g}"


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
        chance = "–" if part["random"] is None else f"{part['random']:.1%} (p = {_p(part['p_value'])})"
        rows.append(
            f"| {part['name']} | {_percent(part['exact'], part['low'], part['high'])} "
            f"| {_percent(*(part[key] if part['name'] != WHOLE else None for key in OF_WHOLE))} "
            f"| {_percent(part['moved'], part['moved_low'], part['moved_high'])} | {chance} |"
        )
    return "\n".join(rows)


def _neurons_table(found: Data) -> str:
    """One row per period of the answer."""
    rows = [
        "| period | part of the lead | of the lead (no preferred period) | by MLPs | by attention | neurons beyond exchanged answers | with these at the mean: right | left of the period's part | of the rest of the lead |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for each in found.get("domains", {}).get("numbers", {}).get("neurons", {}).get("periods", []):
        writers = [each["writers"].get(name, {}) for name in ("MLPs", "attention")]
        shares = [_percent(w.get("share"), w.get("low"), w.get("high")) for w in writers]
        rows.append(
            f"| {each['period']:g} | {each['lead']:.2f} nats [{each['low']:.2f}, {each['high']:.2f}] "
            f"| {_percent(each['share'], each['share_low'], each['share_high'])} ({each['even']:.1%}) "
            f"| {' | '.join(shares)} | {_listed(each)} | {' | '.join(_without(each['ablated']))} |"
        )
    return "\n".join(rows)


def _listed(each: Data) -> str:
    """The neurons beyond exchanged answers, or the largest with its p."""
    named = [f"{n['layer']}.{n['index']}" for n in each["neurons"]]
    neurons = [
        f"{name} ({_part(n['share'])}, p = {_p(n['p_value'])})"
        for name, n in zip(named, each["neurons"], strict=True)
    ]
    return ", ".join(neurons) if each["n_significant"] else f"none (largest: {neurons[0]})"


def _part(share: float | None) -> str:
    return "–" if share is None else f"{share:.0%}"


def _without(ablated: Data | None) -> list[str]:
    """What an ablation leaves, beside random neurons."""
    if ablated is None:
        return ["–"] * 3
    right = f"{ablated['right']:.1%} of {ablated['n_prompts']}, before {ablated['intact']:.1%}"
    return [
        f"{right} (random {ablated['random_right']:.1%}, p = {_p(ablated['p_right'])})",
        f"{ablated['lead_kept']:.0%} (random {ablated['random_lead_kept']:.0%}, p = {_p(ablated['p_lead'])})",
        f"{ablated['rest_kept']:.0%} (random {ablated['random_rest_kept']:.0%})",
    ]


def _shared_table(found: Data) -> str:
    """The same neurons in other tasks."""
    rows = [
        "| other task | right | period | its part of the lead | neurons of both | expected | rank correlation | with other periods |",
        "|---|---|---|---|---|---|---|---|",
    ]
    against = found.get("domains", {}).get("numbers", {}).get("neurons", {}).get("against", {})
    for name, other in against.items():
        if other["accuracy"] is None:
            rows.append(f"| {name} | at chance | – | – | – | – | – | – |")
            continue
        for period, s in other["shared"].items():
            sets = f"{s['shared']} of {s['first']} and {s['second']}" if s["first"] and s["second"] else "–"
            chance = f"{s['expected']:.1g} (p = {_p(s['p_value'])})" if s["first"] and s["second"] else "–"
            rows.append(
                f"| {name} | {other['accuracy']:.0%} | {period} | {s['lead']:.2f} nats | {sets} | {chance} "
                f"| {s['correlation']:.2f} [{s['low']:.2f}, {s['high']:.2f}] | {s['others']:.2f} |"
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
    "neurons": _neurons_table,
    "shared": _shared_table,
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
