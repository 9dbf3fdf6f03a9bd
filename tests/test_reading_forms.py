"""Networks of other forms than the packaged one: special tokens, two layers, MLPs alone, other attention."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from command_lines import output_of
from foreign_layouts import P, saved, small_network
from torch import Tensor, nn
from typer.testing import CliRunner

from mechfourier.cli.app import app
from mechfourier.errors import UsageError
from mechfourier.models.registry import load
from mechfourier.toys.modular.model import ModularTransformer
from mechfourier.toys.one_layer import analyze
from mechfourier.toys.one_layer.task import all_pairs
from mechfourier.toys.reading import import_checkpoint, read


def _written(words: str, p: int, before: int, *, answers: str) -> dict[str, Tensor]:
    """The small network with another form: special tokens before the numbers, a ``+`` that changes nothing."""
    base = small_network(p)
    equals, numbers = base["embed.W_E"][p:], base["embed.W_E"][:p]
    quiet = torch.zeros(1, 32)
    special = [equals] if words == "a b =" else [equals, quiet]
    table = torch.cat([*special[:before], numbers, *special[before:]])
    state = dict(base) | {"embed.W_E": table}
    if words == "a + b =":
        pos = base["pos_embed.W_pos"]
        hidden = pos[0] - 30 * (pos[2] - pos[0])
        state["pos_embed.W_pos"] = torch.stack([pos[0], hidden * 0, pos[1], pos[2]])
    if answers == "tokens":
        wide = torch.full((32, len(table)), 0.0)
        wide[:, before : before + p] = base["unembed.W_U"]
        state["unembed.W_U"] = wide
    return state


@pytest.mark.parametrize("before", [0, 1])
@pytest.mark.parametrize("answers", ["numbers", "tokens"])
def test_special_tokens_in_any_order(before: int, answers: str, tmp_path: Path) -> None:
    path = saved(_written("a b =", P, before, answers=answers), tmp_path / "theirs.pt")
    found = import_checkpoint(path, tmp_path / "ours")
    assert found.accuracy == 1.0
    assert analyze(tmp_path / "ours").key_freqs == (2, 5)


class _Theirs(nn.Module):
    """A network as many write it: nn.Linear, pre-norm, ``a + b =`` in four tokens, tokens 0 and 1 special."""

    def __init__(self, p: int, layers: int = 2, d: int = 32) -> None:
        super().__init__()
        self.tok_emb, self.pos_emb = nn.Embedding(p + 2, d), nn.Embedding(4, d)
        block = nn.TransformerEncoderLayer(d, 2, 64, dropout=0.0, batch_first=True, norm_first=True)
        self.blocks = nn.TransformerEncoder(block, layers, enable_nested_tensor=False)
        self.ln_f, self.head = nn.LayerNorm(d), nn.Linear(d, p + 2)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.tok_emb(tokens) + self.pos_emb.weight
        return self.head(self.ln_f(self.blocks(x)))[:, -1]


@pytest.fixture(scope="module")
def deep(tmp_path_factory: pytest.TempPathFactory) -> tuple[_Theirs, Path]:
    """Two layers with layer norm, trained on all questions mod 11 (which takes seconds)."""
    torch.manual_seed(0)
    model, pairs = _Theirs(11), all_pairs(11)
    tokens = torch.stack([pairs[:, 0] + 2, pairs[:, 0] * 0, pairs[:, 1] + 2, pairs[:, 0] * 0 + 1], 1)
    descent = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(150):
        descent.zero_grad()
        nn.functional.cross_entropy(model(tokens), pairs.sum(1) % 11 + 2).backward()
        descent.step()
    folder = tmp_path_factory.mktemp("deep")
    saved(
        {"model_state_dict": model.state_dict(), "epoch": 150, "loss": np.float64(0.1)}, folder / "theirs.pt"
    )
    import_checkpoint(folder / "theirs.pt", folder / "ours")
    return model.eval(), folder / "ours"


def test_two_layers_with_layer_norm_in_four_tokens_are_a_model_like_any_other(
    deep: tuple[_Theirs, Path],
) -> None:
    theirs, folder = deep
    ours = load(str(folder))
    assert isinstance(ours, ModularTransformer)
    assert (ours.cfg.form, ours.cfg.n_layers, ours.cfg.norm, ours.cfg.final_norm) == (
        "a + b =",
        2,
        "pre",
        True,
    )
    pairs = all_pairs(11)
    tokens = torch.stack([pairs[:, 0] + 2, pairs[:, 0] * 0, pairs[:, 1] + 2, pairs[:, 0] * 0 + 1], 1)
    with torch.no_grad():
        found = ours(ours.to_tokens([f"{a} + {b} mod 11 =" for a, b in pairs.tolist()]))
        assert found is not None
        torch.testing.assert_close(found[:, -1], theirs(tokens)[:, 2:], rtol=1e-4, atol=1e-4)


def test_the_commands_take_an_imported_network(deep: tuple[_Theirs, Path], tmp_path: Path) -> None:
    _, folder = deep
    assert json.loads(output_of("probe", folder, "--json"))["domain"] == "mod-11"
    ablated = output_of("ablate", folder, "--dim", "3", "--layer", "0", "--json")
    assert json.loads(ablated)["domain"] == "mod-11"
    with pytest.raises(UsageError, match="modular"):
        CliRunner().invoke(app, ["analyze", str(folder)], catch_exceptions=False)
    studied = json.loads(output_of("study", folder, "--json", "--no-resume", "--out", tmp_path))
    assert studied["domain"] == "mod-11" and studied["used"] in ("used", "not used")
    output_of("report", tmp_path, "--out", tmp_path / "page.html")
    assert "mod-11" in (tmp_path / "page.html").read_text(encoding="utf-8")
    asked = ("--grid", "seed=0:2", "--set", f"model={folder}", "domain=mod-11", "--jobs", "1")
    swept = json.loads(output_of("sweep", "probe", *asked, "--json", "--out", tmp_path / "sweep"))
    assert (swept["done"], swept["failed"]) == (2, 0)


def _mlp(kind: str) -> tuple[dict[str, Tensor], Callable[[Tensor], Tensor]]:
    """Networks of MLPs alone, trained; their state dict and their forward pass."""
    torch.manual_seed(1)
    d, n, p = 32, 64, 11
    embed = nn.Embedding(p, d)
    first = nn.Linear({"sum": d, "side by side": 2 * d, "one-hot": 2 * p}[kind], n)
    last = nn.Linear(n, p, bias=False)

    def forward(pairs: Tensor) -> Tensor:
        a, b = embed(pairs[:, 0]), embed(pairs[:, 1])
        if kind == "one-hot":
            a, b = (nn.functional.one_hot(pairs[:, at], p).float() for at in (0, 1))
        x = a + b if kind == "sum" else torch.cat([a, b], 1)
        hidden = first(x)
        return last(hidden.square() if kind == "one-hot" else hidden.relu())

    pairs = all_pairs(p)
    parameters = [*embed.parameters(), *first.parameters(), *last.parameters()]
    descent = torch.optim.Adam(parameters, lr=0.01)
    for _ in range(300):
        descent.zero_grad()
        nn.functional.cross_entropy(forward(pairs), pairs.sum(1) % p).backward()
        descent.step()
    state = {"l1.weight": first.weight, "l1.bias": first.bias, "unembed.weight": last.weight}
    return ({} if kind == "one-hot" else {"embed.weight": embed.weight}) | state, forward


@pytest.mark.parametrize("kind", ["sum", "side by side", "one-hot"])
def test_networks_of_mlps_alone(kind: str, tmp_path: Path) -> None:
    state, forward = _mlp(kind)
    found = import_checkpoint(saved(state, tmp_path / "theirs.pt"), tmp_path / "ours")
    assert (found.layout, found.accuracy) == ("mlp", 1.0)
    ours, pairs = load(str(tmp_path / "ours")), all_pairs(11)
    with torch.no_grad():
        logits = ours(ours.cfg.question.tokens(pairs))[:, -1]
        torch.testing.assert_close(logits, forward(pairs), rtol=1e-3, atol=1e-3)


class _Odd(nn.Module):
    """One layer with linear attention or a mean over positions: what answers nearly all when it is read as
    usual."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.tok, self.pos_embed = nn.Embedding(12, 32), nn.Embedding(3, 32)
        self.q, self.k, self.v, self.o = (nn.Linear(32, 32, bias=False) for _ in range(4))
        self.up, self.down, self.out = nn.Linear(32, 64), nn.Linear(64, 32), nn.Linear(32, 11)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.tok(tokens) + self.pos_embed.weight
        q, k, v = (part(x).unflatten(-1, (4, 8)).transpose(1, 2) for part in (self.q, self.k, self.v))
        scores = q @ k.mT / 8**0.5
        pattern = scores if self.kind == "linear" else scores.softmax(-1)
        x = x + self.o((pattern @ v).transpose(1, 2).flatten(2))
        x = x + self.down(self.up(x).relu())
        return self.out(x.mean(1) if self.kind == "mean" else x[:, -1])


@pytest.mark.parametrize("kind", ["linear", "mean"])
def test_what_tensors_do_not_say_is_found_by_what_is_answered(kind: str) -> None:
    torch.manual_seed(0)
    theirs, pairs = _Odd(kind), all_pairs(11)
    tokens = torch.cat([pairs, torch.full((121, 1), 11)], 1)
    descent = torch.optim.Adam(theirs.parameters(), lr=5e-3)
    for _ in range(250):
        descent.zero_grad()
        nn.functional.cross_entropy(theirs(tokens), pairs.sum(1) % 11).backward()
        descent.step()
    found = read({name: value.detach() for name, value in theirs.state_dict().items()})
    assert not found.refused and (found.config.attention, found.config.pool) == (
        ("linear", "last") if kind == "linear" else ("softmax", "mean")
    )
    model = ModularTransformer(found.config, weights=found.weights)
    with torch.no_grad():
        logits = model(tokens)
        assert logits is not None
        torch.testing.assert_close(logits[:, -1], theirs(tokens), rtol=1e-3, atol=1e-3)
