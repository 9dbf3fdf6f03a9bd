"""Interventions: what they promise to the activation, by prompt, position, head and dimension."""

import math
from typing import Any

import pytest
import torch
from hook_models import D_MODEL, IDS, SITE, basis, bridge, close, encoder, read, tokens, toy, transformer
from hypothesis import given, settings
from hypothesis import strategies as st

from mechfourier.errors import MechFourierError, OutOfRange
from mechfourier.hooks import (
    Edit,
    Where,
    add,
    capture,
    forward_from,
    intervene,
    mean,
    patch,
    project_out,
    resample,
    rotate,
    zero,
)
from mechfourier.hooks.interventions import edit_add, edit_mean, edit_zero
from mechfourier.hooks.run import inference, served_rows, serving
from mechfourier.hooks.site import Site, select_sites


@pytest.fixture(scope="module")
def bridged(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return bridge(tmp_path_factory.mktemp("qwen3"))


@pytest.mark.parametrize("name", ["transformer", "toy", "encoder", "bridge"])
def test_zero_on_every_kind_of_model(name: str, request: pytest.FixtureRequest) -> None:
    models = {"transformer": transformer, "toy": toy, "encoder": encoder}
    model = request.getfixturevalue("bridged") if name == "bridge" else models[name]()
    before = read(model, IDS)
    with inference(model):
        clean = model(IDS)
    with zero(model, SITE, dims=[1, 3], positions=2), inference(model):
        after = read(model, IDS)
        edited = model(IDS)
    expected = before.clone()
    expected[:, 2, [1, 3]] = 0
    close(after, expected)
    assert not torch.allclose(edited, clean, atol=1e-6), "the change reaches the logits"
    close(read(model, IDS), before)


@settings(max_examples=30, deadline=None)
@given(
    dims=st.lists(
        st.integers(-D_MODEL, D_MODEL - 1), min_size=1, max_size=4, unique_by=lambda d: d % D_MODEL
    ),
    positions=st.none() | st.integers(-5, 4) | st.lists(st.integers(-5, 4), min_size=1, max_size=3),
    rows=st.none() | st.lists(st.integers(0, 5), min_size=1, max_size=4),
)
def test_only_the_chosen_part_changes(dims: list[int], positions: Any, rows: Any) -> None:
    before = read(toy(), IDS)
    with zero(toy(), SITE, dims=dims, positions=positions, rows=rows):
        after = read(toy(), IDS)
    part = torch.zeros_like(before, dtype=torch.bool)
    chosen_rows = torch.tensor(sorted(set(rows if rows is not None else range(6))))
    chosen = [positions] if isinstance(positions, int) else positions
    chosen_positions = torch.tensor(sorted({p % 5 for p in (chosen if chosen is not None else range(5))}))
    part[chosen_rows[:, None, None], chosen_positions[:, None], torch.tensor(dims) % D_MODEL] = True
    assert (after[part] == 0).all()
    assert torch.equal(after[~part], before[~part])


def test_a_dimension_is_the_subspace_of_its_axis() -> None:
    with zero(toy(), SITE, dims=4):
        by_dim = read(toy(), IDS)
    with project_out(toy(), SITE, torch.eye(D_MODEL)[:, 4:5]):
        by_basis = read(toy(), IDS)
    close(by_dim, by_basis)


@settings(max_examples=20, deadline=None)
@given(r=st.integers(1, D_MODEL), seed=st.integers(0, 1000))
def test_project_out_removes_the_subspace_and_nothing_else(r: int, seed: int) -> None:
    plane, before = basis(r, seed), read(toy(), IDS)
    with project_out(toy(), SITE, plane):
        after = read(toy(), IDS)
    close(after @ plane, torch.zeros(6, 5, r))
    rest = torch.eye(D_MODEL) - plane @ plane.T
    close(after, before @ rest)
    with zero(toy(), SITE, subspace=plane):
        close(read(toy(), IDS), after)


def test_mean_of_given_activations_and_of_given_values() -> None:
    samples = read(toy(), tokens(20, 5, seed=9))
    before, centre = read(toy(), IDS), samples.mean((0, 1))
    with mean(toy(), SITE, samples, dims=[0, 7]):
        after = read(toy(), IDS)
    close(after[..., [0, 7]], centre[[0, 7]].expand(6, 5, 2))
    assert torch.equal(after[..., 1:7], before[..., 1:7])
    with mean(toy(), SITE, centre, dims=[0, 7]):
        close(read(toy(), IDS), after)
    with mean(toy(), SITE, centre, subspace=basis(2)):
        close(read(toy(), IDS) @ basis(2), (centre @ basis(2)).expand(6, 5, 2))


def test_resample_takes_another_prompt_and_keeps_the_multiset() -> None:
    before = read(toy(), IDS)
    with resample(toy(), SITE, seed=3, dims=5):
        after = read(toy(), IDS)
    assert not (after[..., 5] == before[..., 5]).all(1).any(), "no prompt keeps its own"
    close(after[..., 5].sort(0).values, before[..., 5].sort(0).values)
    with resample(toy(), SITE, seed=3, dims=5):
        assert torch.equal(read(toy(), IDS), after)
    with resample(toy(), SITE, seed=4, dims=5):
        assert not torch.equal(read(toy(), IDS), after)


def test_resample_from_donors() -> None:
    donors = read(toy(), tokens(9, 5, seed=5), positions="last")
    with resample(toy(), SITE, donors=donors, positions=-1):
        after = read(toy(), IDS)
    assert all(any(torch.allclose(row, donor) for donor in donors) for row in after[:, -1])


def test_patching_everything_gives_the_donors_outcome() -> None:
    other = tokens(6, 5, seed=7)
    donors = read(toy(), other)
    with patch(toy(), SITE, donors):
        assert torch.equal(read(toy(), IDS), donors)
        patched = capture(toy(), IDS, [], logits=True).logits
    expected = capture(toy(), other, [], logits=True).logits
    assert patched is not None and expected is not None
    close(patched, expected)
    with patch(toy(), SITE, donors[:, -1], positions=-1):
        close(read(toy(), IDS)[:, -1], donors[:, -1])
    with patch(toy(), SITE, donors[:, -1], positions=-1, subspace=basis(3)):
        after = read(toy(), IDS)[:, -1]
    close(after @ basis(3), donors[:, -1] @ basis(3))


def test_add_a_direction() -> None:
    before, direction = read(toy(), IDS), torch.arange(D_MODEL) / 10
    with add(toy(), SITE, direction, scale=-2.0, positions=[0, 1]):
        after = read(toy(), IDS)
    close(after[:, :2], before[:, :2] - 2 * direction)
    assert torch.equal(after[:, 2:], before[:, 2:])
    each = torch.randn(6, D_MODEL, generator=torch.Generator().manual_seed(0))
    with add(toy(), SITE, each, dims=[2, 3]):
        after = read(toy(), IDS)
    close(after[..., 2:4], before[..., 2:4] + each[:, None, 2:4])
    assert torch.equal(after[..., 4:], before[..., 4:])


@settings(max_examples=20, deadline=None)
@given(angle=st.floats(0.01, 2 * math.pi - 0.01), seed=st.integers(0, 1000))
def test_rotate_turns_the_plane_and_leaves_the_rest(angle: float, seed: int) -> None:
    plane, before = basis(2, seed), read(toy(), IDS)
    centre = before.mean((0, 1))
    with rotate(toy(), SITE, plane, angle, center=centre):
        after = read(toy(), IDS)
    old, new = ((x - centre) @ plane for x in (before, after))
    old, new = (torch.complex(x[..., 0], x[..., 1]) for x in (old, new))
    close(torch.view_as_real(new), torch.view_as_real(old * complex(math.cos(angle), math.sin(angle))))
    rest = torch.eye(D_MODEL) - plane @ plane.T
    close(after @ rest, before @ rest)


def test_rotations_per_prompt_add_up_to_a_full_turn() -> None:
    angles = torch.linspace(0.1, 3, 6)
    before = read(toy(), IDS)
    with rotate(toy(), SITE, basis(2), angles), rotate(toy(), SITE, basis(2), 2 * math.pi - angles):
        close(read(toy(), IDS), before)


def test_edits_per_prompt_find_their_prompt_in_every_batch() -> None:
    lengths = [3, 5, 4, 5, 3, 4]
    from mechfourier.models.interface import Encoding

    prompts = [Encoding(tuple(row[:n].tolist()), ((0, 1),) * n) for row, n in zip(IDS, lengths, strict=True)]
    plain = capture(toy(), prompts, SITE)[SITE]
    dims = torch.arange(6)[:, None]
    bases = torch.stack([basis(2, seed) for seed in range(6)])
    last = torch.tensor(lengths) - 1
    with zero(toy(), SITE, dims=dims, positions=last):
        after = capture(toy(), prompts, SITE, batch_size=2)[SITE]
    expected = plain.clone()
    expected[torch.arange(6), dims[:, 0]] = 0
    close(after, expected)
    with project_out(toy(), SITE, bases):
        after = capture(toy(), prompts, SITE, batch_size=2)[SITE]
    close(torch.einsum("nd,ndr->nr", after, bases), torch.zeros(6, 2))
    with patch(toy(), SITE, plain.flip(0), positions=last):
        close(capture(toy(), prompts, SITE, batch_size=2)[SITE], plain.flip(0))


def test_many_ablations_in_one_pass_equal_one_pass_each() -> None:
    """One batch holds every prompt once per ablation; each copy has its own dimension."""
    dims = [0, 5, 9]
    with zero(toy(), SITE, dims=torch.tensor(dims).repeat_interleave(6)[:, None]):
        together = capture(toy(), IDS.repeat(3, 1), [], logits=True).logits
    assert together is not None
    for i, dim in enumerate(dims):
        with zero(toy(), SITE, dims=dim):
            alone = capture(toy(), IDS, [], logits=True).logits
        assert alone is not None
        close(together[6 * i : 6 * i + 6], alone)
    edits = [edit_zero(SITE, dims=dim, rows=range(6 * i, 6 * i + 6)) for i, dim in enumerate(dims)]
    with intervene(toy(), edits):
        by_rows = capture(toy(), IDS.repeat(3, 1), [], logits=True).logits
    assert by_rows is not None
    close(by_rows, together)


def test_heads() -> None:
    z = Site("z", 1)
    before = read(transformer(), IDS, z)
    with zero(transformer(), z, head=2):
        after = read(transformer(), IDS, z)
    assert (after[:, :, 2] == 0).all() and torch.equal(after[:, :, :2], before[:, :, :2])
    with zero(transformer(), z, head=2, dims=1):
        assert (read(transformer(), IDS, z)[:, :, 2, 1] == 0).all()
    with zero(transformer(), z, dims=2 * 4 + 1):
        one = read(transformer(), IDS, z)
    assert (one[:, :, 2, 1] == 0).all() and torch.equal(one[:, :, 1], before[:, :, 1])
    with patch(transformer(), z, before.flip(0)[:, -1], positions=-1, head=0):
        close(read(transformer(), IDS, z)[:, -1, 0], before.flip(0)[:, -1, 0])
    with mean(transformer(), z, before):
        flat = before.flatten(2)
        close(read(transformer(), IDS, z).flatten(2), flat.mean((0, 1)).expand_as(flat))


def test_attention_patterns_by_query_position() -> None:
    pattern = Site("pattern", 0)
    before = read(transformer(), IDS, pattern)
    with zero(transformer(), pattern, head=1, positions=-1, dims=0):
        after = read(transformer(), IDS, pattern)
    assert (after[:, 1, -1, 0] == 0).all()
    changed = (after != before).nonzero()
    assert set(map(tuple, changed[:, 1:].tolist())) == {(1, 4, 0)}
    with patch(transformer(), pattern, before.flip(0)[:, :, -1], positions=-1):
        close(read(transformer(), IDS, pattern)[:, :, -1], before.flip(0)[:, :, -1])


def test_several_edits_apply_in_their_order() -> None:
    before_last = Site("resid_pre", 1)
    one = torch.ones(D_MODEL)
    with intervene(
        toy(), [edit_zero(SITE, dims=0), edit_add(SITE, one), edit_mean(before_last, one, dims=1)]
    ):
        after = capture(toy(), IDS, [SITE, before_last], "all")
    assert (after[SITE][..., 0] == 1).all() and (after[before_last][..., 1] == 1).all()


def test_an_edit_of_ones_own() -> None:
    double = Edit("double", Where(SITE, dims=[0]), lambda old, rows: old * 2)
    before = read(toy(), IDS)
    with intervene(toy(), [double]):
        close(read(toy(), IDS)[..., 0], 2 * before[..., 0])


def test_half_precision_keeps_its_type() -> None:
    from hook_models import Toy

    model = Toy().to(torch.bfloat16)
    with zero(model, SITE, subspace=basis(3)), inference(model):
        assert model(IDS).dtype == torch.bfloat16


def test_interventions_let_gradients_through() -> None:
    with zero(toy(), SITE, dims=0):
        toy()(IDS).sum().backward()
    gradient = toy().embed.weight.grad
    assert gradient is not None and bool(gradient.abs().sum() > 0)
    toy().zero_grad()


def test_served_rows() -> None:
    assert served_rows(3).tolist() == [0, 1, 2]
    with serving(torch.tensor([4, 2])):
        assert served_rows(2).tolist() == [4, 2]
        with pytest.raises(MechFourierError, match="batch of 3 rows while 2 prompts"):
            served_rows(3)


@pytest.mark.parametrize("name", ["transformer", "toy", "bridge"])
def test_forward_from_a_layer_equals_the_whole_pass(name: str, request: pytest.FixtureRequest) -> None:
    model = (
        request.getfixturevalue("bridged")
        if name == "bridge"
        else {"transformer": transformer, "toy": toy}[name]()
    )
    whole = capture(model, IDS, select_sites(model, ["resid_pre", "resid_post"]), "all", logits=True)
    assert whole.logits is not None
    n_layers = model.cfg.n_layers
    for layer in range(n_layers):
        close(forward_from(model, whole[Site("resid_pre", layer)], layer), whole.logits)
    close(forward_from(model, whole[Site("resid_post", n_layers - 1)], n_layers), whole.logits)
    with pytest.raises(OutOfRange, match=f"cannot start at {n_layers + 1}"):
        forward_from(model, whole[Site("resid_pre", 0)], n_layers + 1)
