"""Candidate answers of several tokens after prompts that run once.

What each continuation shares with the others is kept as keys and values. "7" counts only where no digit
follows, so numbers of two digits need ten continuations of every prompt; run whole, they would read the
prompt ten times. The first use on a model compares these numbers with those of whole passes; where they
differ everything runs whole.
"""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechfourier.hooks.cache import grown, no_cache, take
from mechfourier.hooks.prefix import can_pack, can_share
from mechfourier.hooks.run import UNEMBED, forward, has_hooks, hooked, is_bridge, logits_of
from mechfourier.hooks.site import model_name
from mechfourier.models.interface import Model

KEPT = "_mechfourier_continuations"
SAME = 1e-4  # largest difference of logits, relative to their size
COMPARED = 2  # prompts of the comparison
BATCH = 2**26  # numbers in the logits, or in the keys and values, of one pass of several continuations


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
    rows = len(tokens)
    for leaves in _together([path[len(common) :] for path in paths], _most(model, whole, rows)):
        if not leaves.shape[1]:
            yield stem
            continue
        own = take(model, cache, torch.arange(rows).repeat(len(leaves)) if len(leaves) > 1 else None)
        after = _run(model, leaves.repeat_interleave(rows, dim=0), own, leaves.shape[1])
        yield from (torch.cat([stem, each], dim=1) for each in after.split(rows))


def _together(leaves: list[tuple[int, ...]], most: int) -> Iterator[Int[Tensor, "path pos"]]:
    """The paths in their order, those of equal length that follow each other in one pass."""
    for length, alike in itertools.groupby(leaves, len):
        listed = list(alike)
        found = torch.tensor(listed, dtype=torch.long).reshape(len(listed), length)
        yield from found.split(most if length else 1)


def _most(model: Model, tokens: Int[Tensor, "row pos"], rows: int) -> int:
    """How many continuations run in one pass: as many as logits and cache have room for. With hooks one, for
    they may tell the rows of a batch apart."""
    if has_hooks(model):
        return 1
    cfg = model.cfg
    heads = getattr(cfg, "n_key_value_heads", None) or cfg.n_heads
    kept = 2 * int(cfg.n_layers) * int(heads) * int(cfg.d_head) * (tokens.shape[1] + 1)
    return max(1, BATCH // (rows * max(kept, int(cfg.d_vocab))))


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
