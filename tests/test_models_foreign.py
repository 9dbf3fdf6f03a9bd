"""Foreign checkpoints: every layout is built from a model of ours, read back, and gives the same logits as a
plain computation in the foreign layout's own axes."""

import json
import math
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mechfourier.errors import BadCheckpoint, UnsafeCheckpoint, UsageError
from mechfourier.fourier.analytic import analytic_weights
from mechfourier.models.checkpoint import load_checkpoint
from mechfourier.toys.foreign import state_dict_of
from mechfourier.toys.one_layer.model import OneLayerTransformer
from mechfourier.toys.one_layer.weights import OneLayerConfig, parameter_shapes
from mechfourier.toys.reading import import_checkpoint, read
from mechfourier.toys.reading.imported import Wish

P, A, M = 13, "blocks.0.attn.", "blocks.0.mlp."
SIZES: dict[str, Any] = {"d_model": 48, "n_heads": 4, "d_head": 10, "d_mlp": 64}


def _weights(*, n_ctx: int = 3, biases: bool = True) -> dict[str, Tensor]:
    """A model that answers right, disturbed a little so that no tensor is zero or symmetric."""
    exact = analytic_weights(P, frequencies=(2, 5), n_ctx=n_ctx, **SIZES)
    generator = torch.Generator().manual_seed(0)
    shapes = parameter_shapes(OneLayerConfig(p=P, n_ctx=n_ctx, biases=biases, **SIZES))
    return {
        name: exact.get(name, torch.zeros(shape)).float() + 0.01 * torch.randn(shape, generator=generator)
        for name, shape in shapes.items()
    }


def _attend(x: Tensor, q: Tensor, k: Tensor, v: Tensor, coefficient: float = 1.0) -> Tensor:
    """Per-head mixes at the last position from q, k, v of shape [batch, pos, head, e]."""
    scores = (q[:, -1:] * k).sum(-1) / math.sqrt(q.shape[-1])  # [batch, pos, head]
    pattern = coefficient * scores.softmax(1) + 1 - coefficient
    return (pattern[..., None] * v).sum(1)


def _tokens(n_ctx: int) -> Tensor:
    pairs = torch.cartesian_prod(torch.arange(P), torch.arange(P))
    return torch.cat([pairs, torch.full_like(pairs[:, :1], P)], 1) if n_ctx == 3 else pairs


def _grokking_fourier(w: dict[str, Tensor]) -> tuple[dict[str, object], Tensor]:
    state = {
        "token_embed.weight": w["embed.W_E"],
        "pos_embed.weight": w["pos_embed.W_pos"],
        **{f"W_{x}": w[f"{A}W_{x}"] for x in "QKVO"},
        "W_in.weight": w[f"{M}W_in"].T,
        "W_in.bias": w[f"{M}b_in"],
        "W_out.weight": w[f"{M}W_out"].T,
        "W_out.bias": w[f"{M}b_out"],
        "unembed.weight": w["unembed.W_U"].T,
    }
    x = torch.nn.functional.embedding(_tokens(3), state["token_embed.weight"]) + state["pos_embed.weight"]
    q, k, v = (torch.einsum("bsd,hdk->bshk", x, state[f"W_{name}"]) for name in "QKV")
    mid = x[:, -1] + torch.einsum("bhk,hkd->bd", _attend(x, q, k, v), state["W_O"])
    hidden = torch.nn.functional.linear(mid, state["W_in.weight"], state["W_in.bias"]).relu()
    out = mid + torch.nn.functional.linear(hidden, state["W_out.weight"], state["W_out.bias"])
    whole = {
        "model_state_dict": state,
        "optimizer_state_dict": {"state": {0: {"exp_avg": torch.zeros(3)}}},
        "epoch": 5,
    }
    return whole, torch.nn.functional.linear(out, state["unembed.weight"])


def _hooked_transformer(w: dict[str, Tensor]) -> tuple[dict[str, object], Tensor]:
    state = w | {f"{A}mask": torch.ones(3, 3).tril().bool(), f"{A}IGNORE": torch.tensor(-1e5)}
    x = w["embed.W_E"][_tokens(3)] + w["pos_embed.W_pos"]
    q, k, v = (torch.einsum("bpd,hde->bphe", x, w[f"{A}W_{n}"]) + w[f"{A}b_{n}"] for n in "QKV")
    mid = x[:, -1] + torch.einsum("bhe,hed->bd", _attend(x, q, k, v), w[f"{A}W_O"]) + w[f"{A}b_O"]
    out = mid + torch.relu(mid @ w[f"{M}W_in"] + w[f"{M}b_in"]) @ w[f"{M}W_out"] + w[f"{M}b_out"]
    return dict(state), out @ w["unembed.W_U"] + w["unembed.b_U"]


def _turned(w: dict[str, Tensor], *, extra_answer: bool) -> dict[str, Tensor]:
    unembed = w["unembed.W_U"]
    return {
        "embed.W_E": w["embed.W_E"].T,
        "pos_embed.W_pos": w["pos_embed.W_pos"],
        "unembed.W_U": torch.cat([unembed, torch.full_like(unembed[:, :1], -9.0)], 1)
        if extra_answer
        else unembed,
        **{f"{A}W_{x}": w[f"{A}W_{x}"].transpose(1, 2) for x in "QKV"},
        f"{A}W_O": w[f"{A}W_O"].flatten(0, 1).T,
        f"{A}mask": torch.ones(3, 3).tril(),
        f"{M}W_in": w[f"{M}W_in"].T,
        f"{M}b_in": w[f"{M}b_in"],
        f"{M}W_out": w[f"{M}W_out"].T,
        f"{M}b_out": w[f"{M}b_out"],
    }


def _turned_logits(state: dict[str, Tensor], n_ctx: int, coefficient: float = 1.0) -> Tensor:
    x = state["embed.W_E"].T[_tokens(n_ctx)] + state["pos_embed.W_pos"]
    q, k, v = (torch.einsum("ihd,bpd->bpih", state[f"{A}W_{n}"], x) for n in "QKV")
    mid = x[:, -1] + _attend(x, q, k, v, coefficient).flatten(1) @ state[f"{A}W_O"].T
    out = (
        mid
        + torch.relu(mid @ state[f"{M}W_in"].T + state[f"{M}b_in"]) @ state[f"{M}W_out"].T
        + state[f"{M}b_out"]
    )
    return (out @ state["unembed.W_U"])[:, :P]


def _nanda(w: dict[str, Tensor]) -> tuple[dict[str, object], Tensor]:
    state = _turned(w, extra_answer=True)
    return {"model": state, "optimizer": {"state": {}}, "epoch": 100}, _turned_logits(state, 3)


def _clock_and_pizza(w: dict[str, Tensor]) -> tuple[dict[str, object], Tensor]:
    state = _turned(w, extra_answer=False)
    return dict(state), _turned_logits(state, 2)


BUILDERS: dict[str, Callable[[dict[str, Tensor]], tuple[dict[str, object], Tensor]]] = {
    "grokking-fourier": _grokking_fourier,
    "hooked-transformer": _hooked_transformer,
    "progress-measures": _nanda,
    "clock-and-pizza": _clock_and_pizza,
}


POSITIONS = {"clock-and-pizza": 2}
W_IN = {"grokking-fourier": "W_in.weight"}


def _state(layout: str) -> dict[str, Tensor]:
    built = BUILDERS[layout](_weights(n_ctx=POSITIONS.get(layout, 3)))[0]
    inner = built.get("model_state_dict", built.get("model", built))
    assert isinstance(inner, dict)
    return dict(inner)


def _our_logits(folder: Path) -> Tensor:
    tensors, config = load_checkpoint(folder)
    model = OneLayerTransformer(OneLayerConfig.from_dict(config), weights=tensors)
    with torch.no_grad():
        return model(_tokens(model.cfg.n_ctx))[:, -1]


@pytest.mark.parametrize("layout", list(BUILDERS))
def test_every_layout_is_detected_and_gives_its_own_logits(layout: str, tmp_path: Path) -> None:
    whole, logits = BUILDERS[layout](_weights(n_ctx=POSITIONS.get(layout, 3)))
    torch.save(whole, tmp_path / "theirs.pt")
    found = import_checkpoint(tmp_path / "theirs.pt", tmp_path / "ours")
    assert found.layout == layout
    assert found.accuracy == 1.0
    assert found.config.task == "add"
    assert torch.allclose(_our_logits(tmp_path / "ours"), logits, atol=1e-4)
    metrics = json.loads((tmp_path / "ours" / "metrics.json").read_text())
    assert metrics["accuracy"] == 1.0


def test_the_published_folders_own_coefficient_is_taken(tmp_path: Path) -> None:
    weights = _weights(n_ctx=2)
    state = _turned(weights, extra_answer=False)
    torch.save(state, tmp_path / "model_x.pt")
    (tmp_path / "config_x.json").write_text('{"attn_coeff": 0.7}')
    found = import_checkpoint(tmp_path / "model_x.pt", tmp_path / "ours", force=True)
    assert found.config.attn_coeff == 0.7
    assert torch.allclose(_our_logits(tmp_path / "ours"), _turned_logits(state, 2, 0.7), atol=1e-4)
    (tmp_path / "config_x.json").write_text("[]")
    assert read(state).config.attn_coeff == 1.0  # by accuracy


@pytest.mark.parametrize("layout", list(BUILDERS))
def test_a_tensor_that_has_no_place_is_named(layout: str) -> None:
    state = _state(layout)
    with pytest.raises(BadCheckpoint, match=r"blocks\.1\.thing.*--ignore"):
        read(state | {"blocks.1.thing": torch.zeros(2, 2, 2)})
    assert read(state | {"blocks.1.thing": torch.zeros(2, 2, 2)}, Wish(ignore=("*.thing",))).accuracy == 1.0
    w_in = W_IN.get(layout, f"{M}W_in")
    with pytest.raises(BadCheckpoint, match="fit together"):
        read({key: value for key, value in state.items() if key != w_in})


def test_another_layout_than_the_one_named_is_refused() -> None:
    for layout in BUILDERS:
        for other in set(BUILDERS) - {layout}:
            with pytest.raises(BadCheckpoint, match=layout):
                read(_state(layout), Wish(layout=other))
    with pytest.raises(UsageError, match="clock-and-pizza"):
        read(_state("progress-measures"), Wish(layout="clock"))
    assert read(_state("progress-measures"), Wish(layout="nanda")).accuracy == 1.0


def test_what_is_no_network_is_not_guessed() -> None:
    with pytest.raises(BadCheckpoint, match="embedding"):
        read({"fc.weight": torch.zeros(2, 2)})
    with pytest.raises(BadCheckpoint):
        read({"embed.W_E": torch.zeros(4, 3), "pos_embed.W_pos": torch.zeros(3, 3)})


def test_one_of_several_state_dicts_is_chosen_by_name() -> None:
    one, two = _state("progress-measures"), {k: v * 2 for k, v in _state("progress-measures").items()}
    both = {f"state_dicts.{i}.{k}": v for i, state in enumerate((one, two)) for k, v in state.items()}
    with pytest.raises(UsageError, match="--entry"):
        state_dict_of(both)
    inside, where = state_dict_of(both, "state_dicts.1")
    assert where == "state_dicts.1"
    assert inside["embed.W_E"].equal(two["embed.W_E"])
    assert state_dict_of({**both, **{f"model.{k}": v for k, v in one.items()}})[1] == "model"
    with pytest.raises(UsageError, match="state_dicts"):
        state_dict_of(both, "state_dicts.7")


def test_weights_at_chance_are_refused_unless_forced(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(1)
    noise = {k: torch.randn(v.shape, generator=generator) for k, v in _state("grokking-fourier").items()}
    torch.save(noise, tmp_path / "noise.pt")
    with pytest.raises(BadCheckpoint, match="relabelled"):
        import_checkpoint(tmp_path / "noise.pt", tmp_path / "ours")
    assert not (tmp_path / "ours").exists()
    found = import_checkpoint(tmp_path / "noise.pt", tmp_path / "ours", force=True)
    assert found.refused
    with pytest.raises(UsageError, match="already"):
        import_checkpoint(tmp_path / "noise.pt", tmp_path / "ours")


def test_the_task_is_the_one_answered_best() -> None:
    weights = _weights(biases=False)
    assert read(weights, Wish(task_name="subtract")).refused
    assert read(weights).config.task == "add"


class _Runs:
    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return (open, ("should-not-exist", "w"))  # type: ignore[return-value]


def test_a_pickle_that_needs_code_is_refused_with_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"model": _Runs()}, tmp_path / "evil.pt")
    with pytest.raises(UnsafeCheckpoint, match="state_dict"):
        import_checkpoint(tmp_path / "evil.pt", tmp_path / "ours")
    (tmp_path / "evil.pkl").write_bytes(pickle.dumps(_Runs()))
    with pytest.raises((UnsafeCheckpoint, BadCheckpoint)):
        import_checkpoint(tmp_path / "evil.pkl", tmp_path / "ours")
    assert not (tmp_path / "should-not-exist").exists()
    (tmp_path / "cut.pt").write_bytes((tmp_path / "evil.pt").read_bytes()[:100])
    with pytest.raises(BadCheckpoint):
        import_checkpoint(tmp_path / "cut.pt", tmp_path / "ours")


def test_a_hooked_transformer_without_equals_keeps_its_two_positions() -> None:
    found = read(_weights(n_ctx=2))
    assert (found.layout, found.config.n_ctx, found.config.p, found.accuracy) == (
        "hooked-transformer",
        2,
        P,
        1.0,
    )
