"""Ablations find what a planted model uses, clear what it does not, and their batched controls are exact."""

import json
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from extras import needs_minilm
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from mechfourier.causal.ablate import AblationResult, ablate
from mechfourier.causal.controls import Moments, margins, matched_controls
from mechfourier.causal.edits import Ablations, one_hot
from mechfourier.causal.experiment import Experiment
from mechfourier.causal.task import task_of
from mechfourier.causal.text import packaged_text, text_effect, text_for
from mechfourier.domains.answers import AnswerScores
from mechfourier.domains.definition import domain
from mechfourier.domains.sampling import balanced_sample
from mechfourier.errors import InterventionChangedNothing, OutOfRange, UnknownSite, UsageError
from mechfourier.hooks.interventions import intervene, zero
from mechfourier.hooks.run import has_hooks
from mechfourier.hooks.site import Site
from mechfourier.stats.paired import bootstrap_mean, chance_note, mcnemar

DAYS, NOISE = 7, 60
USED, UNREAD = (0, 1), (2, 3)
RESID = "blocks.0.hook_resid_post"


def calendar_tokenizer() -> Any:
    from mechfourier.toys.calendar.tokens import build_tokenizer

    return build_tokenizer()


@pytest.fixture(scope="module")
def planted() -> Any:
    """Answers day questions by a circle in dimensions 0 and 1; carries the same circle, unread, in 2 and
    3."""
    from transformer_lens import HookedRootModule
    from transformer_lens.hook_points import HookPoint

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.hook_resid_post = HookPoint()

    class Unembed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.hook_in = HookPoint()

    class PlantedCircle(HookedRootModule):
        def __init__(self) -> None:
            super().__init__()
            self.tokenizer, self.mechfourier_name = calendar_tokenizer(), "planted"
            vocab, names = len(self.tokenizer), domain("days").values
            generator = torch.Generator().manual_seed(0)
            days = self.tokenizer.convert_tokens_to_ids(list(names))
            steps = torch.zeros(vocab)
            steps[days] = torch.arange(7.0)
            numbers = [str(i) for i in range(120)]
            steps[self.tokenizer.convert_tokens_to_ids(numbers)] = torch.arange(120.0) % 7
            self.steps = nn.Parameter(steps, requires_grad=False)
            self.noise = nn.Parameter(torch.randn(vocab, NOISE, generator=generator), requires_grad=False)
            W_U = torch.zeros(4 + NOISE, vocab)
            angle = 2 * torch.pi * torch.arange(7) / 7
            W_U[:2, days] = 8 * torch.stack([angle.cos(), angle.sin()])
            W_U[4:] = 0.1 * torch.randn(NOISE, vocab, generator=generator)
            self.W_U = nn.Parameter(W_U, requires_grad=False)
            self.cfg = SimpleNamespace(d_vocab=vocab, d_model=4 + NOISE, n_layers=1, model_name="planted")
            self.blocks, self.unembed = nn.ModuleList([Block()]), Unembed()
            self.setup()

        def forward(self, tokens: Tensor) -> Tensor:
            angle = 2 * torch.pi * self.steps[tokens].cumsum(dim=1) / 7
            circle = torch.stack([angle.cos(), angle.sin()], dim=-1)
            resid = torch.cat([circle, circle, self.noise[tokens]], dim=-1)
            resid = self.blocks[0].hook_resid_post(resid)  # type: ignore[operator]
            return self.unembed.hook_in(resid) @ self.W_U

    return PlantedCircle()


@pytest.fixture(scope="module")
def small() -> Any:
    """A random HookedTransformer with the words of the calendar."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from transformer_lens import HookedTransformer, HookedTransformerConfig

        tokenizer = calendar_tokenizer()
        config = HookedTransformerConfig(
            n_layers=3,
            d_model=24,
            n_heads=2,
            d_head=12,
            d_mlp=32,
            d_vocab=len(tokenizer),
            n_ctx=32,
            act_fn="relu",
            normalization_type="RMS",
            positional_embedding_type="rotary",
            rotary_dim=12,
            seed=1,
        )
        model = HookedTransformer(config, move_to_device=False)
    model.tokenizer = tokenizer
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2.0)
    return model.eval().requires_grad_(False)


def test_a_used_circle_is_found(planted: Any) -> None:
    found = ablate(planted, domain("days"), site=RESID, dims=USED, text=())
    assert found.base.accuracy == 1.0
    assert found.ablated.accuracy <= 2 / 7
    assert found.logit_diff_ci[1] < -5.0
    assert found.mcnemar_p < 1e-6
    assert found.became_right == 0
    assert (found.n_controls, found.p_controls) == (200, 1 / 201)
    assert not any("chance" in note for note in found.notes)


def test_controls_may_run_on_a_part_of_the_prompts(planted: Any) -> None:
    options: dict[str, Any] = {"site": RESID, "dims": USED, "text": ()}
    part = ablate(planted, domain("days"), n_control_prompts=14, **options)
    whole = ablate(planted, domain("days"), **options)
    assert (part.n_control_prompts, whole.n_control_prompts) == (14, 49)
    assert part.p_controls == whole.p_controls == 1 / 201
    assert part.logit_diff_change == whole.logit_diff_change
    assert any("14 of the 49 prompts" in note for note in part.notes)


def test_an_unread_circle_is_not_used(planted: Any) -> None:
    found = ablate(planted, domain("days"), site=RESID, dims=UNREAD, text=())
    assert found.ablated.accuracy == 1.0
    assert found.logit_diff_change == pytest.approx(0.0, abs=1e-5)
    assert found.mcnemar_p == 1.0
    assert found.p_controls is not None
    assert found.p_controls > 0.05


def test_a_subspace_is_its_dimensions(planted: Any) -> None:
    turn = torch.tensor([[0.6, -0.8], [0.8, 0.6]])
    plane = torch.zeros(4 + NOISE, 2)
    plane[:2] = 3.0 * turn  # any basis of the plane, of any length
    options: dict[str, Any] = {"site": RESID, "mode": "zero", "text": (), "controls": 200}
    by_plane = ablate(planted, domain("days"), plane=plane, **options)
    by_dims = ablate(planted, domain("days"), dims=USED, **options)
    assert by_plane.dims is None
    assert by_plane.rank == 2
    assert by_plane.logit_diff_change == pytest.approx(by_dims.logit_diff_change, abs=1e-4)
    assert by_plane.p_controls == 1 / 201
    assert by_plane.n_control_dims == 0


def test_wrap_and_no_wrap_cells_are_told_apart(planted: Any) -> None:
    found = ablate(planted, domain("days"), site=RESID, dims=USED, n_controls=0, text=())
    design = domain("days").operation_design(1)
    wraps = design.wraps.double().mean()
    mixed = found.ablated.accuracy_wrap * wraps + found.ablated.accuracy_no_wrap * (1 - wraps)  # type: ignore[operator]
    assert float(mixed) == pytest.approx(found.ablated.accuracy)


def test_a_model_at_chance_is_said_so(small: Any) -> None:
    found = ablate(
        small, domain("days"), site=RESID, dims=3, n_controls=20, text=packaged_and_known(small)[:5]
    )
    assert any("answers at chance" in note for note in found.notes)
    assert any("only 20 controls" in note for note in found.notes)


def packaged_and_known(model: Any) -> tuple[str, ...]:
    sentences, reason = text_for(model)
    assert reason is None
    return sentences


MODES = ("zero", "mean", "resample", "project-out")
SITES = (
    "blocks.1.hook_resid_post",
    "blocks.1.hook_resid_pre",
    "blocks.2.hook_resid_post",
    "blocks.1.mlp.hook_post",
    "blocks.1.attn.hook_z",
    "hook_embed",
)


@pytest.mark.parametrize(
    ("site", "mode"), [*((SITES[0], mode) for mode in MODES), *((s, "resample") for s in SITES[1:])]
)
def test_batched_controls_are_one_intervention_each(small: Any, site: str, mode: Any) -> None:
    at = Site.parse(site)
    asked = Experiment.of(small, "days", n_prompts=14)
    task, around = asked.task, asked.moments(at)
    plain = Ablations(at, mode, around.mean, seed=4)
    found = matched_controls(
        one_hot(torch.tensor([2, 5]), len(around.mean)), around, dims=False, count=5, seed=1
    )
    for last_only in (False, True):
        for several in (
            Ablations(at, mode, around.mean, dims=torch.tensor([[0, 1], [3, 7], [4, 6]]), seed=4),
            Ablations(at, mode, around.mean, bases=found.bases, seed=4),
        ):
            where = task.last if last_only else None
            together = asked.ablated(several, "controls", where).log_softmax(-1)
            for c in range(len(several)):
                one = Ablations(
                    at,
                    mode,
                    plain.mean,
                    dims=None if several.dims is None else several.dims[c : c + 1],
                    bases=None if several.bases is None else several.bases[c : c + 1],
                    seed=4,
                )
                with intervene(small, [one.single(task.last if last_only else None)], must_change=False):
                    alone = task.score(small).scores.log_softmax(-1)
                torch.testing.assert_close(together[c], alone, atol=1e-4, rtol=1e-4)
    assert not has_hooks(small)


def test_zero_ablation_is_that_of_the_hook_layer(small: Any) -> None:
    found = ablate(small, domain("days"), site=RESID, dims=[3, 4], mode="zero", n_controls=0, text=())
    task = task_of(small, domain("days"))
    with zero(small, Site("resid_post", 0), dims=[3, 4]):
        scores = task.score(small)
    assert found.ablated.logit_diff == pytest.approx(scores.logit_diff, abs=1e-6)


def test_a_head_is_its_dimensions(small: Any) -> None:
    options: dict[str, Any] = {"site": "blocks.1.attn.hook_z", "controls": 0, "text": (), "samples": 14}
    by_head = ablate(small, domain("days"), head=1, **options)
    by_dims = ablate(small, domain("days"), dims=range(12, 24), **options)
    assert by_head.dims == by_dims.dims == tuple(range(12, 24))
    assert by_head.ablated == by_dims.ablated
    with pytest.raises(OutOfRange, match=r"head 2 of blocks.1.attn.hook_z; it has 2 \(0 to 1\)"):
        ablate(small, domain("days"), head=2, **options)
    with pytest.raises(UsageError, match="has no heads"):
        ablate(small, domain("days"), head=0, **{**options, "site": RESID})


@settings(max_examples=25, deadline=None)
@given(d=st.integers(9, 40), rank=st.integers(1, 3), dims=st.booleans(), seed=st.integers(0, 1000))
def test_controls_are_orthogonal_to_the_target_and_orthonormal(
    d: int, rank: int, dims: bool, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    samples = torch.randn(100, d, generator=generator) * torch.logspace(-1, 1, d)
    of = Moments(samples.mean(0), samples.T.cov())
    target = (
        one_hot(torch.arange(rank), d)
        if dims
        else torch.linalg.qr(torch.randn(d, rank, generator=generator)).Q
    )
    found = matched_controls(target, of, dims=dims, count=30, seed=seed)
    assert found.bases.shape == (30, d, rank)
    gram = torch.einsum("cdr,cds->crs", found.bases, found.bases)
    torch.testing.assert_close(gram, torch.eye(rank).expand(30, -1, -1), atol=1e-4, rtol=0)
    assert float(torch.einsum("dr,cds->crs", target, found.bases).abs().max()) < 1e-4
    if dims and rank == 1:
        assert found.n_dims == min(30, d - 1)


def test_half_of_all_dimensions_still_has_controls() -> None:
    of = Moments(torch.zeros(8), torch.eye(8))
    target = one_hot(torch.arange(4), 8)
    found = matched_controls(target, of, dims=True, count=40, seed=0)
    assert found.n_dims == 40
    assert len(found.dims.unique(dim=0)) == 40
    assert not bool((found.dims == torch.arange(4)).all(dim=1).any())


def test_controls_match_the_variance_of_the_target() -> None:
    generator = torch.Generator().manual_seed(0)
    samples = torch.randn(2000, 64, generator=generator) * torch.logspace(-1, 1, 64)
    of = Moments(samples.mean(0), samples.T.cov())
    for dim in (5, 32, 60):
        direction = one_hot(torch.tensor([dim]), 64)
        assert 0.8 < matched_controls(direction, of, dims=False, count=100, seed=0).variance_ratio < 1.25


@given(lost=st.integers(0, 40), gained=st.integers(0, 40), same=st.integers(0, 20))
def test_mcnemar_is_the_binomial_test_of_the_discordant(lost: int, gained: int, same: int) -> None:
    from math import comb

    before = torch.tensor([True] * lost + [False] * gained + [True] * same, dtype=torch.bool)
    after = torch.tensor([False] * lost + [True] * gained + [True] * same, dtype=torch.bool)
    p, found_lost, found_gained = mcnemar(before, after)
    n = lost + gained
    tail = sum(comb(n, i) for i in range(min(lost, gained) + 1)) / 2**n
    assert (found_lost, found_gained) == (lost, gained)
    assert p == pytest.approx(min(1.0, 2 * tail))


def test_the_bootstrap_covers_the_mean() -> None:
    rng = np.random.default_rng(0)
    inside = 0
    for seed in range(120):
        low, high = bootstrap_mean(rng.normal(1.0, 2.0, size=40), seed=seed, resamples=300)
        inside += low <= 1.0 <= high
    assert 0.85 <= inside / 120 <= 0.99


@given(n=st.integers(2, 12), each=st.integers(1, 6), seed=st.integers(0, 99), data=st.data())
def test_samples_are_balanced(n: int, each: int, seed: int, data: st.DataObject) -> None:
    label = torch.arange(n).repeat(each)
    samples = data.draw(st.integers(1, n * each))
    rows = balanced_sample(label, samples, seed=seed)
    counts = torch.bincount(label[rows], minlength=n)
    assert len(rows) == len(rows.unique()) == samples
    assert int(counts.max() - counts.min()) <= 1


def test_text_effects_are_those_of_the_two_models(small: Any) -> None:
    sentences = packaged_and_known(small)[:6]
    edit = Ablations(Site("resid_post", 1), "zero", torch.zeros(24), dims=torch.tensor([[1, 2, 3]])).single()
    found = text_effect(small, sentences, lambda: intervene(small, [edit]))
    from mechfourier.models.interface import encode

    ids = [e.ids for e in encode(small, sentences)]
    base = torch.cat(
        [-small(torch.tensor([i]))[0, :-1].log_softmax(-1)[range(len(i) - 1), i[1:]] for i in ids]
    )
    assert found.perplexity[0] == pytest.approx(float(base.mean().exp()), rel=1e-4)
    assert found.mean_kl > 0.0
    assert len(found.by_sentence(found.kl)) == 6
    low, high = found.kl_interval(seed=0)
    assert low <= found.mean_kl <= high
    nothing = Ablations(Site("resid_post", 1), "zero", torch.zeros(24), dims=torch.tensor([[1]]))
    same = text_effect(small, sentences, lambda: intervene(small, []))
    assert same.mean_kl == pytest.approx(0.0, abs=1e-6)
    assert nothing.width == 1


def test_the_packaged_text_is_sixty_different_sentences() -> None:
    assert len(set(packaged_text())) == len(packaged_text()) == 60


def test_results_make_the_round_trip_and_draw(small: Any) -> None:
    found = ablate(small, domain("days"), site=RESID, dims=3, n_controls=10, n_prompts=14)
    assert AblationResult.from_json(found.to_json()) == found
    value = json.loads(found.to_json())
    for key in (
        "model",
        "domain",
        "site",
        "dims",
        "mode",
        "p_controls",
        "mcnemar_p",
        "logit_diff_ci",
        "kl",
        "n_controls",
    ):
        assert key in value
    assert set(value["base"]) >= {"accuracy", "logit_diff", "perplexity"}
    assert value["base"]["perplexity"] > 1.0
    frame = found.frame().set_index("measure")
    assert frame.loc["accuracy", "ablated"] == found.ablated.accuracy
    assert len(found.plot().data[0].x) == 10
    assert "zero" not in str(found)
    assert found.n_prompts == 14


def test_a_model_without_text_says_why() -> None:
    from mechfourier.toys.one_layer.model import OneLayerConfig, OneLayerTransformer

    model = OneLayerTransformer(OneLayerConfig(p=11, d_model=16, n_heads=2, d_head=8, d_mlp=16))
    found = ablate(model, domain("mod-11"), site=RESID, dims=3, cycles=4)
    assert found.base.perplexity is None
    assert found.kl is None
    assert found.cycles == 1
    assert any("no perplexity" in note for note in found.notes)
    assert any("1 of the 4 cycles" in note for note in found.notes)


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"dims": 24}, OutOfRange, "dimension 24"),
        ({"dims": -1}, OutOfRange, "dimension -1"),
        ({"dims": []}, UsageError, "empty"),
        ({"dims": [1, 1]}, UsageError, "twice"),
        ({}, UsageError, "one of dims, head, plane or ks"),
        ({"dims": 1, "plane": torch.ones(24)}, UsageError, "one of dims, head, plane or ks"),
        ({"plane": torch.zeros(24)}, UsageError, "zero"),
        ({"plane": torch.ones(23)}, OutOfRange, "24 dimensions"),
        ({"dims": 1, "mode": "average"}, UsageError, "mode 'average'"),
        ({"dims": 1, "position": "first"}, UsageError, "position 'first'"),
        ({"dims": 1, "n_prompts": 50}, OutOfRange, "samples is 50"),
        ({"dims": 1, "n_controls": -1}, OutOfRange, "n_controls is -1"),
        ({"dims": 1, "site": "blocks.3.hook_resid_post"}, OutOfRange, "3"),
        ({"dims": 1, "site": "blocks.0.hook_resid_pots"}, UnknownSite, "resid_post"),
    ],
)
def test_bad_input_is_one_sentence(
    small: Any, options: dict[str, Any], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        ablate(small, domain("days"), **{"site": RESID, **options})
    assert not has_hooks(small)


def test_an_ablation_that_changes_nothing_is_an_error(planted: Any) -> None:
    with torch.no_grad():
        kept = planted.noise[:, 0].clone()
        planted.noise[:, 0] = 0.0
    try:
        with pytest.raises(InterventionChangedNothing):
            ablate(planted, domain("days"), site=RESID, dims=4, mode="zero", n_controls=0, text=())
    finally:
        with torch.no_grad():
            planted.noise[:, 0] = kept


def test_an_interrupted_ablation_leaves_no_hook(small: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from mechfourier.causal import prefix_sharing

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(prefix_sharing._Tree, "read", interrupt)
    with pytest.raises(KeyboardInterrupt):
        ablate(small, domain("days"), site=RESID, dims=3, text=())
    assert not has_hooks(small)


def test_chance_is_judged_by_the_binomial() -> None:
    label = torch.zeros(100, dtype=torch.long)
    scores = torch.zeros(100, 4)
    scores[:60, 0], scores[60:, 1] = 1.0, 1.0
    flags = torch.zeros(100, 4, dtype=torch.bool)
    assert chance_note(AnswerScores(scores, flags, label).right, 4) is None
    scores[26:60, 0], scores[26:60, 1] = 0.0, 1.0
    assert "26 of 100 right" in (chance_note(AnswerScores(scores, flags, label).right, 4) or "")
    assert margins(scores[None], label).shape == (1, 100)


def test_a_sentence_encoder_is_judged_by_similarity() -> None:
    needs_minilm()
    from mechfourier.models.registry import load

    model = load("minilm")
    found = ablate(
        model, domain("days"), site="blocks.2.hook_resid_post", dims=range(192), n_controls=4, n_prompts=14
    )
    assert found.outcome == "similarity"
    assert found.base.accuracy > 0.9
    assert found.base.perplexity is None
    assert found.logit_diff_change < 0.0
    assert any("no logits" in note for note in found.notes)
    asked, at = Experiment.of(model, "days", n_prompts=21), Site("resid_post", 2)
    task, around = asked.task, asked.moments(at)
    several = Ablations(at, "mean", around.mean, dims=torch.tensor([[0, 1], [5, 9]]))
    together = asked.ablated(several, "controls")
    with intervene(model, [Ablations(at, "mean", around.mean, dims=torch.tensor([[5, 9]])).single()]):
        torch.testing.assert_close(together[1], task.score(model).scores, atol=1e-5, rtol=1e-4)


def test_the_calendar_model_uses_its_circle_of_months() -> None:
    """The k = 1 plane of the mean token activations: without it the months are gone, and no control does
    that."""
    from mechfourier.domains.design import read_positions
    from mechfourier.hooks.capture import capture
    from mechfourier.models.interface import encode
    from mechfourier.models.registry import load

    model, months = load("calendar"), domain("months")
    design = months.value_design()
    encodings = encode(model, design.prompts)
    found = capture(model, encodings, ["blocks.0.hook_resid_pre"], read_positions(design, encodings))
    means = found["blocks.0.hook_resid_pre"].reshape(*design.shape, -1).mean(dim=1)
    first = torch.fft.rfft(means.double(), dim=0)[1]
    plane = torch.stack([first.real, first.imag], dim=1).float()
    result = ablate(model, months, site="blocks.0.hook_resid_pre", plane=plane, n_prompts=48)
    assert result.base.accuracy > 0.95
    assert result.ablated.accuracy < 0.5
    assert result.p_controls is not None
    assert result.p_controls < 0.005
    assert result.specificity is not None
    assert result.specificity > 1.0


def test_the_command_refuses_before_it_loads(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from mechfourier.cli.app import app

    for arguments, says in (
        (["ablate", "calendar", "--layer", "0"], "name one thing to ablate"),
        (["ablate", "calendar", "--dim", "8"], "name the layer"),
        (["ablate", "calendar", "--layer", "0", "--dim", "x"], "no list of dimensions"),
        (
            ["ablate", "calendar", "--layer", "0", "--dim", "1", "--text", str(tmp_path / "no.txt")],
            "cannot read",
        ),
    ):
        result = CliRunner().invoke(app, arguments)
        assert isinstance(result.exception, UsageError)
        assert says in str(result.exception)


def test_both_engines_give_the_same_ablation() -> None:
    from mechfourier.models.registry import load

    options: dict[str, Any] = {
        "site": "blocks.1.hook_resid_post",
        "dims": range(20),
        "controls": 10,
        "samples": 14,
    }
    hooked, bridge = (
        ablate(load("calendar", engine=engine), domain("days"), **options) for engine in ("hooked", "bridge")
    )
    assert hooked.logit_diff_change < -1.0
    assert bridge.logit_diff_change == pytest.approx(hooked.logit_diff_change, abs=1e-4)
    assert bridge.control_changes == pytest.approx(hooked.control_changes, abs=1e-4)
    assert bridge.kl == pytest.approx(hooked.kl, abs=1e-5)
