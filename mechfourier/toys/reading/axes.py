"""Tensors in our axes: transposed, split into heads, taken out of a fused one; every choice that shapes leave
open is an `Axes`."""

import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import torch
from einops import rearrange
from torch import Tensor

from mechfourier.toys.reading.tensors import Assigned

USUAL_HEADS = (4, 1, 2, 8, 16, 3, 6, 5, 12, 10)
CONV1D = re.compile(r"(c_attn|c_proj|c_fc)\.weight$")  # Hugging Face's GPT-2 keeps [in, out] under .weight
QKV = ("W_Q", "W_K", "W_V")


@dataclass(frozen=True)
class Axes:
    """``heads``: how many a matrix is split into. ``turned``: square matrices that are transposed against what
    their name suggests. ``heads_last``: of three axes, the heads are the last that is not the width.
    ``by_head``: a fused tensor holds q, k and v of each head together. ``width_last``: q, k and v are
    [head, e, d], so W_O is [d, head · e]."""

    heads: int = 1
    turned: frozenset[str] = frozenset()
    heads_last: bool = False
    by_head: bool = False
    width_last: bool = False


@dataclass(frozen=True)
class Ours:
    """``weights`` by TransformerLens name (the vocabulary as it is in the file), and ``how`` each was made
    of theirs: our name → (their name, what was done)."""

    weights: dict[str, Tensor]
    how: Mapping[str, tuple[str, str]] = field(default_factory=dict)


def choices(tensors: Mapping[str, Tensor], assigned: Assigned, d: int, heads: int | None) -> Iterator[Axes]:
    """What the shapes leave open, the likeliest first."""
    square, split, three, fused, plain = [], False, False, False, False
    for (_, role), name in assigned.slots.items():
        tensor = tensors[name].squeeze()
        if role in (*QKV, "W_O", "W_in", "W_out", "W_E", "W_E2", "W_U") and tensor.shape == (d, d):
            square.append(role)
        split |= role in (*QKV, "W_QKV") and tensor.ndim == 2
        three |= role in QKV and tensor.ndim == 3
        fused |= role == "W_QKV"
        plain |= role == "W_QKV" and tensor.shape[-1] == d and bool(CONV1D.search(name.lower()))
    counts = list(dict.fromkeys(n for n in (heads or USUAL_HEADS[0], *USUAL_HEADS) if d % n == 0))
    for turned, by_head, last, count in itertools.product(
        _turns(square, plain),
        (False, True)[: 1 + fused],
        (False, True)[: 1 + three],
        counts if split else [1],
    ):
        yield Axes(count, turned, last, by_head)


def _turns(square: list[str], plain: bool) -> list[frozenset[str]]:
    """Q, K and V turned together, then every one for itself; few turns first. ``plain``: nn.Linear under the
    names of GPT-2's Conv1D, so W_O is turned too."""
    roles = list(dict.fromkeys(square))
    if len(roles) > 6:
        roles = [role for role in roles if role not in ("W_E", "W_E2", "W_U")]
    together = [tuple(role for role in roles if role in QKV), *((role,) for role in roles if role not in QKV)]
    groups = [group for group in together if group]
    joint = [
        frozenset(itertools.chain(*chosen))
        for n in range(len(groups) + 1)
        for chosen in itertools.combinations(groups, n)
    ]
    single = [frozenset(chosen) for n in range(len(roles) + 1) for chosen in itertools.combinations(roles, n)]
    first = [frozenset({"W_O"})] if plain and "W_O" in roles else []
    return list(dict.fromkeys([*first, *joint, *single]))


def in_our_axes(tensors: Mapping[str, Tensor], assigned: Assigned, d: int, axes: Axes) -> Ours | None:
    """The assigned tensors as ours; None where one of them does not fit its role."""
    weights: dict[str, Tensor] = {}
    how: dict[str, tuple[str, str]] = {}
    for (layer, role), name in sorted(assigned.slots.items(), key=lambda slot: slot[0][1] not in QKV):
        query = weights.get(f"blocks.{layer}.attn.W_Q")
        if query is not None:  # W_O and the biases are as W_Q is
            axes = replace(
                axes, heads=len(query), width_last=how[f"blocks.{layer}.attn.W_Q"][1] == "h e d to h d e"
            )
        for ours, (tensor, done) in _made(role, name, tensors[name], d, axes).items():
            full = _full_name(layer, ours)
            weights[full], how[full] = tensor, (name, done)
        if not any(theirs == name for theirs, _ in how.values()):
            return None
    return Ours(weights, how) if _heads_agree(weights) else None


def _heads_agree(weights: Mapping[str, Tensor]) -> bool:
    shapes = {name.rsplit(".", 1)[0]: weights[name].shape for name in weights if name.endswith("attn.W_Q")}
    for name, tensor in weights.items():
        block, _, last = name.rpartition(".")
        if block not in shapes or not last.startswith(("W_", "b_")):
            continue
        h, d, e = shapes[block]
        wanted = {"W_O": (h, e, d), "b_O": (d,)}.get(last, (h, d, e) if last.startswith("W_") else (h, e))
        if tuple(tensor.shape) != wanted:
            return False
    return True


def _full_name(layer: int | None, role: str) -> str:
    outer = {
        "W_E": "embed.W_E",
        "W_E2": "embed.W_E2",
        "W_pos": "pos_embed.W_pos",
        "W_U": "unembed.W_U",
        "b_U": "unembed.b_U",
    }
    if layer is None:
        return outer.get(role, role)
    part = (
        "" if role.startswith("ln") else "mlp." if role.split("_")[-1] in ("in", "out", "gate") else "attn."
    )
    return f"blocks.{layer}.{part}{role}"


def _made(role: str, name: str, tensor: Tensor, d: int, axes: Axes) -> dict[str, tuple[Tensor, str]]:
    """Our roles that a tensor becomes, with what was done; none where it does not fit."""
    if role in ("W_QKV", "b_QKV"):
        return _fused(role, name, tensor.detach(), d, axes)
    plain = tensor.detach() if role in QKV or role == "W_O" else tensor.detach().squeeze()
    if role in QKV:
        found = _heads_in(role, name, plain, d, axes)
    elif role == "W_O":
        found = _heads_out(name, plain, d, axes)
    elif role in ("b_Q", "b_K", "b_V"):
        found = _head_bias(plain, axes)
    elif role.startswith(("b_", "ln")):
        found = (plain, "as it is") if plain.ndim == 1 else None
    else:
        found = _matrix(role, name, plain, d, axes)
    return {} if found is None else {role: (_wide(found[0]).contiguous(), found[1])}


def _wide(tensor: Tensor) -> Tensor:
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def _matrix(role: str, name: str, tensor: Tensor, d: int, axes: Axes) -> tuple[Tensor, str] | None:
    """[vocab, d], [pos, d], [d, m], [m, d], [d, answer]."""
    if tensor.ndim != 2 or d not in tensor.shape:
        return None
    first = role in ("W_in", "W_gate", "W_U")  # d is the first axis of ours
    if tensor.shape[0] == tensor.shape[1]:
        turn = _linear(name) and role in ("W_in", "W_gate", "W_out", "W_U")
        turn ^= role in axes.turned
    else:
        turn = (tensor.shape[0] == d) != first
    return (tensor.T, "transposed") if turn else (tensor, "as it is")


def _linear(name: str) -> bool:
    """nn.Linear keeps [out, in]."""
    lower = name.lower()
    return lower.endswith(("weight", "weight_orig")) and not CONV1D.search(lower)


def _heads_in(role: str, name: str, tensor: Tensor, d: int, axes: Axes) -> tuple[Tensor, str] | None:
    """To [head, d, e]."""
    if tensor.ndim == 3:
        return _three(tensor, d, axes, "h d e")
    if tensor.ndim != 2 or d not in tensor.shape:
        return None
    turn = _linear(name) if tensor.shape[0] == tensor.shape[1] else tensor.shape[0] != d
    turn ^= role in axes.turned and tensor.shape[0] == tensor.shape[1]
    matrix = tensor.T if turn else tensor
    done = f"{'transposed, ' if turn else ''}split into {axes.heads} heads"
    e, shared = divmod(matrix.shape[0], axes.heads)
    if role != "W_Q" and matrix.shape[1] < matrix.shape[0] and not shared and matrix.shape[1] % e == 0:
        few = rearrange(matrix, "d (h e) -> h d e", e=e)  # heads that several queries share
        if axes.heads % len(few) == 0:
            repeated = few.repeat_interleave(axes.heads // len(few), 0)
            return repeated, f"{done}, {len(few)} of them shared"
    if matrix.shape[1] % axes.heads:
        return None
    return rearrange(matrix, "d (h e) -> h d e", h=axes.heads), done


def _heads_out(name: str, tensor: Tensor, d: int, axes: Axes) -> tuple[Tensor, str] | None:
    """To [head, e, d]."""
    if tensor.ndim == 3:
        return _three(tensor, d, axes, "h e d")
    if tensor.ndim != 2 or d not in tensor.shape:
        return None
    turn = _linear(name) or axes.width_last if tensor.shape[0] == tensor.shape[1] else tensor.shape[1] != d
    turn ^= "W_O" in axes.turned and tensor.shape[0] == tensor.shape[1]
    matrix = tensor.T if turn else tensor
    if matrix.shape[0] % axes.heads:
        return None
    done = f"{'transposed, ' if turn else ''}split into {axes.heads} heads"
    return rearrange(matrix, "(h e) d -> h e d", h=axes.heads), done


def _three(tensor: Tensor, d: int, axes: Axes, ours: str) -> tuple[Tensor, str] | None:
    """Three axes, told apart by their sizes: d is the width, heads stand before e unless ``heads_last``."""
    where = [at for at, size in enumerate(tensor.shape) if size == d]
    if not where:
        return None
    wide = where[-1] if ours == "h e d" and len(where) > 1 else where[0]
    if len(where) > 1 and tensor.shape[0] != d:
        wide = 1 if ours == "h d e" else 2
    one, other = (at for at in range(3) if at != wide)
    heads, e = (other, one) if axes.heads_last else (one, other)
    names = {heads: "h", wide: "d", e: "e"}
    theirs = " ".join(names[at] for at in range(3))
    return rearrange(tensor, f"{theirs} -> {ours}"), "as it is" if theirs == ours else f"{theirs} to {ours}"


def _head_bias(tensor: Tensor, axes: Axes) -> tuple[Tensor, str] | None:
    if tensor.ndim == 2:
        return (tensor.T, "transposed") if axes.heads_last else (tensor, "as it is")
    if tensor.ndim != 1 or len(tensor) % axes.heads:
        return None
    return rearrange(tensor, "(h e) -> h e", h=axes.heads), f"split into {axes.heads} heads"


def _fused(role: str, name: str, tensor: Tensor, d: int, axes: Axes) -> dict[str, tuple[Tensor, str]]:
    """q, k and v out of one tensor: one after the other, or head by head; or stacked along an axis of three."""
    if tensor.ndim >= 3 and len(tensor) == 3:
        return _stacked(name, tensor, d, axes)
    if role == "b_QKV":
        flat, turned = tensor.flatten(), ""
    elif tensor.ndim != 2 or d not in tensor.shape:
        return {}
    else:
        flat, turned = (tensor, "transposed, ") if tensor.shape[1] == d else (tensor.T, "")
    if flat.shape[0] % (3 * axes.heads):
        return {}
    pattern = "(h three e) ... -> three h e ..." if axes.by_head else "(three h e) ... -> three h e ..."
    parts = rearrange(flat, pattern, three=3, h=axes.heads)
    order = "by head" if axes.by_head else "one after the other"
    out = {}
    for at, (x, part) in enumerate(zip("QKV", parts, strict=True)):
        ours = rearrange(part, "h e d -> h d e") if part.ndim == 3 else part
        done = f"{turned}part {at + 1} of 3 ({order}), split into {axes.heads} heads"
        out[f"{role[0]}_{x}"] = (_wide(ours).contiguous(), done)
    return out


def _stacked(name: str, tensor: Tensor, d: int, axes: Axes) -> dict[str, tuple[Tensor, str]]:
    out = {}
    for at, (role, part) in enumerate(zip(QKV, tensor, strict=True)):
        found = _heads_in(role, name, part, d, axes)
        if found is None:
            return {}
        out[role] = (_wide(found[0]).contiguous(), f"part {at + 1} of 3, {found[1]}")
    return out
