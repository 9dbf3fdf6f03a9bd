"""Parts add up to the margin, heads and neurons to their layer, and planted harmonics are found."""

import json
import math
import warnings
from typing import Any

import pytest
import torch
from extras import needs_minilm
from typer.testing import CliRunner

from mechfourier.causal.attribution import AttributionResult, attribution
from mechfourier.causal.task import task_of
from mechfourier.causal.written import grid_shares, harmonics_of
from mechfourier.domains.definition import domain
from mechfourier.errors import OutOfRange, UsageError
from mechfourier.hooks.run import has_hooks
from mechfourier.stats.paired import bootstrap_mean, bootstrap_means

P = 11


@pytest.fixture(scope="module", params=["RMS", "LN", None])
def small(request: pytest.FixtureRequest) -> Any:
    """A random HookedTransformer of two layers with random gains and biases."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from transformer_lens import HookedTransformer, HookedTransformerConfig

        from mechfourier.toys.calendar.tokens import build_tokenizer

        tokenizer = build_tokenizer()
        config = HookedTransformerConfig(
            n_layers=2,
            d_model=16,
            n_heads=2,
            d_head=8,
            d_mlp=20,
            d_vocab=len(tokenizer),
            n_ctx=32,
            act_fn="relu",
            normalization_type=request.param,
            seed=1,
        )
        model = HookedTransformer(config, move_to_device=False)
    model.tokenizer = tokenizer
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return model.eval().requires_grad_(False)


def check_sums(found: AttributionResult) -> None:
    scale = max(1.0, *(abs(part.mean) for part in found.parts))
    assert found.sum_error <= 1e-3 * scale
    assert sum(part.mean for part in found.parts) == pytest.approx(found.margin, abs=1e-3 * scale)
    assert sum(part.share for part in found.parts) == pytest.approx(1.0, abs=1e-2 * scale)
    assert all(part.low <= part.mean <= part.high for part in found.parts)
    assert not any(part.kind == "rest" for part in found.parts)


def test_parts_add_up_to_the_margin_of_the_model(small: Any) -> None:
    found = attribution(small, "days", neurons=40)
    check_sums(found)
    scores = task_of(small, domain("days")).score(small)
    assert found.margin == pytest.approx(scores.logit_diff, abs=1e-3)
    assert found.accuracy == pytest.approx(scores.accuracy)
    assert (len(found.heads), len(found.neurons), found.n_neurons) == (4, 40, 40)
    assert found.margin_ci == pytest.approx(bootstrap_mean(scores.margin, seed=0), abs=1e-3)
    for harmonic in found.harmonics:
        assert sum(harmonic.written_by.values()) == pytest.approx(1.0, abs=1e-6)
    assert found.grid is not None
    assert sum(vars(found.grid).values()) == pytest.approx(1.0, abs=1e-6)
    assert sum(h.share for h in found.harmonics) == pytest.approx(found.grid.sum, abs=1e-9)
    assert AttributionResult.from_json(found.to_json()) == found
    assert len(found.frame()) == 6 + 4 + 40
    assert any("chance" in note for note in found.notes)
    assert not has_hooks(small)
    assert "frozen" in found.norm or found.norm == "none"


def test_only_what_writes_is_credited() -> None:
    from mechfourier.toys.one_layer.model import OneLayerConfig, OneLayerTransformer

    model = OneLayerTransformer(OneLayerConfig(p=P, d_model=16, n_heads=2, d_mlp=24, biases=True), seed=4)
    weights: Any = model.blocks[0]
    with torch.no_grad():
        weights.attn.W_O[1] = 0.0
        weights.mlp.W_out[torch.arange(24) != 5] = 0.0
        weights.mlp.b_in[5] = 1.0
        weights.attn.b_O.add_(0.5)
    found = attribution(model, f"mod-{P}", neurons=3)
    check_sums(found)
    parts = {part.name: part for part in (*found.parts, *found.heads, *found.neurons)}
    assert parts["head 0.1"].mean == 0.0
    assert parts["head 0.0"].mean != 0.0
    assert found.neurons[0].name == "neuron 0.5"
    assert parts["neuron 0.5"].mean != 0.0
    assert parts["embed"].mean == pytest.approx(
        0.0, abs=1e-4
    )  # "=" is the same in every prompt, answers are balanced
    sampled = attribution(model, f"mod-{P}", n_prompts=30, neurons=0)
    assert (sampled.harmonics, sampled.grid, sampled.neurons) == ((), None, ())
    assert any("whole grid" in note for note in sampled.notes)
    with pytest.raises(OutOfRange, match="neurons"):
        attribution(model, f"mod-{P}", neurons=-1)


def test_planted_harmonics_and_their_writers() -> None:
    n = 12
    a, o = torch.meshgrid(torch.arange(n).double(), torch.arange(n).double(), indexing="ij")
    c = torch.arange(n).double()

    def wave(k: int, s: torch.Tensor) -> torch.Tensor:
        return torch.cos(2 * math.pi * k * (s[..., None] - c) / n)

    first, second = 3 * wave(1, a + o), 2 * wave(4, a + o)
    other = wave(2, a - o) + wave(5, a) + 7.0
    flat = (first + second + other).reshape(n * n, n)
    values, label = torch.arange(n).double(), ((a + o) % n).long().flatten()
    parts = {"attn 0": 3 * wave(1, values), "mlp 0": 2 * wave(4, values)}
    found = {h.k: h for h in harmonics_of(parts, n, flat, label)}
    assert found[1].share == pytest.approx(9 / 15)
    assert found[4].share == pytest.approx(4 / 15)
    assert found[1].written_by == pytest.approx({"attn 0": 1.0, "mlp 0": 0.0}, abs=1e-9)
    assert found[4].written_by == pytest.approx({"attn 0": 0.0, "mlp 0": 1.0}, abs=1e-9)
    shares = grid_shares(flat, (n, n))
    assert (shares.sum, shares.difference, shares.a_only) == pytest.approx((13 / 15, 1 / 15, 1 / 15))


def test_bootstrap_of_columns_is_that_of_each() -> None:
    values = torch.randn(50, 3, generator=torch.Generator().manual_seed(0)).double()
    together = bootstrap_means(values, seed=5)
    for column, interval in enumerate(together):
        assert interval == pytest.approx(bootstrap_mean(values[:, column], seed=5))


def test_the_command(tmp_path: Any) -> None:
    from mechfourier.cli.app import app

    options = ["attribution", "calendar", "--domain", "days", "--out", str(tmp_path)]
    shown = CliRunner().invoke(app, options)
    assert shown.exit_code == 0, shown.output
    assert "Harmonics of the answer" in shown.output
    printed = json.loads(CliRunner().invoke(app, [*options, "--json"]).stdout)
    assert printed["norm"].startswith("RMS norm")
    assert printed["sum_error"] < 1e-3
    assert len(list(tmp_path.glob("attribution-*.html"))) == 1


def test_a_model_without_words_has_no_answer_to_split() -> None:
    needs_minilm()
    from mechfourier.models.registry import load

    with pytest.raises(UsageError):
        attribution(load("minilm"), "days")


def test_heads_and_neurons_of_all_layers_take_one_pass(small: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from mechfourier.causal import attribution as module

    asked: list[set[str]] = []

    def counted(model: Any, prompts: Any, sites: Any, *rest: Any, **options: Any) -> Any:
        asked.append({str(site) for site in sites})
        return capture(model, prompts, sites, *rest, **options)

    capture = module.capture
    monkeypatch.setattr(module, "capture", counted)
    check_sums(attribution(small, "days", neurons=5))
    inner = [names for names in asked if any("hook_z" in name or "mlp.hook_post" in name for name in names)]
    assert len(inner) == 1 and len(inner[0]) == 4  # z and mlp_post of both layers
    assert len(asked) <= 3  # beside it the parts, and a few prompts whose logits are compared
