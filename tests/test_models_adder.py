"""The adders: shapes, masks, text, decoding with caches, and the uniform hook layer on an encoder-decoder."""

from pathlib import Path
from typing import Any

import pytest
import torch

from mechfourier.errors import BadCheckpoint, NotExpressible, OutOfRange, UsageError
from mechfourier.hooks.capture import capture
from mechfourier.hooks.interventions import patch, zero
from mechfourier.hooks.site import Site, select_sites
from mechfourier.models.checkpoint import save_checkpoint
from mechfourier.models.interface import Model
from mechfourier.models.weights import reinitialised, weights_hash
from mechfourier.toys.adder.base import AdderBase
from mechfourier.toys.adder.config import initial_weights
from mechfourier.toys.adder.draw import train_batch
from mechfourier.toys.adder.model import AdderConfig, AdderTransformer, build, load_folder
from mechfourier.toys.adder.task import END, decoder_input, problems

SMALL: dict[str, Any] = dict(d_model=16, n_heads=2, d_mlp=24)
CONFIGS = {
    "generalising": AdderConfig(**SMALL, n_layers=2, n_decoder_layers=2),
    "faithful": AdderConfig(
        **SMALL,
        positions="learned",
        max_digits=5,
        padded=False,
        reverse=False,
        ssmax=False,
        n_layers=2,
        n_decoder_layers=2,
    ),
    "coupled": AdderConfig(**SMALL, positions="coupled", max_digits=8),
    "no padding": AdderConfig(**SMALL, padded=False),
    "decoder-only": AdderConfig(**SMALL, kind="decoder-only", n_layers=2),
}


def model_of(name: str, seed: int = 0) -> AdderBase:
    """A model at a general point: every weight, biases and attention biases too, is drawn."""
    generator = torch.Generator().manual_seed(seed)
    weights = initial_weights(CONFIGS[name], seed=seed, write_scale=1.0)
    for key, value in weights.items():
        value += torch.randn(value.shape, generator=generator) * (0.02 if key.endswith("B_rel") else 0.2)
    weights["unembed.b_U"][END] = -100.0  # it never stops by itself
    return build(CONFIGS[name], weights=weights).eval()


@pytest.fixture(params=list(CONFIGS))
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def test_the_generalising_model_has_the_published_size() -> None:
    assert sum(w.numel() for w in AdderTransformer(AdderConfig()).parameters()) == pytest.approx(
        119_000, rel=0.005
    )


def test_padding_and_the_rest_of_the_batch_change_nothing(name: str) -> None:
    model = model_of(name)
    form = model.cfg.format
    p = train_batch(12, torch.Generator().manual_seed(0))
    target = form.target(p)
    together = model.logits(form.source(p), decoder_input(target))
    for i in range(len(p)):
        alone = problems([(p.numbers("a")[i], p.numbers("b")[i])])
        source, wanted = form.source(alone), decoder_input(form.target(alone))
        logits = model.logits(source, wanted)
        torch.testing.assert_close(together[i, : logits.shape[1]], logits[0], atol=2e-5, rtol=1e-5)
        row = torch.cat([source, wanted[:, 1:]], 1)
        torch.testing.assert_close(model(row)[0, source.shape[1] - 1 :], logits[0], atol=2e-5, rtol=1e-5)


def test_a_decoding_run_caches_what_a_teacher_forced_pass_computes(name: str) -> None:
    model = model_of(name)
    source = model.to_tokens(["123+456=", "999+100=", "507+123="])
    decoded = model.decode(source, cache=True)
    assert decoded.cache is not None
    tokens = torch.cat([source, decoded.tokens[:, :-1]], 1)
    logits, cache = model.run_with_cache(tokens)
    start = source.shape[1] - 1
    assert torch.equal(logits[:, start:].argmax(-1), decoded.tokens)
    assert set(decoded.cache) == set(cache)
    for hook, value in decoded.cache.items():
        wanted = cache[hook]
        once = hook.endswith(("cross_attn.hook_k", "cross_attn.hook_v"))
        if hook.startswith(("decoder", "hook_decoder", "ln_final")) and not once:
            if not hook.endswith(("pattern", "scores")):
                wanted = wanted[:, start:]
            elif "cross_attn" in hook:
                wanted = wanted[:, :, start:]
            else:
                wanted = wanted[:, :, start:, start:]
        if hook.startswith("blocks") and hook.endswith(("pattern", "scores")):
            value, wanted = value[:, :, start:], wanted[:, :, start:]
        torch.testing.assert_close(value, wanted, atol=1e-5, rtol=1e-5)


def test_hooks_fire_at_every_decoding_step(name: str) -> None:
    model = model_of(name)
    source = model.to_tokens(["123+456="])
    stack = "blocks" if name == "decoder-only" else "decoder"
    fired: dict[str, int] = {}

    def count(value: torch.Tensor, hook) -> None:
        fired[hook.name] = fired.get(hook.name, 0) + 1

    hooks: list[Any] = [(hook, count) for hook in model.hook_dict if hook.startswith(stack)]
    with model.hooks(fwd_hooks=hooks):
        steps = model.decode(source, max_steps=4).tokens.shape[1]
    extra = 1 if name == "decoder-only" else 0  # the problem itself is read by the same blocks
    assert {fired[hook] for hook, _ in hooks} == {steps + extra}


def test_an_intervention_while_decoding_equals_the_teacher_forced_one() -> None:
    model = model_of("generalising")
    source = model.to_tokens(["123+456=", "999+100="])
    site = Site("cross_z", 1, "decoder")
    with zero(model, site, head=1):
        tokens = model.decode(source, max_steps=4).tokens
    row = torch.cat([source, tokens[:, :-1]], 1)
    with zero(model, site, head=1):
        logits = model(row)[:, source.shape[1] - 1 :]
    assert torch.equal(logits.argmax(-1), tokens)
    assert not torch.allclose(logits, model(row)[:, source.shape[1] - 1 :], atol=1e-3)


def test_the_hook_layer_reads_and_changes_both_stacks() -> None:
    model = model_of("generalising")
    assert isinstance(model, Model)
    prompts = ["12+345=21", "98+700=43", "11+222=30"]
    acts = capture(
        model, prompts, ["encoder.resid_post", "decoder.resid_post", "decoder.cross_pattern"], "last"
    )
    assert acts["encoder.1.hook_resid_post"].shape == (3, 16)
    assert acts["decoder.0.cross_attn.hook_pattern"].shape == (3, 2, 8)
    tokens = model.to_tokens(prompts)
    _, cache = model.run_with_cache(tokens)
    torch.testing.assert_close(acts["decoder.1.hook_resid_post"], cache["decoder.1.hook_resid_post"][:, -1])
    torch.testing.assert_close(acts["encoder.1.hook_resid_post"], cache["encoder.1.hook_resid_post"][:, 7])
    assert [str(s) for s in select_sites(model, "cross_z")] == [
        f"decoder.{i}.cross_attn.hook_z" for i in (0, 1)
    ]
    # giving every prompt the whole encoder output of another one gives it the other one's logits
    donor = capture(model, tokens, ["encoder.1.hook_resid_post"], "all")["encoder.1.hook_resid_post"].roll(
        1, 0
    )
    swapped = torch.cat([tokens.roll(1, 0)[:, :8], tokens[:, 8:]], 1)
    with patch(model, Site("resid_post", 1, "encoder"), donor):
        torch.testing.assert_close(model(tokens)[:, 7:], model(swapped)[:, 7:])


def test_spans_point_at_the_characters() -> None:
    model = model_of("generalising")
    (encoding,) = model.encode(["5+123=82"])
    assert encoding.ids == (0, 0, 5, 10, 1, 2, 3, 11, 8, 2)
    assert encoding.last_token_of(0, 1) == 2
    assert [encoding.last_token_of(i, i + 1) for i in range(8)] == [2, 3, 4, 5, 6, 7, 8, 9]
    assert model.answer_ids(["7", " 0"]) == (7, 0)


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ("12+x=", "'x' is no digit"),
        ("+5=", "an operand is empty"),
        ("5+=", "an operand is empty"),
        ("-3+5=", "negative"),
        ("12+5", "'=' at the end is missing"),
        ("1+2+3=", "exactly one +"),
        ("", "'=' at the end is missing"),
        ("12+3=15", "already holds an answer"),
        ("1.5+2=", "'.' is no digit"),
        ("1+2=3=4", "write two numbers"),
    ],
)
def test_what_is_no_addition_is_refused_in_one_sentence(prompt: str, words: str) -> None:
    with pytest.raises(NotExpressible) as caught:
        model_of("generalising").answer(prompt)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_model_with_positions_says_where_they_end() -> None:
    model = model_of("faithful")
    with pytest.raises(NotExpressible, match=r"operands of up to 5 digits, and '123456\+1=' has one of 6"):
        model.answer("123456+1=")
    with pytest.raises(NotExpressible, match="writes at most 7 characters"):
        model.decode(model.to_tokens("1+2="), max_steps=9)
    with pytest.raises(NotExpressible, match=r"the answer in '1[+]2=1234567' has 7 digits"):
        model.encode(["1+2=1234567"])
    with pytest.raises(NotExpressible, match="positions for operands of up to 5 digits"):
        model.decode(model.cfg.format.source(problems([(123456789012, 1)])), max_steps=3)
    with pytest.raises(OutOfRange, match="max_steps is 0"):
        model.decode(model.to_tokens("1+2="), max_steps=0)
    with pytest.raises(NotExpressible, match="needs an '='"):
        model(torch.tensor([[1, 10, 2]]))
    with pytest.raises(NotExpressible, match="'12' is not one digit"):
        model.answer_ids(["12"])


def test_answers_are_numbers_or_marked(name: str) -> None:
    answers = model_of(name).answer(["12+3=", "4+5=", "123+456="])
    assert len(answers) == 3
    assert all(a.isdecimal() or a.startswith("?") for a in answers)


def test_a_folder_comes_back_as_the_same_model(tmp_path: Path, name: str) -> None:
    model = model_of(name)
    save_checkpoint(tmp_path / "m", {k: v.detach() for k, v in model.weights().items()}, model.cfg.to_dict())
    again = load_folder(tmp_path / "m")
    again.mechfourier_name = model.mechfourier_name
    assert weights_hash(again) == weights_hash(model)
    other = reinitialised(model, 3)
    assert type(other) is type(model)
    assert not torch.equal(other.W_E, model.W_E)


def test_bad_configurations_and_weights_are_refused() -> None:
    with pytest.raises(UsageError, match="no kind of adder 'encoder'"):
        AdderConfig(kind="encoder")
    with pytest.raises(UsageError, match="need max_digits"):
        AdderConfig(positions="learned")
    with pytest.raises(UsageError, match="by significance only"):
        AdderConfig(kind="decoder-only", positions="learned", max_digits=5)
    weights = initial_weights(CONFIGS["generalising"], seed=0)
    weights.pop("embed.W_E")
    with pytest.raises(BadCheckpoint, match=r"embed\.W_E"):
        AdderTransformer(CONFIGS["generalising"], weights=weights)
