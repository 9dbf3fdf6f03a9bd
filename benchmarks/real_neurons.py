"""The neurons that write each period of a sum in real models: one step of `benchmarks.real_models`, and its tables."""

from typing import Any

from benchmarks.cells import Data, p_value, percent, timed

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


def neurons_table(found: Data) -> str:
    """One row per period of the answer."""
    rows = [
        "| period | part of the lead | of the lead (no preferred period) | by MLPs | by attention | neurons beyond exchanged answers | with these at the mean: right | left of the period's part | of the rest of the lead |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for each in found.get("domains", {}).get("numbers", {}).get("neurons", {}).get("periods", []):
        writers = [each["writers"].get(name, {}) for name in ("MLPs", "attention")]
        shares = [percent(w.get("share"), w.get("low"), w.get("high")) for w in writers]
        rows.append(
            f"| {each['period']:g} | {each['lead']:.2f} nats [{each['low']:.2f}, {each['high']:.2f}] "
            f"| {percent(each['share'], each['share_low'], each['share_high'])} ({each['even']:.1%}) "
            f"| {' | '.join(shares)} | {_listed(each)} | {' | '.join(_without(each['ablated']))} |"
        )
    return "\n".join(rows)


def _listed(each: Data) -> str:
    """The neurons beyond exchanged answers, or the largest with its p."""
    named = [f"{n['layer']}.{n['index']}" for n in each["neurons"]]
    neurons = [
        f"{name} ({_part(n['share'])}, p = {p_value(n['p_value'])})"
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
        f"{right} (random {ablated['random_right']:.1%}, p = {p_value(ablated['p_right'])}; of {ablated['size_ratio']:.2f} times the size)",
        f"{ablated['lead_kept']:.0%} (random {ablated['random_lead_kept']:.0%}, p = {p_value(ablated['p_lead'])})",
        f"{ablated['rest_kept']:.0%} (random {ablated['random_rest_kept']:.0%})",
    ]


def shared_table(found: Data) -> str:
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
            chance = (
                f"{s['expected']:.1g} (p = {p_value(s['p_value'])})" if s["first"] and s["second"] else "–"
            )
            rows.append(
                f"| {name} | {other['accuracy']:.0%} | {period} | {s['lead']:.2f} nats | {sets} | {chance} "
                f"| {s['correlation']:.2f} [{s['low']:.2f}, {s['high']:.2f}] | {round(s['others'], 2) + 0.0:.2f} |"
            )
    return "\n".join(rows)
