"""The capture of an atlas against the same prompts domain by domain through TransformerLens.

    python benchmarks/atlas_speed.py                                # the two known models, 6 minutes
    python benchmarks/atlas_speed.py --model gemma3-270m=FOLDER --rounds 1 --out /tmp/trial.json

In one process and in turns, on the same loaded model: all prompts of all packaged domains in one ``capture``
of the residual stream after every block at the token that is read (its check of a prompt run alone, made once
for a model's weights, falls into a turn that is not counted); and, domain by domain, ``run_with_cache`` with a
``names_filter`` in batches padded on the right, as TransformerLens documents it, of which the positions read
are kept. Its batch size is the fastest of ``BATCHES``, tried before. Compared are the medians of the ratios
of a turn, and the numbers. Writes benchmarks/results/atlas_speed.json.
"""

import argparse
import os
import statistics
import time
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results" / "atlas_speed.json"
MODELS = ("gemma3-270m", "qwen2.5-0.5b")
BATCHES = (16, 32, 128)


def padded(model: Any, asked: list[Any], size: int) -> dict[str, list[Any]]:
    """``run_with_cache`` of every domain's prompts; per hook point the activations at the tokens read."""
    import torch

    from mechfourier.domains.design import read_positions

    found: dict[str, list[Any]] = {}
    with torch.no_grad():
        for each in asked:
            read = read_positions(each.design, list(each.encodings))
            for start in range(0, len(read), size):
                ids = [torch.tensor(e.ids) for e in each.encodings[start : start + size]]
                tokens = torch.nn.utils.rnn.pad_sequence(ids, batch_first=True)
                _, cache = model.run_with_cache(
                    tokens, names_filter=lambda name: name.endswith("hook_resid_post")
                )
                rows, at = torch.arange(len(ids)), read[start : start + size]
                for name, value in cache.items():
                    found.setdefault(name, []).append(value[rows, at].float())
    return found


def measure(folder: Path, rounds: int) -> dict[str, Any]:
    """Seconds of both in turns, and how far apart their numbers are, of the hook point's largest."""
    import torch

    import mechfourier as mf
    from mechfourier.atlas.capture import asked_of
    from mechfourier.domains.design import read_positions
    from mechfourier.hooks import capture

    model = mf.load(folder)
    asked = [each for each in map(lambda d: asked_of(model, d), mf.list_domains()) if each.design is not None]
    encodings = [encoding for each in asked for encoding in each.encodings]
    read = torch.cat([read_positions(each.design, list(each.encodings)) for each in asked if each.design])
    tried = {size: timed(lambda s=size: padded(model, asked, s))[0] for size in BATCHES}
    best = min(tried, key=tried.__getitem__)
    seconds: dict[str, list[float]] = {"capture": [], "run_with_cache": []}
    for number in range(-1, rounds):
        took, ours = timed(lambda: capture(model, encodings, "resid_post", read))
        other, theirs = timed(lambda: padded(model, asked, best))
        print(f"{folder.name}: capture {took:.1f} s, run_with_cache {other:.1f} s", flush=True)
        if number >= 0:
            seconds["capture"].append(took)
            seconds["run_with_cache"].append(other)
    apart = [
        float((ours[name] - torch.cat(parts)).abs().max() / torch.cat(parts).abs().max())
        for name, parts in theirs.items()
    ]
    pairs = zip(seconds["run_with_cache"], seconds["capture"], strict=True)
    return {
        "domains": len(asked),
        "prompts": len(encodings),
        "tokens": sum(len(e.ids) for e in encodings),
        "batch": best,
        "seconds": seconds,
        "times_faster": statistics.median(slow / quick for slow, quick in pairs),
        "largest_difference": max(apart),
        "threads": torch.get_num_threads(),
    }


def timed(work: Any) -> tuple[float, Any]:
    start = time.perf_counter()
    made = work()
    return time.perf_counter() - start, made


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", action="append", help="NAME or NAME=FOLDER (default: both known models)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    from mechfourier.files import write_json
    from mechfourier.models.registry import resolve
    from mechfourier.results.provenance import machine, versions

    load = round(os.getloadavg()[0], 1)
    pairs = [(item.partition("=")[0], item.partition("=")[2]) for item in options.model or MODELS]
    found = {name: measure(Path(folder or resolve(name)), options.rounds) for name, folder in pairs}
    about = {"versions": versions(), "machine": machine(), "load": load}
    write_json(options.out, {"rounds": options.rounds, "models": found, **about})


if __name__ == "__main__":
    main()
