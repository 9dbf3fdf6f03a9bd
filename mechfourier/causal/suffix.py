"""The rest of a forward pass: from the residual stream in front of a block to the logits.

Edits at block L leave everything before it as it is, so those blocks run once and every edited pass begins at
L. A HookedTransformer takes the block to start at. A TransformerBridge leaves the loop over blocks to Hugging
Face; there the pass is that model's own (its masks, position embeddings, final norm and soft cap), in which
the blocks before L hand on what they are given and the stored residual stream takes the place of what they
would have made. Architectures in which something else than the residual stream passes between blocks (shared
keys, streams side by side) would come out wrong, so the first use on a model compares it with whole passes,
and where it differs everything runs whole.
"""

import contextlib
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechfourier.hooks.run import (
    UNEMBED,
    HookFunction,
    StopForward,
    device_of,
    forward,
    hooked,
    inference,
    is_bridge,
    logits_of,
    serving,
)
from mechfourier.hooks.site import Site, model_name

ROWS_COMPARED = 2
KEPT = "_mechfourier_suffix"


@dataclass(frozen=True)
class Suffix:
    """Whether passes of a model can begin at a block: ``exact``, else ``note`` says why not. ``wrap``: a
    block's output from a residual stream, in the form that the blocks of this model have."""

    exact: bool
    note: str | None = None
    wrap: Callable[[Tensor], Any] = lambda residual: residual


def starts_inside(model: Any) -> bool:
    """Whether a pass of ``model`` can begin at a block, with the numbers of a whole pass."""
    return suffix_of(model).exact


def suffix_of(model: Any) -> Suffix:
    """How (and whether) passes of ``model`` begin at a block. A bridge is compared with whole passes once,
    and the answer kept on it."""
    if not is_bridge(model):
        return Suffix("start_at_layer" in inspect.signature(model.forward).parameters)
    kept = getattr(model, KEPT, None)
    if kept is None:
        kept = _compared(model)
        object.__setattr__(model, KEPT, kept)
    return kept


def residual_before(model: Any, tokens: Int[Tensor, "row pos"], layer: int) -> Float[Tensor, "row pos d"]:
    """The residual stream in front of block ``layer`` (n_layers: after the last one), with the hooks that are
    on the model now."""
    if not is_bridge(model):
        return model(tokens.to(device_of(model)), stop_at_layer=layer, return_type=None)
    found: list[Tensor] = []

    def keep(value: Tensor) -> None:
        found.append(value.detach())
        raise StopForward

    with hooked(model, [(_front(model, layer), keep)]):
        forward(model, tokens)
    return found[0]


def forward_from_block(
    model: Any, residual: Float[Tensor, "row pos d"], layer: int, tokens: Int[Tensor, "row pos"]
) -> Any:
    """What ``model`` returns when the residual stream in front of block ``layer`` is ``residual``; ``tokens``
    are those of its rows.

    Hooks on blocks from ``layer`` on run as in a whole pass. Only for models of which ``starts_inside`` is
    true.
    """
    if not is_bridge(model):
        return forward(model, residual, start_at_layer=layer)
    with _begins_at(model, layer, residual, suffix_of(model).wrap):
        return forward(model, tokens)


def suffix_notes(model: Any) -> tuple[str, ...]:
    """What a result must say where passes of ``model`` cannot begin at a block (nothing where that was not
    tried)."""
    kept = getattr(model, KEPT, None)
    return (kept.note,) if kept is not None and kept.note else ()


def start_layer(site: Site) -> int:
    """The block at which passes with an edit at ``site`` begin."""
    return (site.layer or 0) + (site.kind == "resid_post")


def _front(model: Any, layer: int) -> Site:
    return Site("resid_pre", layer) if layer < int(model.cfg.n_layers) else Site("resid_post", layer - 1)


@contextlib.contextmanager
def _begins_at(model: Any, layer: int, residual: Tensor, wrap: Callable[[Tensor], Any]) -> Iterator[None]:
    """Blocks before ``layer`` do not run; ``residual`` stands in front of it."""
    skipped = list(model.blocks)[:layer]
    given = residual.to(device_of(model))
    try:
        for block in skipped:
            # past the bridge's own __setattr__, which may write to the block of Hugging Face that it wraps
            object.__setattr__(block, "forward", lambda *args, **options: wrap(given))
        with hooked(model, [] if layer else [(_front(model, 0), lambda value: given)]):
            yield
    finally:
        for block in skipped:
            vars(block).pop("forward", None)


def _compared(model: Any) -> Suffix:
    """Hold passes that begin at a block against whole ones: same logits for the stream as it is and for one
    that was changed."""
    try:
        n_layers = len(model.blocks)
        tokens = _some_tokens(model)
        with inference(model), serving(torch.arange(len(tokens))):
            wrap = _wrapper(model, tokens)
            worst = max(
                _difference(model, tokens, layer, wrap) for layer in sorted({0, 1, n_layers // 2, n_layers})
            )
    except Exception as error:  # each architecture fails in its own way; a whole pass always works
        reason = f"{type(error).__name__}: {error}".splitlines()[0][:120]
        return Suffix(
            False, f"passes of {model_name(model)} run whole: they cannot begin at a block ({reason})"
        )
    step = torch.finfo(next(iter(model.parameters())).dtype).eps
    if not worst <= max(1e-5, 40 * step):
        return Suffix(
            False,
            f"passes of {model_name(model)} run whole: begun at a block they would differ by {worst:.1g} of "
            "the logits' size",
        )
    return Suffix(True, None, wrap)


def _some_tokens(model: Any) -> Int[Tensor, "row pos"]:
    vocab, context = int(model.cfg.d_vocab), int(getattr(model.cfg, "n_ctx", 0) or 8)
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, vocab, (ROWS_COMPARED, min(8, context)), generator=generator)


def _wrapper(model: Any, tokens: Tensor) -> Callable[[Tensor], Any]:
    """How a block hands on the residual stream: alone, or first in a tuple."""
    seen: list[Any] = []

    def look(module: Any, args: Any, output: Any) -> None:
        del module, args
        seen.append(output)

    handle = next(iter(model.blocks)).register_forward_hook(look)
    try:
        forward(model, tokens)
    finally:
        handle.remove()
    output = seen[0]
    if isinstance(output, Tensor):
        return lambda residual: residual
    rest = (None,) * (
        len(output) - 1
    )  # attention weights and the like, which only those who ask for them read
    return lambda residual: (residual, *rest)


def _difference(model: Any, tokens: Tensor, layer: int, wrap: Callable[[Tensor], Any]) -> float:
    """Largest difference of the logits, relative to their size, over the stream as it is and one with a third
    of noise."""
    stream = residual_before(model, tokens, layer)
    noise = torch.randn(stream.shape, generator=torch.Generator().manual_seed(1)).to(stream)
    changed = stream + noise * stream.norm() / (3 * noise.norm())
    worst = 0.0
    for given in (stream, changed):
        # the stream as it is stands there in a pass without hooks
        put = [] if given is stream else [(_front(model, layer), lambda value, given=given: given)]
        with hooked(model, put):
            whole = logits_of(model, _last(model, tokens))
        _last(
            model, (tokens + 1) % int(model.cfg.d_vocab)
        )  # so that nothing which blocks leave behind is that of these tokens
        with _begins_at(model, layer, given, wrap):
            part = logits_of(model, _last(model, tokens))
        worst = max(worst, float((whole - part).abs().max() / whole.abs().max().clamp(min=1e-30)))
    return worst


def _last(model: Any, tokens: Tensor) -> Any:
    narrow: list[tuple[Site, HookFunction]] = (
        [(UNEMBED, lambda value: value[:, -1:])] if str(UNEMBED) in model.hook_dict else []
    )
    with hooked(model, narrow):
        return forward(model, tokens)
