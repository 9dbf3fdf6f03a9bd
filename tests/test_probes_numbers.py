"""Number lines, analogies and reducibility on real pretrained weights, and the commands that print them."""

import json
from typing import Any

import pytest
from extras import needs_minilm
from real_models import real_model
from typer.testing import CliRunner

from mechfourier.cli import app
from mechfourier.errors import OutOfRange, UsageError
from mechfourier.models.registry import load
from mechfourier.probes.numbers import NumberLine, number_line
from mechfourier.probes.shapes import Analogies, PlaneReducibility, analogies, reducibility

needs_minilm()


@pytest.fixture(scope="module")
def minilm() -> object:
    return load("minilm")


def test_minilm_orders_numbers_without_a_base_ten_helix(minilm: Any) -> None:
    line = number_line(minilm, high=59, layers="2,5", n_permutations=99)
    assert [f.site for f in line.fits] == ["blocks.2.hook_resid_post", "blocks.5.hook_resid_post"]
    assert all(f.p_shuffled == 0.01 and f.r2_linear > 0.03 for f in line.fits)
    assert "these periods are not special" in str(line)
    assert NumberLine.from_json(line.to_json()) == line


def test_every_period_stands_beside_untrained_weights_and_what_tokens_say(minilm: Any) -> None:
    line = number_line(minilm, high=59, layers="5", n_permutations=99, n_untrained=2)
    found = {each.period: each for each in line.periods}
    assert list(found) == [2.0, 5.0, 10.0, 100.0] and line.n_untrained == 2
    ten = found[10.0]
    assert ten.untrained_share is not None and 0 < ten.untrained_share < 1 and 0 < ten.share < 1
    assert ten.kappa is not None and ten.kappa_upper is not None and ten.untrained_kappa is not None
    assert found[100.0].kappa is None  # every class would be one number
    assert not found[2.0].beyond() or found[2.0].share > found[2.0].token_share
    assert "period 10:" in str(line) and NumberLine.from_json(line.to_json()) == line
    frame = line.period_frame()
    drawn: Any = line.plot().data[0]
    assert list(drawn.y) == frame[frame["period"] == 2]["share"].tolist()


def test_minilm_turns_months_by_rotation_and_not_by_parallelogram(minilm: Any) -> None:
    result = analogies(minilm, "months", layers="1", n_permutations=199)
    (site,) = result.sites
    assert site.rotation.p_value == 1 / 200
    assert site.rotation.wrap > 3 * site.chance
    assert site.parallelogram.accuracy < 2 * site.chance
    assert Analogies.from_json(result.to_json()) == result


def test_twelve_months_cannot_show_that_their_plane_is_inseparable(minilm: Any) -> None:
    result = reducibility(minilm, "months", layers="1")
    (plane,) = result.planes
    assert plane.classes == 12 and not plane.irreducible and not plane.decidable
    assert plane.mixture_gaussian != plane.mixture_circle
    assert "cannot be decided (12 values are too few" in str(result)
    assert PlaneReducibility.from_json(result.to_json()) == result


def test_bad_ranges_and_periods(minilm: Any) -> None:
    with pytest.raises(OutOfRange, match="holds no numbers"):
        number_line(minilm, low=9, high=3)
    with pytest.raises(OutOfRange, match="k runs from 1 to 5"):
        reducibility(minilm, "months", k=9, layers="1")
    runner = CliRunner()
    for arguments in (["--range", "9"], ["--periods", "2,x"], ["--periods", "-1"]):
        outcome = runner.invoke(app, ["helix", "minilm", *arguments])
        assert isinstance(outcome.exception, UsageError)


def test_the_commands_print_one_json_object() -> None:
    outcome = CliRunner().invoke(
        app, ["analogies", "minilm", "--domain", "days", "--layers", "0", "--permutations", "20", "--json"]
    )
    assert outcome.exit_code == 0, outcome.output
    assert json.loads(outcome.stdout)["sites"][0]["n"] == 7
    outcome = CliRunner().invoke(
        app, ["helix", "minilm", "--range", "0-39", "--layers", "0", "--permutations", "20"]
    )
    assert "held-out R²" in outcome.stdout


# held-out R² of the helix and of "last digit + number of digits", measured independently on the Hugging Face
# activations
REFERENCE = {
    ("qwen2.5-0.5b", "0,12"): ((0.598, 0.897), (0.564, 0.581)),
    ("gemma3-270m", "0,12"): ((0.691, 0.767), (0.471, 0.359)),
}


@pytest.mark.real
@pytest.mark.parametrize(("name", "layers"), list(REFERENCE))
def test_no_period_of_a_real_model_is_special_beyond_the_digits(name: str, layers: str) -> None:
    line = number_line(real_model(name), layers=layers, n_permutations=99)
    for fit, (helix, digits) in zip(line.fits, REFERENCE[name, layers], strict=True):
        rivals = {rival.name: rival.r2_held_out for rival in fit.rivals}
        assert fit.r2_held_out == pytest.approx(helix, abs=0.02), fit.site
        assert rivals["last digit + number of digits"] == pytest.approx(digits, abs=0.02), fit.site
        assert not fit.special(), fit.site
    assert "these periods are not special" in str(line)
