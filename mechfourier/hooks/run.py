"""Running a model with hooks: batches of equal length, hooks that are always taken off again, early stops.

Hooks are put on the hook points themselves, in the same way for a HookedTransformer, a TransformerBridge and
a ``HookedRootModule`` of one's own, and only the hooks put on here are removed: those of a user stay.
"""

import contextlib
import contextvars
import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.modules import module as module_hooks

from mechfourier.errors import HookNeverFired, MechFourierError, OutOfRange, UsageError
from mechfourier.hooks.site import Site, find_site, model_name
from mechfourier.models.interface import Model
from mechfourier.models.weights import root_of

HookFunction = Callable[[Tensor], Tensor | None]

TOKENS_PER_BATCH = 4096  # at d_model 1024; wider models get fewer, so that the memory stays the same
SCORES_PER_BATCH = 2**25  # attention scores of one layer: 128 MiB in float32
# Hook points that TransformerLens runs only when its configuration asks for them, because they cost memory.
_SWITCHES = {
    "result": "use_attn_result",
    "attn_in": "use_attn_in",
    "q_input": "use_split_qkv_input",
    "k_input": "use_split_qkv_input",
    "v_input": "use_split_qkv_input",
    "mlp_in": "use_hook_mlp_in",
}


LIBRARIES = (
    "torch",
    "transformers",
    "transformer_lens",
    "accelerate",
    "mechfourier",
)  # whose hooks change no activation


class StopForward(Exception):
    """Raised inside a hook to end a forward pass whose rest is not needed; never leaves this layer."""


@dataclass(frozen=True)
class Batch:
    """Prompts of one length: ``rows`` are their places among all prompts."""

    rows: Int[Tensor, " row"]
    tokens: Int[Tensor, "row pos"]


def device_of(model: Model) -> torch.device:
    """The device that tokens must be on."""
    first = next(iter(model.parameters()), None)
    return torch.device("cpu") if first is None else first.device


def batches(model: Model, prompts: Sequence[Sequence[int]], *, batch_size: int | None = None) -> list[Batch]:
    """Token sequences as batches of equal length (no padding), the longest first.

    ``batch_size`` bounds the prompts per batch; by default the memory of a batch is bounded instead. Raises
    ``UsageError`` for no prompts or empty ones, ``OutOfRange`` for tokens or lengths the model does not have.
    """
    _check_tokens(model, prompts)
    by_length: dict[int, list[int]] = {}
    for row, ids in enumerate(prompts):
        by_length.setdefault(len(ids), []).append(row)
    found = []
    for length, rows in sorted(by_length.items(), reverse=True):
        size = batch_size or _batch_size(model, length)
        for start in range(0, len(rows), size):
            chosen = rows[start : start + size]
            found.append(Batch(torch.tensor(chosen), torch.tensor([list(prompts[r]) for r in chosen])))
    return found


def tokens_per_batch(model: Model) -> int:
    """Tokens of one forward pass, so that its activations take about the same memory at any width."""
    width = getattr(model.cfg, "d_model", None) or 256
    return min(max(TOKENS_PER_BATCH * 1024 // width, 512), 32 * 1024)


def _batch_size(model: Model, length: int) -> int:
    heads = getattr(model.cfg, "n_heads", None) or 1
    return max(1, min(tokens_per_batch(model) // length, SCORES_PER_BATCH // (heads * length**2)))


def _check_tokens(model: Model, prompts: Sequence[Sequence[int]]) -> None:
    if not prompts or not min(map(len, prompts)):
        raise UsageError("there is no prompt to run, or an empty one; give every prompt at least one token")
    vocabulary, context = getattr(model.cfg, "d_vocab", None), getattr(model.cfg, "n_ctx", None)
    low, high = min(map(min, prompts)), max(map(max, prompts))
    if vocabulary and vocabulary > 0 and not 0 <= low <= high < vocabulary:
        wrong = low if low < 0 else high
        raise OutOfRange(
            f"token {wrong} is outside the vocabulary of {model_name(model)} (0 to {vocabulary - 1})"
        )
    longest = max(map(len, prompts))
    if context and longest > context:
        raise OutOfRange(
            f"a prompt has {longest} tokens, and {model_name(model)} reads at most {context}; shorten it"
        )


_ALIKE = "_mechfourier_alike_hooks"
_ROWS: contextvars.ContextVar[Tensor | None] = contextvars.ContextVar("rows", default=None)


@contextlib.contextmanager
def serving(rows: Int[Tensor, " row"]) -> Iterator[None]:
    """Say which prompts the rows of the next forward passes are, so that edits per prompt find theirs."""
    token = _ROWS.set(rows)
    try:
        yield
    finally:
        _ROWS.reset(token)


def served_rows(count: int) -> Int[Tensor, " row"]:
    """The prompts that a batch of ``count`` rows holds: those of ``serving``, or 0 to count − 1 outside of
    it."""
    rows = _ROWS.get()
    if rows is None:
        return torch.arange(count)
    if len(rows) != count:
        raise MechFourierError(
            f"a hook saw a batch of {count} rows while {len(rows)} prompts were being served"
        )
    return rows


@contextlib.contextmanager
def hooked(model: Model, functions: Sequence[tuple[Site, HookFunction]]) -> Iterator[None]:
    """Put each function on its hook point, after those already there; take exactly these off again, whatever
    happens.

    A function sees the activation and may return another in its place. Raises ``UnknownSite``.
    """
    known = model.hook_dict  # once: a bridge puts it together anew each time it is asked
    points = [(known[str(find_site(model, site, known))], function) for site, function in functions]
    placed: list[tuple[Any, Any]] = []
    try:
        with _switched_on(model, [site for site, _ in functions]):
            for point, function in points:
                point.add_hook(_as_hook(function))
                placed.append((point, point.fwd_hooks[-1]))
            yield
    finally:
        for point, handle in reversed(placed):
            handle.hook.remove()
            point.fwd_hooks = [kept for kept in point.fwd_hooks if kept is not handle]


def _as_hook(function: HookFunction) -> Callable[..., Any]:
    """TransformerLens calls ``hook(value, hook=point)``; some bridge hook points carry a tuple whose head
    counts."""

    def hook(value: Any, hook: Any) -> Any:
        del hook
        if not isinstance(value, tuple):
            return function(value)
        changed = function(value[0])
        return None if changed is None else (changed, *value[1:])

    return hook


@contextlib.contextmanager
def _switched_on(model: Model, sites: Sequence[Site]) -> Iterator[None]:
    """Let the hook points that are off by default run."""
    _refuse_grouped(model, sites)
    flags = {_SWITCHES[site.kind] for site in sites if site.kind in _SWITCHES}
    before = {flag: getattr(model.cfg, flag) for flag in flags if getattr(model.cfg, flag, None) is False}
    try:
        for flag in before:
            setattr(model.cfg, flag, True)
        yield
    finally:
        for flag, value in before.items():
            setattr(model.cfg, flag, value)


def _refuse_grouped(model: Model, sites: Sequence[Site]) -> None:
    """HookedTransformer makes a copy of ``attn_in`` per query head, and has no way from those to fewer heads
    of keys."""
    groups, heads = getattr(model.cfg, "n_key_value_heads", None), getattr(model.cfg, "n_heads", None)
    if groups in (None, heads) or is_bridge(model) or all(site.kind != "attn_in" for site in sites):
        return
    raise UsageError(
        f"{model_name(model)} has {groups} heads of keys for {heads} of queries, so it has no attn_in per "
        f"head; "
        "take q_input, k_input, v_input or resid_pre, or engine='bridge'"
    )


@contextlib.contextmanager
def inference(model: Model) -> Iterator[None]:
    """No gradients, no dropout. (``torch.inference_mode`` would leave behind tensors that training cannot
    use.)"""
    training = bool(getattr(model, "training", False))
    try:
        if training:
            model.eval()
        with torch.no_grad():
            yield
    finally:
        if training:
            model.train()


@contextlib.contextmanager
def counted_alike(model: Model, count: int) -> Iterator[None]:
    """Say that ``count`` of the hooks on the model do the same at every position, whatever stands before it."""
    before = vars(model).get(_ALIKE, 0)
    object.__setattr__(model, _ALIKE, before + count)
    try:
        yield
    finally:
        object.__setattr__(model, _ALIKE, before)


def has_hooks(model: Model, *, besides_alike: bool = False) -> bool:
    """Whether any hook of a user or of an intervention is on the model: at its hook points, or PyTorch's own
    on any module. ``besides_alike``: other than those of ``counted_alike``."""
    points = {id(point): point for point in model.hook_dict.values()}.values()  # a bridge has aliases
    expected = vars(model).get(_ALIKE, 0) if besides_alike else 0
    if sum(len(getattr(point, "fwd_hooks", None) or ()) for point in points) != expected:
        return True
    tables = [module_hooks._global_forward_hooks, module_hooks._global_forward_pre_hooks]
    for module in nn.Module.modules(root_of(model)):
        tables += [module._forward_hooks, module._forward_pre_hooks]
    return any(_foreign(hook) for table in tables for hook in table.values())


def _foreign(hook: Callable[..., Any]) -> bool:
    """Whether a hook of PyTorch's is somebody else's; the libraries put some of their own on a model."""
    function = inspect.unwrap(getattr(hook, "func", hook))
    return str(getattr(function, "__module__", "")).partition(".")[0] not in LIBRARIES


def forward(model: Model, tokens: Tensor, *, logits: bool = False, **options: Any) -> Any:
    """One forward pass, to its end or to ``StopForward`` (then None).

    ``logits`` are asked for by name where the model can return other things, so that one without them says
    so.
    """
    if logits and "return_type" in inspect.signature(model.forward).parameters:
        options["return_type"] = "logits"
    try:
        return model(tokens.to(device_of(model)), **options)
    except StopForward:
        return None


UNEMBED = Site.parse("unembed.hook_in")


def unembed_only(positions: Int[Tensor, " row"]) -> HookFunction:
    """A hook for the unembedding's input that keeps one position per row: a 151,936-word vocabulary at every
    position of every prompt would not fit in memory."""

    def keep(value: Tensor) -> Tensor:
        return _one_each(value, positions)[:, None]

    return keep


def last_logits(
    model: Model, run: Callable[[], Any], positions: Int[Tensor, " row"], *, slim_unembed: bool = True
) -> Float[Tensor, "row vocab"]:
    """The logits at one position per row of the forward pass ``run``, in float32 on the CPU.

    ``slim_unembed`` computes no others, where the model's unembedding has a hook point.
    """
    slim = slim_unembed and str(UNEMBED) in model.hook_dict
    with hooked(model, [(UNEMBED, unembed_only(positions))] if slim else []):
        output = run()
    return at_positions(logits_of(model, output), positions).to("cpu", torch.float32)


def logits_of(model: Model, output: Any) -> Tensor:
    """The logits in what a model returned: a tensor, ``.logits``, or the first of a tuple."""
    output = getattr(output, "logits", output)
    output = output[0] if isinstance(output, tuple) else output
    if not isinstance(output, Tensor) or output.ndim not in (2, 3):
        raise MechFourierError(
            f"{model_name(model)} returned {type(output).__name__} where logits [row, pos, vocab] were "
            f"expected"
        )
    return finite(output, f"the logits of {model_name(model)}", model)


def finite(values: Tensor, what: str, model: Model | None = None) -> Tensor:
    """``values`` as they are; raises ``MechFourierError`` where NaN or +∞ is in the last position of a row.

    −∞ is how a model rules a word out. What is wrong in an earlier position reaches the last one.
    """
    last = values[:, -1] if values.ndim == 3 else values
    if not bool((last.isnan() | last.isposinf()).any()):
        return values
    weights = () if model is None else root_of(model).named_parameters()
    damaged = [name for name, weight in weights if not bool(weight.isfinite().all())]
    where = f" (first damaged weights: {damaged[0]})" if damaged else "; try dtype=torch.float32"
    raise MechFourierError(f"{what} hold NaN or infinity{where}")


def at_positions(values: Tensor, positions: Int[Tensor, " row"]) -> Tensor:
    """``[row, pos, vocab]`` at one position per row; ``[row, vocab]`` and a single position stay as they
    are."""
    if values.ndim == 2:
        return values
    if values.shape[1] == 1:
        return rearrange(values, "row 1 vocab -> row vocab")
    return _one_each(values, positions)


def _one_each(values: Tensor, positions: Int[Tensor, " row"]) -> Tensor:
    rows = torch.arange(len(values), device=values.device)
    return values[rows, positions.to(values.device)]


def forward_from(
    model: Model,
    residual: Float[Tensor, "row pos d_model"],
    layer: int,
    *,
    tokens: Int[Tensor, "row pos"] | None = None,
) -> Float[Tensor, "row vocab"]:
    """Logits at the last position when the residual stream before block ``layer`` is ``residual``.

    ``layer`` may be n_layers: then only the final norm and the unembedding run. A HookedTransformer starts
    there; any other model runs from its tokens (zeros unless given) and has its residual stream replaced,
    which costs a whole pass and gives the same numbers. Raises ``OutOfRange`` and ``UnknownSite``.
    """
    n_layers = int(model.cfg.n_layers)
    if not 0 <= layer <= n_layers:
        raise OutOfRange(f"{model_name(model)} has layers 0-{n_layers - 1}; cannot start at {layer}")
    last = torch.full((len(residual),), residual.shape[1] - 1)
    residual = residual.to(device_of(model))
    with inference(model):
        if "start_at_layer" in inspect.signature(model.forward).parameters and not is_bridge(model):
            return last_logits(model, lambda: model(residual, start_at_layer=layer), last)
        if tokens is None:
            tokens = torch.zeros(residual.shape[:2], dtype=torch.long)
        return last_logits(model, lambda: _replaced(model, tokens, residual, layer), last)


def is_bridge(model: Model) -> bool:
    """A TransformerBridge has the argument ``start_at_layer`` and refuses it."""
    return hasattr(model, "original_model")


def _replaced(model: Model, tokens: Tensor, residual: Tensor, layer: int) -> Any:
    fired: list[Site] = []
    options = [Site("resid_pre", layer), *([Site("resid_post", layer - 1)] if layer else [])]
    site = next((s for s in options if str(s) in model.hook_dict), options[0])

    def replace(value: Tensor) -> Tensor:
        fired.append(site)
        return residual.to(value.dtype)

    with hooked(model, [(site, replace)]):
        output = forward(model, tokens)
    if not fired:
        raise never_fired(model, [site])
    return output


def never_fired(model: Model, sites: Sequence[Site]) -> HookNeverFired:
    """The error for hook points that did not run."""
    names = ", ".join(map(str, sites[:3])) + (f" and {len(sites) - 3} more" if len(sites) > 3 else "")
    return HookNeverFired(
        f"{names} did not run in {model_name(model)}: its forward pass does not reach it. "
        f"List the hook points with: mechfourier hooks {model_name(model)}"
    )
