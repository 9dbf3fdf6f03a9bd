"""The examples run, and come to the answers their text promises."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
from extras import needs_minilm
from small_run import write_run

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)  # a record names it
    spec.loader.exec_module(module)
    return module


def test_probe_days_finds_the_circle(capsys: pytest.CaptureFixture[str]) -> None:
    result = example("probe_days").main()
    assert result.verdict == "circular" and result.domain == "days"
    printed = capsys.readouterr().out
    assert printed.startswith("circular (not tested for use)") and "mechfourier study calendar" in printed


def test_own_domain_is_probed_on_real_weights(capsys: pytest.CaptureFixture[str]) -> None:
    needs_minilm()
    result = example("own_domain").main()
    assert (result.domain, result.n, result.unit) == ("zodiac", 12, "signs")
    assert result.verdict in capsys.readouterr().out


def test_plain_module_goes_on_to_study() -> None:
    result = example("plain_module").main()
    assert (result.verdict, result.used) == ("circular", "used")


def test_own_model_has_the_circle_that_was_planted() -> None:
    result = example("own_model").main()
    assert result.verdict == "circular" and result.best.k == 1
    assert result.value.controlled


def test_worked_probes_write_their_page(tmp_path: Path) -> None:
    needs_minilm()
    page = tmp_path / "worked.md"
    results = example("worked_probes").main(["--quick", "--out", str(page)])
    assert [(r.model, r.domain) for r in results] == [("minilm", "months"), ("calendar", "days")]
    text = page.read_text(encoding="utf-8")
    assert all(reason in text for result in results for reason in result.reasons)


def test_one_layer_is_trained_and_read() -> None:
    result = example("grok_addition").main(["--quick", "--epochs", "40"])
    assert result.p == 59 and 0 < result.accuracy_test <= 1 and result.untrained.logit_share < 0.1


def test_phases_are_found_in_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    phases = example("phases").main(["--run", str(write_run(tmp_path / "run"))])
    assert phases.verdict in ("three phases", "no plateau") and "restricted_loss" in capsys.readouterr().out


def test_long_numbers_are_added(capsys: pytest.CaptureFixture[str]) -> None:
    result = example("add_long_numbers").main(["--quick"])
    printed = capsys.readouterr().out
    assert (
        f"{99999999999999999999 + 1}" in printed
        and f"{31415926535897932384 + 27182818284590452353}" in printed
    )
    assert all(share.accuracy == 1 for share in result.shares if share.group == "lengths")


def test_every_modulus_is_asked_beside_never_wrapping() -> None:
    result = example("every_modulus").main(["--quick"])
    assert {row.m: row.errors for row in result.moduli} == {15: 0, 115: 0, 121: 0, 199: 0}
    assert all(0.4 < row.never_wrap < 0.65 for row in result.moduli)


def test_only_trained_weights_turn_in_a_circle() -> None:
    found, chance = example("operation_circle").main(["--quick"])
    assert found.moduli[0].verdict == "circular" and chance.moduli[0].verdict != "circular"
    assert min(found.moduli[0].naive_r2, chance.moduli[0].naive_r2) > 0.9


def test_a_plane_is_used_and_a_dimension_is_not() -> None:
    one, plane = example("ablate_with_controls").main(["--quick"])
    assert plane.p_controls == 1 / 40 and plane.ablated.accuracy < 0.3
    assert one.p_controls > 0.05


def test_inside_the_answer_comes_last() -> None:
    answers, looks = example("look_inside").main(["--quick"])
    assert answers.layers[-1].accuracy > 0.9 > 0.3 > answers.layers[0].accuracy
    assert any(row.role == "second operand" and row.low > 0.5 for row in looks.roles)


def test_planes_are_compared_beside_random_ones() -> None:
    result = example("shared_planes").main(["--quick"])
    assert result.moduli[0].verdict == "circular"
    assert {result.planes[0].first[:6], result.planes[0].second[:6]} == {"months", "hours-"}


def test_published_claims_get_their_words(capsys: pytest.CaptureFixture[str]) -> None:
    (result,) = example("published_claims").main(["--quick", "attention-routing"])
    assert [each.word for each in result.claims] == ["does not stand"] * 2
    assert "attention-routing on calendar: 2 does not stand" in capsys.readouterr().out


def test_every_example_has_a_test_and_says_what_it_shows() -> None:
    text = Path(__file__).read_text(encoding="utf-8")
    for path in EXAMPLES.glob("*.py"):
        assert f'example("{path.stem}")' in text
        assert f"examples/{path.name}" in path.read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_dictionary_of_the_mlp_recovers_the_key_frequencies(tmp_path: Path) -> None:
    arguments = ["--tokens", "25600", "--permutations", "99", "--out", str(tmp_path / "dictionary")]
    result, keys = example("sae_key_frequencies").main(arguments)
    best = [score.k for score in result.scores[:10]]
    assert set(best) <= set(keys) and result.scores[0].p_value < 0.05
