"""Every benchmark in turn, each writing its JSON under benchmarks/results: python -m benchmarks.run [NAME …]

Times depend on the machine and on what else it does; the ratios inside a file were measured side by side in one run.
"""

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
SCRIPTS = {
    "analysis_speed": (),
    "null_speed": (),
    "one_layer_speed": (),
    "one_layer_seeds": (),
    "planted": (),
    "sae_speed": (),
    "probe_speed": ("--tokenizer", "../shared/data/qwen3-0.6b"),
}


def main(names: list[str]) -> int:
    unknown = [name for name in names if name not in SCRIPTS]
    if unknown:
        print(f"no benchmark {unknown[0]!r}; known: {', '.join(SCRIPTS)}", file=sys.stderr)
        return 2
    failed = []
    for name in names or SCRIPTS:
        print(f"== {name}", flush=True)
        if subprocess.run([sys.executable, str(HERE / f"{name}.py"), *SCRIPTS[name]]).returncode:
            failed.append(name)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return bool(failed)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
