"""Every command on every packaged model, on a damaged one, on a random folder and on an unfinished run, as it is and under
faults: it ends well or with one sentence, never with a traceback, and never well with a number that is not finite."""

import functools
import json
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from command_lines import run
from real_models import NAMES, real_folder
from small_run import write_run
from test_faults_runs import small_files
from tiny_folders import write_model

from mechfourier.models.checkpoint import load_checkpoint, save_checkpoint

# the cheapest form of every command; {m} is the model
COMMANDS = {
    "probe": "probe {m} --permutations 99 --no-controls",
    "scan": "scan {m} --moduli 5-6 --permutations 99 --no-controls",
    "lens": "lens {m} --permutations 99",
    "attention": "attention {m} --permutations 99",
    "attribution": "attribution {m} --samples 8",
    "ablate": "ablate {m} --layer 0 --dim 1 --controls 20",
    "rotate": "rotate {m} --layer 0 --controls 20 --samples 4",
    "patch": "patch {m} --layer 0 -k 1 --controls 20 --samples 4",
    "sweep-ablate": "sweep-ablate {m} --samples 4",
    "find-plane": "find-plane {m} --layer 0 --steps 2",
    "steer": "steer {m} --to Friday --domain days --controls 20 --samples 2",
    "behaviour": "behaviour {m} --permutations 99",
    "periods": "periods {m} --samples 4 --controls 20 --permutations 99",
    "periods --neurons": "periods {m} --neurons --controls 2 --permutations 99",
    "tasks": "tasks {m}",
    "study": "study {m} --controls 199 --permutations 99 --samples 8",
    "helix": "helix {m} --range 0-19 --permutations 99",
    "analogies": "analogies {m} --permutations 99",
    "reducibility": "reducibility {m}",
    "hooks": "hooks {m}",
    "analyze": "analyze {m} --last-only",
    "sweep-accuracy": "sweep-accuracy {m} --samples 1 --max-digits 3 --largest 5",
    "sae": "sae train {m} --site blocks.0.hook_resid_post --tokens 2000 --width 8",
    "animate": "animate {m}",
    "domains show": "domains show days --model {m}",
    "import": "import {m}",
    "report": "report {m}",
}
# what a large model is spared: all dimensions of one layer are 2,560 ablations there
REAL = {"sweep-ablate": ("--layers", "0")}
PACKAGED = ("calendar", "one-layer", "adder", "miras", "minilm")
OUT = [name for name in COMMANDS if name not in ("hooks", "domains show", "tasks")]
NOT_FINITE = re.compile(r"(?<![\w-])(?:nan|inf|-inf|Infinity)(?![\w-])", re.IGNORECASE)


def line(name: str, model: str, *more: str) -> list[str]:
    return [*shlex.split(COMMANDS[name].format(m=shlex.quote(model))), *more]


def ends_well_or_in_one_sentence(words: list[str]) -> int:
    """The exit code of a command that kept the rules."""
    code, out, err = run(*words)
    assert "Traceback" not in err and code in (0, 1, 2, 130), f"{words}: exit {code}\n{err[-2000:]}"
    if code == 0:
        assert not NOT_FINITE.search(out), f"{words}\n{out}"
    else:
        said = [each for each in err.splitlines() if each.startswith("error: ")]
        assert len(said) == 1 or "Usage:" in err or "interrupted" in err, (
            f"{words}: exit {code}\n{err[-2000:]}"
        )
    return code


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A random Qwen3 folder, a network with a NaN in its weights, a run that was cut."""
    folder = tmp_path_factory.mktemp("models")
    write_model(folder / "qwen3")
    run_folder = write_run(folder / "damaged", checkpoints=2)
    tensors, config = load_checkpoint(run_folder)
    tensors = {name: value.clone() for name, value in tensors.items()}
    next(iter(tensors.values()))[0, 0] = float("nan")
    save_checkpoint(run_folder, tensors, config)
    cut = write_run(folder / "unfinished", checkpoints=2)
    (cut / "model.safetensors").unlink()
    return {"qwen3": str(folder / "qwen3"), "nan": str(run_folder), "unfinished": str(cut)}


@pytest.fixture(autouse=True, scope="module")
def _loaded_once() -> Iterator[None]:
    """A model is loaded once for all commands, which leave it as it was."""
    from mechfourier.models import registry

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(registry, "load", functools.lru_cache(registry.load))
        yield


@pytest.fixture(autouse=True)
def _somewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # what a command writes by default


@pytest.mark.matrix
@pytest.mark.parametrize("model", PACKAGED)
@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_on_every_packaged_model(name: str, model: str) -> None:
    ends_well_or_in_one_sentence(line(name, model))


@pytest.mark.matrix
@pytest.mark.parametrize("model", NAMES)
@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_on_real_language_models(name: str, model: str) -> None:
    ends_well_or_in_one_sentence(line(name, str(real_folder(model)), *REAL.get(name, ())))


@pytest.mark.parametrize("model", ["nan", "unfinished"])
@pytest.mark.parametrize("name", COMMANDS)
def test_a_damaged_model_and_a_cut_run_give_no_number(broken: dict[str, str], name: str, model: str) -> None:
    code = ends_well_or_in_one_sentence(line(name, broken[model]))
    if name not in ("hooks", "domains show", "report", "animate"):
        assert code != 0 or (name, model) == ("analyze", "unfinished")  # says at which step it stopped


@pytest.mark.matrix
@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_on_a_random_folder(broken: dict[str, str], name: str) -> None:
    ends_well_or_in_one_sentence(line(name, broken["qwen3"]))


@pytest.fixture()
def nothing_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever loads weights has begun to work."""
    from mechfourier.models import registry

    def loaded(*_: Any, **__: Any) -> Any:
        raise AssertionError("work began before the fault was found")

    monkeypatch.setattr(registry, "load", loaded)


@pytest.mark.parametrize("name", OUT)
def test_an_out_that_cannot_be_written_is_said_before_work(
    nothing_loads: None, tmp_path: Path, name: str
) -> None:
    (tmp_path / "file").write_text("")
    code, _, err = run(*line(name, "calendar", "--out", str(tmp_path / "file" / "below")))
    assert code in (1, 2) and "Traceback" not in err, err
    assert "cannot write" in err, err


@pytest.mark.parametrize("name", COMMANDS)
def test_a_model_that_is_not_there_is_one_sentence(name: str, tmp_path: Path) -> None:
    missing = tmp_path / "no" / "where"
    assert ends_well_or_in_one_sentence(line(name, str(missing))) in (1, 2)
    (tmp_path / "empty.safetensors").write_bytes(b"")
    assert ends_well_or_in_one_sentence(line(name, str(tmp_path / "empty.safetensors"))) in (1, 2)


@pytest.mark.parametrize(
    "name", [name for name in COMMANDS if "--permutations" in COMMANDS[name] or "--samples" in COMMANDS[name]]
)
def test_a_number_of_the_wrong_type_is_one_sentence(nothing_loads: None, name: str) -> None:
    option = "--permutations" if "--permutations" in COMMANDS[name] else "--samples"
    code, _, err = run(*line(name, "calendar", option, "many"))
    assert code == 2 and "many" in err and "Traceback" not in err, err


TASKED = [
    "ablate",
    "attention",
    "attribution",
    "behaviour",
    "find-plane",
    "lens",
    "patch",
    "periods",
    "rotate",
    "steer",
    "study",
    "sweep-ablate",
    "tasks",
]


@pytest.mark.parametrize("name", TASKED)
def test_a_task_that_the_domain_lacks_is_said_before_a_model_is_loaded(
    nothing_loads: None, name: str
) -> None:
    domain = "numbers" if name == "periods" else "days"
    more = () if "--domain" in COMMANDS[name] else ("--domain", domain)
    code, _, err = run(*line(name, "calendar", *more, "--task", "nxt"))
    assert code == 2 and "has no task 'nxt'; closest: next" in err, err


@pytest.mark.parametrize("name", COMMANDS)
def test_an_interrupt_is_one_line(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    from mechfourier.models import outline, registry

    def interrupted(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    for module, what in ((registry, "load"), (outline, "outline"), (registry, "resolve")):
        monkeypatch.setattr(module, what, interrupted)
    began = time.monotonic()
    code, _, err = run(*line(name, "calendar"))
    assert code in (1, 2, 130) and "Traceback" not in err, err
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("name", ["probe", "tasks", "ablate"])
def test_a_full_disk_is_one_sentence_or_no_matter(tmp_path: Path, name: str) -> None:
    more = () if name == "tasks" else ("--out", str(tmp_path / "out"))
    with small_files(50_000):
        code, _, err = run(*line(name, "calendar", "--domain", "days", *more))
    assert "Traceback" not in err and err.count("error: ") <= 1
    assert code == 0 if name == "tasks" else "no space left" in err or "larger than the system allows" in err
    assert not list(tmp_path.rglob("*.part"))


# every next step that a command prints

HINT = re.compile(
    r"mechfourier ((?:probe|study|tasks|lens|hooks|ablate|sweep-accuracy|rotate|patch|report|serve)\b[^;,\n`]*)"
)


def hints(text: str) -> list[str]:
    return [
        found.strip(" .)") for found in HINT.findall(text) if not re.search(r"\b[A-Z]{2,}\b|…|\.\.\.", found)
    ]


@pytest.fixture(scope="module")
def own_domain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The days, as somebody's own domain in a folder with a space in its name; without a question, and with one."""
    from importlib.resources import files

    folder = tmp_path_factory.mktemp("a folder")
    text = (files("mechfourier") / "data" / "domains" / "days.toml").read_text(encoding="utf-8")
    (folder / "zodiac.toml").write_text(text, encoding="utf-8")
    before = re.split(r"^\[", text, maxsplit=1, flags=re.MULTILINE)[0]
    (folder / "silent.toml").write_text(before, encoding="utf-8")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "domain", "design"),
    [
        ("calendar", "months", "value"),
        ("calendar", "days", "operation"),
        ("calendar", "zodiac.toml", "value"),
        ("calendar", "silent.toml", "value"),
        ("minilm", "months", "value"),
    ],
)
def test_every_next_step_that_a_probe_prints_can_be_run(
    own_domain: Path, model: str, domain: str, design: str
) -> None:
    named = str(own_domain / domain) if domain.endswith(".toml") else domain
    words = ["probe", model, "--domain", named, "--design", design, "--permutations", "199"]
    code, out, err = run(*words)
    assert code == 0, err
    steps = hints(out + err)
    if domain == "zodiac.toml":
        assert steps and all(shlex.split(step)[3] == named for step in steps), steps
    if domain == "silent.toml":
        assert not steps, steps
    for step in steps:
        cheap = {
            "study": ["--controls", "199", "--permutations", "99", "--samples", "8"],
            "lens": ["--permutations", "99"],
        }
        words = shlex.split(step)
        code, _, err = run(*words, *cheap.get(words[0], []))
        assert code == 0, f"{step}: {err}"


def test_the_next_step_of_hooks_can_be_run(tmp_path: Path) -> None:
    folder = tmp_path / "a b"
    write_model(folder)
    for model in ("calendar", "adder", str(folder)):
        code, out, err = run("hooks", model)
        (step,) = hints(out)
        assert code == 0, err
        ends_well_or_in_one_sentence([*shlex.split(step), "--permutations", "99", "--no-controls"])


def test_a_cache_that_cannot_be_written_is_said_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MECHFOURIER_CACHE", str(tmp_path / "file"))
    words = ["probe", "calendar", "--domain", "days", "--permutations", "99", "--no-controls"]
    done = subprocess.run(
        [sys.executable, "-m", "mechfourier", *words, "--json"], capture_output=True, text=True, check=False
    )
    err = done.stderr
    assert done.returncode == 0 and json.loads(done.stdout)["verdict"], err
    said = [each for each in err.splitlines() if "cache" in each or "Warning" in each or ".py:" in each]
    assert len(said) == 1 and ".py:" not in "".join(said), err
