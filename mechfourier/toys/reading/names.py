"""What a tensor is, by its name: a role of ours and the layer it stands in.

Roles are TransformerLens's parameter names without the module (``W_Q``, ``b_in``, ``ln1.w``), and ``W_QKV``,
``b_QKV`` for one tensor that holds all three.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor

BUFFER = re.compile(
    r"(^|[._])(mask|causal_mask|attn_mask|ignore|position_ids|num_batches_tracked|inv_freq|rotary_sin|rotary_cos|masked_bias|tril"
    r"|causal)$"
)
LAYER = re.compile(r"(?:blocks?|layers?|h|resblocks|encoder|decoder|stack)[._]?(\d+)(?:\.|$)")
SEQUENTIAL = re.compile(r"(?:mlp|ffn?|feed_?forward|net|fc)[._](?:\w+\.)*?(\d+)\.(?:weight|bias)$")
ATTENTION = r"(attn|attention|mha|msa|(^|\.)sa\.)"
EDGE = r"(?=$|[._])"

# the first pattern that a (lower-case) name has decides; W stands for a matrix or a bias
ROLES = (
    (
        "W_pos",
        r"w_?pos|wpe|pos(ition(al)?)?[._]?(emb|enc)|(^|\.)pos(ition(s|al)?)?(\.weight)?$|(^|\.)pe(\.weight)?$",
    ),
    (
        "W_U",
        r"w_?u$|b_?u$|unemb|lm_head|embed_out|to_logits|readout|classifier|^(model\.)?(decoder|generator)\."
        r"|(^|\.)(output_?)?head(_out)?\.(weight|bias)$|vocab_proj|^(model\.)?(fc_?out|out|output|proj|output_layer"
        r"|output_proj(ection)?|proj_out|final|linear|fc)\.(weight|bias)$",
    ),
    ("W_E2", r"emb(ed(ding)?)?[._]?(2|b|y)" + EDGE + r"|(^|[._])(y|b|second)_(embed|emb)"),
    ("ln_final", r"(ln|norm|layer_?norm)_?(f|final|out)" + EDGE + r"|final_?(layer_?)?(norm|ln)"),
    (
        "ln1",
        r"(ln|norm|layer_?norm)_?(1|attn|a)"
        + EDGE
        + r"|input_layer_?norm|attn_?(ln|norm)|attention\.output\.layer_?norm"
        r"|attention_norm|sa_layer_norm",
    ),
    (
        "ln2",
        r"(ln|norm|layer_?norm)_?(2|mlp|ff|ffn)"
        + EDGE
        + r"|post_attention_layer_?norm|(mlp|ffn?)_?(ln|norm)|output\.layer_?norm"
        r"|output_layer_norm",
    ),
    ("ln", r"(^|[._])(ln|norm|layer_?norm)"),
    ("W_QKV", r"in_proj_(weight|bias)|in_proj\.|c_attn|w?qkv|kqv|query_key_value"),
    (
        "W_Q",
        r"[wb]_?q(uery)?"
        + EDGE
        + r"|(^|[._])(q|query|queries)(_?(proj|lin|linear|w|map))?"
        + EDGE
        + r"|to_q",
    ),
    ("W_K", r"[wb]_?k(ey)?" + EDGE + r"|(^|[._])(k|keys?)(_?(proj|lin|linear|w|map))?" + EDGE + r"|to_k"),
    ("W_V", r"[wb]_?v(alue)?" + EDGE + r"|(^|[._])(v|values?)(_?(proj|lin|linear|w|map))?" + EDGE + r"|to_v"),
    (
        "W_O",
        r"[wb]_?o(ut(put)?)?"
        + EDGE
        + r"(?<!w_out)(?<!b_out)|(^|[._])o(_?(proj|lin|linear))?"
        + EDGE
        + r"|to_out|out_?lin|unify|out_?proj|o_proj|(^|[._])c_proj"
        + r"|"
        + ATTENTION
        + r".*(proj|dense|out|fc|linear|combine|o)"
        + EDGE,
    ),
    ("W_gate", r"w_?gate|gate_proj|(mlp|ffn?)[._]gate"),
    (
        "W_in",
        r"[wb]_?in"
        + EDGE
        + r"|fc_?1|c_fc|lin(ear)?_?1|up_proj|intermediate|dense_h_to_4h|fc_in|(mlp|ffn?|feed_?forward)[._]w_?1"
        r"|(mlp|ffn?)[._](up|in)" + EDGE + r"|(^|\.)l_?1" + EDGE + r"|hidden",
    ),
    (
        "W_out",
        r"[wb]_?out"
        + EDGE
        + r"|fc_?2|(mlp|ffn?).*c_proj|lin(ear)?_?2|down_proj|dense_4h_to_h|fc_out|(mlp|ffn?|feed_?forward)[._]w_?2"
        r"|(mlp|ffn?)[._](down|out|proj)" + EDGE + r"|(^|\.)l_?2" + EDGE + r"|output\.dense",
    ),
    ("W_E", r"w_?e$|emb|wte|tok"),
)
ROLE = tuple((role, re.compile(pattern)) for role, pattern in ROLES)


@dataclass(frozen=True)
class Named:
    """``role`` is "" where the name says nothing; ``layer`` counts from 0, None outside the blocks."""

    name: str
    role: str
    layer: int | None


def named(tensors: Mapping[str, Tensor]) -> list[Named]:
    """Every tensor with what its name says."""
    sequences = _sequences(tensors)
    found = []
    for name, tensor in tensors.items():
        dotted = name.replace("/", ".")  # Flax and Keras
        role = sequences.get(name) or _role(dotted.lower())
        found.append(Named(name, _of_kind(role, dotted, tensor), _layer(dotted)))
    return _renumbered(found)


def is_buffer(name: str, tensor: Tensor) -> bool:
    """Whether it holds no weights: a mask, indices, a flag."""
    square = tensor.ndim == 4 and tensor.shape[:2] == (1, 1)  # GPT-2's mask, called attn.bias
    return bool(BUFFER.search(name.lower())) or square or not tensor.is_floating_point() or tensor.ndim == 0


def _role(name: str) -> str:
    # "attn.out_proj" is W_O; the same words in an MLP are W_out
    for role, pattern in ROLE:
        if role == "W_O" and re.search(r"mlp|ffn|feed_?forward|intermediate", name):
            continue
        if role == "W_out" and re.search(ATTENTION, name):
            continue
        if pattern.search(name):
            return role
    return ""


def _of_kind(role: str, name: str, tensor: Tensor) -> str:
    """A role of a matrix as that of its bias, or of a norm's weight or bias."""
    last = name.lower().rsplit(".", 1)[-1]
    bias = last.endswith("bias") or bool(re.match(r"b_?\w{0,3}$|beta$|b_ln$", last))
    if role.startswith("ln"):
        return f"{role}.{'b' if bias else 'w'}"
    vector = tensor.ndim == 1 or (bias and role in ("W_Q", "W_K", "W_V", "W_QKV"))
    return role.replace("W_", "b_", 1) if vector and role.startswith("W_") else role


def _layer(name: str) -> int | None:
    found = LAYER.search(name.lower())
    return int(found[1]) if found else None


def _sequences(names: Iterable[str]) -> dict[str, str]:
    """``mlp.0`` and ``mlp.2`` of a Sequential: its first matrix goes in, its last comes out."""
    groups: dict[str, dict[int, list[str]]] = {}
    for name in names:
        if (found := SEQUENTIAL.search(name.lower())) and not re.search(ATTENTION, name.lower()):
            groups.setdefault(name[: found.start(1)], {}).setdefault(int(found[1]), []).append(name)
    out = {}
    for numbers in groups.values():
        if len(numbers) == 2:
            for number, role in zip(sorted(numbers), ("W_in", "W_out"), strict=True):
                out |= dict.fromkeys(numbers[number], role)
    return out


def _renumbered(found: list[Named]) -> list[Named]:
    """Layers counted from 0 without gaps (some begin at 1); what stands outside the blocks is of layer 0
    where the role is a block's."""
    layers = sorted({each.layer for each in found if each.layer is not None and _inside(each.role)})
    order: dict[int | None, int] = {layer: at for at, layer in enumerate(layers)}
    return [
        Named(each.name, each.role, order.get(each.layer, 0) if _inside(each.role) else None)
        for each in found
    ]


def _inside(role: str) -> bool:
    return role not in ("W_E", "W_E2", "W_pos", "W_U", "b_U", "ln_final.w", "ln_final.b")
