"""Candidate answers of several tokens after prompts that run once.

What each continuation shares with the others is kept as keys and values. "7" counts only where no digit
follows, so numbers of two digits need ten continuations of every prompt; run whole, they would read the
prompt ten times. The first use on a model compares these numbers with those of whole passes; where they
differ everything runs whole.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechfourier.hooks.cache import grown, no_cache, take
from mechfourier.hooks.prefix import can_pack, can_share
from mechfourier.hooks.run import UNEMBED, forward, hooked, is_bridge, logits_of
from mechfourier.hooks.site import model_name
from mechfourier.models.interface import Model

KEPT = "_mechfourier_continuations"
SAME = 1e-4  # largest difference of logits, relative to their size
COMPARED = 2  # prompts of the comparison


def shared_start(paths: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """The tokens that all paths begin with."""
    low, high = min(paths), max(paths)
    return next((low[:i] for i, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), low)


def can_continue(model: Model) -> bool:
    """Whether the model is causal, keeps keys and values, and shows its unembedding, without other hooks than
    edits that do the same at every position."""
    return str(UNEMBED) in model.hook_dict and (can_pack if is_bridge(model) else can_share)(
        model, alike=True
    )


def continued(
    model: Model, tokens: Int[Tensor, "row pos"], paths: list[tuple[int, ...]]
) -> Iterator[Float[Tensor, "row after vocab"]]:
    """For each path in turn: the logits after the prompt's last token and after every token of the path."""
    common = shared_start(paths)
    whole = torch.cat([tokens, torch.tensor(common, dtype=tokens.dtype).expand(len(tokens), -1)], dim=1)
    cache = no_cache(model, len(tokens))
    stem = _run(model, whole, cache, len(common) + 1)
    for path in paths:
        leaf = torch.tensor(path[len(common) :], dtype=tokens.dtype).expand(len(tokens), -1)
        if not leaf.shape[1]:
            yield stem
            continue
        own = take(model, cache, None)
        yield torch.cat([stem, _run(model, leaf, own, leaf.shape[1])], dim=1)


def _run(
    model: Model, tokens: Int[Tensor, "row pos"], cache: Any, keep: int
) -> Float[Tensor, "row keep vocab"]:
    """Logits at the last ``keep`` of these tokens, which follow those in ``cache`` and are added to it."""
    with hooked(model, [(UNEMBED, lambda value: value[:, -keep:])]):
        return logits_of(model, grown(model, tokens, cache))[:, -keep:].float()


def continues_exactly(model: Model, tokens: Int[Tensor, "row pos"], paths: list[tuple[int, ...]]) -> bool:
    """Whether continuations give the logits of whole passes: tried once per model, on a few prompts."""
    known: bool | None = vars(model).get(KEPT)
    if known is None:
        known = _agrees(model, tokens[:COMPARED], paths)
        object.__setattr__(model, KEPT, known)
    return known


def continuation_notes(model: Model) -> tuple[str, ...]:
    """What a result must say where continuations were tried on ``model`` and were not those of whole
    passes."""
    if vars(model).get(KEPT) is not False:
        return ()
    return (
        f"answers of several tokens ran whole passes: continuations of {model_name(model)} differ from them",
    )


def _agrees(model: Model, tokens: Int[Tensor, "row pos"], paths: list[tuple[int, ...]]) -> bool:
    chosen = [paths[0], max(paths, key=len)]
    try:
        ours = list(continued(model, tokens, chosen))
    except Exception:  # each architecture fails in its own way; a whole pass always works
        return False
    for path, found in zip(chosen, ours, strict=True):
        row = torch.tensor(path, dtype=tokens.dtype).expand(len(tokens), -1)
        keep = found.shape[1]
        with hooked(model, [(UNEMBED, lambda value, keep=keep: value[:, -keep:])]):
            whole = logits_of(model, forward(model, torch.cat([tokens, row], dim=1)))[:, -keep:].float()
        if not float((found - whole).abs().max()) <= SAME * float(whole.abs().max()):
            return False
    return True
