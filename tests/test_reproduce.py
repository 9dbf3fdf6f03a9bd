"""Published claims: every one is noise on random weights and stands where real circles are; nothing is run
twice."""

import dataclasses
import functools
import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from small_run import P, write_run
from tiny_folders import write_model
from typer.testing import CliRunner

from mechfourier.causal.ablate import ablate
from mechfourier.causal.experiment import Experiment
from mechfourier.cli import app
from mechfourier.errors import UsageError
from mechfourier.hooks.site import Site
from mechfourier.models.catalogue import DATA
from mechfourier.models.folder import read_config
from mechfourier.models.registry import load
from mechfourier.probes.lens import LensResult
from mechfourier.reproduce import EXPERIMENTS, QUICK, Reproduction, Settings, inside, reproduce
from mechfourier.reproduce import run as running
from mechfourier.reproduce.ablations import judge_ablation, shuffled_answers
from mechfourier.reproduce.catalogue import chosen
from mechfourier.reproduce.estimate import estimate
from mechfourier.reproduce.experiment import LANGUAGE
from mechfourier.reproduce.grid import Measured, control_cycles, cycles_of, means_of, measured
from mechfourier.reproduce.inside import judge_routing
from mechfourier.reproduce.session import Session
from mechfourier.reproduce.sums import judge, shuffled_control, untrained_control
from mechfourier.reproduce.trained import at_least, compare
from mechfourier.toys.one_layer.train import train_one_layer
from mechfourier.toys.universal.recipes import plan
from mechfourier.training.loop import TrainingInterrupted

SMALL = dataclasses.replace(
    QUICK, permutations=99, most=1, samples=46, controls=20, sae_tokens=5_000, sae_rows=250, problems=50
)
LANGUAGE_NAMES = [each.name for each in EXPERIMENTS if each.needs == LANGUAGE]


@pytest.fixture(scope="module")
def random_qwen3(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Qwen3 of two layers with random weights that reads the calendar's words."""
    folder, calendar = tmp_path_factory.mktemp("random-qwen3"), DATA / "calendar"
    words = json.loads((calendar / "config.json").read_text())["vocab_size"]
    write_model(folder, vocab_size=words, num_hidden_layers=2)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(calendar / name, folder / name)
    return folder


def words(result: Reproduction) -> list[str]:
    return [each.word for each in result.claims]


def test_every_experiment_of_the_repository_has_its_name() -> None:
    assert len(EXPERIMENTS) == len({each.name for each in EXPERIMENTS}) == 19
    assert len({each.function for each in EXPERIMENTS}) == 19
    assert [each.name for each in chosen(["primes", "adder"])] == ["adder", "primes"]
    with pytest.raises(UsageError, match=r"no experiment 'primse'; closest: primes.*reproduce --list"):
        chosen(["primse"])


@pytest.mark.parametrize("columns", ["", "80", "50"])
def test_the_list_needs_no_torch_and_cuts_no_name(columns: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    script = (
        "import sys; sys.argv = ['mechfourier', 'reproduce', '--list']\nfrom mechfourier.cli import main\n"
        "try:\n main()\nexcept SystemExit: pass\nassert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert all(each.name in done.stdout for each in EXPERIMENTS)


@pytest.fixture(scope="module")
def on_random_weights(random_qwen3: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Reproduction]:
    out = tmp_path_factory.mktemp("out")
    return list(reproduce(LANGUAGE_NAMES, model=str(random_qwen3), settings=SMALL, out=out))


@pytest.mark.slow
def test_on_random_weights_every_claim_is_noise(on_random_weights: list[Reproduction]) -> None:
    told = {result.experiment: words(result) for result in on_random_weights}
    asked = {name: "cannot be asked" for name in LANGUAGE_NAMES if name.startswith(("ablation", "logit"))}
    wanted = {name: [asked.get(name, "noise")] * len(told[name]) for name in LANGUAGE_NAMES}
    assert told == wanted, on_random_weights
    controls = [c for r in on_random_weights for each in r.claims for c in (each.untrained, each.shuffled)]
    assert {c.word for c in controls if c is not None} == {"noise"} and len(controls) > len(LANGUAGE_NAMES)


@pytest.mark.slow
def test_on_random_weights_the_published_method_sees_circles(on_random_weights: list[Reproduction]) -> None:
    days = next(c for r in on_random_weights for c in r.claims if c.claim.endswith("a circle of days"))
    assert days.measured is not None and days.untrained is not None and days.shuffled is not None
    figures = (days.measured, days.untrained.figure, days.shuffled.figure)
    assert min(figure or 0.0 for figure in figures) > 0.8


def test_where_circles_are_the_claim_stands(tmp_path: Path) -> None:
    settings = dataclasses.replace(SMALL, layers="1")
    session = Session("calendar", None, settings, tmp_path)
    grid = measured(session, "days")
    assert judge(grid, grid.p)[0] == "stands" and grid.naive > 0.9
    assert grid.blank_share < 0.1 * grid.share
    assert untrained_control(grid).word == shuffled_control(grid).word == "noise"
    means = means_of(session, "days")
    assert means["network"].shape == means["untrained"].shape == (1, 7, session.model.cfg.d_model)
    assert Measured.from_json(grid.to_json()) == grid
    assert session.kept["days"] is grid and len(list((tmp_path / "grids").glob("days-*.json"))) == 1


def test_large_grids_have_fewer_cycles_and_three_at_least() -> None:
    cycles = {n: cycles_of(Settings(), n) for n in (7, 19, 20, 23, 31)}
    assert cycles == {7: 4, 19: 4, 20: 4, 23: 3, 31: 3}
    assert cycles_of(Settings(cycles=2), 31) == 2 and control_cycles(Settings(), 7) == 3
    assert control_cycles(Settings(cycles=1), 7) == 1


def test_a_grid_of_an_interrupted_run_is_read_and_a_damaged_one_measured_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, settings = load("calendar"), dataclasses.replace(SMALL, layers="1", cycles=2)
    first = measured(Session(model, None, settings, tmp_path), "mod-7")
    (path,) = (tmp_path / "grids").glob("*.json")
    path.write_text(path.read_text()[:50])
    again = measured(Session(model, None, settings, tmp_path), "mod-7")
    assert again == first
    monkeypatch.setattr(importlib.import_module("mechfourier.reproduce.grid"), "_measure", None)
    assert measured(Session(model, None, settings, tmp_path), "mod-7") == first


GRID = Measured(
    domain="mod-23",
    n=23,
    cycles=4,
    prompts=2116,
    verdict="circular",
    reason="r",
    p=0.001,
    share=0.4,
    ratio=5.0,
    site="blocks.9.hook_resid_post",
    k=1,
    blank_p=0.5,
    blank_share=0.01,
    naive=0.96,
    naive_site="blocks.9.hook_resid_post",
    naive_dim=35,
    naive_k=1,
    naive_bound=0.7,
    blank_naive=0.9,
    line=0.1,
    partial=0.3,
    p_partial=0.01,
    dims={"35": 0.95},
)


@pytest.mark.parametrize(
    ("changes", "p", "word"),
    [
        ({}, 0.001, "stands"),
        ({"verdict": "modular"}, 0.001, "does not stand"),
        ({"verdict": "magnitude"}, 0.001, "does not stand"),
        ({"verdict": "magnitude"}, 0.2, "noise"),
        ({"verdict": "magnitude", "share": 0.05}, 0.001, "noise"),
        ({"verdict": "token identity", "blank_share": 0.2}, 0.001, "noise"),
        ({"verdict": "noise", "p": 0.4}, 0.4, "noise"),
        ({"verdict": "not testable"}, 1.0, "not measured"),
    ],
)
def test_a_word_needs_its_evidence(changes: dict[str, object], p: float, word: str) -> None:
    assert judge(dataclasses.replace(GRID, **changes), p)[0] == word  # type: ignore[arg-type]


def test_accuracies_are_compared_by_their_intervals() -> None:
    assert compare(0.9, (0.85, 0.95), 0.916) == "stands"
    assert compare(1.0, (0.98, 1.0), 0.916) == "does not stand"
    assert at_least((0.98, 1.0), 0.916) == "stands"
    assert at_least((0.5, 0.6), 0.916) == "does not stand"


def test_the_untrained_network_is_asked_the_same_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By itself it would take the task that it answers best."""
    asked: list[LensResult] = []
    tasks: list[str | None] = []

    def lens(*about: object, task: str | None, **options: object) -> LensResult:
        tasks.append(task)
        asked.append(inside_lens(*about, task=task, **options))  # type: ignore[arg-type]
        return asked[-1]

    inside_lens = inside.lens
    monkeypatch.setattr(inside, "lens", lens)
    found = inside._lens(Session(load("calendar"), None, SMALL, tmp_path), "days")
    assert tasks == [None, asked[0].task] and f"task {asked[0].task}, " in found.sentence
    assert found.word == "does not stand" and found.untrained is not None and found.untrained.word == "noise"


def test_attention_is_judged_beside_random_weights() -> None:
    from mechfourier.probes.attention_result import AttentionResult

    def found(*excess: float) -> AttentionResult:
        low, high = excess[0] - 0.01, excess[0] + 0.01
        return AttentionResult("m", "mod-7", 7, 49, (), (), (0, 1), (excess[0], low, high), ())

    chance = [found(excess) for excess in (0.28, 0.3, 0.29, 0.31)]
    assert judge_routing(found(0.9), chance)[0] == "does not stand"
    assert judge_routing(found(0.4), chance)[0] == "noise"
    assert judge_routing(found(0.26), chance)[0] == "noise"  # one more of those could have so little
    assert judge_routing(found(0.2), chance)[0] == "stands"
    assert "with random weights -1.000 to +1.000" in judge_routing(found(0.2), [found(-0.9), found(0.9)])[1]


def test_where_the_model_answers_the_ablation_has_controls(tmp_path: Path) -> None:
    """`calendar` answers days rightly: its ablation is judged against matched dimensions, and no control
    shows use."""
    asked = ablate(
        load("calendar"), "days", site="blocks.1.hook_resid_post", dims=36, mode="zero", n_controls=20
    )
    assert judge_ablation(asked)[0] in ("stands", "noise", "does not stand") and asked.n_controls == 20
    part = Experiment.of(load("calendar"), "days")
    shuffled = shuffled_answers(part, Site("resid_post", 1), 36, 49)
    assert shuffled.word == "noise" and shuffled.figure is not None and shuffled.figure < 0.5


def test_trained_networks_are_measured_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["adder", "miras-universal", "miras-primes"]
    first = list(reproduce(names, settings=SMALL, out=tmp_path))
    by_name = {result.experiment: result for result in first}
    assert words(by_name["adder"]) == ["stands", "does not stand"]
    assert words(by_name["miras-universal"]) == ["stands"] + ["does not stand"] * 4
    assert words(by_name["miras-primes"]) == ["not measured"] * 2
    assert (
        "mechfourier train miras --form faithful --moduli primes"
        in by_name["miras-primes"].claims[0].sentence
    )
    monkeypatch.setattr(running, "import_module", None)  # what is finished is read, not run
    assert list(reproduce(["adder"], settings=SMALL, out=tmp_path)) == [by_name["adder"]]
    other = dataclasses.replace(
        SMALL, seed=1
    )  # has to be run again, and an unattended run survives that this fails
    (failed,) = reproduce(["adder"], settings=other, out=tmp_path)
    assert "unexpected TypeError" in failed.claims[0].sentence and failed.weights == ""


def test_a_run_of_ones_own_is_measured(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    results = reproduce(
        ["modular-addition", "phase-transitions", "small-primes"],
        run=folder,
        settings=SMALL,
        out=tmp_path / "out",
    )
    phases, addition, small = sorted(
        results, key=lambda r: ("phase", "modul", "small").index(r.experiment[:5])
    )
    assert addition.claims[0].measured == 1.0 and f"p = {P}" in addition.claims[0].sentence
    assert phases.claims[0].word in ("stands", "does not stand")
    assert words(small) == ["not measured"] * 2  # it is a run of another modulus


def test_without_weights_the_rest_still_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MECHFOURIER_MODELS", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(
        app, ["reproduce", "logit-lens", "adder", "--quick", "--json", "--out", str(tmp_path / "o")]
    )
    assert done.exit_code == 0, done.output
    adder, lens = json.loads(done.stdout)["experiments"]
    assert [c["word"] for c in lens["claims"]] == ["not measured"]
    assert "MECHFOURIER_MODELS" in lens["claims"][0]["sentence"] and len(adder["claims"]) == 2
    page = (tmp_path / "o" / "reproduce.html").read_text(encoding="utf-8")
    assert "not measured" in page and "200 of 200" in page
    opened = Reproduction.from_json(json.dumps({k: v for k, v in adder.items()}))
    assert opened.experiment == "adder" and list(opened.frame()["word"]) == words(opened)


def test_wrong_calls_are_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is no run folder"):
        list(reproduce(["adder"], run=tmp_path / "nowhere", settings=SMALL, out=tmp_path))
    done = CliRunner().invoke(app, ["reproduce", "adders"])
    assert done.exit_code != 0 and isinstance(done.exception, UsageError)


def test_the_estimate_grows_with_the_work(tmp_path: Path) -> None:
    model = load("calendar")
    little = Session(model, None, dataclasses.replace(SMALL, cycles=1), tmp_path)
    much = Session(model, None, Settings(), tmp_path)
    low, high = (estimate(session, chosen(["primes", "logit-lens"])) for session in (little, much))
    assert set(low.seconds) == {"primes", "logit-lens"}
    assert high.prompts > 10 * low.prompts and high.bytes > low.bytes
    assert sum(high.seconds.values()) > sum(low.seconds.values())
    assert "GiB of memory" in str(high)


@pytest.fixture
def small_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """The trainings of --train, on a modulus of seconds instead of minutes; everything else of them is as it
    is."""
    monkeypatch.setattr("mechfourier.toys.one_layer.claims.SMALL", {P: 0.013})


def test_train_trains_what_is_missing_and_only_once(
    tmp_path: Path, small_training: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    (before,) = reproduce(["small-primes"], settings=QUICK, out=tmp_path)
    assert words(before) == ["not measured"] and "--train" in before.claims[0].sentence
    command = ["reproduce", "small-primes", "--quick", "--train", "--json", "--out", str(tmp_path)]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    (claim,) = (trained := json.loads(done.stdout)["experiments"][0])["claims"]
    folder = tmp_path / "trained" / f"one-layer-{P}-fast-seed0"
    assert claim["word"] == "does not stand" and claim["measured"] > 0.5  # published: it does not generalise
    assert trained["model"] == str(tmp_path / "trained") and trained["command"].endswith(
        "small-primes --train"
    )
    assert load(folder).cfg.p == P  # type: ignore[attr-defined]
    monkeypatch.setattr("mechfourier.toys.one_layer.train.run_training", None)
    (again,) = reproduce(["small-primes"], settings=QUICK, out=tmp_path)
    assert vars(again.claims[0]) == claim  # what was trained is found again without --train


@pytest.mark.parametrize("saved", [False, True])
def test_an_interrupted_training_stops_the_run_and_goes_on(
    tmp_path: Path, small_training: None, monkeypatch: pytest.MonkeyPatch, saved: bool
) -> None:
    """Ctrl-C is no reason to begin the next training, and a folder that was only begun no reason to
    refuse."""
    real = functools.partial(train_one_layer, epochs=20)
    folder = tmp_path / "trained" / f"one-layer-{P}-fast-seed0"

    def interrupted(folder: Path, **options: object) -> None:
        real(folder, on_evaluate=lambda *_: os.kill(os.getpid(), signal.SIGINT), **options)  # type: ignore[arg-type]

    monkeypatch.setattr("mechfourier.toys.one_layer.claims.train_one_layer", interrupted)
    names = [each.name for each in EXPERIMENTS]
    later = names[names.index("small-primes") + 1]
    with pytest.raises(TrainingInterrupted, match=r"small-primes: .*start the same command again"):
        list(reproduce(["small-primes", later], settings=SMALL, out=tmp_path, train=True))
    assert not (tmp_path / f"{later}.json").exists() and not (folder / "model.safetensors").exists()
    if not saved:
        for state in folder.glob("state*.pt"):
            state.unlink()
    monkeypatch.setattr("mechfourier.toys.one_layer.claims.train_one_layer", real)
    (result,) = reproduce(["small-primes"], settings=SMALL, out=tmp_path, train=True)
    assert result.claims[0].measured is not None and (folder / "model.safetensors").exists()


def test_train_trains_a_model_of_every_modulus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a plan of two small steps: not much is learned, and the claims say so."""
    short = functools.partial(plan, steps=2, batch=16)
    monkeypatch.setattr("mechfourier.toys.universal.claims.plan", short)
    (result,) = reproduce(["miras-primes"], settings=SMALL, out=tmp_path, train=True)
    assert words(result) == ["does not stand"] * 2, result
    assert read_config(tmp_path / "trained" / "miras-primes-ce-seed0")["training"]["moduli"] == "primes"
