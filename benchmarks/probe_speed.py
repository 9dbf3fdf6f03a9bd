"""Reading all layers of a Qwen3-0.6B-shaped model for a probe of months, against the straightforward ways.

    python benchmarks/probe_speed.py --tokenizer ../shared/data/qwen3-0.6b          # about 15 minutes, 2.4 GB
    of disk python benchmarks/probe_speed.py --tokenizer … --layers 2 --rounds 1 --out /tmp/small.json     # a
    trial

Writes a model of Qwen3-0.6B's configuration with random weights to a temporary folder (or ``--folder``, which
is kept), and compares, in one process and in turns, so that a busy machine slows all alike:
- ``capture``: one bucketed pass of the 144 prompts "{month} + {k} months =" that keeps the residual stream
  after every block;
- ``single calls``: Hugging Face, one call per prompt with output_hidden_states;
- ``layer scan``: one call per prompt and layer, on the first prompts only, scaled up to all of them. Then,
  each in a process of its own: peak memory of load + capture, and the time of a second run from the
  activation store. Writes benchmarks/results/probe_speed.json.
"""

import argparse
import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results" / "probe_speed.json"
SCAN_PROMPTS = 2
sys.path.insert(0, str(Path(__file__).parent))


def months_prompts() -> list[str]:
    """The 144 prompts "January + 0 months =" … of the classical grid."""
    from mechfourier.domains.definition import domain

    return list(domain("months").operation_design(cycles=1).prompts)


def write_model(folder: Path, tokenizer: Path, layers: int | None) -> None:
    """Qwen3-0.6B's shape with random weights, in float32, with its real tokenizer."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    folder.mkdir(parents=True, exist_ok=True)
    config = AutoConfig.from_pretrained(str(tokenizer), local_files_only=True)
    if layers is not None:
        config.num_hidden_layers, config.layer_types = layers, ["full_attention"] * layers
        config.max_window_layers = layers
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(folder)
    for path in tokenizer.iterdir():
        if path.name != "config.json":
            shutil.copyfile(path, folder / path.name)


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    outcome = work()
    return time.perf_counter() - start, outcome


def compare(folder: Path, prompts: Sequence[str], rounds: int) -> dict[str, Any]:
    """Seconds of the three ways, in turns, and the largest difference of their numbers."""
    from baselines.hugging_face import all_layers, layer_scan
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from mechfourier.hooks import capture
    from mechfourier.models.registry import load

    ours = load(str(folder))
    theirs = AutoModelForCausalLM.from_pretrained(str(folder), dtype="float32", local_files_only=True).eval()
    tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    n_layers = ours.cfg.n_layers  # type: ignore[attr-defined]
    few = prompts[:SCAN_PROMPTS]
    ways: dict[str, Callable[[], Any]] = {
        "capture": lambda: capture(ours, prompts, "resid_post").stack(),
        "single_calls": lambda: all_layers(theirs, tokenizer, prompts),
        "layer_scan": lambda: layer_scan(theirs, tokenizer, few, range(n_layers)),
    }
    capture(ours, few, "resid_post")
    all_layers(theirs, tokenizer, few)
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    found: dict[str, Any] = {}
    for _ in range(rounds):
        for name, work in ways.items():
            took, found[name] = timed(work)
            seconds[name].append(took)
    # Hugging Face gives the last block's states after the final norm: they are compared at all layers but the
    # last.
    a, b = found["capture"][:-1], found["single_calls"][:-1]
    return {
        "seconds": seconds,
        "layers": n_layers,
        "scan_scale": len(prompts) / len(few),
        "largest_difference": float((a - b).abs().max()) if n_layers > 1 else None,
        "largest_value": float(b.abs().max()) if n_layers > 1 else None,
    }


def one_run(folder: Path, cache: Path | None) -> dict[str, Any]:
    """In a fresh process: imports, loading, capture (through a store where ``cache`` is given), peak
    memory."""
    import_seconds, modules = timed(_imports)
    capture, load, store_class = modules
    imported = _peak_bytes()
    prompts = months_prompts()
    load_seconds, model = timed(lambda: load(str(folder)))
    loaded = _peak_bytes()
    store = None if cache is None else store_class(cache)
    capture_seconds, acts = timed(lambda: capture(model, prompts, "resid_post", store=store))
    return {
        "import_seconds": import_seconds,
        "load_seconds": load_seconds,
        "capture_seconds": capture_seconds,
        "total_without_import": load_seconds + capture_seconds,
        "sum": float(acts.stack().double().sum()),
        "peak_bytes": {"after_import": imported, "after_load": loaded, "after_capture": _peak_bytes()},
    }


def _imports() -> tuple[Any, Any, Any]:
    import transformer_lens  # noqa: F401  the import that load() would do

    from mechfourier.hooks import ActivationStore, capture
    from mechfourier.models.registry import load

    return capture, load, ActivationStore


def _peak_bytes() -> int:
    """Peak resident memory. Linux's ru_maxrss counts the process that started this one, so VmHWM comes
    first."""
    status = Path("/proc/self/status")
    if status.is_file():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def in_process(folder: Path, cache: Path | None) -> dict[str, Any]:
    command = [sys.executable, __file__, "--one-run", str(folder), *([str(cache)] if cache else [])]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def summary(compared: dict[str, Any], runs: dict[str, Any], weights: int) -> dict[str, Any]:
    median = {name: statistics.median(values) for name, values in compared["seconds"].items()}
    scan = median["layer_scan"] * compared["scan_scale"]
    peak = runs["plain"]["peak_bytes"]["after_capture"]
    return {
        "capture_seconds": median["capture"],
        "single_calls_seconds": median["single_calls"],
        "layer_scan_seconds_scaled_up": scan,
        "times_faster_than_single_calls": median["single_calls"] / median["capture"],
        "times_faster_than_layer_scan": scan / median["capture"],
        "peak_bytes_over_weights": peak - weights,
        "second_run_seconds_without_import": runs["second"]["total_without_import"],
        "same_from_store": runs["first"]["sum"] == runs["second"]["sum"],
    }


def machine() -> dict[str, Any]:
    import torch

    return {
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load_average": os.getloadavg()[0],
        "processor": platform.processor() or platform.machine(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tokenizer", type=Path, help="folder with Qwen3-0.6B's config and tokenizer")
    parser.add_argument("--folder", type=Path, help="write the model here and keep it (used again if there)")
    parser.add_argument("--layers", type=int, help="fewer layers than 28, for a trial")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--one-run", nargs="+", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one_run:
        print(json.dumps(one_run(options.one_run[0], options.one_run[1] if options.one_run[1:] else None)))
        return
    if options.tokenizer is None:
        parser.error("--tokenizer is needed")
    with tempfile.TemporaryDirectory(prefix="probe-speed-") as temporary:
        folder = options.folder or Path(temporary) / "model"
        if not (folder / "config.json").is_file():
            write_model(folder, options.tokenizer, options.layers)
        measure(folder, Path(temporary) / "cache", options)


def measure(folder: Path, cache: Path, options: argparse.Namespace) -> None:
    from mechfourier.files import write_json

    runs = {
        "plain": in_process(folder, None),
        "first": in_process(folder, cache),
        "second": in_process(folder, cache),
    }
    compared = compare(folder, months_prompts(), options.rounds)
    weights = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    outcome = {
        "prompts": len(months_prompts()),
        "weights_bytes": weights,
        "machine": machine(),
        "summary": summary(compared, runs, weights),
        "compared": compared,
        "runs": runs,
    }
    write_json(options.out, outcome)
    print(json.dumps(outcome["summary"], indent=2))
    print(f"wrote {options.out}")


if __name__ == "__main__":
    main()
