"""Probe real pretrained weights and the calendar model on all of their domains, and write the verdicts down.

Run: python examples/worked_probes.py --out docs/worked-examples.md   (--quick: two probes only)
"""

import argparse
from pathlib import Path

import mechfourier as mf
from mechfourier.files import write_text

PROBES = (
    ("minilm", "months", "value"),
    ("minilm", "days", "value"),
    ("minilm", "hours-12", "value"),
    ("minilm", "alphabet", "value"),
    ("calendar", "months", "value"),
    ("calendar", "days", "value"),
    ("calendar", "hours-12", "value"),
    ("calendar", "hours-24", "value"),
    ("calendar", "alphabet", "value"),
    ("calendar", "months", "operation"),
    ("calendar", "days", "operation"),
    ("calendar", "hours-12", "operation"),
    ("calendar", "mod-23", "operation"),
)
HEAD = """# Worked examples: what the verdicts mean

This page is written by `python examples/worked_probes.py --out docs/worked-examples.md`: seed 0, 1000 permutations, all layers'
`resid_post`, the untrained model (weights re-initialised) as control. `minilm` is all-MiniLM-L6-v2 (real pretrained weights, 6 layers); `calendar` is the small
Qwen3-architecture model of the package. *value* designs read the value's own token in many templates; *operation* designs read the last token
of "January + 5 months =" over four cycles of offsets.

- **circular**: every other shape is rejected (open curves, lines, waves, clusters, other periods, no order), and the untrained model
  does not show it. It is represented on a circle; whether it is *used* takes an intervention (`mechfourier ablate`).
- **open curve**: the values are ordered, and a cosine fits them well, but the two ends stay apart: 12 o'clock is not next to 1.
- **undecided**: the data do not tell the two shapes apart.
- **modular**: a function of the residue class, with its power spread over harmonics: no circle.
- **noise**: the templates do not agree on anything that varies with the value beyond what relabelling gives.
"""


def section(result: mf.ProbeResult) -> str:
    """One probe as Markdown: the verdict, and a line per reason."""
    lines = [
        f"## {result.model}, {result.domain} ({result.design})",
        "",
        f"**{result.verdict}**{str(result).splitlines()[0].partition(f'{result.domain} in {result.model}')[2]}",
        "",
    ]
    return "\n".join(
        [
            *lines,
            *(f"- {reason}" for reason in result.reasons),
            *(f"- note: {note}" for note in result.notes),
            "",
        ]
    )


def main(arguments: list[str] | None = None) -> list[mf.ProbeResult]:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=None)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args(arguments)
    models = {name: mf.load(name) for name in ("minilm", "calendar")}
    chosen = PROBES[:1] + PROBES[5:6] if options.quick else PROBES
    results = []
    for model, domain, design in chosen:
        results.append(mf.probe(models[model], mf.domain(domain), design=design))
        print(section(results[-1]))
    if options.out is not None:
        write_text(options.out, "\n".join([HEAD, *map(section, results)]))
    return results


if __name__ == "__main__":
    main()
