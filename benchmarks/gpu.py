"""A GPU beside the CPU in at most eight minutes: are words and residuals the same, and how long do probe, atlas
and training take?

Run: python -m benchmarks.gpu [MODEL …]

The real models run on the CPU in float32, and on CUDA in float32 and bfloat16. Words must be the same in
float32; residual streams must agree within ``WITHIN`` of their norm, layer by layer. Where there is no GPU the CPU's part runs,
and what was skipped is said, with the reason. Writes benchmarks/results/gpu.json after every step.
"""

import argparse
import contextlib
import functools
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

RESULT = Path(__file__).parent / "results" / "gpu.json"
MODELS = ("gemma3-270m", "qwen2.5-0.5b")
LIMIT = 480.0  # seconds of the whole script
WITHIN = {"float32": 1e-3, "bfloat16": 0.05}  # of the norm; bfloat16 rounds to 1 in 256, in every layer
RUNS = (("cpu", "float32"), ("cuda", "float32"), ("cuda", "bfloat16"))
DOMAIN, WORDS = "months", 24
Data = dict[str, Any]


@dataclass
class Report:
    """What was measured and what was skipped; kept on disk after every step."""

    out: Path
    start: float = field(default_factory=time.monotonic)
    data: Data = field(default_factory=lambda: {"steps": {}, "skipped": {}})

    def step(self, name: str, seconds: float, work: Callable[[], Data]) -> Data | None:
        """Run ``work``, which takes about ``seconds``, where there is time left; keep what it gives."""
        left = LIMIT - (time.monotonic() - self.start)
        if seconds > left:
            return self.skip(name, f"{left:.0f} s are left of {LIMIT:.0f}, and it takes about {seconds:.0f}")
        began = time.monotonic()
        try:
            found = work()
        except Exception as error:  # one step that fails must not cost the others
            return self.skip(name, f"{type(error).__name__}: {error}")
        self.data["steps"][name] = found | {"wall_s": round(time.monotonic() - began, 2)}
        print(f"{name}: {self.data['steps'][name]}", flush=True)
        self.keep()
        return found

    def skip(self, name: str, reason: str) -> None:
        """Say what is not measured."""
        self.data["skipped"][name] = reason
        print(f"{name}: skipped, {reason}", flush=True)
        self.keep()

    def keep(self) -> None:
        from mechfourier.files import write_json
        from mechfourier.results.base import plain
        from mechfourier.results.provenance import provenance

        gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
        write_json(self.out, plain(self.data | {"gpu": gpu, "provenance": provenance()}))


@dataclass(frozen=True, eq=False)
class Seen:
    """Residual streams at the last token of every prompt, and the word that the model says next."""

    residuals: torch.Tensor
    words: list[str]


def no_gpu() -> str | None:
    """Why nothing runs on CUDA; None where it does."""
    from mechfourier.errors import DeviceUnavailable
    from mechfourier.models.device import resolve_device

    try:
        resolve_device("cuda")
    except DeviceUnavailable as error:
        return str(error)
    return None


def seen(model: Any) -> Seen:
    """Of the prompts of a domain: what every layer holds, and the next word of some of them."""
    from mechfourier.domains.definition import domain
    from mechfourier.hooks.capture import capture
    from mechfourier.hooks.site import select_sites

    prompts = list(domain(DOMAIN).value_design().prompts)
    residuals = capture(model, prompts, select_sites(model, "resid_post")).stack()
    logits = capture(model, prompts[:WORDS], select_sites(model, "resid_post", "0"), logits=True).logits
    assert logits is not None
    return Seen(residuals, [model.tokenizer.decode([int(token)]) for token in logits.argmax(-1)])


def compared(reference: Seen, found: Seen, dtype: str) -> Data:
    """Errors of the residual streams by layer, relative to their norm, and how many words are the same."""
    difference = (found.residuals.double() - reference.residuals.double()).flatten(1).norm(dim=1)
    errors = difference / reference.residuals.double().flatten(1).norm(dim=1)
    same = sum(a == b for a, b in zip(reference.words, found.words, strict=True))
    return {
        "residual_error": [float(f"{error:.3g}") for error in errors],
        "within": WITHIN[dtype],
        "agrees": bool(errors.max() < WITHIN[dtype]) and (dtype != "float32" or same == len(found.words)),
        "words": f"{same} of {len(found.words)} the same",
    }


@contextlib.contextmanager
def loaded(name: str, device: str, dtype: str) -> Iterator[Any]:
    """The model, and the memory of the GPU freed afterwards."""
    import mechfourier as mf

    model = mf.load(name, device=device, dtype=dtype)
    try:
        yield model
    finally:
        del model
        if device == "cuda":
            torch.cuda.empty_cache()


def check_model(report: Report, name: str) -> None:
    """One model on every device and in every number format, each against the first."""
    reference: Seen | None = None
    for device, dtype in RUNS:
        what = f"{name} {device} {dtype}"
        if device == "cuda" and (reason := no_gpu()):
            report.skip(what, reason)
            continue
        try:
            with loaded(name, device, dtype) as model:
                reference = check_run(report, what, model, (device, dtype), reference)
        except Exception as error:  # its weights may not be here, or the memory may not suffice
            report.skip(what, f"{type(error).__name__}: {error}")


def check_run(
    report: Report, what: str, model: Any, run: tuple[str, str], reference: Seen | None
) -> Seen | None:
    """Capture, comparison, probe and atlas of one loaded model; gives the reference for the next one."""
    found: list[Seen] = []

    def look() -> Data:
        found.append(seen(model))
        return {"prompts": found[0].residuals.shape[1]}

    report.step(f"{what}: capture", 30, look)
    if found and reference is not None:
        against = functools.partial(compared, reference, found[0], run[1])
        report.step(f"{what}: against the CPU", 1, against)
    report.step(f"{what}: probe", 60 if run[0] == "cpu" else 20, functools.partial(probed, model))
    if run == ("cuda", "float32"):
        report.step(f"{what}: atlas", 90, functools.partial(atlas_of, model))
    return found[0] if found and run[0] == "cpu" else reference


def probed(model: Any) -> Data:
    """The verdict of a probe."""
    import mechfourier as mf

    return {"verdict": mf.probe(model, DOMAIN).verdict}


def atlas_of(model: Any) -> Data:
    """The quick atlas of some domains."""
    import mechfourier as mf

    with tempfile.TemporaryDirectory() as folder:
        mf.atlas(model, ["days", "months", "seasons"], quick=True, out=folder)
    return {}


def trained(device: str) -> Data:
    """A training of the one-layer network."""
    from mechfourier.toys.one_layer.train import train_one_layer

    with tempfile.TemporaryDirectory() as folder:
        run = train_one_layer(folder, p=113, seed=100, device=device, checkpoints=False)
    return {"outcome": run.outcome, "epochs": run.epochs, "ms_per_epoch": 1000 * run.seconds / run.epochs}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="*", default=list(MODELS))
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    report = Report(options.out)
    if reason := no_gpu():
        report.skip("training cuda", reason)
    else:
        report.step("training cuda", 30, lambda: trained("cuda"))
    report.step("training cpu", 60, lambda: trained("cpu"))
    for name in options.models:
        check_model(report, name)
    wrong = [name for name, found in report.data["steps"].items() if found.get("agrees") is False]
    print(json.dumps({"skipped": report.data["skipped"], "disagree": wrong}, indent=1))
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
