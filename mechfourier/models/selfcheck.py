"""Is the hooked model the Hugging Face model? Held against it each time a model is loaded for the first time.

Both run on the same tokens. The residual stream after every block and the logits must agree within float
error; where they do not, the model is refused, for a silent wrong number is worse than none. On the same pass
it is found which blocks add to the residual stream what their attention and MLP write. A check that passed is
remembered by the hash of the weights.
"""

import functools
import inspect
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mechfourier.errors import EngineDiffers
from mechfourier.models.folder import brief, out_of_memory
from mechfourier.models.interface import LoadedModel
from mechfourier.results.provenance import NOT_CHECKED

SHORTEST, LONGEST = 64, 1024  # tokens of the check
PAST_WINDOW = 16  # tokens after the end of a sliding window
KEPT, KEPT_LOGITS = 96, 8  # positions that are compared, half of them the last ones
TOLERANCE = 1e-4  # in float32; elsewhere STEPS of the dtype's own
STEPS = 20
ONE_POSITION = 10  # at a single position the difference may be so many times larger


@dataclass(frozen=True)
class SelfCheck:
    """What is known of a loaded model against Hugging Face's own forward pass (``model.mechfourier_check``).

    ``residual_error`` and ``logit_error``: norm of the difference over the norm of Hugging Face's values, the
    largest of all layers (None: not checked). ``whole_blocks``: blocks whose attention and MLP outputs do not
    add up to what the block adds to the residual stream (post-norm blocks, recurrent ones). ``why``: why this
    engine, where it was not the first choice.
    """

    engine: str
    tokens: int = 0
    residual_error: float | None = None
    logit_error: float | None = None
    whole_blocks: tuple[int, ...] = ()
    why: str = ""

    @property
    def checked(self) -> bool:
        return self.residual_error is not None

    def __str__(self) -> str:
        if not self.checked:
            return f"{self.engine}: {NOT_CHECKED}"
        return (
            f"{self.engine}: equals Hugging Face on {self.tokens} tokens (residual stream within "
            f"{self.residual_error:.1e}, "
            f"logits within {self.logit_error:.1e} of their size){'; ' * bool(self.why)}{self.why}"
        )


@dataclass(frozen=True)
class Reference:
    """Hugging Face's own values: the residual stream after every block at ``kept`` positions, logits at the
    last ones."""

    tokens: Int[Tensor, "1 pos"]
    kept: Int[Tensor, " kept"]
    streams: list[Float[Tensor, "kept d"]]
    logits: Float[Tensor, "position vocab"]


def check_tokens(hf_config: Any, tokenizer: Any | None) -> Int[Tensor, "1 pos"]:
    """Tokens of all kinds, special ones among them: at least 64, and more than a sliding window of up to
    about 1,000."""
    window = sliding_window(hf_config)
    length = window + PAST_WINDOW if SHORTEST < window + PAST_WINDOW <= LONGEST else SHORTEST
    longest = getattr(hf_config, "max_position_embeddings", None) or getattr(hf_config, "max_seq_len", None)
    length = min(length, longest) if isinstance(longest, int) and longest > 0 else length
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(0, int(hf_config.vocab_size), (length,), generator=generator)
    # padding is left out: what it does depends on masks that nobody made
    padding = getattr(hf_config, "pad_token_id", None)
    special = [getattr(hf_config, name, None) for name in ("bos_token_id", "eos_token_id")]
    special += list(getattr(tokenizer, "all_special_ids", None) or [])[:8]
    flat = [i for each in special for i in (each if isinstance(each, list) else [each])]
    usable = [
        i
        for i in dict.fromkeys(flat)
        if isinstance(i, int) and 0 <= i < hf_config.vocab_size and i != padding
    ]
    if padding is not None:
        tokens[tokens == padding] = (padding + 1) % int(hf_config.vocab_size)
    for place, token in enumerate(usable[: length // 4]):
        tokens[3 * place] = token
    return tokens[None]


def sliding_window(hf_config: Any) -> int:
    """The longest sliding or local attention window that any layer has; 0 where none has one."""
    kinds = getattr(hf_config, "layer_types", None)
    if kinds and set(kinds) == {"full_attention"}:
        return 0
    names = (
        "sliding_window",
        "attention_window_size",
        "window_size",
        "local_attention",
        "attention_chunk_size",
    )
    found = [getattr(hf_config, name, None) for name in names]
    return max((value for value in found if isinstance(value, int)), default=0)


def reference_of(hf_model: Any, tokenizer: Any | None) -> Reference:
    """Run the Hugging Face model as transformers made it; raises ``EngineDiffers`` where it cannot be looked
    into."""
    name = type(hf_model).__name__
    try:
        tokens = check_tokens(hf_model.config, tokenizer).to(hf_model.device)
        kept = _kept(tokens.shape[1])
        streams, logits = _hugging_face_pass(hf_model, tokens, kept)
    except Exception as error:  # whatever an architecture's own code raises
        if out_of_memory(error):
            raise
        raise EngineDiffers(
            f"transformers' own {name} does not run on a sequence of {SHORTEST} tokens or more "
            f"({brief(error)})"
        ) from error
    if not streams:
        raise EngineDiffers(
            f"the residual stream of {name} cannot be read in transformers, so nothing says whether a "
            f"hooked one is right"
        )
    if not all(bool(values.isfinite().all()) for values in (*streams, logits)):
        raise EngineDiffers(
            f"transformers' own {name} gives values that are not finite in {hf_model.dtype}; take "
            f"dtype='float32'"
        )
    return Reference(tokens, kept, streams, logits)


@torch.no_grad()
def _hugging_face_pass(
    hf_model: Any, tokens: Int[Tensor, "1 pos"], kept: Int[Tensor, " kept"]
) -> tuple[list[Float[Tensor, "kept d"]], Float[Tensor, "position vocab"]]:
    """The output of every block of the one stack that runs (none where no stack has the model's number of
    blocks), and logits."""
    n_layers = int(hf_model.config.num_hidden_layers)
    stacks = [m for m in hf_model.modules() if isinstance(m, nn.ModuleList) and len(m) == n_layers]
    seen: list[dict[int, Tensor]] = [{} for _ in stacks]
    cached = {"use_cache": False} if "use_cache" in inspect.signature(hf_model.forward).parameters else {}
    with ExitStack() as hooks:
        for place, stack in zip(seen, stacks, strict=True):
            for layer, block in enumerate(stack):
                keep = functools.partial(_keep_output, place, layer, kept)
                hooks.callback(block.register_forward_hook(keep).remove)
        with _last_logits_only(hf_model.get_output_embeddings()):
            logits = hf_model(input_ids=tokens, **cached).logits
    whole = next((place for place in seen if len(place) == n_layers), {})
    return [whole[layer] for layer in sorted(whole)], logits[0, -KEPT_LOGITS:].float()


def _kept(length: int) -> Int[Tensor, " kept"]:
    """Positions to compare: the first and the last ones, which a sliding window tells apart."""
    half = KEPT // 2
    return (
        torch.arange(length)
        if length <= KEPT
        else torch.cat((torch.arange(half), torch.arange(length - half, length)))
    )


def _keep_output(
    place: dict[int, Tensor], layer: int, kept: Int[Tensor, " kept"], module: Any, args: Any, output: Any
) -> None:
    """A forward hook that keeps a block's output, a tensor ``[1, pos, d]`` or what has one at its head."""
    del module, args
    value = output[0] if isinstance(output, (tuple, list)) else output
    if isinstance(value, Tensor) and value.ndim == 3 and value.shape[1] > int(kept.max()):
        place[layer] = value[0, kept].float()


@contextmanager
def _last_logits_only(unembed: Any) -> Iterator[None]:
    """Let the unembedding see the last positions alone: a vocabulary of 262,144 at 528 positions would take
    half a gigabyte."""
    if not isinstance(unembed, nn.Module):
        yield
        return
    handle = unembed.register_forward_pre_hook(_last_positions)
    try:
        yield
    finally:
        handle.remove()


def _last_positions(module: Any, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
    del module
    if not args or not isinstance(args[0], Tensor) or args[0].ndim != 3:
        return None
    return args[0][:, -KEPT_LOGITS:], *args[1:]


def compare(model: LoadedModel, reference: Reference, engine: str, *, why: str = "") -> SelfCheck:
    """Hold a hooked model against the reference; raises ``EngineDiffers`` with the first layer that differs
    and by how much."""
    name = type(model).__name__
    try:
        found, logits = _run(model, reference)
    except Exception as error:  # whatever a bridge that does not fit its architecture raises
        if out_of_memory(error):
            raise
        raise EngineDiffers(f"{name} does not run on it ({brief(error)})") from error
    limit = max(TOLERANCE, STEPS * torch.finfo(model.cfg.dtype).eps)
    worst = 0.0
    for layer, theirs in enumerate(reference.streams):
        ours = found.get(f"blocks.{layer}.hook_resid_post")
        if ours is None or ours.shape != theirs.shape:
            raise EngineDiffers(f"{name} shows no residual stream after block {layer}")
        worst = max(worst, difference(ours, theirs, limit, f"{name}'s residual stream after block {layer}"))
    logit_error = difference(logits, reference.logits, limit, f"{name}'s logits")
    return SelfCheck(
        engine=engine,
        tokens=reference.tokens.shape[1],
        residual_error=worst,
        logit_error=logit_error,
        whole_blocks=_whole_blocks(found, len(reference.streams), limit),
        why=why,
    )


def difference(ours: Tensor, theirs: Tensor, limit: float, what: str) -> float:
    """Relative difference; raises ``EngineDiffers`` where it is beyond ``limit``, over all positions or at
    one of them."""
    gap = (ours.double() - theirs.double()).norm(dim=-1)
    size = theirs.double().norm(dim=-1)
    whole = float(gap.norm() / size.norm().clamp(min=1e-30))
    # a position that is small beside the others is measured against a tenth of the usual size
    at_worst = float((gap / torch.maximum(size, 0.1 * size.median()).clamp(min=1e-30)).max())
    if not whole <= limit or not at_worst <= min(ONE_POSITION * limit, 0.5):
        raise EngineDiffers(
            f"{what} differs from Hugging Face's by {whole:.2g} of its size (at the worst position "
            f"{at_worst:.2g}; float error is below {limit:.0e})"
        )
    return whole


@torch.no_grad()
def _run(model: LoadedModel, reference: Reference) -> tuple[dict[str, Tensor], Tensor]:
    """The hooked model's streams and parts at the kept positions, and its last logits."""
    found: dict[str, Tensor] = {}

    def keep(name: str, value: Any, hook: Any) -> None:
        del hook
        value = value[0] if isinstance(value, tuple) else value
        if isinstance(value, Tensor) and value.ndim == 3 and value.shape[1] > int(reference.kept.max()):
            found[name] = value[0, reference.kept].float()

    kinds = ("hook_resid_post", "hook_attn_out", "hook_mlp_out")
    names = ["blocks.0.hook_resid_pre"]
    names += [f"blocks.{layer}.{kind}" for layer in range(len(reference.streams)) for kind in kinds]
    hooks = [(name, functools.partial(keep, name)) for name in names if name in model.hook_dict]
    with _last_logits_only(getattr(model, "unembed", None)):
        logits = model.run_with_hooks(reference.tokens, fwd_hooks=hooks)
    logits = getattr(logits, "logits", logits)
    return found, logits[0, -KEPT_LOGITS:].float()


def _whole_blocks(found: dict[str, Tensor], n_layers: int, limit: float) -> tuple[int, ...]:
    """Blocks whose parts do not add up to what they add to the residual stream."""
    before, whole = found.get("blocks.0.hook_resid_pre"), []
    for layer in range(n_layers):
        after = found[f"blocks.{layer}.hook_resid_post"]
        parts = [found.get(f"blocks.{layer}.hook_{kind}_out") for kind in ("attn", "mlp")]
        kept = [part for part in parts if part is not None and part.shape == after.shape]
        if (
            before is None
            or len(kept) < 2
            or float((before + kept[0] + kept[1] - after).norm() / after.norm()) > 10 * limit
        ):
            whole.append(layer)
        before = after
    return tuple(whole)
