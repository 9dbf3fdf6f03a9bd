"""MIRAS checkpoints of grokking-fourier as ours: the universal model, and the sparse one with the log
encoding.

Their code of one date adds the position embedding of m to its encoding, that of another leaves it out, and the
files do not say which they are of. Ours has none at m, so where it is added it goes into the encoding's bias;
which is right is told by the questions it was trained on: the reading with the smaller loss.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import cross_entropy

from mechfourier.errors import BadCheckpoint, nearest
from mechfourier.toys.foreign import Foreign, bring_in, state_dict_of
from mechfourier.toys.universal.config import FaithfulConfig, parameter_shapes
from mechfourier.toys.universal.model import UniversalModulusTransformer
from mechfourier.toys.universal.task import answers, sample

MARK = "p_embedder.proj.weight"
LAYOUT = "grokking-fourier-miras"
SMALL, LARGEST_TRAINED, PER_MODULUS = 79, 120, 60
ENOUGH = 0.15
"""Accuracy below which a file is refused; guessing reaches 5 %."""
ROOT = {
    "embed.W_E": ("token_embed.weight", "a b -> a b"),
    "pos_embed.W_pos": ("pos_embed.weight", "a b -> a b"),
    "modulus.W": (MARK, "d one -> one d"),
    "modulus.b": ("p_embedder.proj.bias", "d -> d"),
    "memory.W_mem": ("memory_block.W_mem", "a b -> a b"),
    "memory.b_mem": ("memory_block.b_mem", "a -> a"),
    "memory.W_surprise": ("memory_block.surprise_net.weight", "d m -> m d"),
    "memory.b_surprise": ("memory_block.surprise_net.bias", "d -> d"),
    "memory.W_out": ("mem_to_hidden.weight", "d m -> m d"),
    "memory.b_out": ("mem_to_hidden.bias", "d -> d"),
    "unembed.W_U": ("unembed.weight", "answer d -> d answer"),
    "unembed.b_U": ("unembed.bias", "answer -> answer"),
}
LAYER = {
    **{f"attn.W_{x}": (f"W_{x}", "head a b -> head a b") for x in "QKVO"},
    "mlp.W_in": ("mlp.0.weight", "m d -> d m"),
    "mlp.b_in": ("mlp.0.bias", "m -> m"),
    "mlp.W_out": ("mlp.2.weight", "d m -> m d"),
    "mlp.b_out": ("mlp.2.bias", "d -> d"),
    **{f"{ln}.w": (f"{ln}.weight", "d -> d") for ln in ("ln1", "ln2")},
    **{f"{ln}.b": (f"{ln}.bias", "d -> d") for ln in ("ln1", "ln2")},
}


def is_foreign(tensors: Mapping[str, Tensor]) -> bool:
    """Whether a (possibly nested) state dict is a MIRAS model's: it has a modulus encoder."""
    return any(key == MARK or key.endswith(f".{MARK}") for key in tensors)


def convert_miras(tensors: Mapping[str, Tensor], *, entry: str | None = None) -> Foreign:
    """A MIRAS state dict as our weights and configuration; sizes from the shapes.

    Raises ``BadCheckpoint`` naming the first tensor that is missing, left over or misshapen.
    """
    inside, _ = state_dict_of(tensors, entry)
    table = _table(inside)
    _refuse_others(inside, table)
    weights = {ours: _turned(inside[theirs], theirs, axes) for ours, (theirs, axes) in table.items()}
    config = _config(weights)
    for name, shape in parameter_shapes(config).items():
        if tuple(weights[name].shape) != shape:
            raise BadCheckpoint(
                f"{table[name][0]!r} becomes {tuple(weights[name].shape)}, but the other tensors make it "
                f"{shape}"
            )
    weights, note = _with_position(config, weights)
    accuracy = float(_measured(config, weights, 2, SMALL)[1].mean())
    return Foreign(
        layout=LAYOUT,
        weights=weights,
        config=config,
        accuracy=accuracy,
        refused="" if accuracy >= ENOUGH else "which is chance or near it",
        asked=f"on {PER_MODULUS} random questions of each modulus from 2 to {SMALL}",
        chance="guessing: 5 %",
        sizes=f"numbers 0 to {config.n_values - 1}, d_model {config.d_model}, {config.n_layers} layers",
        facts={"n_values": config.n_values, "encoding": config.encoding, "notes": [note]},
        notes=(note,),
    )


def _table(tensors: Mapping[str, Tensor]) -> dict[str, tuple[str, str]]:
    layers = sum(f"layer{i}.W_Q" in tensors for i in range(1, 100))
    table = dict(ROOT)
    for i in range(layers):
        table |= {
            f"blocks.{i}.{name}": (f"layer{i + 1}.{theirs}", axes) for name, (theirs, axes) in LAYER.items()
        }
    return table


def _refuse_others(tensors: Mapping[str, Tensor], table: Mapping[str, tuple[str, str]]) -> None:
    known = {theirs for theirs, _ in table.values()}
    for name in sorted(known - set(tensors)):
        raise BadCheckpoint(
            f"{name!r} is missing, which a MIRAS checkpoint has (closest: {nearest(name, tensors)})"
        )
    for name in tensors:
        if name not in known:
            raise BadCheckpoint(f"{name!r} has no place in a MIRAS model (closest: {nearest(name, known)})")


def _turned(tensor: Tensor, name: str, axes: str) -> Tensor:
    if tensor.ndim != len(axes.split(" -> ")[0].split()):
        raise BadCheckpoint(
            f"{name!r} has shape {tuple(tensor.shape)}, but a MIRAS checkpoint has ({axes}) there"
        )
    return rearrange(tensor.detach().float(), axes).contiguous()


def _config(weights: Mapping[str, Tensor]) -> FaithfulConfig:
    heads, d_model, _ = weights["blocks.0.attn.W_Q"].shape
    inputs = len(weights["modulus.W"])
    if inputs not in (1, 2):
        raise BadCheckpoint(f"{MARK!r} reads {inputs} numbers; a MIRAS encoder reads m, or m and log m")
    return FaithfulConfig(
        n_values=len(weights["embed.W_E"]) - 2,
        d_model=d_model,
        n_heads=heads,
        modulus_scale=1.0,
        d_mlp=weights["blocks.0.mlp.W_in"].shape[1],
        d_mem=weights["memory.W_mem"].shape[1],
        n_layers=sum(name.endswith("attn.W_Q") for name in weights),
        encoding="sinpe" if inputs == 1 else "log",
        model_name=LAYOUT,
    )


def _with_position(config: FaithfulConfig, weights: dict[str, Tensor]) -> tuple[dict[str, Tensor], str]:
    """The weights with the position embedding of m added to the encoding, or without it, and what was found.

    Compared by the loss over moduli that either reading answers better than not; where there are none, or they
    do not differ, as the newer of their codes does it (sparse: added).
    """
    added = weights | {"modulus.b": weights["modulus.b"] + weights["pos_embed.W_pos"][0]}
    usual = config.encoding == "log"
    (loss, right), (loss_added, right_added) = (
        _measured(config, each, 2, LARGEST_TRAINED) for each in (weights, added)
    )
    known = torch.maximum(right, right_added) >= 0.5
    if not bool(known.any()):
        word = "added, as in the sparse model's code" if usual else "left out, as in the newer code"
        return (
            added if usual else weights
        ), f"position embedding of the modulus: {word}; it answers too little to tell"
    without, with_it = float(loss[known].mean()), float(loss_added[known].mean())
    take = usual if without == with_it else with_it < without
    return (added if take else weights), (
        f"position embedding of the modulus: {'added' if take else 'left out'}, by the loss on {int(known.sum())} "
        f"moduli (added {with_it:.4g} nats, left out {without:.4g}; accuracy {float(right_added[known].mean()):.2%} and "
        f"{float(right[known].mean()):.2%})"
    )


@torch.no_grad()
def _measured(
    config: FaithfulConfig, weights: dict[str, Tensor], low: int, high: int
) -> tuple[Float[Tensor, " modulus"], Float[Tensor, " modulus"]]:
    """Loss (nats) and accuracy by modulus from ``low`` to ``high``, on the same random questions each time."""
    model = UniversalModulusTransformer(config, weights=weights)
    losses, rights = [], []
    for m in range(low, min(high, config.largest_modulus) + 1):
        questions = sample(range(m, m + 1), PER_MODULUS, torch.Generator().manual_seed(m))
        logits, wanted = model.answer_logits(questions), answers(questions)
        losses.append(cross_entropy(logits.double(), wanted))
        rights.append((logits.argmax(1) == wanted).double().mean())
    return torch.stack(losses), torch.stack(rights)


def import_miras(
    path: str | Path, out: str | Path, *, entry: str | None = None, force: bool = False
) -> Foreign:
    """Bring a MIRAS checkpoint in (`mechfourier.toys.foreign.bring_in`).

    Refused (``BadCheckpoint``) below 15 % on random questions mod 2..79, where guessing reaches 5 %, unless
    ``force``.
    """
    return bring_in(path, out, lambda tensors, _: convert_miras(tensors, entry=entry), force=force)
