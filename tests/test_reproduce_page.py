"""docs/from-grokking-fourier.md and docs/method.md say what the committed results hold."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks import method, reproduce_models, tools_compared
from mechfourier.reproduce.catalogue import EXPERIMENTS
from mechfourier.reproduce.experiment import LANGUAGE
from mechfourier.reproduce.result import WORDS


@pytest.mark.parametrize(
    ("path", "page"),
    [
        (reproduce_models.PAGE, lambda text: reproduce_models.page(text, reproduce_models.read())),
        (method.PAGE, method.page),
        (tools_compared.PAGE, tools_compared.page),
    ],
    ids=["claims", "rates", "tools"],
)
def test_the_tables_of_a_page_are_those_of_the_results(path: Path, page: Callable[[str], str]) -> None:
    text = path.read_text(encoding="utf-8")
    assert page(text) == text


def test_every_claim_about_language_models_is_there_for_both_models() -> None:
    """One line per claim, with both controls, which show noise."""
    data, names = reproduce_models.read()["models"], {e.name for e in EXPERIMENTS if e.needs == LANGUAGE}
    for model in reproduce_models.MODELS:
        rows = data[model]["experiments"]
        assert set(rows) == names
        claims = [claim for row in rows.values() for claim in row["claims"]]
        assert {claim["word"] for claim in claims} <= set(WORDS) - {"not measured"}
        controls = [claim[name] for claim in claims for name in ("untrained", "shuffled") if claim[name]]
        assert {control["word"] for control in controls} == {"noise"}, model
        assert all(claim["untrained"] for claim in claims)


def test_a_claim_is_told_in_one_line() -> None:
    control = {"figure": 0.9, "word": "noise", "sentence": ""}
    claim = {"claim": "dimension 3 after layer 1: answers need it", "unit": "share right", "published": 0.12}
    claim |= {"measured": 0.045, "word": "cannot be asked", "untrained": control, "shuffled": None}
    data = {"models": {"gemma3-270m": {"experiments": {"ablation": {"claims": [claim]}}}}}
    row = reproduce_models.table(json.loads(json.dumps(data))).splitlines()[-1]
    assert row == (
        "| ablation | answers need it | 12.0 % | 4.5 % | 90.0 %, noise | – | "
        "cannot be asked (accuracy at chance) |"
    )
