"""Candidate answers of several tokens after prompts that run once.

What each continuation shares with the others is kept as keys and values. "7" counts only where no digit
follows, so numbers of two digits need ten continuations of every prompt; run whole, they would read the
prompt ten times. The first use on a model compares these numbers with those of whole passes; where they
differ everything runs whole.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechfourier.hooks.cache import grown, no_cache, numbers_per_token, take
from mechfourier.hooks.prefix import can_pack, can_share
from mechfourier.hooks.run import UNEMBED, forward, has_hooks, hooked, is_bridge, logits_of
from mechfourier.hooks.site import model_name
from mechfourier.models.interface import Model

T = TypeVar("T")
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
    kept = numbers_per_token(model) * (whole.shape[1] + 1)

    def most(size: int) -> int:
        """As many as logits and cache have room for; with hooks, which may tell the rows of a batch apart, one."""
        return 1 if has_hooks(model) else BATCH // (rows * max(kept, int(model.cfg.d_vocab) * size))

    for leaves in alike([path[len(common) :] for path in paths], len, most):
        if not leaves[0]:
            yield stem
            continue
        own = take(model, cache, torch.arange(rows).repeat(len(leaves)) if len(leaves) > 1 else None)
        after = _run(model, torch.tensor(leaves).repeat_interleave(rows, dim=0), own, len(leaves[0]))
        yield from (torch.cat([stem, each], dim=1) for each in after.split(rows))


def alike(leaves: Sequence[T], length: Callable[[T], int], most: Callable[[int], int]) -> Iterator[list[T]]:
    """The leaves in their order: those of one length (in tokens) that follow each other together, at most
    ``most(length)`` of them; one without tokens alone."""
    for size, equal in itertools.groupby(leaves, length):
        found, count = list(equal), max(1, most(size)) if size else 1
        yield from (found[i : i + count] for i in range(0, len(found), count))


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
