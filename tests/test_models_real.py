"""Both real models and both engines are the Hugging Face forward pass, past the sliding window too."""

import functools
import os
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from mechfourier.models.pretrained import load_pretrained

LIMIT = 1e-4
CASES = [("gemma3-270m", "auto"), ("qwen2.5-0.5b", "hooked"), ("qwen2.5-0.5b", "bridge")]
KEPT = torch.cat((torch.arange(8), torch.arange(-24, 0)))  # positions: the first ones, and past the window


def folder_of(name: str) -> Path:
    """The folder with a real model's weights; skips where they are not on this machine."""
    try:
        from real_models import real_folder
    except ImportError:
        place = Path(os.environ.get("MECHFOURIER_MODELS", "")) / name
        if not (place / "config.json").is_file():
            pytest.skip(f"the weights of {name} are not in $MECHFOURIER_MODELS")
        return place
    return real_folder(name)


def relative(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return float((ours.double() - theirs.double()).norm() / theirs.double().norm())


@torch.no_grad()
def hugging_face(folder: Path, tokens: torch.Tensor) -> tuple[list[torch.Tensor], torch.Tensor]:
    """The residual stream before every block and the logits, at the positions kept."""
    model = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    )
    found = model.eval()(tokens, output_hidden_states=True, logits_to_keep=KEPT % tokens.shape[1])
    return [state[0, KEPT] for state in found.hidden_states], found.logits[0]


@pytest.mark.real
@pytest.mark.parametrize(("name", "engine"), CASES)
def test_a_real_model_is_the_hugging_face_forward_pass(name: str, engine: str) -> None:
    folder = folder_of(name)
    model: Any = load_pretrained(folder, engine=engine)
    window = 512 if name.startswith("gemma") else 0
    prompt = "The month after September is October. " * (85 if window else 8)
    tokens = model.to_tokens(prompt)
    assert tokens.shape[1] > max(window + len(KEPT), 40)
    states, logits = hugging_face(folder, tokens)
    names = [f"blocks.{layer}.hook_resid_pre" for layer in range(model.cfg.n_layers)]
    seen: dict[str, torch.Tensor] = {}

    def keep(site: str, value: torch.Tensor, hook: Any) -> None:
        del hook
        seen[site] = value[0, KEPT]

    handle = model.unembed.register_forward_pre_hook(lambda module, args: (args[0][:, KEPT],))
    with torch.no_grad():
        ours = model.run_with_hooks(
            tokens, fwd_hooks=[(site, functools.partial(keep, site)) for site in names]
        )
    handle.remove()
    for site, state in zip(names, states, strict=False):
        assert relative(seen[site], state) < LIMIT, site
    assert relative(ours[0], logits) < LIMIT
    check = model.mechfourier_check
    assert check.tokens > window
    assert (check.residual_error < LIMIT, check.logit_error < LIMIT, check.whole_blocks) == (True, True, ())


@pytest.mark.real
@pytest.mark.parametrize("name", ["gemma3-270m", "qwen2.5-0.5b"])
def test_attribution_of_a_real_model_adds_up(name: str) -> None:
    """Gemma's gain is 1 + w and its blocks normalise what they write; heads and neurons are there all the
    same."""
    from mechfourier.causal.attribution import attribution

    found = attribution(load_pretrained(folder_of(name)), "days", n_prompts=4, neurons=5)
    largest = max(abs(part.mean) for part in found.parts)
    assert found.sum_error < 1e-4 * max(1.0, largest)
    assert sum(part.mean for part in found.parts) == pytest.approx(found.margin, abs=1e-3 * max(1.0, largest))
    assert {part.kind for part in found.parts} == {"embed", "attn", "mlp", "bias"}
    assert found.heads
    assert len(found.neurons) == 5
    assert not any("not split" in note for note in found.notes)
