"""The examples run, and come to the answers their text promises."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
from extras import needs_minilm

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_probe_months_finds_the_circle(capsys: pytest.CaptureFixture[str]) -> None:
    result = example("probe_months").main()
    assert result.verdict == "circular" and result.domain == "months"
    printed = capsys.readouterr().out
    assert printed.startswith("circular (not tested for use)") and "mechfourier ablate calendar" in printed


def test_own_domain_is_probed_on_real_weights(capsys: pytest.CaptureFixture[str]) -> None:
    needs_minilm()
    result = example("own_domain").main()
    assert (result.domain, result.n, result.unit) == ("zodiac", 12, "signs")
    assert result.verdict in capsys.readouterr().out


def test_own_model_has_the_circle_that_was_planted() -> None:
    result = example("own_model").main()
    assert result.verdict == "circular" and result.best.k == 1
    assert result.value.control.lower


def test_worked_probes_write_their_page(tmp_path: Path) -> None:
    needs_minilm()
    page = tmp_path / "worked.md"
    results = example("worked_probes").main(["--quick", "--out", str(page)])
    assert [(r.model, r.domain) for r in results] == [("minilm", "months"), ("calendar", "days")]
    text = page.read_text(encoding="utf-8")
    assert all(reason in text for result in results for reason in result.reasons)


@pytest.mark.slow
def test_a_dictionary_of_the_mlp_recovers_the_key_frequencies(tmp_path: Path) -> None:
    arguments = ["--tokens", "25600", "--permutations", "99", "--out", str(tmp_path / "dictionary")]
    result, keys = example("sae_key_frequencies").main(arguments)
    best = [score.k for score in result.scores[:10]]
    assert set(best) <= set(keys) and result.scores[0].p_value < 0.05
