"""The models of every modulus measured: planted answers, identities, and the packaged model."""

import math
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mechfourier.errors import OutOfRange, UsageError
from mechfourier.fourier import r2_bound
from mechfourier.hooks.interventions import patch
from mechfourier.hooks.site import Site
from mechfourier.toys.universal import (
    AccuracySweep,
    Algorithm,
    MirasAnalysis,
    analyze,
    attention_flow,
    memory_effects,
    neuron_tables,
    open_miras,
    study_algorithm,
    sweep_accuracy,
)
from mechfourier.toys.universal.algorithm import MOVES
from mechfourier.toys.universal.config import ExtrapolatingConfig, FaithfulConfig
from mechfourier.toys.universal.model import ExtrapolatingTransformer, UniversalModulusTransformer
from mechfourier.toys.universal.neurons import class_harmonics
from mechfourier.toys.universal.source import right
from mechfourier.toys.universal.task import boundary, random_questions

SMALL = FaithfulConfig(n_values=20, d_model=16, n_heads=2, d_mlp=24, d_mem=12)


class NeverWraps(UniversalModulusTransformer):
    """Answers a + b, whatever m is."""

    def best(self, questions: torch.Tensor, *, negatives: bool = True) -> torch.Tensor:
        del negatives
        return questions[:, 1] + questions[:, 2]


def test_never_wrapping_scores_its_baseline() -> None:
    sweep = sweep_accuracy(NeverWraps(SMALL), full=True, largest=20)
    assert [row.m for row in sweep.moduli] == list(range(2, 21))
    for row in sweep.moduli:
        assert row.whole
        assert row.questions == row.m**2
        assert row.accuracy == pytest.approx(row.never_wrap)
        assert row.never_wrap == pytest.approx((row.m + 1) / (2 * row.m))
        assert (row.wrap_accuracy, row.no_wrap_accuracy) == (0.0, 1.0)
        assert (row.boundary_errors, row.boundary_questions) == (row.m - 1, 2 * row.m - 1)
    assert {group.role for group in sweep.groups()} == {"trained", "held out"}
    assert sum(group.questions for group in sweep.groups()) == sum(m * m for m in range(2, 21))
    assert AccuracySweep.from_json(sweep.to_json()) == sweep
    drawn = sweep.plot().data
    assert [float(y) for y in drawn[-1].y] == [row.never_wrap for row in sweep.moduli]


def test_what_a_sweep_refuses() -> None:
    model = UniversalModulusTransformer(SMALL)
    with pytest.raises(OutOfRange, match="token table ends at 19"):
        sweep_accuracy(model, largest=21)
    with pytest.raises(OutOfRange, match="no modulus"):
        sweep_accuracy(model, only=(1,))
    with pytest.raises(UsageError, match="at least one"):
        sweep_accuracy(model, only=())
    with pytest.raises(UsageError, match="no model of every modulus"):
        sweep_accuracy(torch.nn.Linear(2, 2))


@given(st.integers(5, 23), st.data())
@settings(max_examples=25, deadline=None)
def test_a_planted_harmonic_of_the_sum_is_found(m: int, data: st.DataObject) -> None:
    k = data.draw(st.integers(1, m // 2))
    a, b = torch.meshgrid(torch.arange(m), torch.arange(m), indexing="ij")
    planted = torch.cos(2 * math.pi * k * (a + b) / m + 0.4).flatten()
    alone = torch.cos(2 * math.pi * k * a / m).flatten()
    found, r2 = class_harmonics(torch.stack([planted, alone, torch.full((m * m,), 3.0)], 1), m)
    assert int(found[0]) == k
    torch.testing.assert_close(r2, torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64), rtol=0, atol=1e-6)


def test_noise_stays_under_the_bound() -> None:
    noise = torch.randn(13 * 13, 200, generator=torch.Generator().manual_seed(0))
    _, r2 = class_harmonics(noise, 13)
    assert float(r2.max()) < r2_bound(169, 200 * 6, level=0.999)
    assert float(r2.mean()) > 0


def test_neurons_and_attention_of_any_model() -> None:
    model = UniversalModulusTransformer(SMALL, seed=3)
    tables, rows = neuron_tables(model, (7, 12))
    assert len(tables) == 4
    assert len(rows) == 4 * 24
    assert all(0 <= row.r2 <= 1 and 1 <= row.k <= row.m // 2 for row in rows)
    flows = attention_flow(model, 7, count=20)
    assert [(f.layer, f.head, f.source) for f in flows] == [
        (layer, head, source) for layer in range(2) for head in range(2) for source in ("m", "a", "b", "=")
    ]
    questions = random_questions(7, 20, seed=0)
    _, cache = model.run_with_cache(model.tokens(questions))
    for flow in flows:
        place = "mab=".index(flow.source)
        wanted = cache[f"blocks.{flow.layer}.attn.hook_pattern"][:, flow.head, place].mean(0)
        torch.testing.assert_close(torch.tensor(flow.weights), wanted)


def test_the_memory_is_the_only_way_of_the_modulus() -> None:
    """The state of another modulus put in gives exactly the logits of that modulus."""
    model = UniversalModulusTransformer(SMALL, seed=3)
    asked = random_questions(9, 30, seed=0)
    other = asked.clone()
    other[:, 0] = 14
    wanted, cache = model.run_with_cache(model.tokens(other))
    with patch(model, Site.parse("memory.hook_state"), cache["memory.hook_state"].detach()):
        torch.testing.assert_close(model(model.tokens(asked)), wanted, rtol=1e-5, atol=1e-5)
    effects = {effect.what: effect for effect in memory_effects(model, (9, 14), count=60)}
    assert list(effects) == ["intact", "zero", "permuted between questions", "swapped with the next modulus"]
    none = UniversalModulusTransformer(FaithfulConfig(**{**vars(SMALL), "memory": "none"}))
    assert memory_effects(none, (9, 14)) == ()


def test_the_packaged_model_decides_and_composes() -> None:
    model = open_miras("miras").model
    assert isinstance(model, ExtrapolatingTransformer)
    result = study_algorithm(model, moduli=(23,), count=60)
    effects = {effect.what: effect for effect in result.effects}
    assert effects["nothing changed"].as_predicted == 1.0
    for name in ("m", "a", "b"):
        assert effects[f"waves of {name} turned by 1"].as_predicted >= 0.9
    for move in MOVES:  # what the sizes say is a + b − m alone
        assert effects[f"sizes of a and b + {move}, of m + {2 * move}"].as_predicted == 1.0
    assert effects["waves of m random"].no_wrap_accuracy >= 0.9
    assert effects["waves of m random"].wrap_accuracy <= 0.2
    assert Algorithm.from_json(result.to_json()).effects[0] == result.effects[0]
    assert str(result)
    with pytest.raises(UsageError, match="by value"):
        study_algorithm(cast("Any", UniversalModulusTransformer(SMALL)))


def test_the_packaged_model_far_beyond_its_training() -> None:
    """No error, with candidates below 0 offered too (docs/miras.md says why), nor on any question of 997 up
    to 4 from the wrap."""
    sweep = sweep_accuracy("miras", only=(15, 121, 199, 499, 997), samples=200)
    assert sweep.lowest == -sweep.highest
    assert [(row.errors, row.boundary_errors) for row in sweep.moduli] == [(0, 0)] * 5
    assert right(open_miras("miras").model, boundary(997, -4, 4)[::13]).all()
    assert [row.role for row in sweep.moduli] == ["held out", "beyond", "beyond", "beyond", "beyond"]


def test_analysis_of_a_run_and_its_files(tmp_path: Path) -> None:
    from mechfourier.toys.universal.recipes import MirasRecipe
    from mechfourier.toys.universal.task import moduli
    from mechfourier.toys.universal.train import train_miras

    recipe = MirasRecipe(steps=2, batch=8, lr=1e-3, evaluate_every=1)
    train_miras(tmp_path / "run", SMALL, moduli("all", largest=18), recipe)
    found = analyze(tmp_path / "run")
    assert {band.step for band in found.interference} == {1, 2}
    assert found.algorithm is None
    assert math.isnan(found.follows_draw)
    again = MirasAnalysis.from_json(found.to_json())
    assert again.adaptation == found.adaptation
    assert len(found.frame()) == len(found.adaptation)
    assert "adaptation" not in found.summary()
    assert all(path.stat().st_size for path in found.write(tmp_path / "out"))
    checkpoint = next((tmp_path / "run" / "checkpoints").glob("*.safetensors"))
    assert open_miras(checkpoint).split.largest == 18


def test_frequencies_of_neurons_are_those_of_their_draws() -> None:
    from mechfourier.toys.universal.neurons import Adaptation, follows_draw

    config = ExtrapolatingConfig(width=8, gates=8, draws=6, n_values=60)
    model = ExtrapolatingTransformer(config)
    own = [float(min(w, 1 - w)) for w in model.frequencies[:, 0]]
    rows = [Adaptation(0, 8 * i, 60, round(own[i] * 60), 0.9, own[i]) for i in range(6)]
    assert follows_draw(model, rows) == pytest.approx(1.0)
    assert math.isnan(follows_draw(model, rows[:2]))
