"""The atlas: the words of the probe, one capture, finished parts that are not made again, and its page."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from mechfourier.atlas import AtlasResult, atlas
from mechfourier.atlas import capture as captures
from mechfourier.atlas import run as running
from mechfourier.atlas.work import UNFINISHED, Work
from mechfourier.cli.app import app
from mechfourier.errors import OutOfRange, UnknownDomain, UsageError
from mechfourier.figures.atlas import atlas_page, page_name, write_atlas
from mechfourier.figures.atlas_index import write_index
from mechfourier.figures.atlas_words import (
    LETTERS,
    PAPERS,
    _channels,
    _luminance,
    colour,
    contrast,
    inks,
)
from mechfourier.models.registry import load
from mechfourier.probes.probe import probe
from mechfourier.probes.result import places_of
from mechfourier.results.saved import read
from mechfourier.sweep.kinds import checked, kind

DOMAINS = "days,seasons,compass"
FIELDS = {"domain", "n", "word", "layers", "task", "used", "share"}
# finished parts of 7, in the capture, the statistics and the tasks; MECHFOURIER_KILLS=all: of all domains' 17, at ten moments
ALL_KILLS = os.environ.get("MECHFOURIER_KILLS") == "all"
KILLED_AT = (0, 1, 3, 4, 6, 7, 9, 10, 12, 13) if ALL_KILLS else (1, 3, 5)
EVIL = "<script>window.attacked = 1</script>"


@pytest.fixture(scope="module")
def calendar() -> Any:
    return load("calendar")


@pytest.fixture(scope="module")
def found(calendar: Any) -> AtlasResult:
    made = atlas(calendar, DOMAINS, quick=True, n_permutations=199, n_jobs=1)
    assert isinstance(made, AtlasResult)
    return made


def test_words_are_those_of_the_probe(calendar: Any, found: AtlasResult) -> None:
    alone = probe(calendar, "days", n_permutations=199)
    row = found["days"]
    assert row.probe is not None and (row.word, row.layers) == (alone.verdict, alone.layers)
    assert row.probe.best is not None and alone.best is not None and row.probe.best.k == alone.best.k
    assert row.probe.p_value == pytest.approx(alone.p_value)
    assert [s.word for s in row.probe.sites] == [s.word for s in alone.sites]


def test_a_domain_that_cannot_be_expressed_says_why(found: AtlasResult) -> None:
    row = found["compass"]
    assert row.word == "not expressible" and row.reason and row.probe is None and row.layers is None
    with pytest.raises(KeyError, match="it has"):
        found["centuries"]


def test_everything_runs_in_two_captures(calendar: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    real = captures.capture

    def counted(model: Any, prompts: Any, *rest: Any, **options: Any) -> Any:
        seen.append(len(prompts))
        return real(model, prompts, *rest, **options)

    monkeypatch.setattr(captures, "capture", counted)
    both = atlas(calendar, "days,months", quick=True, n_permutations=99, n_jobs=1)
    assert isinstance(both, AtlasResult)
    prompts = sum(each.probe.prompts for each in both.domains if each.probe is not None)
    assert seen == [prompts, prompts]  # the model, and its untrained control


def test_circles_lie_in_one_plane_layer_by_layer(found: AtlasResult) -> None:
    row = found["days"]
    assert row.probe is not None and row.probe.circle is not None and row.probe.best is not None
    assert [c.site for c in row.circles] == [s.site for s in row.probe.sites]
    best = next(c for c in row.circles if c.site == row.probe.best.site)
    for one, other in zip(best.points, row.probe.circle.points, strict=True):
        assert one == pytest.approx(other, abs=1e-3)  # turned onto itself


def test_the_result_survives_its_file(found: AtlasResult, tmp_path: Path) -> None:
    assert AtlasResult.from_json(found.to_json()).to_dict() == found.to_dict()  # NaN is not NaN
    again = read(found.save(tmp_path / "atlas.json")).result
    assert isinstance(again, AtlasResult) and again.to_dict() == found.to_dict()
    assert set(found.summary()["domains"][0]) == FIELDS
    assert len(found.frame()) == sum(len(e.circles) for e in found.domains) and "days" in str(found)


def test_the_best_single_dimension_stands_beside_chance(found: AtlasResult) -> None:
    told = found["days"].published()
    assert told is not None and 0 < told.r2 <= 1 and 0 < told.chance <= 1
    assert f"R² = {told.r2:.2f}" in str(told) and "noise reaches" in str(told)


def test_p_is_corrected_over_the_domains(found: AtlasResult) -> None:
    days = found["days"].probe
    assert days is not None and days.value is not None
    both = dataclasses.replace(
        found, domains=(found["days"], dataclasses.replace(found["days"], domain="again"))
    )
    assert both.circle_p()["days"] == pytest.approx((days.value.circle_p, min(1.0, 2 * days.value.circle_p)))
    assert "compass" not in found.circle_p()


def test_the_figure_draws_the_table(found: AtlasResult) -> None:
    drawn = found.plot().data[0]
    frame = found.frame()
    assert list(drawn.y) == list(frame["domain"].unique())
    assert drawn.z.size == len(frame) and found.part().title == "Atlas: calendar"
    assert "<table" in found._repr_html_()


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda m: atlas(m, "dayz"), UnknownDomain),
        (lambda m: atlas(m, " , "), UsageError),
        (lambda m: atlas([], "days"), UsageError),
        (lambda m: atlas(m, "days", n_permutations=9), OutOfRange),
    ],
)
def test_wrong_calls_are_one_sentence(calendar: Any, call: Callable[[Any], Any], error: type) -> None:
    with pytest.raises(error):
        call(calendar)


class _Killed(BaseException):
    """Stands for the end of the process: nothing catches it."""


@pytest.mark.parametrize("after", [1, 2, 4])
def test_an_interrupted_atlas_goes_on(
    calendar: Any, found: AtlasResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    real, kept = Work.keep, []

    def keep(work: Work, name: str, value: Any) -> Any:
        if len(kept) == after:
            raise _Killed
        kept.append(name)
        return real(work, name, value)

    monkeypatch.setattr(Work, "keep", keep)
    options: dict[str, Any] = dict(quick=True, n_permutations=199, n_jobs=1, out=tmp_path)
    with pytest.raises(_Killed):
        atlas(calendar, DOMAINS, **options)
    first = list(kept)
    monkeypatch.setattr(Work, "keep", lambda work, name, value: kept.append(name) or real(work, name, value))
    if after >= 1:  # the activations are there: no model runs for the probes again
        monkeypatch.setattr(running, "capture_together", lambda *_: pytest.fail("captured again"))
    again = atlas(calendar, DOMAINS, **options)
    assert isinstance(again, AtlasResult) and again.to_dict() == found.to_dict()
    assert len(kept) == len(set(kept)) and kept[: len(first)] == first  # nothing was made twice
    assert not list((tmp_path / UNFINISHED).glob("*/*.json"))


@pytest.mark.slow
def test_kills_change_no_number(tmp_path: Path) -> None:
    """The process group is killed at several moments of a run; the last one ends, with the numbers of one
    that was left alone."""
    command = [sys.executable, "-m", "mechfourier", "atlas", "calendar", "--quick", "--permutations", "199"]
    command += [] if ALL_KILLS else ["--domains", "days,months,compass"]
    command += ["--jobs", "2", "--json", "--out"]
    clean = subprocess.run([*command, str(tmp_path / "clean")], capture_output=True, text=True, check=True)
    for parts in KILLED_AT:
        process = subprocess.Popen(
            [*command, str(tmp_path / "killed")],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        unfinished = tmp_path / "killed" / UNFINISHED
        while process.poll() is None and len([*unfinished.glob("*/[!.]*")]) <= parts:
            time.sleep(0.02)
        assert process.poll() is None, "it ended before it could be killed"
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    last = subprocess.run([*command, str(tmp_path / "killed")], capture_output=True, text=True, check=True)
    assert last.stdout == clean.stdout
    only = "" if ALL_KILLS else "domains-days+months+compass-"
    name = f"atlas-calendar-{only}quick-permutations-199.json"
    one, other = (json.loads((tmp_path / side / name).read_text()) for side in ("clean", "killed"))
    assert {**one, "provenance": 0} == {**other, "provenance": 0}


def test_the_command_prints_seven_fields_and_writes_a_page(tmp_path: Path) -> None:
    words = [
        "atlas",
        "calendar",
        "--domains",
        "days",
        "--quick",
        "--permutations",
        "99",
        "--out",
        str(tmp_path),
    ]
    shown = CliRunner().invoke(app, [*words, "--json"])
    assert shown.exit_code == 0, shown.output
    told = json.loads(shown.stdout)
    assert told["model"] == "calendar" and set(told["domains"][0]) == FIELDS
    (page,) = tmp_path.glob("*.html")
    assert page.with_suffix(".json").is_file() and told["domains"][0]["word"] in page.read_text("utf-8")
    index = CliRunner().invoke(app, ["atlas", "index", str(tmp_path)])
    assert index.exit_code == 0 and "calendar" in (tmp_path / "index.html").read_text(encoding="utf-8")


def test_many_models_are_a_sweep(tmp_path: Path) -> None:
    point = checked("atlas", {"model": "calendar", "domains": "days+compass", "permutations": 99})
    row = kind("atlas")(tmp_path, **point)
    assert list(row) == ["model", "days", "compass"] and row["compass"] == "not expressible"
    assert list(tmp_path.glob("*.html"))


def test_an_index_of_nothing_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(UsageError, match="holds no atlas"):
        write_index(tmp_path)
    with pytest.raises(UsageError, match="is no folder"):
        write_index(tmp_path / "none")


def hostile(found: AtlasResult) -> AtlasResult:
    """Every text of the atlas attacks."""
    row = found["days"]
    assert row.probe is not None and row.probe.value is not None
    bad = dataclasses.replace(
        row,
        domain=EVIL,
        title=EVIL,
        unasked=(EVIL,),
        probe=dataclasses.replace(row.probe, reasons=(EVIL,), notes=(EVIL,), unit=EVIL, circle=None),
    )
    value = dataclasses.replace(bad.probe.value, values=(EVIL,) * 7)  # type: ignore[union-attr,type-var]
    probed = dataclasses.replace(bad.probe, value=value)  # type: ignore[type-var]
    bad = dataclasses.replace(bad, probe=probed)
    return dataclasses.replace(found, model=EVIL, domains=(bad, *found.domains))


def test_every_text_of_the_page_is_escaped(found: AtlasResult, tmp_path: Path) -> None:
    page = atlas_page([hostile(found)])
    assert "<script>window.attacked" not in page and "&lt;script&gt;window.attacked" in page
    written = write_atlas([hostile(found)], tmp_path)
    index = write_index(tmp_path).read_text(encoding="utf-8")
    assert "<script>window.attacked" not in index and "&lt;script&gt;window.attacked" in index
    assert written.parent == tmp_path and written.name == page_name([hostile(found)])


def test_two_models_stand_side_by_side(found: AtlasResult) -> None:
    first, second = (
        dataclasses.replace(found, model=name, domains=(dataclasses.replace(found["days"], word=word),))
        for name, word in (("calendar", "circular"), ("other", "open curve"))
    )
    page = atlas_page([first, second])
    assert "From calendar to other" in page and "circular → open curve" in page


@pytest.mark.parametrize("word", [*LETTERS, "undecided: circle or open curve"])
def test_a_letter_reads_on_its_cell_on_light_and_dark_pages(word: str) -> None:
    for strength in np.linspace(0.18, 1.0, 9):
        for ink, paper in zip(inks(word, strength), PAPERS, strict=True):
            shade = [
                round(255 * (strength * a + (1 - strength) * b))
                for a, b in zip(_channels(colour(word)), _channels(paper), strict=True)
            ]
            cell = "#" + "".join(f"{channel:02x}" for channel in shade)
            assert contrast(*(_luminance(_channels(each)) for each in (ink, cell))) >= 4.5


def test_gaps_between_the_layers_of_a_word_are_told() -> None:
    sites = [f"blocks.{i}.hook_resid_post" for i in range(9)]
    words = ["a", "b", "a", "a", "b", "b", "a", "a", "b"]
    assert places_of(sites, words, "a") == "0, 2–3 and 6–7"
    assert places_of(sites, words, "b") == "1, 4–5 and 8" and places_of(sites, words, "c") == ""
