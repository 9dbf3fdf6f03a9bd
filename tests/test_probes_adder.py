"""The adder measured and taken apart: planted answers for every statistic, identities for every
intervention."""

import json
import math
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from mechfourier.cli.app import app
from mechfourier.domains.answers import score_candidates
from mechfourier.domains.definition import domain as find_domain
from mechfourier.domains.design import read_positions
from mechfourier.errors import OutOfRange, UnknownDomain, UsageError
from mechfourier.fourier.key_freqs import matrix_share
from mechfourier.models.checkpoint import save_checkpoint
from mechfourier.models.interface import encode
from mechfourier.toys.adder import (
    QUANTITIES,
    AdderAccuracy,
    AdderAnalysis,
    adder_domain,
    analyze,
    exact,
    open_adder,
    sweep_accuracy,
)
from mechfourier.toys.adder.accuracy import correct_characters, share
from mechfourier.toys.adder.alignment import alignment
from mechfourier.toys.adder.base import AdderBase
from mechfourier.toys.adder.carry import carry_patching
from mechfourier.toys.adder.config import initial_weights
from mechfourier.toys.adder.draw import category, draw
from mechfourier.toys.adder.model import AdderConfig, AdderTransformer
from mechfourier.toys.adder.neurons import measure_neurons
from mechfourier.toys.adder.quantities import decode_values
from mechfourier.toys.adder.task import Format
from mechfourier.toys.adder.weights import embedding_spectrum, held_out_points, shares_of


@pytest.fixture(scope="module")
def adder() -> AdderBase:
    return open_adder("adder")[0]


def untrained(**changes: object) -> AdderTransformer:
    config = AdderConfig(d_model=16, n_heads=2, d_mlp=24, **changes)  # type: ignore[arg-type]
    return AdderTransformer(config, seed=0).eval()


# accuracy


def test_wilson_intervals_are_the_formula() -> None:
    found = share("lengths", "x", torch.tensor([True] * 9 + [False]), a=1, b=1, unseen=True)
    z, n, p = 1.959963984540054, 10, 0.9
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    assert found.low == pytest.approx(middle - half)
    assert found.high == pytest.approx(middle + half)


def test_exact_match_is_what_the_answers_say(adder: AdderBase) -> None:
    generator = torch.Generator().manual_seed(0)
    model = AdderTransformer(
        adder.cfg, weights={k: v.detach().clone() for k, v in adder.weights().items()}
    ).eval()
    with torch.no_grad():  # damaged, so that some answers are wrong
        weight = model.weights()["decoder.0.mlp.W_out"]
        weight += 0.09 * torch.randn(weight.shape, generator=generator)
    p = draw(40, generator, len_a=4, len_b=3)
    answers = model.answer(p.texts())
    wanted = [a == str(v) for a, v in zip(answers, p.numbers("answer"), strict=True)]
    assert exact(model, p).tolist() == wanted
    assert 0 < sum(wanted) < 40
    assert bool((correct_characters(model, p).all(1) == exact(model, p)).all())


def test_the_packaged_adder_adds_at_lengths_it_never_saw(adder: AdderBase) -> None:
    for n in (5, 10, 20, 50):
        for name in ("equal lengths", "unequal lengths", "full-length carry chain", "9…9 + 1"):
            p = category(name, 20, n, torch.Generator().manual_seed(n))
            assert bool(exact(adder, p).all()), (name, n)


def test_digits_left_out_of_the_fit_land_on_a_true_circle_and_not_on_one_of_noise() -> None:
    generator = torch.Generator().manual_seed(0)
    angle = 2 * torch.pi * 3 * torch.arange(10) / 10
    circle = torch.stack([angle.cos(), angle.sin()], 1).double()
    basis = torch.linalg.qr(torch.randn(64, 2, generator=generator, dtype=torch.float64))[0]
    found = torch.tensor(held_out_points(5 * circle @ basis.T + 1, 3), dtype=torch.float64)
    assert torch.allclose(found, circle, atol=1e-6)
    noise = torch.randn(10, 64, generator=generator, dtype=torch.float64)
    assert float((torch.tensor(held_out_points(noise, 3)) * circle).sum(1).mean()) < 0.3
    flat = torch.tensor(held_out_points(noise, 5))
    assert not flat[:, 1].any()


def test_a_sweep_counts_every_problem_once(adder: AdderBase, tmp_path: Path) -> None:
    found = sweep_accuracy(adder, samples=3, max_digits=7, category_samples=8, lengths=[7], seed=1)
    lengths = found.of("lengths")
    assert {(s.a, s.b) for s in lengths} == {(a, b) for a in range(1, 8) for b in range(1, 8)}
    assert all(s.total == 3 for s in lengths)
    assert sum(s.total for s in found.of("exhaustive")) == 100 + 10_000
    assert [s.held_out for s in lengths if max(s.a, s.b) <= 5] == [True] * 25
    assert found.within(6, 7)[1] == 24 * 3
    assert len(found.of("answer position")) == 9
    assert AdderAccuracy.from_json(found.to_json()) == found
    assert len(found.frame()) == len(found.shares)
    right, total = found.within(1, 1)
    assert found.plot().data[0]["y"][0] == pytest.approx(right / total)
    written = found.write(tmp_path)
    assert [path.name for path in written] == ["accuracy.json", "accuracy.csv", "accuracy.html"]
    assert "answer position" in str(found)


def test_a_sweep_of_a_model_with_positions_says_where_it_ends() -> None:
    model = untrained(positions="learned", max_digits=3, padded=False, reverse=False, ssmax=False)
    found = sweep_accuracy(model, samples=1, max_digits=50, category_samples=4)
    assert found.limit == 3
    assert max(max(s.a, s.b) for s in found.of("lengths")) == 3
    assert "positions for 3 digits" in found.notes[0]
    with pytest.raises(OutOfRange, match="samples = 0"):
        sweep_accuracy(model, samples=0)


# domains


@pytest.mark.parametrize("form", [Format(), Format(padded=False, reverse=False)])
@pytest.mark.parametrize("name", QUANTITIES)
def test_every_cell_of_a_domain_holds_its_value(name: str, form: Format) -> None:
    domain = adder_domain(name, place=2, digits=5, templates=6, form=form, seed=3)
    design = domain.value_design()
    where = domain.value_design(position="value")
    assert design.shape == (domain.n, 6)
    for prompt, value, span in zip(design.prompts, design.value.tolist(), where.spans or (), strict=True):
        problem, written = prompt.split("=")
        a, b = (int(x) for x in problem.split("+"))
        place = value if name == "significance" else 2
        x, y = a // 10**place % 10, b // 10**place % 10
        carry_in = (a % 10**place + b % 10**place) >= 10**place
        truth = {
            "digit-a": x,
            "digit-b": y,
            "digit-sum-mod-10": (x + y) % 10,
            "carry-in": int(carry_in),
            "carry-out": int(x + y + carry_in >= 10),
            "significance": place,
        }
        assert truth[name] == value
        assert prompt[slice(*span)] == str(y if name == "digit-b" else x)
        digits = str(a + b).zfill(6)
        if form.reverse:
            assert written == digits[::-1][:place]
        else:
            assert str(a + b).startswith(written)
            assert len(written) == max(0, len(str(a + b)) - 1 - place)


def test_the_operation_design_asks_for_the_digit_sum(adder: AdderBase) -> None:
    domain = adder_domain("digit-sum-mod-10", place=3, digits=6)
    design = domain.operation_design(1)
    scores = score_candidates(adder, design)
    assert bool((scores.argmax(1) == design.label).all())
    encodings = encode(adder, design.prompts)
    assert set(read_positions(design, encodings).tolist()) == {2 * 6 + 1 + 3}
    with pytest.raises(UsageError, match="is no operation"):
        adder_domain("digit-a").operation_design(1)
    with pytest.raises(OutOfRange, match="one cycle"):
        domain.operation_design(4)


def test_bad_domains_are_refused() -> None:
    assert find_domain("carry-in@3") == adder_domain("carry-in", place=3)
    assert find_domain("digit-sum-mod-10").name == "digit-sum-mod-10@2"
    with pytest.raises(OutOfRange, match="place 9"):
        find_domain("digit-a@9")
    with pytest.raises(UnknownDomain, match="closest: digit-b, digit-a"):
        adder_domain("digit-c")
    with pytest.raises(OutOfRange, match="it runs from 1 to 5"):
        adder_domain("carry-in", place=0)


# statistics


def test_a_planted_value_is_read_and_noise_is_not() -> None:
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(10, 20, 8, generator=generator)
    code = torch.randn(10, 1, 8, generator=generator)
    accuracy, chance, null = decode_values(noise * 0.1 + code, permutations=50)
    assert accuracy == 1.0
    assert chance == pytest.approx(0.1)
    assert null < 0.3
    accuracy, _, null = decode_values(noise, permutations=50)
    assert accuracy <= null


def test_planted_neurons_are_told_apart() -> None:
    a, b = torch.meshgrid(torch.arange(10.0), torch.arange(10.0), indexing="ij")
    s = (a + b).double()
    generator = torch.Generator().manual_seed(0)
    table = torch.randn(10, generator=generator, dtype=torch.float64)
    planted = [
        torch.cos(2 * math.pi * 3 * s / 10),
        table[s.long() % 10],
        torch.relu(a - 4).double(),
        (s >= 10).double(),
    ]
    noise = [torch.randn(10, 10, generator=generator, dtype=torch.float64) for _ in range(4)]
    found = measure_neurons(torch.stack([*planted, *noise, torch.zeros(10, 10).double()], -1))
    assert (found.live, found.total) == (8, 9)
    assert found.r2[0] == pytest.approx(1.0)
    assert found.k[0] == 3
    assert found.mod_sum[:2] == pytest.approx((1.0, 1.0))
    assert found.additive[2] == pytest.approx(1.0)
    assert found.r2[2] == pytest.approx(0.0, abs=1e-12)
    assert found.carry[3] == pytest.approx(1.0)
    assert found.p[0] < 0.05
    assert min(found.p[4:]) > 0.05
    assert found.top[0] == 0
    assert found.curves[0][:4] == pytest.approx([math.cos(0.6 * math.pi * i) for i in range(4)])


def test_a_planted_circle_of_digits_is_found_and_chance_is_not() -> None:
    angle = 2 * math.pi * 3 * torch.arange(10.0) / 10
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(10, 16, generator=generator)
    circle = torch.zeros(10, 16)
    circle[:, 0], circle[:, 1] = angle.cos(), angle.sin()
    found = embedding_spectrum(3 * circle + 0.1 * noise, "W")
    assert found.k == 3
    assert found.p < 0.01
    assert embedding_spectrum(noise, "W").p > 0.05
    several = torch.randn(3, 10, 4, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(shares_of(several), torch.stack([matrix_share(y) for y in several]))
    line = embedding_spectrum(torch.arange(10.0)[:, None] * torch.ones(1, 4) + 0.1 * noise[:, :4], "W")
    assert line.line > 0.95
    assert line.line_p < 0.01


def test_attention_planted_on_the_same_significance_is_aligned_with_it() -> None:
    config = AdderConfig(d_model=16, n_heads=2, d_mlp=24)
    weights = initial_weights(config, seed=0)
    for name in weights:
        if name.endswith("W_Q"):
            weights[name].zero_()
        if name.endswith("B_rel"):
            weights[name][3, 0] = weights[name][2, 1] = 1.0  # 40 nats: the same digit, and the one below
    model = AdderTransformer(config, weights=weights).eval()
    rows = {(h.site, h.head): h for h in alignment(model, digits=4, problems=8)}
    for head, offset in ((0, 0), (1, -1)):
        found = rows["encoder.0.attn.hook_pattern", head]
        assert found.aligned == offset
        assert sum(found.weights) + found.special + found.rest == pytest.approx(1.0, abs=1e-5)
    assert max(rows["encoder.0.attn.hook_pattern", 0].weights) == pytest.approx(1.0, abs=1e-4)


# interventions


def test_patching_a_carry_where_everything_has_passed_brings_all_of_it(adder: AdderBase) -> None:
    rows = carry_patching(adder, digits=5, place=3, distances=(1, 2))
    by_place = {(r.distance, r.site, r.place): r for r in rows}
    for distance in (1, 2):
        assert by_place[distance, "decoder.0.hook_resid_post", 0].recovered == pytest.approx(1.0, abs=1e-4)
        assert by_place[distance, "decoder.0.hook_resid_post", -1].recovered == 0.0
        assert by_place[distance, "encoder.0.hook_resid_pre", 0].recovered == 0.0  # the digits are the same
    # a carry from just below comes in part from the problem; one from further down only through what was
    # written
    assert by_place[1, "encoder.0.hook_resid_post", -1].recovered > 0.3
    assert by_place[2, "encoder.0.hook_resid_post", -2].recovered < 0.1
    assert by_place[2, "decoder.0.hook_resid_pre", 0].recovered > 0.9
    with pytest.raises(OutOfRange, match="cannot begin 4 below"):
        carry_patching(adder, digits=5, place=3, distances=(4,))


@pytest.fixture(scope="module")
def analysis(adder: AdderBase) -> AdderAnalysis:
    return analyze(adder, permutations=99)


def test_an_analysis_is_whole_and_comes_back(analysis: AdderAnalysis, tmp_path: Path) -> None:
    assert AdderAnalysis.from_json(analysis.to_json()).to_json() == analysis.to_json()
    assert {q.quantity for q in analysis.quantities} == set(QUANTITIES)
    assert analysis.exact == 1.0
    assert {a.what for a in analysis.ablations} == {"head", "neurons"}
    assert all(a.before == 1.0 for a in analysis.ablations)
    assert len(analysis.heads) == 12
    assert analysis.logits.worst > 0
    json.dumps(analysis.summary(), allow_nan=False)
    names = [path.name for path in analysis.write(tmp_path)]
    assert names == [
        "analysis.json",
        "quantities.csv",
        "heads.csv",
        "carries.csv",
        "ablations.csv",
        "analysis.html",
    ]
    assert "carry" in str(analysis)


def test_what_an_analysis_says_of_the_packaged_adder(analysis: AdderAnalysis) -> None:
    """The shape of the algorithm, not its numbers: sums in the encoder, carries only in the decoder."""
    read = {
        (q.quantity, s.site): s.decoded for q in analysis.quantities if q.design == "value" for s in q.sites
    }
    null = {(q.quantity, s.site): s.null for q in analysis.quantities if q.design == "value" for s in q.sites}
    embedded, summed = "encoder.0.hook_resid_pre", "encoder.0.hook_mlp_out"
    assert read["digit-a", embedded] == 1.0
    assert read["digit-sum-mod-10", embedded] <= null["digit-sum-mod-10", embedded]
    assert read["digit-sum-mod-10", summed] > 0.8
    assert read["carry-in", summed] <= null["carry-in", summed]
    assert read["carry-in", "decoder.0.hook_resid_mid_cross"] > 0.9


@pytest.mark.slow
def test_an_untrained_adder_is_analysed_with_a_warning() -> None:
    found = analyze(
        untrained(positions="learned", max_digits=4, padded=False, reverse=False, ssmax=False),
        permutations=99,
        place=1,
    )
    assert found.digits == 4
    assert found.carries == ()
    assert any("fewer than half" in n for n in found.notes)
    assert any("most significant digit first" in n for n in found.notes)


def test_what_is_no_adder_is_refused(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "other", {"x": torch.zeros(2)}, {"architecture": "one-layer"})
    with pytest.raises(UsageError, match="'one-layer', and 'adder' is wanted"):
        open_adder(tmp_path / "other")
    with pytest.raises(UsageError, match="train one with: mechfourier train adder"):
        open_adder(torch.nn.Linear(2, 2))
    with pytest.raises(OutOfRange, match="place 5 of 6 digits"):
        analyze("adder", place=5)


def test_the_commands(tmp_path: Path) -> None:
    def run(*arguments: str) -> dict:
        outcome = CliRunner().invoke(app, [*arguments, "--json"], catch_exceptions=False)
        assert outcome.exit_code == 0
        return json.loads(outcome.stdout)

    swept = run(
        "sweep-accuracy", "adder", "--samples", "1", "--max-digits", "6", "--out", str(tmp_path / "s")
    )
    assert swept["accuracy"] == 1.0
    assert (tmp_path / "s" / "accuracy.html").stat().st_size > 10_000
    with pytest.raises(UsageError, match="--key-freqs means nothing"):
        CliRunner().invoke(app, ["analyze", "adder", "--key-freqs", "1"], catch_exceptions=False)
