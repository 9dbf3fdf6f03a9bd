"""docs/from-grokking-fourier.md and docs/method.md say what the committed results hold."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
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
    if model not in data["models"]:
        assert f"- `mechfourier reproduce --model {model}`: not run yet." in text
        return
    rows = data["models"][model]["experiments"]
    left = ", ".join(name for name in reproduce_models.experiments() if name not in rows)
    assert rows and (not left or f"Not run yet: {left}." in text)
    claims = [claim for row in rows.values() for claim in row["claims"]]
    assert {claim["word"] for claim in claims} <= set(WORDS) - {"not measured"}
    controls = [claim[name] for claim in claims for name in ("untrained", "shuffled") if claim[name]]
    assert {control["word"] for control in controls} == {"noise"}
    assert all(claim["untrained"] for claim in claims)


def test_the_page_says_where_fewer_were_asked() -> None:
    settings = {"samples": "115", "attended": "100", "most": "6"}
    row = {"settings": settings, "claims": [], "cpu_seconds": 0.0, "seconds": 0.0}
    names = ("logit-lens", "attention-routing", "primes", "sae-layer7")
    data = {"models": {"gemma3-270m": {"peak_gb": 1.0, "experiments": dict.fromkeys(names, row)}}}
    told = reproduce_models.sums(data).splitlines()[0]
    assert told.endswith(" Fewer than by default: logit-lens (115 prompts), primes (the first 6 moduli).")


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


@pytest.mark.parametrize(
    ("spread", "noise", "told"),
    [(1.0, 0.1, "phase readable"), (0.0, 1.0, "not readable")],
    ids=["any", "noise"],
)
def test_the_fourier_probe_reads_any_values_that_are_told_apart(
    spread: float, noise: float, told: str
) -> None:
    """A random vector per value is no circle, and its phase can be read all the same."""
    rng = np.random.default_rng(0)
    acts = spread * rng.normal(size=(12, 1, 40)) + noise * rng.normal(size=(12, 8, 40))
    assert tools_compared.by_fourier_probe(acts) == told


def test_a_library_without_a_verdict_says_how_far_its_activations_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    captures = {
        "pyvene": {"version": "0.1", "difference": 0.0},
        "nnsight": {"version": "2", "difference": 4e-8},
    }
    monkeypatch.setattr(tools_compared, "read", lambda: {"found": {}, "captures": captures})
    rows = {row.split(" | ")[0]: row for row in tools_compared.given().splitlines()[2:]}
    assert rows["| pyvene 0.1"].endswith("| none | the model's own, exactly |")
    assert rows["| nnsight 2"].endswith("| none | the model's own, within 4e-08 of the largest |")
    assert rows["| SAELens"].endswith("| none | – |")
