"""How fast activations of a data set come to disk, against the straightforward way, and how much memory that
takes.

    OMP_NUM_THREADS=1 python benchmarks/harvest_speed.py

Side by side in one process, alternating: ``capture_dataset`` against a ``run_with_cache`` per document with a
``torch.save`` per batch, on the same documents (2 to 128 tokens, or to the model's longest) and sites, for
``calendar`` (all residual streams) and for a model with blocks of Qwen3-0.6B's shape (d_model 1024; fewer
layers and a small vocabulary, random weights). Then: writing, verifying and reading shards alone, and the
peak memory of a capture of 1× and 8× the tokens, each in a process of its own. Processor seconds are given
beside the wall clock, since other programs may hold the cores. Writes benchmarks/results/harvest_speed.json.
"""

import argparse
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.baselines.harvest import save_activations  # noqa: E402
from mechfourier.files import write_json  # noqa: E402
from mechfourier.harvest import capture_dataset, open_harvest, verify  # noqa: E402
from mechfourier.harvest.index import Config  # noqa: E402
from mechfourier.harvest.jobs import jobs  # noqa: E402
from mechfourier.harvest.write import make_shard  # noqa: E402
from mechfourier.hooks.site import select_sites  # noqa: E402
from mechfourier.models.registry import load  # noqa: E402
from mechfourier.results.provenance import machine, versions  # noqa: E402
from mechfourier.sae.rows import Row  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results" / "harvest_speed.json"
PEAK = """
import resource, sys
from mechfourier.harvest import capture_dataset
capture_dataset("calendar", sys.argv[1], dataset=sys.argv[2], tokens=int(sys.argv[3]), shard_tokens=65536)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def timed(work: Callable[[], Any]) -> dict[str, float]:
    """Wall seconds and processor seconds."""
    before, start = time.process_time(), time.perf_counter()
    work()
    return {"seconds": time.perf_counter() - start, "processor_seconds": time.process_time() - before}


def qwen_like(layers: int) -> Any:
    """Blocks of Qwen3-0.6B's shape with random weights."""
    from transformer_lens import HookedTransformer, HookedTransformerConfig

    torch.manual_seed(0)
    return HookedTransformer(
        HookedTransformerConfig(
            n_layers=layers,
            d_model=1024,
            n_ctx=512,
            d_head=128,
            n_heads=16,
            n_key_value_heads=8,
            d_mlp=3072,
            d_vocab=1000,
            positional_embedding_type="rotary",
            rotary_dim=128,
            gated_mlp=True,
            normalization_type="RMS",
            act_fn="silu",
            use_qk_norm=True,
            device="cpu",
            seed=0,
        )
    )


def documents(count: int, vocabulary: int, longest: int) -> list[Row]:
    """Random texts: half of them full windows of ``longest`` tokens, half of any length."""
    draw = random.Random(0)
    lengths = [longest if draw.random() < 0.5 else draw.randint(2, longest) for _ in range(count)]
    texts = [tuple(draw.randrange(vocabulary) for _ in range(n)) for n in lengths]
    return [Row(ids, tuple(range(len(ids))), (), number) for number, ids in enumerate(texts)]


def compare(name: str, model: Any, count: int, repeats: int, dtype: str) -> dict[str, Any]:
    """Both ways on the same documents, in turn; tokens per processor second and their ratio."""
    rows = documents(count, min(model.cfg.d_vocab, 200), min(model.cfg.n_ctx, 128))
    tokens = sum(len(row.ids) for row in rows)
    sites = tuple(map(str, select_sites(model, "resid_post")))
    widths = (model.cfg.d_model,) * len(sites)
    config = Config(name, "", "", {}, {}, sites, widths, dtype, 0, tokens)
    spent: dict[str, list[dict[str, float]]] = {"here": [], "baseline": []}
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(repeats):
            job = next(jobs(rows, tokens, tokens))
            spent["here"].append(timed(lambda job=job: make_shard(model, config, job, Path(folder))))
            plain = Path(folder) / f"baseline-{turn}"
            spent["baseline"].append(
                timed(lambda plain=plain: save_activations(model, [row.ids for row in rows], sites, plain))
            )
    per = {
        way: {key: tokens / median(each[key] for each in found) for key in ("seconds", "processor_seconds")}
        for way, found in spent.items()
    }
    return {
        "model": name,
        "sites": len(sites),
        "d_model": model.cfg.d_model,
        "dtype": dtype,
        "tokens": tokens,
        "repeats": repeats,
        "tokens_per_second": {way: round(per[way]["seconds"]) for way in per},
        "tokens_per_processor_second": {way: round(per[way]["processor_seconds"]) for way in per},
        "ratio": round(per["here"]["processor_seconds"] / per["baseline"]["processor_seconds"], 2),
    }


def disk(folder: Path, tokens: int) -> dict[str, float]:
    """MB/s (of processor time) of verifying shards, of summing shuffled batches, and batches in order."""
    capture_dataset("calendar", folder, tokens=tokens, shard_tokens=16_384)
    harvest = open_harvest(folder)
    size = sum(shard.bytes for shard in harvest.shards) / 1e6
    site = harvest.sites[0]
    one = harvest.rows * harvest.config.widths[0] * 4 / 1e6
    for part in harvest.site(site):
        part.sum()
    batches = harvest.rows // 1024
    shuffled, ordered = (
        harvest.provider(site, batch_size=1024),
        harvest.provider(site, batch_size=1024, shuffle=False),
    )
    return {
        "megabytes": round(size),
        "verify_megabytes_per_processor_second": round(
            size / timed(lambda: verify(folder))["processor_seconds"]
        ),
        "shuffled_megabytes_per_processor_second": round(
            one / timed(lambda: [next(shuffled).sum() for _ in range(batches)])["processor_seconds"]
        ),
        "in_order_megabytes_per_processor_second": round(
            one / timed(lambda: [next(ordered).sum() for _ in range(batches)])["processor_seconds"]
        ),
    }


def peaks(folder: Path, tokens: int) -> dict[str, Any]:
    """Peak memory of captures of 1× and 8× the tokens, in MiB."""
    from mechfourier.toys.calendar.text import training_text

    text = folder / "text.txt"
    lines = list(training_text())
    with text.open("w") as file:
        for turn in range(1 + 8 * tokens // (8 * len(lines))):
            file.write("\n".join(random.Random(turn).sample(lines, len(lines))) + "\n")
    found = {}
    for times in (1, 8):
        arguments = [sys.executable, "-c", PEAK, str(folder / f"x{times}"), str(text), str(times * tokens)]
        found[f"x{times}"] = int(subprocess.run(arguments, capture_output=True, check=True).stdout) // 1024
    rows = {f"x{times}": open_harvest(folder / f"x{times}").rows for times in (1, 8)}
    return {"tokens": rows, "peak_mebibytes": found}


def main() -> None:
    parser = argparse.ArgumentParser(description="How fast activations of a data set come to disk.")
    parser.add_argument("--quick", action="store_true", help="A tenth of the work.")
    quick = parser.parse_args().quick
    share = 10 if quick else 1
    result: dict[str, Any] = {
        "machine": machine(),
        "versions": versions(),
        "threads": torch.get_num_threads(),
    }
    result["capture"] = [
        compare("calendar", load("calendar"), 1000 // share, 3, "float32"),
        compare("qwen3-0.6b blocks, 2 layers", qwen_like(2), 40 // share, 3, "float16"),
    ]
    with tempfile.TemporaryDirectory() as folder:
        result["disk"] = disk(Path(folder) / "disk", 160_000 // share)
        result["memory"] = peaks(Path(folder), 131_072 // share)
    for line in result["capture"]:
        print(
            f"{line['model']}: {line['tokens_per_processor_second']} tokens per processor second, "
            f"{line['ratio']} times"
        )
    print(result["disk"], result["memory"])
    if not quick:
        print(f"wrote {write_json(RESULTS, result)}")


if __name__ == "__main__":
    main()
