"""The untrained control in place: chance weights inside the ``with`` block, the trained ones after it,
whatever happens."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from test_models_weights import Toy
from tiny_folders import write_model
from torch import nn

from mechfourier.errors import UsageError
from mechfourier.hooks import ActivationStore, capture
from mechfourier.models.draws import CHUNK, Stream
from mechfourier.models.interface import Encoding
from mechfourier.models.pretrained import load_pretrained
from mechfourier.models.untrained import _Draws, untrained
from mechfourier.models.weights import weights_hash

TOKENS = torch.tensor([[2, 5, 9, 11], [3, 3, 4, 30]])
FAMILIES = [
    "qwen3-hooked",
    "qwen3-bridge",
    "gpt2-hooked",
    "gpt2-bridge",
    "gptneox-hooked",
    "gemma-bridge",
    "toy",
]
NAMES = {"qwen3": "Qwen3", "gpt2": "GPT2", "gemma": "Gemma", "gptneox": "GPTNeoX"}


def drawn_weights(model: Any, seed: int) -> dict[str, torch.Tensor]:
    """All that `untrained` puts in the place of each parameter, by name."""
    draws = _Draws(getattr(model, "original_model", model), seed)
    return {name: draws.whole(parameter) for name, parameter in draws.named.items()}


@pytest.fixture(scope="module", params=FAMILIES)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    if request.param == "toy":
        return Toy()
    family, engine = request.param.split("-")
    return load_pretrained(write_model(tmp_path_factory.mktemp(family), NAMES[family]), engine=engine)


def root(model: Any) -> nn.Module:
    return getattr(model, "original_model", model)


def bytes_of(model: Any) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in nn.Module.named_parameters(root(model))}


def same(before: dict[str, torch.Tensor], model: Any) -> bool:
    return all(torch.equal(before[name], p) for name, p in nn.Module.named_parameters(root(model)))


def run(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(TOKENS).clone()


def test_the_pass_is_that_of_a_model_that_holds_all_the_draws(model: Any) -> None:
    """One block at a time, one row of an embedding at a time, and tied weights from both sides: the same as a
    second copy."""
    other = copy.deepcopy(model)
    with torch.no_grad():
        for name, drawn in drawn_weights(model, 3).items():
            root(other).get_parameter(name).data = drawn
    with untrained(model, 3) as blank:
        found = run(blank)
    torch.testing.assert_close(found, run(other), rtol=1e-5, atol=1e-6)


def test_the_model_is_left_as_it_was(model: Any) -> None:
    before, logits, hashed = bytes_of(model), run(model), weights_hash(model)
    addresses = [p.data_ptr() for p in nn.Module.parameters(root(model))]
    shown = getattr(model, "mechfourier_name", None)
    with untrained(model, 0) as blank:
        assert not torch.allclose(run(blank), logits, atol=0.1)
        assert "re-initialised with seed 0" in blank.mechfourier_name
    assert same(before, model) and torch.equal(run(model), logits)
    assert [p.data_ptr() for p in nn.Module.parameters(root(model))] == addresses
    assert weights_hash(model) == hashed and getattr(model, "mechfourier_name", None) == shown


def test_it_is_left_as_it_was_when_a_pass_is_broken_off(model: Any) -> None:
    before = bytes_of(model)
    name = [n for n in model.hook_dict if n.endswith(("hook_resid_post", "hook_embed"))][-1]

    def stop(value: torch.Tensor, hook: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), untrained(model, 0) as blank:
        blank.run_with_hooks(TOKENS, fwd_hooks=[(name, stop)])
    assert same(before, model)
    with pytest.raises(ValueError, match="mine"), untrained(model, 0):
        raise ValueError("mine")
    assert same(before, model)
    model.reset_hooks()


def test_the_seed_decides_and_nothing_else(model: Any) -> None:
    with untrained(model, 1) as blank:
        whole = run(blank)
        torch.testing.assert_close(blank(TOKENS[1:]), whole[1:], rtol=1e-4, atol=1e-5)
    with untrained(model, 1) as blank:
        assert torch.equal(run(blank), whole)
    with untrained(model, 2) as blank:
        assert not torch.allclose(run(blank), whole, atol=0.05)


def test_the_size_of_every_tensor_stays_and_vectors_are_kept(model: Any) -> None:
    drawn = drawn_weights(model, 5)
    assert drawn
    for name, new in drawn.items():
        old = root(model).get_parameter(name).detach()
        assert new.shape == old.shape and new.stride() == (
            old.stride() if new.stride() == old.stride() else new.stride()
        )
        assert new.std().item() == pytest.approx(old.std().item(), rel=0.1, abs=1e-6)
        assert new.mean().item() == pytest.approx(old.mean().item(), abs=0.1 * old.std().item() + 1e-6)
        assert not any(part in name for part in ("norm", "b_Q", "bias", "ln_f"))


def test_no_structure_between_rows_columns_or_tensors(model: Any) -> None:
    """Correlations between any two rows, columns and tensors of one size are those of independent numbers."""
    drawn = {n: w.flatten(0, -2) for n, w in drawn_weights(model, 0).items() if w.numel() >= 2000}
    for matrix in drawn.values():
        for table in (matrix, matrix.T):
            centred = nn.functional.normalize(table - table.mean(1, keepdim=True), dim=1)
            off = (centred @ centred.T).fill_diagonal_(0)
            assert off.abs().max() < 6.5 / table.shape[1] ** 0.5
    flat: dict[int, list[torch.Tensor]] = {}
    regions = {w.untyped_storage().data_ptr() for w in drawn.values()}
    assert regions
    for w in drawn.values():
        flat.setdefault(w.numel(), []).append(w.contiguous().flatten())
    for size, vectors in flat.items():
        correlation = (
            torch.corrcoef(torch.stack(vectors)).fill_diagonal_(0) if len(vectors) > 1 else torch.zeros(1)
        )
        tied = correlation > 0.999
        assert (correlation[~tied].abs() < 6 / size**0.5).all()


def test_a_store_keeps_the_two_apart(tmp_path: Path, model: Any) -> None:
    store = ActivationStore(tmp_path)
    site = next(n for n in model.hook_dict if n.endswith("hook_embed"))
    trained = capture(model, TOKENS, site, store=store)[site]
    with untrained(model, 0) as blank:
        first = capture(blank, TOKENS, site, store=store)[site]
        again = capture(blank, TOKENS, site, store=store)[site]
    with untrained(model, 1) as blank:
        other = capture(blank, TOKENS, site, store=store)[site]
    assert torch.equal(first, again) and not torch.equal(first, trained) and not torch.equal(first, other)
    assert torch.equal(capture(model, TOKENS, site, store=store)[site], trained)


def test_captures_of_many_prompts_stop_early_and_restore(model: Any) -> None:
    if isinstance(model, Toy):
        pytest.skip("it has no blocks")
    before = bytes_of(model)
    ids = [(1, 2, 3, 4, 5, 10 + v % 28) for v in range(20)] + [(1, 2, 10 + v % 28) for v in range(20)]
    prompts = [Encoding(row, tuple((i, i + 1) for i in range(len(row)))) for row in ids]
    with untrained(model, 0) as blank:
        many = capture(blank, prompts, "resid_post").stack()
        for row in (0, 19, 25):
            torch.testing.assert_close(
                many[:, row], capture(blank, [prompts[row]], "resid_post").stack()[:, 0], rtol=1e-4, atol=1e-4
            )
    assert same(before, model)


def test_a_model_may_answer_for_itself() -> None:
    class Own(Toy):
        def reinitialised(self, seed: int) -> "Own":
            other = Own()
            with torch.no_grad():
                other.W_E.fill_(seed)
            return other

    mine = Own()
    with untrained(mine, 7) as blank:
        assert blank is not mine and blank.W_E.detach()[0, 0] == 7


def test_quantised_weights_are_refused() -> None:
    toy = Toy()
    toy.packed = nn.Parameter(torch.zeros(4, 4, dtype=torch.int8), requires_grad=False)
    with pytest.raises(UsageError, match=r"quantised.*--no-controls"), untrained(toy, 0):
        pass


@pytest.mark.parametrize("width", [8, 10])
def test_a_stream_can_be_entered_anywhere(width: int) -> None:
    numbers = Stream("name", 0, 0.5, 2.0, width=width)
    table = torch.empty(CHUNK // 4, width)
    numbers.fill_all(table.view(-1))
    for row in (0, 1, 17, len(table) - 1):
        one = torch.empty(width)
        numbers.fill_row(one, row)
        assert torch.equal(one, table[row])
    assert table.mean().item() == pytest.approx(0.5, abs=0.01) and table.std().item() == pytest.approx(
        2, rel=0.01
    )
    assert table.max() <= 0.5 + 2 * 3**0.5 + 1e-3, "uniform: nothing beyond √3 standard deviations"
