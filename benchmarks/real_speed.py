"""``probe MODEL --domain months`` on real language models, against a straightforward Hugging Face script.

    python benchmarks/real_speed.py                               # the two known models, about 8 minutes on
    two quiet cores python benchmarks/real_speed.py --model gemma3-270m=FOLDER --rounds 1 --out
    /tmp/trial.json

Processes, in turns (script, probe, probe without controls, again and again), no activation store: wall time,
processor time and peak memory of each, and the median of the ratios of a turn. The script
(``baselines/hugging_face_process.py``) loads the same folder in float32, runs the same 132 prompts in one
padded batch and saves all hidden states; it computes no logits and no statistics. Then, in one process and in
turns: ``capture`` of the residual stream after every block at the position that the probe reads (its check of
one prompt run alone, made once for a model's weights, falls into the turn that is not counted) against that
script's forward pass, and the largest difference of their numbers. Writes benchmarks/results/real_speed.json.
"""

import argparse
import importlib.metadata
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results" / "real_speed.json"
SCRIPT = Path(__file__).parent / "baselines" / "hugging_face_process.py"
MODELS = ("gemma3-270m", "qwen2.5-0.5b")
WAYS = ("script", "probe", "no_controls")


def process(arguments: list[str], cache: Path) -> dict[str, float]:
    """Wall seconds, processor seconds and peak memory of a process."""
    environment = {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "MECHFOURIER_CACHE": str(cache),
    }
    start = time.perf_counter()
    child = subprocess.Popen(
        [sys.executable, *arguments], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    assert child.stderr is not None
    said = child.stderr.read().decode()
    _, status, used = os.wait4(child.pid, 0)
    if status:
        sys.exit(f"{' '.join(arguments)} ended with {os.waitstatus_to_exitcode(status)}:\n{said[-2000:]}")
    return {
        "seconds": time.perf_counter() - start,
        "processor_seconds": used.ru_utime + used.ru_stime,
        "peak_mib": used.ru_maxrss / 1024,  # its own: this process has not imported torch
    }


def commands(folder: Path, scratch: Path) -> dict[str, list[str]]:
    probe = ["-m", "mechfourier", "probe", str(folder), "--domain", "months", "--no-cache"]
    return {
        "script": [str(SCRIPT), str(folder), str(scratch / "prompts.json"), str(scratch / "states.pt")],
        "probe": [*probe, "--out", str(scratch / "probe")],
        "no_controls": [*probe, "--no-controls", "--out", str(scratch / "plain")],
    }


def processes(folder: Path, rounds: int, unmeasured: int) -> dict[str, list[dict[str, float]]]:
    """Every way in turns, after ``unmeasured`` rounds that only fill the file cache."""
    found: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory(prefix="real-speed-") as temporary:
        scratch = Path(temporary)
        prompts = subprocess.run(
            [sys.executable, __file__, "--prompts"], check=True, capture_output=True, text=True
        ).stdout
        (scratch / "prompts.json").write_text(prompts, encoding="utf-8")
        for number in range(-unmeasured, rounds):
            for way, arguments in commands(folder, scratch).items():
                used = process(arguments, scratch / "cache")
                print(f"{folder.name} {way}: {used['seconds']:.1f} s, {used['peak_mib']:.0f} MiB", flush=True)
                if number >= 0:
                    found[way].append(used)
    return found


def capture_against_forward(folder: Path, rounds: int) -> dict[str, Any]:
    """Seconds of both in turns, and how far apart their numbers are, of the largest value in the layer."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    import mechfourier
    from mechfourier.domains.definition import domain
    from mechfourier.domains.design import read_positions
    from mechfourier.hooks import capture
    from mechfourier.models.interface import encode

    design = domain("months").value_design()
    ours = mechfourier.load(folder)
    encodings = encode(ours, design.prompts)
    at = read_positions(design, encodings)
    theirs = AutoModel.from_pretrained(str(folder), dtype=torch.float32, local_files_only=True).eval()
    tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True, padding_side="right")
    batch = tokenizer(list(design.prompts), return_tensors="pt", padding=True)
    seconds: dict[str, list[float]] = {"capture": [], "forward": []}
    first = 0.0
    for number in range(-1, rounds):
        start = time.perf_counter()
        found = capture(ours, encodings, "resid_post", at).stack()
        middle = time.perf_counter()
        with torch.no_grad():
            states = theirs(**batch, output_hidden_states=True).hidden_states
        if number < 0:  # a model's first capture also runs one prompt alone, once for its weights
            first = middle - start
        else:
            seconds["capture"].append(middle - start)
            seconds["forward"].append(time.perf_counter() - middle)
    # Hugging Face gives the last block's states after the final norm: compared are all layers but the last.
    expected = torch.stack([state[torch.arange(len(at)), at] for state in states[1:-1]])
    difference = (found[:-1] - expected).abs().amax((1, 2)) / expected.abs().amax((1, 2))
    return {
        "seconds": seconds,
        "first_capture_seconds": first,
        "largest_difference": float(difference.max()),
        "threads": torch.get_num_threads(),
    }


def summary(
    runs: dict[str, list[dict[str, float]]], captured: dict[str, Any], weights: int
) -> dict[str, Any]:
    def ratio(way: str, what: str) -> float:
        pairs = zip(runs[way], runs["script"], strict=True)
        return statistics.median(ours[what] / theirs[what] for ours, theirs in pairs)

    pairs = zip(captured["seconds"]["forward"], captured["seconds"]["capture"], strict=True)
    peak = max(run["peak_mib"] for run in runs["probe"])
    return {
        "wall_ratio": ratio("probe", "seconds"),
        "wall_ratio_no_controls": ratio("no_controls", "seconds"),
        "processor_ratio": ratio("probe", "processor_seconds"),
        "memory_ratio": ratio("probe", "peak_mib"),
        "capture_times_faster": statistics.median(theirs / ours for theirs, ours in pairs),
        "largest_difference": captured["largest_difference"],
        "median_seconds": {way: statistics.median(run["seconds"] for run in runs[way]) for way in WAYS},
        "peak_mib": peak,
        "peak_over_twice_the_weights_mib": peak - 2 * weights / 2**20,
    }


def measure(folder: Path, rounds: int, unmeasured: int) -> dict[str, Any]:
    runs = processes(folder, rounds, unmeasured)
    with tempfile.TemporaryDirectory(prefix="real-speed-") as cache:
        done = subprocess.run(
            [sys.executable, __file__, "--capture", str(folder), "--rounds", str(rounds + 2)],
            env={**os.environ, "MECHFOURIER_CACHE": cache},
            check=True,
            capture_output=True,
            text=True,
        )
    captured = json.loads(done.stdout.splitlines()[-1])
    weights = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    return {
        "weights_bytes": weights,
        "summary": summary(runs, captured, weights),
        "processes": runs,
        "capture": captured,
    }


def folders(chosen: list[str] | None) -> dict[str, Path]:
    """``NAME=FOLDER``, or names that mechfourier finds."""
    from mechfourier.models.registry import resolve

    pairs = [(item.partition("=")[0], item.partition("=")[2]) for item in chosen or MODELS]
    return {name: Path(folder) if folder else Path(resolve(name)) for name, folder in pairs}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", action="append", help="NAME or NAME=FOLDER (default: both known models)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--unmeasured", type=int, default=1, help="rounds before, which fill the file cache")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--capture", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--prompts", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.capture:
        print(json.dumps(capture_against_forward(options.capture, options.rounds)))
        return
    if options.prompts:
        from mechfourier.domains.definition import domain

        print(json.dumps(list(domain("months").value_design().prompts)))
        return
    from mechfourier.files import write_json
    from mechfourier.results.provenance import machine, versions

    load = round(os.getloadavg()[0], 1)
    chosen = folders(options.model).items()
    found = {name: measure(folder, options.rounds, options.unmeasured) for name, folder in chosen}
    threads = next(iter(found.values()))["capture"]["threads"]
    told = {
        "models": found,
        "threads": threads,
        "load_average": load,
        "machine": machine(),
        "versions": {**versions(), "transformers": importlib.metadata.version("transformers")},
    }
    write_json(options.out, told)
    print(json.dumps({name: one["summary"] for name, one in found.items()}, indent=2))


if __name__ == "__main__":
    main()
