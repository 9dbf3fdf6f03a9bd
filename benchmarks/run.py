"""Every benchmark in turn, each writing its JSON under benchmarks/results, and the page of them: python -m
benchmarks.run [NAME …]

Times depend on the machine and on what else it does; the ratios inside a file were measured side by side in
one run.
"""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TOKENIZER = ("--tokenizer", "../shared/data/qwen3-0.6b")
SCRIPTS: dict[str, tuple[str, ...]] = {
    "startup": (),
    "analysis_speed": (),
    "null_speed": (),
    "operation_speed": (),
    "figures_speed": (),
    "one_layer_speed": (),
    "stacked_speed": (),
    "one_layer_seeds": (),
    "planted": (),
    "shapes": (),
    "shapes_in_models": (),
    "operations": (),
    "walks": (),
    "sae_speed": (),
    "harvest_speed": (),
    "probe_speed": TOKENIZER,
    "ablate_speed": TOKENIZER,
    "real_speed": (),
    "edit_cost": (),
    "atlas_speed": (),
    "atlases": ("calendar",),
    "foreign": (),
    "tools_compared": (),
    "adder_lengths": ("mechfourier/data/adder",),
    "adder_ablations": (),
    "miras_extrapolation": ("mechfourier/data/miras", "--grids", "--only", "121", "149", "199"),
    "miras_failures": (),
    "random_networks": (),
}
AS_MODULE = frozenset(
    {"atlases", "figures_speed", "shapes", "shapes_in_models", "tools_compared"}
)  # imports another benchmark


def words(name: str) -> list[str]:
    """The arguments of Python that run a benchmark, from the root of the repository."""
    own = ["-m", f"benchmarks.{name}"] if name in AS_MODULE else [f"benchmarks/{name}.py"]
    return [*own, *SCRIPTS.get(name, ())]


def command(name: str) -> str:
    """What runs a benchmark by itself."""
    return " ".join(["python", *words(name)])


def main(names: list[str]) -> int:
    unknown = [name for name in names if name not in SCRIPTS]
    if unknown:
        print(f"no benchmark {unknown[0]!r}; known: {', '.join(SCRIPTS)}", file=sys.stderr)
        return 2
    failed = []
    for name in names or SCRIPTS:
        print(f"== {name}", flush=True)
        if subprocess.run([sys.executable, *words(name)], cwd=ROOT).returncode:
            failed.append(name)
    subprocess.run([sys.executable, "-m", "benchmarks.page"], cwd=ROOT, check=True)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return bool(failed)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
