"""docs/from-grokking-fourier.md and docs/method.md say what the committed results hold."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks import method, reproduce_models, tools_compared
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


@pytest.mark.parametrize("model", reproduce_models.MODELS)
def test_the_controls_of_every_claim_show_noise(model: str) -> None:
    """And what was not run yet is named on the page."""
    data, text = reproduce_models.read(), reproduce_models.PAGE.read_text(encoding="utf-8")
    rows = data["models"][model]["experiments"]
    left = ", ".join(name for name in reproduce_models.experiments() if name not in rows)
    assert rows and (not left or f"Not run yet: {left}." in text)
    claims = [claim for row in rows.values() for claim in row["claims"]]
    assert {claim["word"] for claim in claims} <= set(WORDS) - {"not measured"}
    controls = [claim[name] for claim in claims for name in ("untrained", "shuffled") if claim[name]]
    assert {control["word"] for control in controls} == {"noise"}
    assert all(claim["untrained"] for claim in claims)


def test_a_claim_is_told_in_one_line() -> None:
    control = {"figure": 0.9, "word": "noise", "sentence": ""}
    claim = {"claim": "dimension 3 after layer 1: answers need it", "unit": "share right", "published": 0.12}
    claim |= {"measured": 0.045, "word": "cannot be asked", "untrained": control, "shuffled": None}
    data = {"models": {"gemma3-270m": {"experiments": {"logit-lens": {"claims": [claim]}}}}}
    row = reproduce_models.table(json.loads(json.dumps(data))).splitlines()[-1]
    assert row == (
        "| logit-lens | answers need it | 12.0 % | 4.5 % | 90.0 %, noise | – | "
        "cannot be asked (accuracy at chance) |"
    )
