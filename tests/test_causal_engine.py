"""Passes that run shared and unedited tokens once give the numbers of whole passes, on both engines; where
they cannot, whole ones run."""

import warnings
from dataclasses import replace
from typing import Any

import pytest
import torch
from byte_models import DAYS, byte_model

from mechfourier.causal import prefix_sharing
from mechfourier.causal.controls import matched_controls
from mechfourier.causal.displacement import changed_rows, moved_rows
from mechfourier.causal.edits import Ablations, EditedRows, one_hot
from mechfourier.causal.engine import whole_pass_notes
from mechfourier.causal.experiment import Experiment
from mechfourier.causal.prefix_sharing import KEPT, can_run, rows_that_fit
from mechfourier.causal.rotate import rotate
from mechfourier.causal.subspaces import chosen_subspace
from mechfourier.causal.suffix import KEPT as KEPT_SUFFIX
from mechfourier.causal.suffix import Suffix
from mechfourier.causal.task import AnswerTask
from mechfourier.domains.task_choice import choose_task
from mechfourier.hooks.interventions import edit_patch, intervene
from mechfourier.hooks.run import has_hooks, hooked, is_bridge
from mechfourier.hooks.site import Site
from mechfourier.models.registry import load

ENGINES = {"hooked": ("Qwen2", "hooked"), "bridge": ("Gemma", "bridge"), "gpt2": ("GPT2", "bridge")}


@pytest.fixture(scope="module", params=sorted(ENGINES))
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    family, engine = ENGINES[request.param]
    return byte_model(tmp_path_factory.mktemp(request.param), family, engine)


def edits(asked: Experiment, site: str, position: str, *, whole: bool = False) -> EditedRows:
    """An edit of its own for every prompt: coordinates in a random plane put where they are nowhere near."""
    place = asked.at(site, position)
    width, generator = place.centre.numel(), torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(14, width, 2, generator=generator)).Q
    donors = 30 * float(place.centre.norm()) * torch.randn(14, width, generator=generator) / width**0.5

    def edit_of(rows: torch.Tensor) -> Any:
        return edit_patch(place.site, donors[rows], subspace=basis[rows], positions=place.at[rows])

    return EditedRows(place.site, torch.arange(14), edit_of, place.at, together=whole)


def centred(values: torch.Tensor) -> torch.Tensor:
    return values - values.mean(dim=-1, keepdim=True)


CASES = [
    ("blocks.0.hook_resid_pre", "value", "list"),
    ("blocks.0.hook_resid_post", "value", "next"),
    ("blocks.1.hook_resid_post", "last", "list"),
    ("blocks.2.hook_resid_pre", "last", "list"),
    ("blocks.1.hook_mlp_out", "value", "list"),
]


@pytest.mark.parametrize(("site", "position", "name"), CASES)
def test_short_passes_are_whole_passes(model: Any, site: str, position: str, name: str) -> None:
    asked = Experiment.of(model, DAYS, task=name, n_prompts=14)
    with intervene(model, [edits(asked, site, position).edit_of(torch.arange(14))]):
        whole = centred(asked.task.score(model).scores)
    shared = centred(asked.engine.scores(edits(asked, site, position)))
    suffix = centred(asked.engine.scores(edits(asked, site, position, whole=True)))
    assert any(vars(model)[KEPT].values())
    torch.testing.assert_close(shared, whole, atol=2e-3, rtol=1e-3)
    torch.testing.assert_close(suffix, whole, atol=2e-3, rtol=1e-3)
    assert not torch.allclose(whole, centred(asked.baseline.scores), atol=2e-2)


def test_numbers_of_several_tokens_are_whole_passes_too(model: Any) -> None:
    asked = Experiment.of(model, "numbers", task="sum", n_prompts=14)
    site = "blocks.1.hook_resid_post"
    with intervene(model, [edits(asked, site, "value").edit_of(torch.arange(14))]):
        whole = asked.task.score(model).scores
    torch.testing.assert_close(asked.engine.scores(edits(asked, site, "value")), whole, atol=2e-3, rtol=1e-3)


def test_beginnings_are_remembered_only_where_asked(model: Any) -> None:
    asked = Experiment.of(model, DAYS, task="list", n_prompts=14)
    sites = [f"blocks.{layer}.hook_resid_post" for layer in (1, 0, 2)]
    whole = [asked.engine.scores(edits(asked, site, "value")) for site in sites]
    with prefix_sharing.remembering():
        kept = [asked.engine.scores(edits(asked, site, "value")) for site in (*sites, *sites)]
        memory = prefix_sharing._REMEMBERED.get()
        assert memory is not None and bool(memory.streams) is not is_bridge(model)
    for one, other in zip((*whole, *whole), kept, strict=True):
        torch.testing.assert_close(one, other, atol=2e-3, rtol=1e-3)
    assert prefix_sharing._REMEMBERED.get() is None


def test_what_is_large_is_not_remembered(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Experiment.of(model, DAYS, task="list", n_prompts=14)
    monkeypatch.setattr(prefix_sharing, "LARGE", 0)
    with prefix_sharing.remembering():
        asked.engine.scores(edits(asked, "blocks.1.hook_resid_post", "value"))
        memory = prefix_sharing._REMEMBERED.get()
        assert memory is not None and not memory.streams


def test_the_oldest_streams_go_first() -> None:
    memory = prefix_sharing._Memory()
    third = prefix_sharing.STREAMS // 3
    for key in "abcd":
        memory.keep(key, third, [])
    assert list(memory.streams) == ["b", "c", "d"]


def test_edits_of_several_kinds_run_as_each_alone(model: Any) -> None:
    asked = Experiment.of(model, DAYS, task="list", n_prompts=14)
    place = asked.at("blocks.1.hook_resid_post", "value")
    prompt, generator = torch.arange(14), torch.Generator().manual_seed(0)
    steps = torch.randn(14, place.centre.numel(), generator=generator)
    moved, put = (prompt, steps, 1.0), (prompt[:5], asked.pairs(place).donors[:5], 0.0)
    together = asked.engine.scores(changed_rows(place, [moved, put]))
    apart = [asked.engine.scores(changed_rows(place, [each])) for each in (moved, put)]
    torch.testing.assert_close(together, torch.cat(apart), atol=2e-3, rtol=1e-3)
    torch.testing.assert_close(
        apart[0], asked.engine.scores(moved_rows(place, prompt, steps)), atol=2e-3, rtol=1e-3
    )


def test_other_hooks_and_other_sites_make_passes_whole(model: Any) -> None:
    asked = Experiment.of(model, DAYS, task="list", n_prompts=14)
    rows = edits(asked, "blocks.1.hook_resid_post", "value")
    assert can_run(model, rows)
    with hooked(model, [(Site("resid_post", 0), lambda value: value)]):
        assert not can_run(model, rows)
    assert not can_run(model, replace(rows, site=Site("pattern", 1)))


def test_a_rotation_of_a_task_says_what_was_asked(model: Any) -> None:
    options: dict[str, Any] = {"site": "blocks.1.hook_resid_post", "ks": (1,), "task": "list"}
    found = rotate(model, DAYS, n_prompts=7, n_controls=5, **options)
    assert found.task == "list" and "task list" in str(found)
    assert found.n_control_pairs == 36 and found.n_control_prompts == 7
    assert rotate(model, DAYS, n_prompts=7, n_controls=5, **options).to_json() == found.to_json()
    assert choose_task(model, DAYS, "list").reason is None


def test_numbers_turn_back_to_the_first_after_the_last(model: Any) -> None:
    """A row of ten digits: turned by δ an operand is (v + δ) mod 10, and the sum moves by that much."""
    asked = Experiment.of(model, "numbers", task="sum", n_prompts=20)
    place = asked.at("blocks.0.hook_resid_pre", "value")
    assert len(place.means) == 10 and chosen_subspace(place.means, place.site, 1).maps(10).shape[0] == 10
    assert len(asked.at("blocks.1.hook_resid_post", "last").means) == 19


def test_a_result_says_that_whole_passes_were_run() -> None:
    model = load("calendar")
    assert whole_pass_notes(model) == ()
    vars(model)[KEPT] = {("resid_post", True, False): False, ("z", True, False): True}
    object.__setattr__(model, KEPT_SUFFIX, Suffix(False, "passes of calendar run whole: a reason"))
    notes = whole_pass_notes(model)
    assert len(notes) == 2 and notes[0].endswith("a reason")
    assert "resid_post" in notes[1] and "z" not in notes[1].split("of")[0]
    found = rotate(model, "days", site="blocks.0.hook_resid_post", k=1, n_prompts=7, n_controls=0)
    assert set(notes) <= set(found.notes)


def build(tokenizer: Any, positions: str) -> Any:
    """A random HookedTransformer."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from transformer_lens import HookedTransformer, HookedTransformerConfig

        config = HookedTransformerConfig(
            n_layers=3,
            d_model=24,
            n_heads=4,
            d_head=8,
            d_mlp=32,
            d_vocab=len(tokenizer),
            n_ctx=32,
            act_fn="silu",
            gated_mlp=True,
            n_key_value_heads=2,
            normalization_type="RMS",
            positional_embedding_type=positions,
            rotary_dim=8,
            seed=1,
        )
        model: Any = HookedTransformer(config, move_to_device=False)
    model.tokenizer, model.mechfourier_name = tokenizer, f"random-{positions}"
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2.0)
    return model.eval().requires_grad_(False)


def digit_tokenizer() -> Any:
    """One token per digit, so that answers from 10 on have two."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {word: index for index, word in enumerate(["<unk>", "<pad>", *"0123456789", "+", "mod", "="])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))  # type: ignore[call-arg]
    split = [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Digits(individual_digits=True)]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(split)  # type: ignore[assignment]
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", pad_token="<pad>")


@pytest.fixture(scope="module")
def digits() -> Any:
    return build(digit_tokenizer(), "rotary")


def one_by_one(model: Any, task: AnswerTask, several: Ablations, *, last_only: bool) -> torch.Tensor:
    scores = []
    for c in range(len(several)):
        one = replace(
            several,
            dims=None if several.dims is None else several.dims[c : c + 1],
            bases=None if several.bases is None else several.bases[c : c + 1],
        )
        with intervene(model, [one.single(task.last if last_only else None)], must_change=False):
            scores.append(task.score(model).scores)
    return torch.stack(scores)


SITES = (
    "hook_embed",
    "blocks.0.hook_resid_pre",
    "blocks.1.hook_resid_post",
    "blocks.2.hook_resid_post",
    "blocks.1.attn.hook_k",
    "blocks.1.mlp.hook_post",
)


@pytest.mark.parametrize("last_only", [False, True])
@pytest.mark.parametrize("name", SITES)
def test_shared_beginnings_change_no_number(digits: Any, name: str, last_only: bool) -> None:
    site, asked = Site.parse(name), Experiment.of(digits, "mod-12", n_prompts=18)
    assert isinstance(asked.task, AnswerTask)
    assert max(len(answer) for answer in asked.task.plan.answers) > 1
    check(asked, site, last_only=last_only)
    assert any(vars(digits)[KEPT].values()) and not has_hooks(digits)


@pytest.mark.parametrize("site", ["blocks.1.mlp.hook_post", "blocks.0.hook_resid_pre"])
def test_learned_positions_are_those_of_the_whole_prompt(site: str) -> None:
    model = build(digit_tokenizer(), "standard")
    check(Experiment.of(model, "mod-12", n_prompts=12), Site.parse(site), last_only=False)
    assert all(vars(model)[KEPT].values())


def check(asked: Experiment, site: Site, *, last_only: bool) -> None:
    around = asked.moments(site)
    target = one_hot(torch.tensor([2, 5]), len(around.mean))
    planes = matched_controls(target, around, dims=False, count=3, seed=1).bases
    for several in (
        Ablations(site, "mean", around.mean, dims=torch.tensor([[0, 1], [3, 7]])),
        Ablations(site, "zero", around.mean, bases=planes),
    ):
        together = asked.ablated(several, "controls", asked.task.last if last_only else None)
        alone = one_by_one(asked.model, asked.task, several, last_only=last_only)  # type: ignore
        torch.testing.assert_close(together, alone, atol=2e-4, rtol=1e-4)


def test_prompts_in_small_batches_give_the_same(digits: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Experiment.of(digits, "mod-12", n_prompts=30)
    assert isinstance(asked.task, AnswerTask)
    several = Ablations(Site("resid_post", 1), "zero", torch.zeros(24), dims=torch.arange(5)[:, None])
    whole = asked.ablated(several, "controls")
    monkeypatch.setattr(prefix_sharing, "CACHE_BUDGET", 20_000)
    assert rows_that_fit(digits, asked.task.plan, 512) < 30
    torch.testing.assert_close(asked.ablated(several, "controls"), whole, atol=1e-5, rtol=1e-5)


def test_what_is_shared_runs_once(digits: Any) -> None:
    """The beginnings of 144 prompts are a few; each runs once per edit."""
    asked = Experiment.of(digits, "mod-12")
    assert isinstance(asked.task, AnswerTask)
    rows = Ablations(Site("resid_post", 1), "zero", torch.zeros(24), dims=torch.arange(2)[:, None]).rows(
        len(asked)
    )
    lengths = torch.tensor([len(e.ids) for e in asked.task.plan.encodings])
    mine = (lengths[rows.prompt] == lengths.mode().values).nonzero()[:, 0]
    tree = prefix_sharing._Tree(digits, asked.engine.reader, rows, mine)  # type: ignore[arg-type]
    assert tree.begin is not None and tree.which is not None
    assert len(tree.which.unique()) < len(tree.prompts) / 5
    assert tree.begin.shape[1] + tree.rest.shape[1] == lengths.mode().values
