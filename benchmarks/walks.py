"""The walk of a command through the package: functions entered, calls across files, forward passes and their
rows.

``python benchmarks/walks.py --label before|after`` traces `probe`, `ablate` and `study` of days on the
packaged network `calendar` and adds the figures to benchmarks/results/walks.json; ``--model FOLDER --domain
months`` traces `study` on a model of one's own.

A row is a sequence of one forward pass, a position one of its tokens; ``block_rows`` counts positions ×
blocks that ran, which is what a pass costs. ``baseline_runs``: how often the sequence that ran most often
without an edit ran whole, from its tokens to its logits.
"""

import argparse
import contextlib
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

RESULTS = Path(__file__).parent / "results" / "walks.json"
PACKAGE = "/mechfourier/"


@dataclass
class Walk:
    """What one call did."""

    seconds: float = 0.0
    functions: int = 0
    files: int = 0
    calls_across_files: int = 0
    passes: int = 0
    rows: int = 0
    positions: int = 0
    block_rows: int = 0
    captures: int = 0
    baseline_runs: int = 0
    verdict: str = ""
    numbers: dict[str, Any] = field(default_factory=dict)


class Watch:
    """Counts every pass of a model, and every block that runs in it, where PyTorch calls modules: a hook
    would change what runs."""

    def __init__(self, model: Any) -> None:
        self.model, self.walk, self.whole = model, Walk(), Counter()
        self.seen: set[Any] = set()
        self.blocks = {id(block) for block in model.blocks}

    @contextlib.contextmanager
    def counting(self) -> Iterator[None]:
        """While this lasts, calls of the model and of its blocks are counted."""
        call = torch.nn.Module.__call__

        def counted(module: Any, *args: Any, **options: Any) -> Any:
            if module is self.model:
                self._pass(args, options)
            elif id(module) in self.blocks and "forward" not in vars(module):  # not one that a pass skips
                given = args[0] if args else options.get("hidden_states", options.get("resid_pre"))
                self.walk.block_rows += given.shape[0] * given.shape[1]
            return call(module, *args, **options)

        torch.nn.Module.__call__ = counted  # type: ignore[method-assign]
        try:
            yield
        finally:
            torch.nn.Module.__call__ = call  # type: ignore[method-assign]

    def _pass(self, args: Any, options: Any) -> None:
        given = args[0] if args else options.get("input", options.get("input_ids"))
        rows, positions = given.shape[:2]
        self.walk.passes += 1
        self.walk.rows += rows
        self.walk.positions += rows * positions
        points = [name for name, p in self.model.hook_dict.items() if p.fwd_hooks]
        partial = any(
            options.get(k) is not None for k in ("past_kv_cache", "past_key_values", "start_at_layer")
        )
        partial |= any("forward" in vars(block) for block in self.model.blocks)  # a pass that skips blocks
        if given.ndim == 2 and not partial and not set(points) - {"unembed.hook_in"}:
            self.whole.update(map(tuple, given.tolist()))

    def profile(self, frame: Any, event: str, arg: Any) -> None:
        """Functions of the package that are entered, and calls from one of its files into another."""
        if event != "call" or PACKAGE not in frame.f_code.co_filename:
            return
        code, caller = frame.f_code, frame.f_back
        self.seen.add(code)
        if code.co_name == "capture" and code.co_filename.endswith("hooks/capture.py"):
            self.walk.captures += 1
        if caller is not None and PACKAGE in caller.f_code.co_filename:
            self.walk.calls_across_files += caller.f_code.co_filename != code.co_filename

    def run(self, call: Callable[[], Any], *, trace: bool) -> tuple[Walk, Any]:
        """The counts of ``call()``, and what it returned."""
        start = time.process_time()
        if trace:
            sys.setprofile(self.profile)
        try:
            with self.counting():
                result = call()
        finally:
            sys.setprofile(None)
        walk = self.walk
        walk.seconds = round(time.process_time() - start, 2)
        walk.functions = len(self.seen)
        walk.files = len({code.co_filename for code in self.seen})
        walk.baseline_runs = max(self.whole.values(), default=0)
        return walk, result


def numbers_of(result: Any) -> dict[str, Any]:
    """The figures that two walks are compared by."""
    parts = {
        "ablation": (
            "logit_diff_change",
            "logit_diff_ci",
            "p_controls",
            "n_prompts",
            "control_variance_ratio",
        )
    }
    parts["rotation"] = ("exact_share", "exact_ci", "paired_share", "random_share", "p_value", "n_prompts")
    parts["patch"] = ("success", "recovered", "random_recovered", "p_value", "n_prompts")
    names = (
        "verdict",
        "used",
        "accuracy",
        "site",
        "position",
        "ks",
        "p_value",
        "logit_diff_change",
        "p_controls",
    )
    found = {name: getattr(result, name) for name in names if hasattr(result, name)}
    for part, wanted in parts.items():
        if (inner := getattr(result, part, None)) is not None:
            found[part] = {name: getattr(inner, name) for name in wanted}
    if (arms := getattr(result, "arms", None)) is not None:
        found["arms"] = {arm.name: [arm.donor, arm.own, arm.difference] for arm in arms.arms}
    return json.loads(json.dumps(found))


def calls(mf: Any, model: Any, domain: str, *, only_study: bool) -> dict[str, Callable[[], Any]]:
    """What is walked."""
    wanted = mf.domain(domain)
    walks = {
        "probe": lambda: mf.probe(model, wanted),
        "ablate": lambda: mf.ablate(model, wanted, site="blocks.0.hook_resid_post", dims=8, text=()),
        "study": lambda: mf.study(model, wanted),
    }
    return {"study": walks["study"]} if only_study else walks


def main() -> None:
    """Walk, print and keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--label", required=True, help="before or after: where the figures are kept")
    parser.add_argument("--model", default="calendar")
    parser.add_argument("--domain", default="days")
    options = parser.parse_args()
    torch.set_num_threads(1)
    import mechfourier as mf

    model = mf.load(options.model)
    name = Path(options.model).name
    kept = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for verb, call in calls(mf, model, options.domain, only_study=name != "calendar").items():
        walk, result = Watch(model).run(call, trace=name == "calendar")
        walk.verdict, walk.numbers = str(result).splitlines()[0], numbers_of(result)
        kept.setdefault(f"{verb} {options.domain} in {name}", {})[options.label] = asdict(walk)
        print(f"{verb}: {json.dumps(asdict(walk))}", flush=True)
        RESULTS.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
