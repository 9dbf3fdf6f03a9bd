"""The analysis of the one-layer transformer: against the real model's cache, planted weights, published
numbers, a run."""

import dataclasses
import json
import random
from pathlib import Path

import pytest
import torch
from torch import Tensor

from mechfourier.errors import BadCheckpoint, UsageError
from mechfourier.fourier.analytic import analytic_weights
from mechfourier.fourier.clock_pizza import gradient_cosines
from mechfourier.models.checkpoint import save_checkpoint, write_tensors
from mechfourier.models.registry import load
from mechfourier.toys.one_layer import (
    OneLayerAnalysis,
    ProgressCurves,
    Source,
    analyze,
    find_phases,
    open_source,
    progress_curves,
    view,
)
from mechfourier.toys.one_layer.forward import (
    last_position,
    logits_grid,
    neurons,
    operand_gradients,
)
from mechfourier.toys.one_layer.model import OneLayerTransformer
from mechfourier.toys.one_layer.source import train_mask
from mechfourier.toys.one_layer.task import split, task
from mechfourier.toys.one_layer.weights import OneLayerConfig, initial_weights
from mechfourier.toys.reading import import_checkpoint
from mechfourier.training.run_folder import RunFolder

SMALL = {"d_model": 48, "n_heads": 4, "d_mlp": 64}


def _single(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.float() for name, value in weights.items()}


def _planted(p: int = 23, ks: tuple[int, ...] = (3, 7), **options: object) -> Source:
    config = OneLayerConfig(p=p)
    weights = _single(analytic_weights(p, frequencies=ks, **options))  # type: ignore[arg-type]
    return Source("planted", weights, config)


FORMS = (
    {"n_ctx": 2, "vocabularies": 2},
    {"n_ctx": 4, "form": "a + b ="},
    {"n_ctx": 3, "form": "^ a b", "vocabularies": 2, "biases": True},
)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"n_ctx": 2},
        {"biases": True},
        {"n_ctx": 2, "attn_coeff": 0.3, "causal": False},
        {"act": "gelu"},
        *FORMS,
    ],
)
def test_the_tables_give_the_models_own_activations(options: dict[str, object]) -> None:
    config = OneLayerConfig(p=7, **SMALL, **options)  # type: ignore[arg-type]
    weights = initial_weights(config, seed=1, dtype=torch.float64)
    for name, value in weights.items():
        if ".b_" in name:
            value.normal_(generator=torch.Generator().manual_seed(len(name)))
    model = OneLayerTransformer(config, weights=weights)
    pairs = torch.cartesian_prod(torch.arange(7), torch.arange(7))
    tokens = config.question.tokens(pairs)
    with torch.no_grad():
        logits, cache = model.run_with_cache(tokens)
        last = last_position(weights, config)
        grid = view(weights, config)
        assert torch.allclose(logits_grid(weights, config).flatten(0, 1), logits[:, -1], atol=1e-12)
        assert torch.allclose(
            neurons(last, config).flatten(0, 1), cache["blocks.0.mlp.hook_post"][:, -1], atol=1e-12
        )
        assert torch.allclose(
            grid.resid_post.flatten(0, 1), cache["blocks.0.hook_resid_post"][:, -1], atol=1e-12
        )
        pattern = cache["blocks.0.attn.hook_pattern"][:, :, -1]
        assert torch.allclose(last.pattern.permute(2, 3, 0, 1).flatten(0, 1), pattern, atol=1e-12)


def test_gradients_are_those_of_the_model() -> None:
    config = OneLayerConfig(p=7, biases=True, **SMALL)  # type: ignore[arg-type]
    weights = initial_weights(config, seed=2, dtype=torch.float64)
    model = OneLayerTransformer(config, weights=weights)
    triples = torch.tensor([[1, 5, 3], [2, 2, 0]])
    grad_a, grad_b = operand_gradients(weights, config, triples)
    kept: list[Tensor] = []

    def keep(value: Tensor, hook: object) -> Tensor:
        value.retain_grad()
        kept.append(value)
        return value

    tokens = torch.cat([triples[:, :2], torch.tensor([[7], [7]])], 1)
    with model.hooks(fwd_hooks=[("hook_embed", keep)]):
        model(tokens)[:, -1].gather(1, triples[:, 2:]).sum().backward()
    gradient = kept[0].grad
    assert gradient is not None
    assert torch.allclose(gradient[:, 0], grad_a, atol=1e-12)
    assert torch.allclose(gradient[:, 1], grad_b, atol=1e-12)


def test_the_analysis_finds_the_clock_that_was_put_in() -> None:
    result = analyze(_planted())
    assert result.accuracy == 1.0
    assert result.key_freqs == (3, 7)
    assert result.key_rule == "weights"
    assert result.algorithm == "clock"
    assert result.neuron_share_95 == 1.0
    assert result.logit_share > 0.999
    assert result.w_l_rank == 4
    assert result.w_l_residual < 1e-5
    assert sum(result.embed_power[k - 1] for k in (3, 7)) == pytest.approx(1.0)
    assert [cluster.frequency for cluster in result.clusters if cluster.size > 9] == [3, 7]
    assert result.excluded_loss > 1.0 > 1e-3 > result.restricted_loss
    assert all(c.loss_without > result.loss for c in result.clusters if c.frequency)
    assert result.untrained.logit_share < 0.05
    assert result.untrained.gradient_symmetricity > 0.9 > abs(result.gradient_symmetricity)


def test_the_analysis_finds_the_pizza_that_was_put_in() -> None:
    result = analyze(_planted(ks=(2, 5, 9), style="pizza"))
    assert (result.accuracy, result.algorithm, result.key_freqs) == (1.0, "pizza", (2, 5, 9))
    assert result.distance_irrelevance < 0.05
    assert result.gradient_symmetricity > 0.999
    assert all(head.pattern_mean == pytest.approx(1 / 3) and head.pattern_std < 1e-6 for head in result.heads)


def test_a_model_that_uses_every_frequency_is_read_off_its_logits() -> None:
    result = analyze(_planted(11, (1, 2, 3, 4, 5)))
    assert (result.key_freqs, result.key_rule) == ((1, 2, 3, 4, 5), "logits")


def test_an_untrained_model_has_no_key_frequency_and_no_verdict() -> None:
    config = OneLayerConfig(p=29)
    result = analyze(Source("fresh", initial_weights(config, seed=5), config))
    assert result.key_freqs == ()
    assert result.algorithm == "not learned"
    assert result.neuron_share_85 < 0.05
    assert result.restricted_loss == pytest.approx(torch.tensor(29.0).log().item(), rel=0.2)


def test_cluster_attributions_and_the_direct_path_make_up_the_right_logit() -> None:
    source = _planted()
    result = analyze(source)
    tables = view(source.weights, source.config)
    right = tables.logits.gather(2, task("add").table(23)[..., None])[..., 0] - tables.logits.mean(-1)
    parts = sum(cluster.right_logit for cluster in result.clusters) + result.direct_right_logit
    assert parts == pytest.approx(right.mean().item(), rel=1e-4)


@pytest.mark.parametrize("name", ["subtract", "multiply"])
def test_tasks_that_are_additions_in_disguise_are_read_as_such(name: str) -> None:
    p = 23
    base = _planted(22 if name == "multiply" else p, (3, 7))
    order = view({}, OneLayerConfig(p=p, task=name)).labels
    weights = dict(base.weights)
    embed = torch.zeros(p + 1, 128)
    embed[order.a] = base.weights["embed.W_E"][: len(order.a)]
    unembed = torch.full((128, p), 0.0)
    unembed[:, order.c] = base.weights["unembed.W_U"]
    weights |= {"embed.W_E": embed, "unembed.W_U": unembed}
    config = OneLayerConfig(p=p, task=name)
    if name == "subtract":  # b's heads turn the circle round: sines change sign
        flip = torch.ones(128)
        flip[[1, 3]] = -1
        weights["blocks.0.attn.W_V"] = weights["blocks.0.attn.W_V"].clone()
        weights["blocks.0.attn.W_V"][2:] *= flip[:, None]
    result = analyze(Source(name, weights, config))
    assert result.key_freqs == (3, 7)
    assert result.n == len(order.a)
    assert result.logit_share > 0.999
    assert result.accuracy > 0.9  # 0 · b and a · 0 are outside the cycle


def test_tasks_without_a_cycle_are_refused() -> None:
    for name, p in (("squares", 11), ("multiply", 12), ("s5", 120)):
        config = OneLayerConfig(p=p, task=name, **SMALL)  # type: ignore[arg-type]
        with pytest.raises(UsageError, match="no Fourier basis"):
            analyze(Source(name, initial_weights(config, seed=0), config))


def published_triples(p: int) -> torch.Tensor:
    """The sample behind the published numbers: the first 100 of all p³ triples in the order of
    ``random.Random(42).shuffle``.

    A shuffle of p³ items: a tenth of a second for p = 59, ten times that for p = 113.
    """
    order = list(range(p**3))
    random.Random(42).shuffle(order)
    flat = torch.tensor(order[:100])
    return torch.stack([flat // p**2, flat // p % p, flat % p], dim=1)


@pytest.mark.parametrize(
    ("run", "symmetricity", "irrelevance", "algorithm"),
    [("p99zdpze5l", 0.9937, 0.17, "pizza"), ("l8k1hzciux", 0.3336, 0.85, "clock")],
)
def test_published_values_of_clock_and_pizza(
    run: str, symmetricity: float, irrelevance: float, algorithm: str, shared_data: Path, tmp_path: Path
) -> None:
    import_checkpoint(shared_data / "clock-and-pizza" / f"model_{run}.pt", tmp_path / "out")
    source = open_source(tmp_path / "out")
    result = analyze(source)
    assert result.accuracy == 1.0
    assert round(result.distance_irrelevance, 2) == irrelevance
    assert result.algorithm == algorithm
    cosines = gradient_cosines(*operand_gradients(source.weights, source.config, published_triples(59)))
    assert round(cosines.mean().item(), 4) == symmetricity
    assert abs(result.gradient_symmetricity - cosines.mean().item()) < 4 * max(
        cosines.std().item() / 10, 1e-4
    )


def _run_folder(folder: Path, *, p: int = 23, steps: int = 12) -> Path:
    """A run as the training writes it: memorised weights that turn into the closed form."""
    config = OneLayerConfig(p=p)
    final = _single(analytic_weights(p, frequencies=(3, 7)))
    start = initial_weights(config, seed=0)
    run = RunFolder(folder)
    settings = {"training": {"train_fraction": 0.4, "seed": 9, "split_seed": 3}}
    for step in range(steps):
        mix = step / (steps - 1)
        run.write_checkpoint({k: (1 - mix) * start[k] + mix * final[k] for k in final}, step * 100)
    save_checkpoint(folder, final, {**config.to_dict(), **settings})
    return folder


def test_every_checkpoint_of_a_run_is_measured(tmp_path: Path) -> None:
    folder = _run_folder(tmp_path / "run")
    result = analyze(folder)
    curves = result.curves
    assert curves is not None
    assert curves.step == tuple(range(0, 1200, 100))
    assert curves.key_freqs == result.key_freqs == (3, 7)
    assert curves.restricted_loss[-1] == pytest.approx(result.restricted_loss)
    assert curves.excluded_loss_train[-1] == pytest.approx(result.excluded_loss)
    assert curves.gini_W_E[0] < 0.2 < curves.gini_W_E[-1] == pytest.approx(result.gini_W_E)
    assert curves.accuracy_test[0] < 0.2 < curves.accuracy_test[-1] == 1.0
    assert len(curves.frame()) == 12
    assert ProgressCurves.from_json(curves.to_json()) == curves
    assert analyze(folder, over_run=False).curves is None
    one = analyze(folder / "checkpoints" / "step-000300.safetensors")
    assert one.loss_test == pytest.approx(curves.loss_test[3])


def test_the_training_pairs_are_those_of_the_runs_split(tmp_path: Path) -> None:
    source = open_source(_run_folder(tmp_path / "run", steps=2))
    pairs = split("add", 23, train_fraction=0.4, seed=3).train_pairs
    assert source.train is not None
    assert source.train.sum() == len(pairs)
    assert bool(source.train[pairs[:, 0], pairs[:, 1]].all())
    assert train_mask({"p": 23}, source.config) is None


def _curves(**columns: list[float]) -> ProgressCurves:
    count = len(next(iter(columns.values())))
    values: dict[str, object] = {
        f.name: tuple(columns.get(f.name, [0.0] * count))
        for f in dataclasses.fields(ProgressCurves)
        if f.name not in ("weights", "unknown")
    }
    values |= {
        "name": "run",
        "key_freqs": (1,),
        "step": tuple(range(0, 100 * count, 100)),
        "embed_power": ((),) * count,
    }
    return ProgressCurves(**values)  # type: ignore[arg-type]


GROKKING = {
    "accuracy_train": [0.1, 1.0, 1.0, 1.0, 1.0, 1.0],
    "accuracy_test": [0.0, 0.1, 0.1, 0.2, 0.9, 1.0],
    "loss_test": [5.0, 20.0, 21.0, 18.0, 1.0, 0.001],
    "excluded_loss_train": [5.0, 0.1, 0.5, 2.0, 4.0, 4.0],
    "restricted_loss": [5.0, 4.9, 3.0, 1.0, 0.1, 0.001],
}


def test_three_phases_are_read_off_the_curves() -> None:
    found = find_phases(_curves(**GROKKING))
    assert found.verdict == "three phases"
    assert (found.memorised_at, found.clean_up_from, found.generalised_at) == (100, 300, 500)
    assert found.frame()["to"].tolist() == [100, 300, 500]
    assert "circuit formation to 300" in str(found)


def test_other_courses_are_not_called_grokking() -> None:
    never = find_phases(_curves(**GROKKING | {"accuracy_test": [0.0] * 6}))
    assert (never.verdict, never.generalised_at) == ("memorised", None)
    lost = find_phases(_curves(**GROKKING | {"accuracy_test": [0.0, 0.1, 1.0, 1.0, 1.0, 0.4]}))
    assert lost.verdict == "memorised"
    at_once = find_phases(_curves(**GROKKING | {"accuracy_test": [0.0, 0.9, 1.0, 1.0, 1.0, 1.0]}))
    assert at_once.verdict == "no plateau"
    no_circuit = find_phases(_curves(**GROKKING | {"excluded_loss_train": [0.1] * 6}))
    assert no_circuit.verdict == "no plateau"
    nothing = find_phases(_curves(**GROKKING | {"accuracy_train": [0.1] * 6}))
    assert nothing.verdict == "not learned"
    with pytest.raises(UsageError, match="too few"):
        find_phases(_curves(**{k: v[:2] for k, v in GROKKING.items()}))
    with pytest.raises(UsageError, match="split"):
        find_phases(_curves(**GROKKING | {"loss_test": [float("nan")] * 6}))


def test_the_result_survives_json_and_holds_what_the_command_promises() -> None:
    result = analyze(_planted())
    back = OneLayerAnalysis.from_json(result.to_json())
    assert back.to_dict() == result.to_dict()
    summary = json.loads(json.dumps(result.summary(), allow_nan=False))
    assert list(summary)[:13] == [
        "accuracy",
        "loss",
        "key_freqs",
        "embed_power",
        "unembed_power",
        "neuron_share_85",
        "logit_share",
        "restricted_loss",
        "excluded_loss",
        "gini_W_E",
        "gini_W_L",
        "gradient_symmetricity",
        "distance_irrelevance",
    ]
    assert set(result.to_dict()) - {"kind", "schema"} <= set(summary)  # all that --out writes
    assert summary["definitions"].keys() <= summary.keys()
    frame = result.frame()
    assert frame[frame["key"]]["frequency"].tolist() == [3, 7]
    assert result.plot().data[0]["y"].tolist() == frame["embed_power"].tolist()


def test_what_cannot_be_analysed_is_refused_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="one-layer transformer"):
        analyze(torch.nn.Linear(2, 2))
    config = OneLayerConfig(p=7, **SMALL)  # type: ignore[arg-type]
    weights = initial_weights(config, seed=0)
    save_checkpoint(tmp_path / "adder", weights, {"architecture": "adder"})
    with pytest.raises(UsageError, match="'adder', and 'one-layer' is wanted here: only one-layer networks"):
        analyze(tmp_path / "adder")
    save_checkpoint(
        tmp_path / "torn", {k: v for k, v in weights.items() if "W_in" not in k}, config.to_dict()
    )
    with pytest.raises(BadCheckpoint, match="W_in"):
        analyze(tmp_path / "torn")
    save_checkpoint(tmp_path / "other", weights, config.to_dict() | {"p": 11})
    with pytest.raises(BadCheckpoint, match="embed"):
        analyze(tmp_path / "other")
    (tmp_path / "x.pt").write_bytes(b"no")
    with pytest.raises(UsageError, match="mechfourier import"):
        analyze(tmp_path / "x.pt")
    save_checkpoint(tmp_path / "plain", weights, config.to_dict())
    with pytest.raises(UsageError, match="checkpoints"):
        progress_curves(tmp_path / "plain")


def test_an_unfinished_run_says_so(tmp_path: Path) -> None:
    weights = initial_weights(OneLayerConfig(p=23), seed=0)
    (tmp_path / "checkpoints").mkdir()
    write_tensors(tmp_path / "checkpoints" / "step-000300.safetensors", weights)
    (tmp_path / "config.json").write_text(json.dumps(OneLayerConfig(p=23).to_dict()))
    torch.save({"optimizer": {}}, tmp_path / "state.pt")
    assert "unfinished, step 300; finish it with --resume" in str(analyze(tmp_path, over_run=False))
    with pytest.raises(BadCheckpoint, match=r"unfinished run.*--resume"):
        load(tmp_path)
