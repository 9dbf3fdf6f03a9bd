"""The straightforward way to read a model's residual stream: Hugging Face, one prompt at a time."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


@torch.no_grad()
def all_layers(model: Any, tokenizer: Any, prompts: Sequence[str]) -> Tensor:
    """Hidden states after every block at the last token, ``[layer, prompt, d_model]``: one call per
    prompt."""
    rows = []
    for prompt in prompts:
        states = model(**tokenizer(prompt, return_tensors="pt"), output_hidden_states=True).hidden_states
        rows.append(torch.stack([state[0, -1] for state in states[1:]]))
    return torch.stack(rows, dim=1)


@torch.no_grad()
def layer_scan(model: Any, tokenizer: Any, prompts: Sequence[str], layers: Sequence[int]) -> Tensor:
    """The same with one call per prompt *and* layer, as in layer-by-layer probing scripts."""
    scanned = []
    for layer in layers:
        rows = []
        for prompt in prompts:
            states = model(**tokenizer(prompt, return_tensors="pt"), output_hidden_states=True).hidden_states
            rows.append(states[layer + 1][0, -1])
        scanned.append(torch.stack(rows))
    return torch.stack(scanned)
