"""Answers are scored over all their tokens, exclusively, and as one straightforward pass per candidate
would."""

import warnings
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mechfourier.domains.answers import (
    AnswerPlan,
    AnswerScores,
    Bucket,
    accuracy,
    answer_tokens,
    logit_diff,
    plan_answers,
    score_answers,
    score_candidates,
)
from mechfourier.domains.definition import domain, parse_domain
from mechfourier.domains.design import Design
from mechfourier.errors import NotExpressible, UsageError
from mechfourier.models.interface import Encoding, encode


@pytest.fixture(scope="module")
def small(request: pytest.FixtureRequest) -> Any:
    """A random two-layer model with the tokenizer of Qwen3."""
    shared = request.getfixturevalue("shared_data")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from transformer_lens import HookedTransformer, HookedTransformerConfig
        from transformers import AutoTokenizer

        config = HookedTransformerConfig(
            n_layers=2,
            d_model=16,
            n_heads=2,
            d_head=8,
            d_mlp=16,
            d_vocab=151936,
            n_ctx=32,
            act_fn="relu",
            normalization_type="RMS",
            positional_embedding_type="rotary",
            rotary_dim=8,
            seed=3,
            init_weights=True,
        )
        model = HookedTransformer(config, move_to_device=False)
    model.tokenizer = AutoTokenizer.from_pretrained(shared / "qwen3-0.6b")
    with torch.no_grad():
        model.W_U.mul_(20.0)  # so that the answers are far from equally likely
    return model.eval()


class Oracle(torch.nn.Module):
    """Continues every known text by its next token, with probability nearly 1."""

    def __init__(self, tokenizer: Any, texts: list[str]) -> None:
        super().__init__()
        self.tokenizer, self.hook_dict = tokenizer, {}
        self.cfg = SimpleNamespace(d_vocab=151936, d_model=1)
        known = [e.ids for e in encode(self, texts)]
        self.next = {ids[:i]: ids[i] for ids in known for i in range(1, len(ids))}

    def forward(self, tokens: Tensor) -> Tensor:
        logits = torch.zeros(*tokens.shape, self.cfg.d_vocab)
        for row, ids in enumerate(tokens.tolist()):
            for i in range(len(ids)):
                logits[row, i, self.next.get(tuple(ids[: i + 1]), 0)] = 30.0
        return logits


def test_single_token_answers_are_the_next_token_log_probabilities(small: Any) -> None:
    design = domain("days").operation_design(1)
    plan = plan_answers(small, design.prompts, design.candidates)
    assert plan.n_sequences == len(design)
    tokens = torch.tensor([encode(small, design.prompts[:1])[0].ids])
    expected = small(tokens)[0, -1].detach().log_softmax(-1)[[path[0] for path in plan.answers]]
    scores = score_candidates(small, design)
    assert scores.shape == (49, 7)
    torch.testing.assert_close(scores[0], expected, atol=1e-4, rtol=1e-4)
    chosen = torch.tensor([48, 3])
    torch.testing.assert_close(score_candidates(small, design, rows=chosen), scores[chosen])


def straightforward(model: Any, prompt: str, candidate: str, ends: bool) -> float:
    """One pass: the log-probabilities of the answer's tokens, and that no digit follows where ``ends``."""
    ids, whole = encode(model, [prompt])[0].ids, encode(model, [prompt + candidate])[0].ids
    with torch.no_grad():
        log_probs = model(torch.tensor([whole]))[0].log_softmax(-1)
    total = sum(float(log_probs[i - 1, whole[i]]) for i in range(len(ids), len(whole)))
    if ends:
        digits = [encode(model, [str(d)])[0].ids[0] for d in range(10)]
        total += float(torch.log1p(-log_probs[-1, digits].exp().sum()))
    return total


def test_digit_answers_are_scored_over_all_tokens(small: Any) -> None:
    design = domain("mod-12").operation_design(1)
    rows = torch.tensor([0, 5, 143])
    scores = score_candidates(small, design, rows=rows)
    for row, i in enumerate(rows.tolist()):
        for c, candidate in enumerate(design.candidates):
            expected = straightforward(small, design.prompts[i], candidate, ends=len(candidate) == 2)
            assert float(scores[row, c]) == pytest.approx(expected, abs=2e-3)
    assert bool((scores.exp().sum(dim=1) <= 1.0 + 1e-5).all())


def first_rows(name: str) -> tuple[list[str], Design]:
    """One prompt for every answer: the first value with every offset."""
    design = domain(name).operation_design(1)
    return list(design.prompts[: design.n]), design


@pytest.mark.parametrize("name", ["mod-13", "notes"])
def test_a_candidate_does_not_win_by_being_the_beginning_of_the_right_one(small: Any, name: str) -> None:
    prompts, design = first_rows(name)
    oracle = Oracle(small.tokenizer, [p + a + " ." for p, a in zip(prompts, design.candidates, strict=True)])
    found = score_answers(oracle, prompts, design.candidates, torch.arange(design.n))
    assert found.accuracy == 1.0
    assert found.greedy_accuracy == 1.0
    assert found.logit_diff > 10.0
    assert torch.equal(found.greedy, torch.eye(design.n, dtype=torch.bool))


def test_a_longer_number_is_no_right_answer(small: Any) -> None:
    prompts, design = first_rows("mod-12")
    oracle = Oracle(small.tokenizer, [p + a + "0 ." for p, a in zip(prompts, design.candidates, strict=True)])
    found = score_answers(oracle, prompts, design.candidates, torch.arange(design.n))
    assert not bool(found.greedy.diagonal()[:10].any())


@settings(max_examples=50, deadline=None)
@given(
    answers=st.lists(
        st.lists(st.integers(0, 4), min_size=1, max_size=4).map(tuple), min_size=2, max_size=12, unique=True
    ),
    seed=st.integers(0, 10**6),
)
def test_the_tree_gives_the_scores_of_every_path(answers: list[tuple[int, ...]], seed: int) -> None:
    """For logits that depend on the whole sequence, the tree and one walk per candidate agree and exclude
    each other."""

    def logits(ids: tuple[int, ...]) -> Tensor:
        return torch.randn(6, generator=torch.Generator().manual_seed(hash((seed, ids)) % 2**31)) * 2

    prompt = Encoding((5, 5), ((0, 1), (1, 2)))
    plan = AnswerPlan([prompt, prompt], answers)

    def run(bucket: Bucket) -> Tensor:
        return torch.stack(
            [
                torch.stack(
                    [logits(tuple(ids[:stop])) for stop in range(len(ids) - bucket.keep + 1, len(ids) + 1)]
                )
                for ids in bucket.tokens.tolist()
            ]
        )

    scores, _ = plan.collect([(b, plan.read(b, run(b))) for b in plan.buckets()])
    for c, answer in enumerate(answers):
        path = [(5, 5, *answer[:i]) for i in range(len(answer))]
        total = sum(float(logits(p).log_softmax(-1)[t]) for p, t in zip(path, answer, strict=True))
        longer = {a[len(answer)] for a in answers if a[: len(answer)] == answer and len(a) > len(answer)}
        if longer:
            last = logits((5, 5, *answer)).softmax(-1)
            total += float(torch.log(1 - last[list(longer)].sum()))
        assert float(scores[0, c]) == pytest.approx(total, abs=1e-3)
    assert float(scores.exp().sum(dim=1).max()) <= 1.0 + 1e-5
    torch.testing.assert_close(scores[0], scores[1])


def test_accuracy_and_logit_difference() -> None:
    scores = torch.tensor([[3.0, 0.0, 0.0], [0.0, 1.0, 2.0]])
    label = torch.tensor([0, 1])
    assert accuracy(scores, label) == 0.5
    assert logit_diff(scores, label) == pytest.approx((3.0 + 0.0) / 2)
    cosine = AnswerScores(scores, torch.zeros(2, 3, dtype=torch.bool), label, "similarity")
    assert cosine.greedy_accuracy is None


def test_what_cannot_be_scored_is_refused(small: Any) -> None:
    days = domain("days")
    with pytest.raises(UsageError, match="value design"):
        score_candidates(small, days.value_design())
    with pytest.raises(UsageError, match="no prompts"):
        plan_answers(small, [], days.operation_design(1).candidates)
    with pytest.raises(NotExpressible, match="new token"):
        answer_tokens(small, ["Mon"], ["day"])
    with pytest.raises(NotExpressible, match="no token"):
        AnswerPlan([Encoding((1,), ((0, 1),))], [()])


def test_a_models_own_answer_tokens_are_used() -> None:
    from mechfourier.toys.one_layer.model import OneLayerConfig, OneLayerTransformer

    model = OneLayerTransformer(OneLayerConfig(p=11, d_model=8, n_heads=1, d_head=8, d_mlp=8))
    design = domain("mod-11").operation_design(1, model=model)
    scores = score_candidates(model, design)
    logits = model(model.to_tokens(list(design.prompts)))
    assert logits is not None
    torch.testing.assert_close(scores, logits[:, -1].detach().log_softmax(-1), atol=1e-5, rtol=1e-5)


def test_a_file_may_give_other_answers() -> None:
    text = (
        'title = "x"\nunit = "x"\nvalues = ["a", "b", "c"]\ntemplates = ['
        + ", ".join(f'"{i} {{value}}"' for i in range(8))
        + ']\n[operation]\ntemplates = ["{value} {offset}"]\nanswers = ["A", "B", "C"]\n'
    )
    own = parse_domain(text, name="x", where="x", source="x")
    assert own.operation_design(1).candidates == (" A", " B", " C")
