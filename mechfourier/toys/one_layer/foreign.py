"""Other people's one-layer checkpoints as ours: four layouts, told apart by their keys and shapes, verified
before use.

Every layout is a table "our name ← their name, their axes"; conversion is one einops pattern per tensor.
"""

import dataclasses
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from einops import rearrange
from jaxtyping import Int
from torch import Tensor

from mechfourier.errors import BadCheckpoint, OutOfRange, UsageError, nearest
from mechfourier.toys.foreign import Foreign, bring_in, state_dict_of
from mechfourier.toys.one_layer.model import OneLayerTransformer
from mechfourier.toys.one_layer.task import S5, TASKS, task
from mechfourier.toys.one_layer.weights import OneLayerConfig, parameter_shapes

ATTN, MLP = "blocks.0.attn.", "blocks.0.mlp."
OURS = {
    "embed.W_E": "vocab d",
    "pos_embed.W_pos": "pos d",
    **{f"{ATTN}W_{x}": "head d e" for x in "QKV"},
    **{f"{ATTN}b_{x}": "head e" for x in "QKV"},
    f"{ATTN}W_O": "head e d",
    f"{ATTN}b_O": "d",
    f"{MLP}W_in": "d m",
    f"{MLP}b_in": "m",
    f"{MLP}W_out": "m d",
    f"{MLP}b_out": "d",
    "unembed.W_U": "d answer",
    "unembed.b_U": "answer",
}


@dataclass(frozen=True)
class Layout:
    """``axes``: our name → (their name, their axes). ``positions``: rows of W_pos. ``buffers``: ends of names
    that hold no weights (masks) and are passed over."""

    name: str
    axes: Mapping[str, tuple[str, str]]
    positions: int
    buffers: tuple[str, ...] = ("mask", "IGNORE")


def _nanda_axes() -> dict[str, tuple[str, str]]:
    turned = {
        "embed.W_E": "d vocab",
        **{f"{ATTN}W_{x}": "head e d" for x in "QKV"},
        f"{ATTN}W_O": "d (head e)",
        f"{MLP}W_in": "m d",
        f"{MLP}W_out": "d m",
    }
    plain = ("pos_embed.W_pos", f"{MLP}b_in", f"{MLP}b_out", "unembed.W_U", "unembed.b_U")
    return {name: (name, axes) for name, axes in (turned | {name: OURS[name] for name in plain}).items()}


LAYOUTS = {
    layout.name: layout
    for layout in (
        Layout(
            "grokking-fourier",
            {
                "embed.W_E": ("token_embed.weight", "vocab d"),
                "pos_embed.W_pos": ("pos_embed.weight", "pos d"),
                **{f"{ATTN}W_{x}": (f"W_{x}", "head d e") for x in "QKV"},
                f"{ATTN}W_O": ("W_O", "head e d"),
                f"{MLP}W_in": ("W_in.weight", "m d"),
                f"{MLP}b_in": ("W_in.bias", "m"),
                f"{MLP}W_out": ("W_out.weight", "d m"),
                f"{MLP}b_out": ("W_out.bias", "d"),
                "unembed.W_U": ("unembed.weight", "answer d"),
                "unembed.b_U": ("unembed.bias", "answer"),
            },
            positions=3,
        ),
        Layout("hooked-transformer", {name: (name, axes) for name, axes in OURS.items()}, positions=3),
        Layout("nanda", _nanda_axes(), positions=3),
        Layout("clock-and-pizza", _nanda_axes(), positions=2),
    )
}
REQUIRED = tuple(name for name in OURS if ".b_" not in name)


def detect(tensors: Mapping[str, Tensor]) -> Layout:
    """The layout of a state dict, by its keys and shapes; raises ``BadCheckpoint`` where it is none that is
    known.

    ``token_embed.weight`` is grokking-fourier's. Of those with ``embed.W_E``, a three-axis W_O is a
    HookedTransformer's; a two-axis one is of Nanda's runs with three positions, of clock-and-pizza's with
    two.
    """
    if "token_embed.weight" in tensors:
        return LAYOUTS["grokking-fourier"]
    w_o, w_pos = tensors.get(f"{ATTN}W_O"), tensors.get("pos_embed.W_pos")
    if "embed.W_E" in tensors and w_o is not None and w_pos is not None and w_pos.ndim == 2:
        if w_o.ndim == 3:
            return LAYOUTS["hooked-transformer"]
        return LAYOUTS["clock-and-pizza" if len(w_pos) == 2 else "nanda"]
    first = next(iter(tensors), "nothing")
    known = {foreign for layout in LAYOUTS.values() for foreign, _ in layout.axes.values()}
    lacks = next((n for n in ("embed.W_E", "pos_embed.W_pos", f"{ATTN}W_O") if n not in tensors), first)
    raise BadCheckpoint(
        f"no known layout: {lacks!r} is missing and {first!r} begins it (closest known: "
        f"{nearest(first, known)}); "
        f"layouts: {', '.join(LAYOUTS)}"
    )


def convert(
    tensors: Mapping[str, Tensor],
    *,
    layout: str = "auto",
    entry: str | None = None,
    act: str = "relu",
    attn_coeff: float | None = None,
    task_name: str = "auto",
) -> Foreign:
    """A foreign state dict as our weights and configuration, with its accuracy over the full grid.

    ``layout``: a name in ``LAYOUTS`` or ``auto``. ``attn_coeff`` (clock-and-pizza): 1 is softmax attention, 0
    constant; where it is not given, the better of the two is kept. ``task_name`` likewise. An answer row for
    ``=`` is dropped. Raises ``BadCheckpoint`` naming the first tensor that does not fit.
    """
    inside, where = state_dict_of(tensors, entry)
    plan = _named(layout) if layout != "auto" else detect(inside)
    if plan.name == "hooked-transformer" and len(inside.get("pos_embed.W_pos", ())) == 2:
        plan = dataclasses.replace(plan, positions=2)  # one without "="
    weights, causal = _converted(inside, plan), plan.name != "clock-and-pizza"
    p = len(weights["embed.W_E"]) - (plan.positions == 3)
    weights = _cut(weights, p, plan)
    notes = [f"read from {where!r}"] if where else []
    if attn_coeff is not None and not 0 <= attn_coeff <= 1:
        raise OutOfRange(
            f"the attention coefficient is {attn_coeff}; it lies between 0 (constant) and 1 (softmax)"
        )
    choices = [1.0, 0.0] if plan.name == "clock-and-pizza" else [1.0]
    choices = choices if attn_coeff is None else [attn_coeff]
    found = []
    for coefficient in choices:
        config = _config(weights, p, plan, act=act, causal=causal, attn_coeff=coefficient)
        found += [(score, name, config) for name, score in _accuracies(config, weights, task_name)]
    accuracy, name, config = max(found, key=lambda row: row[0])
    if len(choices) > 1:
        notes.append(f"attention coefficient {config.attn_coeff:g} taken, by accuracy")
    if task_name == "auto":
        notes.append(f"task {name} taken, by accuracy")
    config = OneLayerConfig.from_dict({**config.to_dict(), "task": name})
    return _foreign(plan.name, _complete(weights, config), config, accuracy, tuple(notes))


def _foreign(
    layout: str, weights: dict[str, Tensor], config: OneLayerConfig, accuracy: float, notes: tuple[str, ...]
) -> Foreign:
    """A wrongly read layout answers at chance; a network that only memorised 30 % passes."""
    p, chance = config.p, 1 / config.p
    return Foreign(
        layout=layout,
        weights=weights,
        config=config,
        accuracy=accuracy,
        required=chance + 0.1,
        asked=f"over all {p}² questions ({config.task})",
        chance=f"guessing: {chance:.1%}",
        sizes=f"p = {p}, d_model {config.d_model}, {config.n_heads} heads, d_mlp {config.d_mlp}",
        notes=notes,
        facts={
            "p": p,
            "task": config.task,
            "attn_coeff": config.attn_coeff,
            "biases": config.biases,
            "notes": list(notes),
        },
    )


def is_foreign(tensors: Mapping[str, Tensor]) -> bool:
    """Whether a (possibly nested) state dict has one of the embeddings of a one-layer model."""
    marks = ("embed.W_E", "token_embed.weight")
    return any(key == mark or key.endswith(f".{mark}") for key in tensors for mark in marks)


def _named(layout: str) -> Layout:
    if layout not in LAYOUTS:
        raise UsageError(
            f"no layout {layout!r}; closest: {nearest(layout, LAYOUTS)}; known: auto, {', '.join(LAYOUTS)}"
        )
    return LAYOUTS[layout]


def _converted(tensors: Mapping[str, Tensor], plan: Layout) -> dict[str, Tensor]:
    """Every tensor in our axes (float32 or wider); the first that does not fit is named."""
    sizes = _Sizes(plan)
    for ours in REQUIRED:
        foreign, _ = plan.axes[ours]
        if foreign not in tensors:
            raise BadCheckpoint(
                f"{foreign!r} is missing, which a {plan.name} checkpoint has (closest: "
                f"{nearest(foreign, tensors)})"
            )
    known = {foreign: (ours, axes) for ours, (foreign, axes) in plan.axes.items()}
    for key in tensors:
        if key not in known and not key.endswith(plan.buffers):
            raise BadCheckpoint(
                f"{key!r} has no place in a one-layer {plan.name} model without layer norm "
                f"(closest: {nearest(key, known)})"
            )
    for ours, (
        foreign,
        axes,
    ) in plan.axes.items():  # a fixed order, so that the first offence is always the same
        if foreign in tensors:
            sizes.check(foreign, tensors[foreign], axes)
            del ours
    return {
        ours: rearrange(_wide(tensors[foreign]), f"{axes} -> {OURS[ours]}", **sizes.of(axes)).contiguous()
        for ours, (foreign, axes) in plan.axes.items()
        if foreign in tensors
    }


def _wide(tensor: Tensor) -> Tensor:
    return tensor.detach() if tensor.dtype == torch.float64 else tensor.detach().float()


class _Sizes:
    """The length of every axis, from the first tensor that has it."""

    def __init__(self, plan: Layout) -> None:
        self.plan, self.known = plan, dict[str, int]()

    def check(self, key: str, tensor: Tensor, axes: str) -> None:
        names = axes.replace("(head e)", "joined").split()
        if tensor.ndim != len(names):
            self._refuse(key, tensor, axes)
        for name, length in zip(names, tensor.shape, strict=True):
            if name == "joined":
                if length != self.known["head"] * self.known["e"]:
                    self._refuse(key, tensor, axes)
            elif self.known.setdefault(name, length) != length:
                self._refuse(key, tensor, axes)

    def _refuse(self, key: str, tensor: Tensor, axes: str) -> None:
        wanted = ", ".join(
            f"{name} = {self.known[name]}" if name in self.known else name
            for name in axes.replace("(", "").replace(")", "").split()
        )
        raise BadCheckpoint(
            f"{key!r} has shape {tuple(tensor.shape)}, but a {self.plan.name} checkpoint has ({wanted}) "
            f"there, "
            "going by the tensors before it; is it another layout (--format)?"
        )

    def of(self, axes: str) -> dict[str, int]:
        return {name: self.known[name] for name in ("head", "e") if "(" in axes}


def _cut(weights: dict[str, Tensor], p: int, plan: Layout) -> dict[str, Tensor]:
    """Keep the positions that are read and the p answers (a logit for ``=`` is never right)."""
    rows, answers = len(weights["pos_embed.W_pos"]), weights["unembed.W_U"].shape[1]
    if p < 1 or answers not in (p, len(weights["embed.W_E"])):
        key = plan.axes["unembed.W_U"][0]
        raise BadCheckpoint(
            f"{key!r} gives {answers} answers for {len(weights['embed.W_E'])} tokens; a {plan.name} model of "
            f"p numbers has p = {p} answers, or one per token"
        )
    if rows < plan.positions or (plan.positions == 2 and rows > 2):  # a third position would be the "="
        key = plan.axes["pos_embed.W_pos"][0]
        raise BadCheckpoint(f"{key!r} has {rows} positions; a {plan.name} model reads {plan.positions}")
    cut = dict(weights)
    cut["pos_embed.W_pos"] = weights["pos_embed.W_pos"][: plan.positions].contiguous()
    cut["unembed.W_U"] = weights["unembed.W_U"][:, :p].contiguous()
    if "unembed.b_U" in cut:
        cut["unembed.b_U"] = weights["unembed.b_U"][:p].contiguous()
    return cut


def _config(
    weights: dict[str, Tensor], p: int, plan: Layout, *, act: str, causal: bool, attn_coeff: float
) -> OneLayerConfig:
    heads, d_model, d_head = weights[f"{ATTN}W_Q"].shape
    return OneLayerConfig(
        p=p,
        d_model=d_model,
        n_heads=heads,
        d_head=d_head,
        d_mlp=weights[f"{MLP}W_in"].shape[1],
        n_ctx=plan.positions,
        act=act,
        causal=causal,
        attn_coeff=attn_coeff,
        model_name=plan.name,
        biases=any(".b_" in name and bool(value.any()) for name, value in weights.items()),
    )


def _complete(weights: dict[str, Tensor], config: OneLayerConfig) -> dict[str, Tensor]:
    """All parameters of the configuration, biases that the file lacks being zero."""
    dtype = weights["embed.W_E"].dtype
    return {
        name: weights[name] if name in weights else torch.zeros(shape, dtype=dtype)
        for name, shape in parameter_shapes(config).items()
    }


def _accuracies(
    config: OneLayerConfig, weights: dict[str, Tensor], task_name: str
) -> Iterator[tuple[str, float]]:
    """Accuracy over all p² questions, for the task asked for or for every one that this p suits."""
    found = predictions(_complete(weights, config), config)
    suitable = [name for name in TASKS if name != "s5" or config.p == len(S5)]
    for name in suitable if task_name == "auto" else [task_name]:
        yield name, float((found == task(name).table(config.p)).double().mean())


def predictions(weights: dict[str, Tensor], config: OneLayerConfig) -> Int[Tensor, "p p"]:
    """The model's answer to every (a, b), by its ordinary forward pass."""
    p = config.p
    model = OneLayerTransformer(config, weights=weights)
    pairs = torch.cartesian_prod(torch.arange(p), torch.arange(p))
    tokens = torch.cat([pairs, torch.full_like(pairs[:, :1], p)], 1) if config.n_ctx == 3 else pairs
    with torch.no_grad():
        answers = [model(part)[:, -1].argmax(-1) for part in tokens.split(4096)]
    return torch.cat(answers).reshape(p, p)


def import_checkpoint(
    path: str | Path,
    out: str | Path,
    *,
    layout: str = "auto",
    entry: str | None = None,
    act: str = "relu",
    attn_coeff: float | None = None,
    task_name: str = "auto",
    force: bool = False,
) -> Foreign:
    """Read, convert, verify and write: afterwards ``out`` is a checkpoint folder like any other.

    The file is read with ``weights_only=True``. Refused (``BadCheckpoint``) where the accuracy over all
    questions is not ten points above chance, unless ``force``. ``attn_coeff`` is also looked for in the
    ``config_….json`` beside a clock-and-pizza ``model_….pt``.
    """
    attn_coeff = _coefficient_beside(Path(path)) if attn_coeff is None else attn_coeff
    settings = {
        "layout": layout,
        "entry": entry,
        "act": act,
        "attn_coeff": attn_coeff,
        "task_name": task_name,
    }
    return bring_in(path, out, lambda tensors: convert(tensors, **settings), force=force)


def _coefficient_beside(path: Path) -> float | None:
    """``attn_coeff`` of ``config_RUN.json`` beside ``model_RUN.pt``."""
    beside = path.with_name(path.stem.replace("model", "config", 1) + ".json")
    if not path.stem.startswith("model_") or not beside.is_file():
        return None
    try:
        value = json.loads(beside.read_text(encoding="utf-8")).get("attn_coeff")
    except (ValueError, AttributeError):
        return None
    return float(value) if isinstance(value, int | float) else None
