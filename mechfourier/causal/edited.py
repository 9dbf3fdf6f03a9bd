"""Edited passes: a bucket's sequences, each once per edit, from the block where the edit is or from the tokens."""

from typing import Any

from einops import repeat
from jaxtyping import Float, Int
from torch import Tensor

from mechfourier.causal.branches import start_layer
from mechfourier.causal.suffix import forward_from_block, residual_before, starts_inside
from mechfourier.domains.answers import Bucket
from mechfourier.hooks.edit import Edit
from mechfourier.hooks.run import UNEMBED, HookFunction, forward, hooked, is_bridge, logits_of, serving
from mechfourier.hooks.site import Site
from mechfourier.hooks.unembed import Unembedding, before_unembedding


def edited_logits(
    model: Any, bucket: Bucket, edit: Edit, rows_of: Tensor, start: int | None, residual: Tensor | None
) -> Float[Tensor, "row keep vocab"]:
    """Logits of a bucket's sequences under ``edit``, once per ablation (ablation-major); ``rows_of`` says which ablation a
    row has. ``start`` and ``residual`` are what ``resume`` gave."""
    functions: list[tuple[Site, HookFunction]] = []
    if str(UNEMBED) in model.hook_dict:
        functions.append((UNEMBED, lambda value: value[:, -bucket.keep :]))
    with hooked(model, functions):
        output = logits_of(model, edited_pass(model, bucket, edit, rows_of, start, residual))
    return (output if output.ndim == 3 else output[:, None])[:, -bucket.keep :].float()


def edited_pass(
    model: Any, bucket: Bucket, edit: Edit, rows_of: Tensor, start: int | None, residual: Tensor | None
) -> Any:
    """What the model returns for a bucket's sequences, once per ablation, from the block where the edit is or from the tokens."""
    copies = len(rows_of) // len(bucket.tokens)
    tokens = repeat(bucket.tokens, "row pos -> (c row) pos", c=copies)
    site = edit.where.site
    functions: list[tuple[Site, HookFunction]] = [(site, lambda value: edit.apply(value, rows_of))]
    if start is None or residual is None:
        with hooked(model, functions):
            return forward(model, tokens)
    stream = repeat(residual, "row pos d -> (c row) pos d", c=copies)
    if start and site == Site("resid_post", start - 1):
        stream, functions = edit.apply(stream, rows_of), []
    with hooked(model, functions):
        return forward_from_block(model, stream, start, tokens)


def resume(model: Any, site: Site, tokens: Int[Tensor, "row pos"]) -> tuple[int | None, Tensor | None]:
    """The block to start at and the residual stream in front of it; (None, None) where a pass starts at the tokens."""
    if site.layer is None or site.stack != "blocks" or not starts_inside(model):
        return None, None
    start = start_layer(site)
    if start == 0 and is_bridge(model):
        # nothing is saved, and what a bridge is given in front of block 0 would take the place of an edit there
        return None, None
    return start, residual_before(model, tokens, start)


def choice_logits(
    model: Any,
    bucket: Bucket,
    edit: Edit,
    rows_of: Tensor,
    start: int | None,
    residual: Tensor | None,
    read: Unembedding,
) -> Float[Tensor, "row choice"]:
    """Logits of some tokens at the last position of a bucket's sequences under ``edit``, once per ablation."""

    def run() -> None:
        edited_pass(model, bucket, edit, rows_of, start, residual)

    with serving(rows_of):
        return read(before_unembedding(model, run, keep=1)[:, 0])
