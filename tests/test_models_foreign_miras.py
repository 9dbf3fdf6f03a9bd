"""MIRAS checkpoints of others: known weights, an independent forward pass, and refusals."""

from pathlib import Path

import pytest
import torch
from test_models_miras import Original
from torch import Tensor, nn

from mechfourier.errors import BadCheckpoint
from mechfourier.models.registry import load
from mechfourier.toys.universal.config import FaithfulConfig
from mechfourier.toys.universal.foreign import convert_miras, import_miras, is_foreign
from mechfourier.toys.universal.model import UniversalModulusTransformer
from mechfourier.toys.universal.task import grid

D, HEADS, MLP, MEM, MAX_P = 16, 2, 24, 12, 30


def checkpoint(inputs: int = 1) -> dict[str, Tensor]:
    """A state dict as their modules would save it."""
    g = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g) * 0.3

    tensors = {
        "token_embed.weight": normal(MAX_P + 2, D),
        "p_embedder.proj.weight": normal(D, inputs),
        "p_embedder.proj.bias": normal(D),
        "pos_embed.weight": normal(4, D),
        "memory_block.W_mem": normal(D, MEM),
        "memory_block.b_mem": normal(MEM),
        "memory_block.surprise_net.weight": normal(D, MEM),
        "memory_block.surprise_net.bias": normal(D),
        "mem_to_hidden.weight": normal(D, MEM),
        "mem_to_hidden.bias": normal(D),
        "unembed.weight": normal(MAX_P, D),
        "unembed.bias": normal(MAX_P),
    }
    for layer in ("layer1", "layer2"):
        tensors |= {f"{layer}.W_{x}": normal(HEADS, D, D // HEADS) for x in "QKV"}
        tensors[f"{layer}.W_O"] = normal(HEADS, D // HEADS, D)
        tensors |= {f"{layer}.mlp.0.weight": normal(MLP, D), f"{layer}.mlp.0.bias": normal(MLP)}
        tensors |= {f"{layer}.mlp.2.weight": normal(D, MLP), f"{layer}.mlp.2.bias": normal(D)}
        tensors |= {f"{layer}.{ln}.{x}": normal(D) for ln in ("ln1", "ln2") for x in ("weight", "bias")}
    return tensors


def their_logits(t: dict[str, Tensor], q: Tensor, *, position: bool = False) -> Tensor:
    """Their forward pass, from their tensors by their names; ``position``: the code that adds the position
    embedding of m."""
    linear = nn.functional.linear
    p = q[:, :1].float()
    rates = torch.tensor([10000 ** (-i / D) for i in range(0, D, 2)])
    code = torch.stack([torch.sin(p * rates), torch.cos(p * rates)], 2).flatten(1)
    x0 = code + linear(p, t["p_embedder.proj.weight"], t["p_embedder.proj.bias"])
    x0 = x0 + t["pos_embed.weight"][0] if position else x0
    z = nn.functional.silu(x0 @ t["memory_block.W_mem"] + t["memory_block.b_mem"])
    surprise = x0 - linear(z, t["memory_block.surprise_net.weight"], t["memory_block.surprise_net.bias"])
    state = z + nn.functional.silu(surprise @ t["memory_block.W_mem"])
    ids = torch.cat([q[:, 1:], torch.full_like(q[:, :1], MAX_P + 1)], 1)
    rest = t["token_embed.weight"][ids] + t["pos_embed.weight"][1:]
    x = torch.cat([linear(state, t["mem_to_hidden.weight"], t["mem_to_hidden.bias"])[:, None], rest], 1)
    for layer in ("layer1", "layer2"):
        n = nn.functional.layer_norm(x, (D,), t[f"{layer}.ln1.weight"], t[f"{layer}.ln1.bias"])
        for h in range(HEADS):
            a, k, v = (n @ t[f"{layer}.W_{x}"][h] for x in "QKV")
            x = x + ((a @ k.mT) / (D // HEADS) ** 0.5).softmax(-1) @ v @ t[f"{layer}.W_O"][h]
        n = nn.functional.layer_norm(x, (D,), t[f"{layer}.ln2.weight"], t[f"{layer}.ln2.bias"])
        hidden = linear(n, t[f"{layer}.mlp.0.weight"], t[f"{layer}.mlp.0.bias"]).relu()
        x = x + linear(hidden, t[f"{layer}.mlp.2.weight"], t[f"{layer}.mlp.2.bias"])
    return linear(x[:, 3], t["unembed.weight"], t["unembed.bias"])


def test_imported_logits_are_those_of_their_own_forward_pass(tmp_path: Path) -> None:
    tensors = checkpoint()
    path = tmp_path / "universal_final.pt"
    torch.save({"epoch": 3, "model": tensors}, path)
    found = import_miras(path, tmp_path / "mine", force=True)
    model = load(str(tmp_path / "mine"))
    assert isinstance(model, UniversalModulusTransformer)
    assert (found.config.n_values, found.config.d_mem, found.config.n_heads) == (MAX_P, MEM, HEADS)
    torch.testing.assert_close(
        model.answer_logits(grid(17)), their_logits(tensors, grid(17)), rtol=1e-4, atol=1e-4
    )
    torch.testing.assert_close(
        model.answer_logits(grid(17)), Original(found.config, found.weights)(grid(17)), rtol=1e-4, atol=1e-4
    )


def test_the_sparse_encoder_adds_its_position() -> None:
    tensors = checkpoint(inputs=2)
    found = convert_miras(tensors)
    assert found.config.encoding == "log"
    model = UniversalModulusTransformer(found.config, weights=found.weights)
    _, cache = model.run_with_cache(model.tokens(grid(5)))
    m, half = torch.tensor(5.0), D // 2
    log = torch.log(m + 1)
    by_log = [f(10 * log * 1000 ** (-i / half)) for i in range(0, half, 2) for f in (torch.sin, torch.cos)]
    by_value = [f(m * 100 ** (-i / half)) for i in range(0, half, 2) for f in (torch.sin, torch.cos)]
    projected = nn.functional.linear(
        torch.stack([m / 200, log / 6]), tensors["p_embedder.proj.weight"], tensors["p_embedder.proj.bias"]
    )
    expected = torch.stack([*by_log, *by_value]) + projected + tensors["pos_embed.weight"][0]
    torch.testing.assert_close(cache["hook_modulus"][0], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("position", [False, True])
def test_which_of_their_codes_a_file_is_of_is_told_by_its_training_questions(position: bool) -> None:
    tensors = {name: value.requires_grad_() for name, value in checkpoint().items()}
    questions = torch.cat([grid(m) for m in range(2, 8)])
    wanted = (questions[:, 1] + questions[:, 2]) % questions[:, 0]
    descent = torch.optim.Adam(tensors.values(), lr=0.01)
    for _ in range(300):
        descent.zero_grad()
        loss = nn.functional.cross_entropy(their_logits(tensors, questions, position=position), wanted)
        loss.backward()
        descent.step()
    tensors = {name: value.detach() for name, value in tensors.items()}
    found = convert_miras(tensors)
    assert ("added," in found.notes[0]) is position
    model = UniversalModulusTransformer(found.config, weights=found.weights)
    ours, theirs = model.answer_logits(questions), their_logits(tensors, questions, position=position)
    assert float((ours.argmax(1) == wanted).double().mean()) > 0.9
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)
    for m in range(2, MAX_P):  # the share of right answers at every modulus, those of no training too
        asked, right = grid(m), grid(m)[:, 1:].sum(1) % m
        shares = [
            float((logits.argmax(1) == right).double().mean())
            for logits in (model.answer_logits(asked), their_logits(tensors, asked, position=position))
        ]
        assert abs(shares[0] - shares[1]) < 5e-4, m


def test_refusals(tmp_path: Path) -> None:
    tensors = checkpoint()
    assert is_foreign(tensors)
    assert not is_foreign({"embed.W_E": torch.zeros(3, 3)})
    with pytest.raises(BadCheckpoint, match=r"'layer2\.mlp\.0\.bias' is missing"):
        convert_miras({k: v for k, v in tensors.items() if k != "layer2.mlp.0.bias"})
    with pytest.raises(BadCheckpoint, match="no place in a MIRAS model"):
        convert_miras(tensors | {"layer1.ln3.weight": torch.zeros(D)})
    with pytest.raises(BadCheckpoint, match="becomes"):
        convert_miras(tensors | {"unembed.bias": torch.zeros(MAX_P + 1)})
    torch.save(tensors, tmp_path / "m.pt")
    with pytest.raises(BadCheckpoint, match="--force"):
        import_miras(tmp_path / "m.pt", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_config_reads_what_was_imported() -> None:
    assert FaithfulConfig(n_values=30).too_large(31).count("29") == 1
