"""Kill long runs at random moments, resume them, and compare what they end with: python tools/kills.py
[SUBJECT …] --kills 8

Every run is made in a process of its own, which gets SIGKILL at a moment drawn at random, over and over until
one attempt gets to its end. States are saved many times a second here, so that kills hit the writing of files
too. After every kill each file that is not a temporary one must be whole; at the end every tensor and every
metric must be that of a run which nobody killed, and no temporary file may be left.

Processes are forked from this one, which has imported everything and computed nothing: most of a short run
would be imports otherwise. ``--program`` adds kills of the installed program itself. Needs a system with
``fork`` (Linux).
"""

import argparse
import dataclasses
import importlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import torch

from mechfourier.errors import BadCheckpoint
from mechfourier.files import LOCK, SAFETENSORS_PART, write_json
from mechfourier.models.checkpoint import read_safetensors
from mechfourier.training import loop
from mechfourier.training.run_folder import PREVIOUS_STATE, STATE, RunFolder

RESULTS = Path(__file__).resolve().parents[1] / "benchmarks" / "results" / "kills.json"
TIMES = ("seconds",)  # columns that say how long something took
QUICK_STATES = 0.02  # seconds between saved states
Subject = Callable[[Path], object]


def one_layer(folder: Path) -> object:
    from mechfourier.toys.one_layer.train import train_one_layer

    return train_one_layer(folder, p=23, settings="classic", epochs=400, resume=True)


def adder(folder: Path) -> object:
    from mechfourier.toys.adder.recipes import FAITHFUL, PLAIN
    from mechfourier.toys.adder.train import train_adder

    recipe = dataclasses.replace(
        FAITHFUL,
        steps=60,
        batch=32,
        pairs=200,
        noise=0.5,
        warmup=5,
        evaluate_every=20,
        checkpoint_every=15,
        test_lengths=(1, 2),
        stages=((1.0, 2),),
    )
    return train_adder(folder, settings=(PLAIN, recipe), resume=True)


def miras(folder: Path) -> object:
    from mechfourier.toys.universal.recipes import plan
    from mechfourier.toys.universal.train import train_miras

    wanted = plan("faithful", moduli="primes", largest=23, loss="reinforce", steps=60, batch=32)
    recipe = dataclasses.replace(wanted.recipe, evaluate_every=20, warmup=5)
    return train_miras(folder, wanted.config, wanted.split, recipe, resume=True)


def calendar(folder: Path) -> object:
    from mechfourier.toys.calendar.train import CalendarRecipe, train_calendar

    recipe = CalendarRecipe(
        steps=12, batch=32, warmup=3, d_model=32, n_layers=1, n_heads=2, n_kv_heads=1, d_mlp=64
    )
    return train_calendar(recipe, folder, resume=True)


def sae(folder: Path) -> object:
    from mechfourier.sae import shards, trainee
    from mechfourier.sae.settings import Dictionary, Schedule
    from mechfourier.sae.training import train
    from mechfourier.toys.one_layer.model import OneLayerConfig, OneLayerTransformer

    shards.LEAST_ROWS, shards.SHARD_BYTES, trainee.MOST_STEPS = 100, 1, 10
    model = OneLayerTransformer(OneLayerConfig(p=23, d_model=16, n_heads=2, d_head=8, d_mlp=24), seed=5)
    wanted = [
        Dictionary("blocks.0.mlp.hook_post", "topk", "2x", k=4),
        Dictionary("hook_embed", "standard", "2x"),
    ]
    return train(model, wanted, folder, schedule=Schedule(tokens=6400, batch=32), resume=True)


def sweep(folder: Path) -> object:
    from mechfourier.sweep.grid import axis
    from mechfourier.sweep.run import sweep as run

    return run("one-layer", [axis("seed=0:4")], folder, fixed={"p": 13, "epochs": 100}, jobs=2)


def capture(folder: Path) -> object:
    from mechfourier.harvest import capture_dataset
    from mechfourier.toys.one_layer.model import OneLayerConfig, OneLayerTransformer

    model = OneLayerTransformer(OneLayerConfig(p=23, d_model=16, n_heads=2, d_head=8, d_mlp=24), seed=5)
    return capture_dataset(model, folder, sites="resid_post,mlp_post", tokens=500, shard_tokens=16)


# imported here, so that the processes forked from this one need not
IMPORTS = (
    "pandas",
    "pyarrow.parquet",
    "transformers",
    "transformer_lens",
    "sae_lens",
    "sae_lens.evals",
    "sae_lens.synthetic.evals",
    "mechfourier.toys.calendar.train",
    "mechfourier.toys.adder.train",
    "mechfourier.toys.universal.train",
    "mechfourier.sae.training",
    "mechfourier.harvest",
    "joblib",
)
SUBJECTS: dict[str, Subject] = {
    each.__name__.replace("_", "-"): each for each in (one_layer, adder, miras, calendar, sae, sweep, capture)
}


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of the runs of one subject: how often each was killed before it ended, and every difference
    found."""

    subject: str
    kills: int
    runs: int
    seconds_uninterrupted: float
    differences: tuple[str, ...]

    @property
    def identical(self) -> bool:
        return not self.differences


def torment(name: str, scratch: Path, *, kills: int, seed: int) -> Outcome:
    """Run a subject once in peace, then under ``kills`` kills in all, in as many runs as that takes."""
    subject, moments = SUBJECTS[name], random.Random(f"{name} {seed}")
    for module in IMPORTS:
        importlib.import_module(module)
    if subject is calendar:
        importlib.import_module("mechfourier.toys.calendar.train").load_corpus()
    peace, started = scratch / name / "whole", time.monotonic()
    _reap(_start(subject, peace))
    lasted = time.monotonic() - started
    done, runs = 0, 0
    differences: list[str] = []
    while done < kills:
        folder = scratch / name / f"killed-{runs}"
        runs += 1
        for _ in range(200):  # a run that never ended would go on for ever otherwise
            alone = moments.random() < 0.5
            if not _killed(subject, folder, after=moments.uniform(0, lasted * 1.2), alone=alone):
                break
            done += 1
            differences += unreadable(folder)
        else:
            differences.append(f"{folder.name} did not end in 200 attempts")
        differences += compare(peace, folder)
    return Outcome(name, done, runs, round(lasted, 2), tuple(differences))


def _start(subject: Subject, folder: Path) -> int:
    """A process that runs ``subject``, the leader of a group of its own; its words go to ``FOLDER.log``."""
    log = folder.with_name(f"{folder.name}.log")
    log.parent.mkdir(parents=True, exist_ok=True)
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        os.setsid()
        words = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(words, 1)
        os.dup2(words, 2)
        torch.set_num_threads(1)
        loop.STATE_SECONDS = QUICK_STATES
        subject(folder)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def _killed(subject: Subject, folder: Path, *, after: float, alone: bool) -> bool:
    """Whether the process was still at work ``after`` seconds, and so was killed (``alone``: the processes it
    started were not)."""
    child = _start(subject, folder)
    until = time.monotonic() + after
    while time.monotonic() < until:
        if os.waitpid(child, os.WNOHANG) != (0, 0):
            break
        time.sleep(0.002)
    else:
        if alone or os.getpgid(child) != child:
            os.kill(child, signal.SIGKILL)
        else:
            os.killpg(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        return os.WIFSIGNALED(status)
    if "Traceback" in (log := folder.with_name(f"{folder.name}.log")).read_text(encoding="utf-8"):
        raise RuntimeError(f"an attempt failed: {log.read_text(encoding='utf-8')}")
    return False


def _reap(child: int) -> None:
    _, status = os.waitpid(child, 0)
    if status:
        raise RuntimeError(f"the run in peace ended with status {status}")


def unreadable(folder: Path) -> list[str]:
    """Files under ``folder`` that are not whole: there may be none at any moment, temporary ones aside."""
    found = []
    for path in sorted(folder.rglob("*")):
        if path.name.endswith((".part", ".lock")) or path.match(SAFETENSORS_PART) or not path.is_file():
            continue
        try:
            _read(path)
        except Exception as error:
            found.append(f"{path.name} in {folder.name}: {error}")
    for state in folder.rglob(STATE):
        if not state.with_name("config.json").exists():
            found.append(f"{state} without a configuration")
    return found


def _read(path: Path) -> Any:
    """The contents of a file by its kind."""
    if path.suffix == ".safetensors":
        return read_safetensors(path)
    if path.suffix == ".json":
        return json.loads(path.read_text(encoding="utf-8"))
    if path.suffix == ".parquet":
        import pandas as pd

        return pd.read_parquet(path)
    if path.name in (STATE, PREVIOUS_STATE):
        state = RunFolder(path.parent).read_state()
        if state is None:
            raise BadCheckpoint("no state")
        return state["step"]
    return path.read_bytes()


def compare(peace: Path, killed: Path) -> list[str]:
    """Every difference between two finished runs: files, tensors to the last bit, metrics (times aside)."""
    names = {_name(path, peace) for path in peace.rglob("*") if path.is_file()}
    there = {_name(path, killed) for path in killed.rglob("*") if path.is_file()}
    # the state before the last depends on when states were saved, and the lock is the system's: the file
    # alone locks nothing
    ignored = {name for name in names ^ there if name.endswith((PREVIOUS_STATE, LOCK))}
    found = [f"{killed.name}: {name} is in one of the two only" for name in sorted((names ^ there) - ignored)]
    for name in sorted(names & there):
        found += [f"{killed.name}: {name}: {text}" for text in _differences(peace / name, killed / name)]
    return found


def _name(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix()


def _differences(first: Path, second: Path) -> list[str]:
    a, b = _read(first), _read(second)
    if first.suffix == ".safetensors":
        if set(a) != set(b):
            return ["other tensors"]
        return [f"{key} differs" for key in a if not torch.equal(a[key], b[key])]
    if first.suffix == ".parquet":
        a, b = (frame.drop(columns=[c for c in TIMES if c in frame]) for frame in (a, b))
        return [] if a.equals(b) else ["other metrics"]
    return []


def program(scratch: Path, *, kills: int, seed: int) -> Outcome:
    """``mechfourier train one-layer`` itself, its imports and its command line included."""
    moments = random.Random(f"program {seed}")
    command = [
        sys.executable,
        "-m",
        "mechfourier",
        "train",
        "one-layer",
        "--p",
        "53",
        "--epochs",
        "400",
        "--recipe",
        "classic",
        "--resume",
        "--out",
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    peace, killed, started = scratch / "program" / "whole", scratch / "program" / "killed", time.monotonic()
    subprocess.run([*command, str(peace)], env=environment, capture_output=True, check=False)
    lasted, done, runs = time.monotonic() - started, 0, 0
    differences: list[str] = []
    while done < kills:
        folder = killed.with_name(f"killed-{runs}")
        runs += 1
        while True:
            process = subprocess.Popen(
                [*command, str(folder)],
                env=environment,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            try:
                process.wait(moments.uniform(0.3, 1.0) * lasted)
                break
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                done += 1
                differences += unreadable(folder)
        differences += compare(peace, folder)
    return Outcome("program", done, runs, round(lasted, 2), tuple(differences))


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Kill runs at random moments and compare what they end with."
    )
    parser.add_argument("subjects", nargs="*", default=list(SUBJECTS), help=f"of {', '.join(SUBJECTS)}")
    parser.add_argument("--kills", type=int, default=12, help="per subject, at least")
    parser.add_argument("--program", type=int, default=0, help="kills of the program itself")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    outcomes = []
    with tempfile.TemporaryDirectory() as scratch:
        for name in options.subjects:
            outcomes.append(torment(name, Path(scratch), kills=options.kills, seed=options.seed))
            _show(outcomes[-1])
        if options.program:
            outcomes.append(program(Path(scratch), kills=options.program, seed=options.seed))
            _show(outcomes[-1])
    record(options.out, options.seed, outcomes)
    return 0 if all(each.identical for each in outcomes) else 1


def record(path: Path, seed: int, outcomes: list[Outcome]) -> None:
    """Write the outcomes, and keep those of other subjects from earlier calls with the same seed and
    version."""
    common = {"seed": seed, "torch": str(torch.__version__), "threads": 1}
    rows = {each.subject: {**dataclasses.asdict(each), "identical": each.identical} for each in outcomes}
    if path.exists():
        earlier = json.loads(path.read_text(encoding="utf-8"))
        if {key: earlier.get(key) for key in common} == common:
            rows = {row["subject"]: row for row in earlier["subjects"]} | rows
    total = {
        "kills": sum(row["kills"] for row in rows.values()),
        "identical": all(row["identical"] for row in rows.values()),
    }
    write_json(path, {**common, **total, "subjects": list(rows.values())})


def _show(outcome: Outcome) -> None:
    print(
        f"{outcome.subject}: {outcome.kills} kills in {outcome.runs} runs, "
        f"{'identical' if outcome.identical else 'DIFFERENT'}"
    )
    for text in outcome.differences[:10]:
        print(f"  {text}")


if __name__ == "__main__":
    raise SystemExit(main())
