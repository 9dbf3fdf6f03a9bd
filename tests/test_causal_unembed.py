"""Logits of a few words and in slices: the model's own numbers, whatever it does after its unembedding."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tiny_folders import CONFIGS, GROUPED, SHARED, write_model, write_tokenizer

import mechfourier as mf
from mechfourier.causal.controls import margins
from mechfourier.causal.cost import block_weights, vocabulary_weights, whole_steps
from mechfourier.causal.edits import Ablations
from mechfourier.causal.experiment import Experiment
from mechfourier.causal.text import text_effect, text_effects, text_for
from mechfourier.hooks.interventions import edit_zero, intervene
from mechfourier.hooks.run import forward, inference
from mechfourier.hooks.site import Site
from mechfourier.hooks.unembed import before_unembedding, unembedding_of
from mechfourier.models.pretrained import load_pretrained

TOKENS = torch.randint(2, 40, (3, 6), generator=torch.Generator().manual_seed(5))
ENGINES = ("hooked", "bridge")


def folder_of(family: str, folder: Path) -> Path:
    if family in CONFIGS:
        return write_model(folder, family)
    extra = {
        "Gemma2": {"head_dim": 16, "sliding_window": 4, "final_logit_softcapping": 0.5},
        "Granite": {"logits_scaling": 8.0},
    }[family]
    config = getattr(transformers, f"{family}Config")(**{**SHARED, **GROUPED, **extra})
    model, generator = (
        getattr(transformers, f"{family}ForCausalLM")(config),
        torch.Generator().manual_seed(0),
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0.0, 0.3, generator=generator)
    model.save_pretrained(folder)
    write_tokenizer(folder)
    return folder


@pytest.mark.parametrize("family", ["GPT2", "Llama", "Gemma2", "Granite"])
def test_logits_are_the_models_own(family: str, tmp_path: Path) -> None:
    model = load_pretrained(folder_of(family, tmp_path), engine="bridge")
    with inference(model):
        whole = model(TOKENS)
        read = unembedding_of(model, TOKENS)
        assert read is not None
        stream = before_unembedding(model, lambda: forward(model, TOKENS))
        assert torch.allclose(read(stream), whole, atol=1e-4 * float(whole.abs().max()))
        few = read.of([7, 3, 11])(stream[:, -1])
        assert torch.allclose(few, whole[:, -1, [7, 3, 11]], atol=1e-4 * float(whole.abs().max()))


def test_a_model_that_does_something_else_with_its_logits_is_not_taken_for_linear(tmp_path: Path) -> None:
    model = load_pretrained(write_model(tmp_path, "Llama"), engine="bridge")
    assert unembedding_of(model, TOKENS) is not None
    handle = model.original_model.lm_head.register_forward_hook(lambda module, args, out: out.abs())
    assert unembedding_of(model, TOKENS) is None
    handle.remove()


def test_slices_cover_every_row_once(monkeypatch: pytest.MonkeyPatch) -> None:
    read = unembedding_of(model := mf.load("calendar"), torch.tensor([[3, 4, 5]]))
    assert read is not None
    monkeypatch.setattr("mechfourier.hooks.unembed.SLICE", 3 * int(model.cfg.d_vocab))
    assert [list(range(10))[some] for some in read.slices(10)] == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9]]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("mode", ["zero", "mean", "resample"])
@pytest.mark.parametrize("last_only", [False, True])
def test_relative_scores_have_the_margins_of_whole_ones(engine: str, mode: Any, last_only: bool) -> None:
    model = mf.load("calendar", engine=engine)
    asked = Experiment.of(model, "days", n_prompts=21)
    task: Any = asked.task
    width = int(model.cfg.d_model)
    assert task.plan.of_one_token
    ablations = Ablations(
        Site("resid_post", 0), mode, torch.linspace(-1, 1, width), dims=torch.tensor([[0], [5], [9]]), seed=3
    )
    at = task.last if last_only else None
    few = asked.ablated(ablations, "units", at)
    whole = []
    for i in range(3):
        with intervene(model, [replace(ablations, dims=ablations.parts[i : i + 1]).single(at)]):
            whole.append(task.score(model).scores)
    assert torch.allclose(margins(few, task.label), margins(torch.stack(whole), task.label), atol=1e-4)
    assert torch.equal(few.argmax(2), torch.stack(whole).argmax(2))


@pytest.mark.parametrize("engine", ENGINES)
def test_text_in_slices_is_text_in_whole_logits(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = mf.load("calendar", engine=engine)
    sentences = text_for(model)[0][:12]
    edit = edit_zero(Site("mlp_out", 0), dims=[0, 1, 2, 3])
    ablations = Ablations(
        Site("mlp_out", 0), "zero", torch.zeros(int(model.cfg.d_model)), dims=torch.tensor([[0], [7]])
    )

    def both() -> tuple[Any, torch.Tensor]:
        effect = text_effect(model, sentences, lambda: intervene(model, [edit]))
        return effect, text_effects(model, sentences, ablations, told.append)

    told: list[int] = []
    monkeypatch.setattr("mechfourier.hooks.unembed.SLICE", 5 * int(model.cfg.d_vocab))
    sliced, several = both()
    assert sum(told) == 2
    monkeypatch.setattr("mechfourier.causal.text.unembedding_of", lambda model, tokens: None)
    whole, several_whole = both()
    for name in ("base", "changed", "kl"):
        assert torch.allclose(getattr(sliced, name), getattr(whole, name), atol=1e-4), name
    assert torch.equal(sliced.sentence, whole.sentence)
    assert torch.allclose(several, several_whole, atol=1e-4)


def test_what_a_pass_costs_is_counted_from_where_it_begins() -> None:
    model: Any = mf.load("calendar")
    layers = int(model.cfg.n_layers)
    parts = [block_weights(model, start) for start in range(layers + 1)]
    assert parts[-1] == 0 and parts[0] == sum(p.numel() for p in model.blocks.parameters())
    assert vocabulary_weights(model) == model.unembed.W_U.numel()


def test_parts_of_steps_are_told_as_whole_steps() -> None:
    told: list[int] = []
    report = whole_steps(told.append, 4)
    for count in (1, 2, 1, 9, 3):
        report(count)
    assert told == [1, 2, 1]
