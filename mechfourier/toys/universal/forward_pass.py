"""The forward pass of both universal models, as functions of a weight dictionary: training runs them bare,
the hookable models pass a function that sends every activation through its hook point.

Activations are ``[batch, pos, (draw d)]``: ``draws`` copies of one network side by side (one copy in the
faithful model).
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from einops import einsum, rearrange, repeat
from jaxtyping import Float, Int
from torch import Tensor

from mechfourier.toys.universal.config import ExtrapolatingConfig, FaithfulConfig, MirasConfig

Weights = dict[str, Tensor]
Hook = Callable[[str, Tensor], Tensor]


def no_hook(_name: str, value: Tensor) -> Tensor:
    """The hook of training: nothing listens."""
    return value


# numbers by value


def drawn_frequencies(config: ExtrapolatingConfig, generator: torch.Generator) -> Float[Tensor, "draw freq"]:
    """Frequencies in cycles per unit, uniform on [0, 1), float64."""
    return torch.rand(config.draws, config.freqs, generator=generator, dtype=torch.float64)


def value_table(frequencies: Float[Tensor, "draw freq"], count: int) -> Float[Tensor, "number draw two_freq"]:
    """φ(v) = [cos 2πωv …, sin 2πωv …] for v = 0..count − 1; the phase in float64, so that no large number
    loses it."""
    turns = torch.arange(count, dtype=torch.float64, device=frequencies.device)[:, None, None] * frequencies
    phase = 2 * math.pi * (turns % 1.0)
    return torch.cat([phase.cos(), phase.sin()], dim=-1).float()


def with_negatives(table: Float[Tensor, "number draw two_freq"]) -> Float[Tensor, "all draw two_freq"]:
    """φ of −(count − 1)..count − 1 from φ of 0..count − 1: the sines change their sign."""
    cos, sin = table.chunk(2, dim=-1)
    return torch.cat([torch.cat([cos, -sin], dim=-1)[1:].flip(0), table])


def test_scale(config: ExtrapolatingConfig, m: Int[Tensor, " batch"]) -> Float[Tensor, " batch"]:
    """s = clip(scale / m): magnitudes s·v stay where training saw them, whatever the modulus."""
    return (config.scale / m.float()).clamp(config.scale_min, config.scale_max)


def test_sizes(
    config: ExtrapolatingConfig, questions: Int[Tensor, "batch 3"]
) -> Float[Tensor, "batch three"]:
    """s·v of m, a and b."""
    return test_scale(config, questions[:, 0])[:, None] * questions


def embed_values(
    weights: Weights,
    waves: Float[Tensor, "batch three draw two_freq"],
    sizes: Float[Tensor, "batch three"],
) -> Float[Tensor, "batch pos d"]:
    """[φ(v), s·v] of m, a and b through W_E; zeros at ``=``."""
    size = repeat(sizes, "batch three -> batch three draw 1", draw=waves.shape[2])
    embedded = torch.cat([waves, size], dim=-1) @ weights["embed.W_E"]
    return F.pad(rearrange(embedded, "batch three draw d -> batch three (draw d)"), (0, 0, 0, 1))


def extrapolating_residual(
    config: ExtrapolatingConfig,
    weights: Weights,
    embedded: Float[Tensor, "batch pos d"],
    *,
    hook: Hook = no_hook,
    last_only: bool = False,
) -> Float[Tensor, "batch kept d"]:
    """The residual stream after the last block; with ``last_only`` the last block runs at ``=`` alone."""
    draws = embedded.shape[-1] // config.width
    embedded = hook("hook_embed", embedded)
    positions = repeat(
        weights["pos_embed.W_pos"], "pos d -> batch pos (draw d)", batch=len(embedded), draw=draws
    )
    positions = hook("hook_pos_embed", positions)
    x = embedded + positions
    for layer in range(config.n_layers):
        compared = positions if config.by_position and layer == 0 else None
        x = block(
            config, weights, layer, x, draws, hook, last_only and layer == config.n_layers - 1, compared
        )
    return x


def point(weights: Weights, residual: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch draw_two_freq"]:
    """h: what the model writes on the plane of every frequency, to be compared with φ(c)."""
    return per_draw(residual, weights["unembed.W_U"])


def scores(
    written: Float[Tensor, "*batch draw_two_freq"], table: Float[Tensor, "number draw two_freq"]
) -> Float[Tensor, "*batch number"]:
    """⟨h, φ(c)⟩ for every number c, summed over the frequencies."""
    return written @ rearrange(table, "number draw wave -> (draw wave) number")


# the faithful model


def modulus_encoding(
    config: FaithfulConfig, weights: Weights, m: Int[Tensor, " batch"]
) -> Float[Tensor, "batch d"]:
    """SinPE: sin (even) and cos (odd features) of m / sinusoid_scale / 10000^(i/d), plus a learned linear
    part of m / modulus_scale.

    ``log``: the first half at 10 · log(m + 1) / 1000^(i/half), the second at m / 100^(i/half); the linear
    part of m / 200 and log(m + 1) / 6.
    """
    value, d = m.float(), config.d_model
    if config.encoding == "sinpe":
        return (
            _waves(value / config.sinusoid_scale, d, 10000.0)
            + (value / config.modulus_scale)[:, None] * weights["modulus.W"]
            + weights["modulus.b"]
        )
    log = (value + 1).log()
    sinusoids = torch.cat([_waves(10 * log, d // 2, 1000.0), _waves(value, d // 2, 100.0)], dim=-1)
    return (
        sinusoids + torch.stack([value / 200, log / 6], dim=-1) @ weights["modulus.W"] + weights["modulus.b"]
    )


def _waves(value: Float[Tensor, " batch"], d: int, base: float) -> Float[Tensor, "batch d"]:
    rates = torch.exp(torch.arange(0, d, 2, device=value.device).float() * (-math.log(base) / d))
    angle = value[:, None] * rates
    return rearrange([angle.sin(), angle.cos()], "two batch i -> batch (i two)")


def memory(
    config: FaithfulConfig, weights: Weights, stream: Float[Tensor, "batch pos d"], *, hook: Hook = no_hook
) -> Float[Tensor, "batch d"]:
    """What replaces position 0, from the embedded sequence (encoding of m, a, b, =).

    ``none``: the encoding itself. ``feedforward`` (called TitansMemory where it was published): z = silu(xW +
    b), surprise = x − f(z), state = z + silu(surprise W), mapped back; a layer like any other, which updates
    nothing at test time. ``titans`` (Behrouz, Zhong & Mirrokni 2024, arXiv 2501.00663, eq. 9–15): a linear
    memory M that learns while it reads. At every position it takes one gradient step on ‖kM − v‖², S ← η S −
    θ ∇, M ← (1 − α) M + S, with gates α, η, θ of the token; then it is asked with position 0's query.
    """
    x = stream[:, 0]
    if config.memory == "none":
        return x
    state = hook(
        "memory.hook_state", (_feedforward if config.memory == "feedforward" else _titans)(weights, stream)
    )
    return state @ weights["memory.W_out"] + weights["memory.b_out"]


def _feedforward(weights: Weights, stream: Float[Tensor, "batch pos d"]) -> Float[Tensor, "batch m"]:
    x = stream[:, 0]
    z = F.silu(x @ weights["memory.W_mem"] + weights["memory.b_mem"])
    surprise = x - (z @ weights["memory.W_surprise"] + weights["memory.b_surprise"])
    return z + F.silu(surprise @ weights["memory.W_mem"])


def _titans(weights: Weights, stream: Float[Tensor, "batch pos d"]) -> Float[Tensor, "batch m"]:
    keys = F.normalize(F.silu(stream @ weights["memory.W_key"]), dim=-1)
    query = F.normalize(F.silu(stream[:, 0] @ weights["memory.W_query"]), dim=-1)
    values = F.silu(stream @ weights["memory.W_value"])
    forget, momentum, rate = (
        (stream @ weights["memory.W_gates"] + weights["memory.b_gates"]).sigmoid().unbind(-1)
    )
    held = weights["memory.W_start"].expand(len(stream), -1, -1)
    surprise = torch.zeros_like(held)
    for t in range(stream.shape[1]):  # a recurrence: each step needs the memory of the one before
        error = einsum(keys[:, t], held, "batch k, batch k v -> batch v") - values[:, t]
        gradient = einsum(keys[:, t], error, "batch k, batch v -> batch k v")
        surprise = momentum[:, t, None, None] * surprise - rate[:, t, None, None] * gradient
        held = (1 - forget[:, t, None, None]) * held + surprise
    return einsum(query, held, "batch k, batch k v -> batch v")


def faithful_residual(
    config: FaithfulConfig,
    weights: Weights,
    questions: Int[Tensor, "batch 3"],
    *,
    hook: Hook = no_hook,
    last_only: bool = False,
) -> Float[Tensor, "batch kept d"]:
    """The residual stream after the last block."""
    modulus = hook("hook_modulus", modulus_encoding(config, weights, questions[:, 0]))
    equals = torch.full_like(questions[:, :1], config.n_values + 1)
    rest = hook("hook_embed", weights["embed.W_E"][torch.cat([questions[:, 1:], equals], dim=1)])
    rest = rest + hook("hook_pos_embed", weights["pos_embed.W_pos"][1:].expand_as(rest))
    stream = torch.cat([modulus[:, None], rest], dim=1)
    first = memory(config, weights, stream, hook=hook)
    x = torch.cat([first[:, None], rest], dim=1)
    for layer in range(config.n_layers):
        x = block(config, weights, layer, x, 1, hook, last_only and layer == config.n_layers - 1)
    return x


# what both share


def per_draw(
    x: Float[Tensor, "*batch d"], matrix: Float[Tensor, "inside outside"]
) -> Float[Tensor, "*batch e"]:
    """``x`` times a block-diagonal matrix whose blocks are all ``matrix``."""
    return (x.unflatten(-1, (-1, matrix.shape[0])) @ matrix).flatten(-2)


def block(
    config: MirasConfig,
    weights: Weights,
    layer: int,
    x: Tensor,
    draws: int,
    hook: Hook,
    last_only: bool,
    compared: Tensor | None = None,
) -> Float[Tensor, "batch kept d"]:
    """Attention, then MLP, each added to the residual stream; norms first where the weights have them.

    Queries and keys read ``compared`` where it is given, what is attended to in any case the residual stream.
    """
    name = f"blocks.{layer}."
    x = hook(f"{name}hook_resid_pre", x)
    normed = _norm(weights, f"{name}ln1", x, hook)
    kept = slice(-1, None) if last_only else slice(None)
    mid = x[:, kept] + hook(
        f"{name}hook_attn_out",
        _attention(
            weights, f"{name}attn.", normed, normed if compared is None else compared, kept, draws, hook
        ),
    )
    mid = hook(f"{name}hook_resid_mid", mid)
    out = _mlp(config, weights, f"{name}mlp.", _norm(weights, f"{name}ln2", mid, hook), draws, hook)
    return hook(f"{name}hook_resid_post", mid + hook(f"{name}hook_mlp_out", out))


def _norm(weights: Weights, name: str, x: Tensor, hook: Hook) -> Tensor:
    if f"{name}.w" not in weights:
        return x
    centred = x - x.mean(-1, keepdim=True)
    scale = hook(f"{name}.hook_scale", (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt())
    return hook(f"{name}.hook_normalized", centred / scale * weights[f"{name}.w"] + weights[f"{name}.b"])


def _attention(
    weights: Weights, name: str, x: Tensor, compared: Tensor, kept: slice, draws: int, hook: Hook
) -> Tensor:
    """Every position sees every other, as in the original; keys are compared elementwise, there being only
    four."""

    def heads(letter: str, source: Tensor) -> Float[Tensor, "batch pos head e"]:
        matrix = weights[f"{name}W_{letter}"]
        projected = per_draw(source, rearrange(matrix, "head d e -> d (head e)"))
        return hook(f"{name}hook_{letter.lower()}", projected.unflatten(-1, (draws * len(matrix), -1)))

    q, k, v = heads("Q", compared[:, kept]), heads("K", compared), heads("V", x)
    each = (q[:, :, None] * k[:, None]).sum(-1) / math.sqrt(q.shape[-1])
    scores = hook(f"{name}hook_attn_scores", rearrange(each, "batch query key head -> batch head query key"))
    pattern = hook(f"{name}hook_pattern", scores.softmax(dim=-1))
    weight = rearrange(pattern, "batch head query key -> batch query key head 1")
    z = hook(f"{name}hook_z", (weight * v[:, None]).sum(2))
    w_o = weights[f"{name}W_O"]
    written = (
        hook(f"{name}hook_result", per_head(z, w_o, draws)) if listens(hook, f"{name}hook_result") else None
    )
    if written is not None:
        return written.sum(dim=2)
    return per_draw(z.flatten(-2), rearrange(w_o, "head e d -> (head e) d"))


def per_head(
    z: Float[Tensor, "batch pos head e"], w_o: Float[Tensor, "inner e d"], draws: int
) -> Float[Tensor, "batch pos head draw_d"]:
    """What every head writes into the whole residual stream: its own draw's part, zeros elsewhere."""
    parts = einsum(
        rearrange(z, "batch pos (draw head) e -> batch pos draw head e", draw=draws),
        w_o,
        "batch pos draw head e, head e d -> batch pos draw head d",
    )
    placed = einsum(parts, torch.eye(draws).to(parts), "b p draw head d, draw other -> b p draw head other d")
    return rearrange(placed, "b p draw head other d -> b p (draw head) (other d)")


def listens(hook: Hook, name: str) -> bool:
    """Whether anything wants this (large) activation."""
    wants = getattr(hook, "wants", None)
    return wants is not None and wants(name)


def _mlp(config: MirasConfig, weights: Weights, name: str, x: Tensor, draws: int, hook: Hook) -> Tensor:
    pre = per_draw(x, weights[f"{name}W_in"]) + weights[f"{name}b_in"].repeat(draws)
    if f"{name}W_gate" not in weights:
        post = hook(f"{name}hook_post", hook(f"{name}hook_pre", pre).relu())
        return per_draw(post, weights[f"{name}W_out"]) + weights[f"{name}b_out"].repeat(draws)
    gate = hook(
        f"{name}hook_pre", per_draw(x, weights[f"{name}W_gate"]) + weights[f"{name}b_gate"].repeat(draws)
    )
    linear = hook(f"{name}hook_pre_linear", pre)
    post = hook(f"{name}hook_post", _halves(gate, len(weights[f"{name}b_in"])) * linear)
    return per_draw(post, weights[f"{name}W_out"]) + weights[f"{name}b_out"].repeat(draws)


def _halves(gate: Float[Tensor, "*batch m"], gates: int) -> Float[Tensor, "*batch m"]:
    """The first half of every draw's gates as they are (bilinear units), the second through a sigmoid."""
    first, second = gate.unflatten(-1, (-1, 2, gates // 2)).unbind(-2)
    return torch.stack([first, second.sigmoid()], dim=-2).flatten(-3)
