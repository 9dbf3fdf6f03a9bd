"""Grids mean what they say, finished runs are not run again, a killed process costs nothing but time, and
engines agree."""

import json
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from safetensors.torch import load_file
from typer.testing import CliRunner

from mechfourier.cli.app import app
from mechfourier.errors import MechFourierError, OutOfRange, UsageError
from mechfourier.sweep.engines import Task, run_task
from mechfourier.sweep.grid import Axis, axis, points, slug
from mechfourier.sweep.kinds import checked
from mechfourier.sweep.phase import phase_diagram, phase_of
from mechfourier.sweep.run import Sweep, sweep

SMALL: dict[str, Any] = {"p": 11, "train_fraction": 0.6, "epochs": 20, "anneal": 0}


def test_axes_mean_what_the_help_says() -> None:
    assert axis("p=53,71").values == (53, 71)
    assert axis("seed=0:4").values == (0, 1, 2, 3)
    assert axis("lr=0.1:0.5:5").values == (0.1, 0.2, 0.3, 0.4, 0.5)
    assert axis("weight-decay=0.01:100:5:log") == Axis("weight_decay", (0.01, 0.1, 1.0, 10.0, 100.0))
    assert axis("recipe=fast,classic").values == ("fast", "classic")
    assert points([axis("a=1,2"), axis("b=x,y")]) == [
        {"a": 1, "b": "x"},
        {"a": 1, "b": "y"},
        {"a": 2, "b": "x"},
        {"a": 2, "b": "y"},
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("p", "NAME=VALUES"),
        ("=3", "NAME=VALUES"),
        ("p=", "NAME=VALUES"),
        ("p=3,3", "twice"),
        ("p=5:5", "counts 0"),
        ("p=0:1000000000000", "counts"),
        ("lr=0.1:0.5", "COUNT"),
        ("lr=0:1:5:log", "above 0"),
        ("lr=a:b:3", "no number"),
        ("lr=0:1:1", "from 2 on"),
        ("lr=0:1:3:cubic", "FROM:TO"),
    ],
)
def test_a_wrong_axis_is_explained(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        axis(text)


@given(st.text(max_size=30))
@example("p=1e999:2:3")
@example("p=nan,nan")
@example("seed=0:" + "9" * 5000)
def test_any_text_is_an_axis_or_one_sentence(text: str) -> None:
    try:
        assert axis(text).values
    except MechFourierError as error:
        assert len(str(error)) < 500


@given(st.dictionaries(st.text(min_size=1, max_size=9), st.integers() | st.floats() | st.text(), min_size=1))
@example({"domain": "../../etc/passwd"})
@example({"x": ".."})
def test_the_folder_of_a_point_stays_where_it_is_put(point: dict[str, Any]) -> None:
    name = slug(point)
    assert Path("/runs", name).resolve().parent == Path("/runs").resolve() and len(name) < 130


def test_parameters_are_checked_before_anything_runs(tmp_path: Path) -> None:
    assert checked("one-layer", {"p": 53, "weight_decay": 1}) == {"p": 53, "weight_decay": 1.0}
    for point, said in (
        ({"q": 53}, "closest: p"),
        ({"p": "many"}, "no whole number"),
        ({"p": 5.5}, "no whole number"),
    ):
        with pytest.raises(UsageError, match=said):
            sweep("one-layer", [Axis(n, (v,)) for n, v in point.items()], tmp_path / "s")
    with pytest.raises(UsageError, match="needs model"):
        checked("probe", {"domain": "months"})
    with pytest.raises(UsageError, match="closest: one-layer"):
        checked("onelayer", {})
    with pytest.raises(UsageError, match="twice"):
        points([axis("p=1"), axis("p=2")])
    with pytest.raises(OutOfRange, match="jobs"):
        sweep("one-layer", [axis("p=11")], tmp_path / "s", jobs=0)
    assert not (tmp_path / "s").exists()


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    """Four tiny runs, one of which diverges."""
    folder = tmp_path_factory.mktemp("sweep")
    return sweep("one-layer", [axis("lr=0.01,1e30"), axis("seed=0:2")], folder, fixed=SMALL, jobs=1)


def test_a_sweep_has_a_row_and_a_folder_per_run(finished: Sweep) -> None:
    frame = finished.frame()
    assert list(frame["seed"]) == [0, 1, 0, 1] and list(frame["lr"]) == [0.01, 0.01, 1e30, 1e30]
    assert list(frame["status"]) == ["done", "done", "failed", "failed"]
    assert (finished.done, finished.failed, finished.skipped) == (2, 2, 0)
    assert frame.loc[2, "error"].startswith("TrainingDiverged")
    folder = Path(finished.folder) / "runs" / "lr=0.01,seed=1"
    assert (folder / "model.safetensors").exists() and not (folder / "checkpoints").exists()
    assert json.loads((folder / "row.json").read_text())["test_accuracy"] == frame.loc[1, "test_accuracy"]
    assert Sweep.from_json(finished.to_json()) == finished
    assert finished.plot().data


def test_a_run_that_ends_early_keeps_the_setting_it_was_given(tmp_path: Path) -> None:
    """Its number of epochs is another than the one asked for; a measured site is another name than the one
    asked for."""
    fixed = {"p": 11, "train_fraction": 0.9, "epochs": 3000, "settle": 0, "anneal": 0}
    row = sweep("one-layer", [axis("seed=0:1")], tmp_path / "a", fixed=fixed, jobs=1).frame().iloc[0]
    assert row["epochs"] == 3000 > row["epochs_done"] and row["outcome"] == "generalised"
    fixed = {"model": "calendar", "domain": "days", "layer": 1, "controls": 0, "site": "mlp_post"}
    result = sweep("ablate", [axis("dim=3,5")], tmp_path / "b", fixed=fixed, jobs=1)
    assert list(result.frame()["dim"]) == [3, 5] and set(result.frame()["site"]) == {"mlp_post"}
    assert result.plot().data and result.failed == 0


def test_what_is_done_is_not_run_again(finished: Sweep) -> None:
    axes = [axis("lr=0.01,1e30"), axis("seed=0:2")]
    kept = Path(finished.folder) / "runs" / "lr=0.01,seed=0" / "row.json"
    before = kept.stat().st_mtime_ns
    again = sweep("one-layer", axes, finished.folder, fixed=SMALL, jobs=1)
    assert again.skipped == 4 and kept.stat().st_mtime_ns == before
    assert again.frame().equals(finished.frame())
    failed = sweep("one-layer", axes, finished.folder, fixed=SMALL, jobs=1, retry_failed=True)
    assert failed.skipped == 2 and failed.failed == 2 and kept.stat().st_mtime_ns == before
    with pytest.raises(UsageError, match="holds another sweep"):
        sweep("one-layer", axes, finished.folder, fixed={**SMALL, "epochs": 30}, jobs=1)
    kept.write_text("{")  # a damaged row: the run is made again
    assert sweep("one-layer", axes, finished.folder, fixed=SMALL, jobs=1).skipped == 3


@pytest.mark.slow
def test_a_killed_process_is_started_again_and_its_weights_are_the_same(tmp_path: Path) -> None:
    fixed = {**SMALL, "p": 23, "epochs": 150}
    outcome: list[Sweep] = []
    axes = [axis("seed=0:3")]
    work = threading.Thread(
        target=lambda: outcome.append(sweep("one-layer", axes, tmp_path / "s", fixed=fixed, jobs=2))
    )
    work.start()
    killed = _kill_one(tmp_path / "s")
    work.join(timeout=120)
    assert killed and outcome and outcome[0].done == 3 and outcome[0].failed == 0
    assert not list((tmp_path / "s").rglob(".running"))
    point = checked("one-layer", {**fixed, "seed": 0})
    run_task(Task("one-layer", point, str(tmp_path / "alone")))
    alone = load_file(tmp_path / "alone" / "model.safetensors")
    swept = load_file(tmp_path / "s" / "runs" / "seed=0" / "model.safetensors")
    assert all(bool((swept[name] == alone[name]).all()) for name in alone)


def _kill_one(folder: Path) -> bool:
    """Kill the first process that is seen at work on a run."""
    for _ in range(600):
        for mark in folder.rglob(".running"):
            text = mark.read_text()
            if text and not (mark.parent / "row.json").exists():
                os.kill(int(text), signal.SIGKILL)
                return True
        time.sleep(0.05)
    return False


@pytest.mark.slow
def test_a_ray_cluster_of_two_nodes_gives_the_rows_of_one_machine(tmp_path: Path, finished: Sweep) -> None:
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 1, "include_dashboard": False},
        shutdown_at_exit=False,
    )
    try:
        cluster.add_node(num_cpus=1)
        axes = [axis("lr=0.01,1e30"), axis("seed=0:2")]
        result = sweep(
            "one-layer", axes, tmp_path / "ray", fixed=SMALL, runner="ray", address=cluster.address
        )
    finally:
        ray.shutdown()
        cluster.shutdown()
    assert (result.done, result.failed) == (2, 2)
    columns = ["lr", "seed", "status", "test_accuracy", "test_loss"]
    there, here = (pd.DataFrame(r.frame()[columns]) for r in (result, finished))
    pd.testing.assert_frame_equal(there, here, rtol=1e-4)


def test_an_unknown_engine_is_explained(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="joblib or ray"):
        sweep("one-layer", [axis("p=11")], tmp_path, runner="slurm")


def test_a_cluster_that_is_not_there_is_said_at_once(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    with pytest.raises(UsageError, match="no Ray cluster answers"):
        sweep("one-layer", [axis("p=11")], tmp_path, runner="ray", address="127.0.0.1:9")


def test_phases_are_those_of_the_paper() -> None:
    assert phase_of(None, None) == "confused" and phase_of(50, None) == "memorised"
    assert phase_of(50, 60) == "comprehended" and phase_of(50, 500) == "grokked"


def test_a_phase_diagram_counts_its_cells() -> None:
    rows = [
        {"weight_decay": 1.0, "train_fraction": 0.3, "seed": s, "memorised_at": 50, "grokked_at": g}
        for s, g in enumerate([400, 500, None, None])
    ] + [{"weight_decay": 2.0, "train_fraction": 0.3, "seed": 0, "memorised_at": None, "grokked_at": None}]
    diagram = phase_diagram(pd.DataFrame(rows), x="weight_decay", y="train_fraction")
    first, second = diagram.cells
    assert (first.runs, first.grokked, first.memorised, first.memorised_at) == (4, 0.5, 0.5, 50.0)
    assert first.generalised_at is None and first.generalised_low < 0.5 < first.generalised_high
    assert (second.runs, second.confused) == (1, 1.0)
    assert diagram.plot().data and "40% grokked" in str(diagram)
    with pytest.raises(UsageError, match="no column"):
        phase_diagram(pd.DataFrame(rows), x="weight_decay", y="depth")


def test_the_command_takes_axes_after_one_option_and_shows_the_grid() -> None:
    call = ["sweep", "one-layer", "--grid", "p=53,71", "weight_decay=0.3:3:8", "seed=0:32", "--dry-run"]
    result = CliRunner().invoke(app, call)
    assert result.exit_code == 0 and "512 runs" in result.stderr


def test_the_command_says_why_runs_failed(tmp_path: Path) -> None:
    call = [
        "sweep",
        "one-layer",
        "--grid",
        "p=3,4",
        "--set",
        "epochs=5",
        "--jobs",
        "1",
        "--out",
        str(tmp_path),
    ]
    result = CliRunner().invoke(app, call)
    assert result.exit_code == 1
    assert "1 failed: OutOfRange: p = 3 is too small" in result.stderr and "--retry-failed" in result.stderr
    assert "0 runs done, 2 failed" in result.stdout


def test_the_command_runs_and_draws(tmp_path: Path) -> None:
    call = ["sweep", "one-layer", "--grid", "seed=0:2", "--out", str(tmp_path / "s"), "--jobs", "1", "--json"]
    call += [part for name, value in SMALL.items() for part in ("--set", f"{name}={value}")]
    result = CliRunner().invoke(app, call)
    assert result.exit_code == 0 and json.loads(result.stdout)["done"] == 2
    shown = CliRunner().invoke(app, [part for part in call if part != "--json"])
    assert shown.exit_code == 0 and (tmp_path / "s" / "sweep.html").exists()
