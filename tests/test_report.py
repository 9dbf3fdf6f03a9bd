"""The report: runs and results on one page, found by their kind, every text escaped, bad input in one
sentence."""

import dataclasses
import json
import re
from pathlib import Path

import pytest
from small_run import write_run
from test_examples import example
from typer.testing import CliRunner

from mechfourier.cli.app import app
from mechfourier.drawing.html import Part, Section, report_page, table
from mechfourier.errors import BadCheckpoint, UsageError
from mechfourier.figures.report import report, run_command, write_report
from mechfourier.probes.probe import probe
from mechfourier.probes.result import ProbeResult
from mechfourier.results.saved import kind_of, read
from mechfourier.toys.one_layer import analyze

EVIL = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def found() -> ProbeResult:
    return probe(example("own_model").Clock(), "mod-12", sites="embed,resid_post", n_permutations=199)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("runs") / "small")


def shown(text: str) -> str:
    """What a reader sees, markup taken off."""
    return re.sub(r"<(script|style).*?</\1>", "", text, flags=re.DOTALL)


def test_a_saved_result_is_known_by_its_kind(found: ProbeResult, tmp_path: Path) -> None:
    opened = read(found.save(tmp_path / "r.json"))
    assert isinstance(opened.result, ProbeResult) and opened.result.reasons == found.reasons
    assert opened.provenance["versions"]["mechfourier"] and "system" in opened.provenance["machine"]
    assert kind_of({"model": "m"}) is None


def test_a_run_gives_curves_pictures_configuration_and_its_command(run: Path) -> None:
    text = shown(report([run]))
    for heading in (
        "Training",
        "Progress measures",
        "Embedding spectrum",
        "Circles",
        "Neurons over the grid",
        "Logit spectrum",
        "Attention over the grid",
        "Neuron clusters",
        "Clock or Pizza",
        "Configuration",
        "How it was made",
    ):
        assert f"<h2>{heading}</h2>" in text
    assert "training.split_seed" in text and "wall time" in text
    assert "mechfourier train one-layer --p 13 --task add --recipe fast --seed 0 --split-seed 0" in text


def test_a_saved_analysis_is_taken_in_place_of_a_new_one(run: Path, tmp_path: Path) -> None:
    copied = write_run(tmp_path / "again", checkpoints=2)
    told = dataclasses.replace(analyze(copied), algorithm="clock", accuracy=0.125)
    told.save(copied / "analysis.json")
    assert "clock, 12.5% right" in report([copied])
    assert "12.5% right" not in report([run])


def test_several_sources_are_chapters_of_one_page(found: ProbeResult, run: Path, tmp_path: Path) -> None:
    saved = found.save(tmp_path / "probe.json")
    path = write_report([run, saved], tmp_path / "out.html")
    text = path.read_text(encoding="utf-8")
    assert text.count("plotly.js v") == 1 and len(text) < 12e6
    assert "Run: small" in text and "Probe: mod-12 in Clock" in text
    links = set(re.findall(r'href="#([\w-]+)"', text))
    assert links and all(f'id="{link}"' in text for link in links)
    assert not re.search(r"<(script|link|img)[^>]+(src|href)=", text)


def test_every_text_is_escaped(found: ProbeResult, run: Path, tmp_path: Path) -> None:
    assert found.circle is not None
    attacked = dataclasses.replace(
        found,
        model=EVIL,
        domain=EVIL,
        unit=EVIL,
        reasons=(EVIL,),
        notes=(EVIL,),
        circle=dataclasses.replace(found.circle, labels=(EVIL,) * 12),
        sites=tuple(dataclasses.replace(site, site=EVIL) for site in found.sites),
    )
    saved = attacked.save(tmp_path / "evil.json")
    origin = json.loads(saved.read_text())
    origin["provenance"] = {
        "command": EVIL,
        "versions": {EVIL: EVIL},
        "machine": {"processor": EVIL},
        "finished": EVIL,
    }
    saved.write_text(json.dumps(origin))
    text = report([saved], title=EVIL)
    assert EVIL not in text and "alert(1)</script>" not in text and "&lt;script&gt;alert(1)" in text


def test_a_summary_for_machines_is_shown_as_numbers(run: Path, tmp_path: Path) -> None:
    path = tmp_path / "summary.json"
    whole = analyze(run, over_run=False).summary()
    path.write_text(
        json.dumps({name: whole[name] for name in ("accuracy", "key_freqs", "gradient_symmetricity")})
    )
    text = shown(report([path]))
    assert "Summary: summary.json" in text and "gradient_symmetricity" in text


def test_what_analyze_prints_for_machines_is_the_whole_analysis(run: Path, tmp_path: Path) -> None:
    path = tmp_path / "analysis.json"
    path.write_text(json.dumps(analyze(run, over_run=False).summary()))
    text = shown(report([path]))
    assert "One layer: small" in text and "Clock or Pizza" in text


def test_a_folder_of_results_is_all_its_results(found: ProbeResult, tmp_path: Path) -> None:
    found.save(tmp_path / "a.json")
    dataclasses.replace(found, domain="mod-5").save(tmp_path / "b.json")
    (tmp_path / "other.json").write_text("{}")
    assert report([tmp_path]).count('class="part"') == 2


@pytest.mark.parametrize(
    ("content", "error", "words"),
    [
        ("{", BadCheckpoint, "is no JSON"),
        ("[1]", UsageError, "holds a JSON list"),
        ('{"a": 1}', UsageError, "none of the results"),
    ],
)
def test_a_file_that_is_no_result_is_said(
    tmp_path: Path, content: str, error: type[Exception], words: str
) -> None:
    path = tmp_path / "x.json"
    path.write_text(content)
    with pytest.raises(error, match=words):
        report([path])


def test_what_is_no_source_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nothing to report"):
        report([])
    with pytest.raises(UsageError, match="neither a run"):
        report([tmp_path])
    with pytest.raises(UsageError, match="no run folder, result file or model 'nowhere'"):
        report(["nowhere"])
    broken = write_run(tmp_path / "broken", checkpoints=2)
    (broken / "config.json").write_text("{")
    with pytest.raises(BadCheckpoint, match="cannot be read"):
        report([broken])


def test_a_run_of_another_architecture_still_has_its_curves(tmp_path: Path) -> None:
    other = write_run(tmp_path / "other", checkpoints=3)
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**config, "architecture": "something"}))
    text = shown(report([other]))
    assert "<h2>Training</h2>" in text and "something" in text and "Circles" not in text
    assert run_command(other, {"architecture": "something"}) == ""


def test_tables_sort_by_their_full_numbers() -> None:
    import pandas as pd

    text = table(
        pd.DataFrame(
            {"name": ["a", "<b>"], "x": [0.123456789, float("nan")], "k": [1, 2], "yes": [True, False]}
        )
    )
    assert 'data-value="0.123456789"' in text and "0.1235" in text and "<td>–</td>" in text
    assert "&lt;b&gt;" in text and 'class="text">yes<' in text and text.count("<button") == 4


def test_a_page_without_figures_carries_no_plotly() -> None:
    assert "plotly.js v" not in report_page("t", [Part("", [Section("Notes", ["a"])])])


def test_the_command_writes_the_page(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "page.html"
    done = CliRunner().invoke(app, ["report", str(run), "--out", str(out), "--json"])
    assert done.exit_code == 0 and json.loads(done.stdout)["bytes"] == out.stat().st_size
