"""Edited passes on shared beginnings give the numbers of whole passes."""

import warnings
from dataclasses import replace
from typing import Any

import pytest
import torch

from mechfourier.causal.branches import can_branch, rows_that_fit, trees
from mechfourier.causal.controls import Ablations, matched_controls, moments, one_hot, run_ablations
from mechfourier.causal.outcome import AnswerTask, task_of
from mechfourier.domains.definition import domain
from mechfourier.hooks.interventions import intervene
from mechfourier.hooks.run import has_hooks
from mechfourier.hooks.site import Site


def build(tokenizer: Any, positions: str) -> Any:
    """A random HookedTransformer."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from transformer_lens import HookedTransformer, HookedTransformerConfig

        config = HookedTransformerConfig(
            n_layers=3, d_model=24, n_heads=4, d_head=8, d_mlp=32, d_vocab=len(tokenizer), n_ctx=32, act_fn="silu",
            gated_mlp=True, n_key_value_heads=2, normalization_type="RMS", positional_embedding_type=positions,
            rotary_dim=8, seed=1,
        )  # fmt: skip
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
    "blocks.0.hook_resid_pre", "blocks.1.hook_resid_post", "blocks.2.hook_resid_post", "blocks.1.attn.hook_k",
    "blocks.1.mlp.hook_post",
)  # fmt: skip


@pytest.mark.parametrize("last_only", [False, True])
@pytest.mark.parametrize("name", SITES)
def test_shared_beginnings_change_no_number(digits: Any, name: str, last_only: bool) -> None:
    site, task = Site.parse(name), task_of(digits, domain("mod-12"), samples=18)
    assert isinstance(task, AnswerTask)
    assert can_branch(digits, site)
    assert max(len(answer) for answer in task.plan.answers) > 1
    check(digits, task, site, last_only=last_only)


def test_learned_positions_are_those_of_the_whole_prompt() -> None:
    model = build(digit_tokenizer(), "standard")
    task = task_of(model, domain("mod-12"), samples=12)
    assert isinstance(task, AnswerTask)
    check(model, task, Site("mlp_post", 1), last_only=False)


def check(model: Any, task: AnswerTask, site: Site, *, last_only: bool) -> None:
    around = moments(model, task, site)
    target = one_hot(torch.tensor([2, 5]), len(around.mean))
    planes = matched_controls(target, around, dims=False, count=3, seed=1).bases
    for several in (
        Ablations(site, "mean", around.mean, dims=torch.tensor([[0, 1], [3, 7]])),
        Ablations(site, "zero", around.mean, bases=planes),
    ):
        together = run_ablations(model, task, several, last_only=last_only)
        alone = one_by_one(model, task, several, last_only=last_only)
        torch.testing.assert_close(together, alone, atol=2e-4, rtol=1e-4)
    assert not has_hooks(model)


def test_prompts_in_small_batches_give_the_same(digits: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from mechfourier.causal import branches

    site, task = Site("resid_post", 1), task_of(digits, domain("mod-12"), samples=30)
    assert isinstance(task, AnswerTask)
    several = Ablations(site, "zero", torch.zeros(24), dims=torch.arange(5)[:, None])
    whole = run_ablations(digits, task, several)
    done: list[int] = []
    monkeypatch.setattr(branches, "CACHE_BUDGET", 20_000)
    assert rows_that_fit(digits, task.plan, 512) < 30
    parts = run_ablations(digits, task, several, advance=done.append)
    torch.testing.assert_close(parts, whole, atol=1e-5, rtol=1e-5)
    assert sum(done) == len(several) * task.plan.n_sequences


def test_what_is_shared_runs_once(digits: Any) -> None:
    task = task_of(digits, domain("mod-12"))
    assert isinstance(task, AnswerTask)
    found = list(trees(digits, task.plan, Site("resid_post", 1), last_only=False, rows=512))
    assert sum(len(tree.prompts) for tree in found) == len(task.rows)
    shared = max(found, key=lambda tree: len(tree.prompts))
    assert len(shared.begin) < len(shared.prompts) / 5
    assert shared.begin.shape[1] + shared.rest.shape[1] == len(
        task.plan.encodings[int(shared.prompts[0])].ids
    )


def test_scores_over_keys_and_models_with_other_hooks_run_whole(digits: Any) -> None:
    assert not can_branch(digits, Site("pattern", 1))
    assert not can_branch(digits, Site("embed"))
    point = digits.hook_dict["blocks.0.hook_resid_post"]
    point.add_hook(lambda value, hook: value)
    try:
        assert not can_branch(digits, Site("resid_post", 1))
    finally:
        digits.reset_hooks()
