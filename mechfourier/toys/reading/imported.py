"""A foreign state dict as a network of ours, verified by what it answers."""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mechfourier.errors import BadCheckpoint, OutOfRange, UsageError, nearest
from mechfourier.toys.foreign import Foreign, bring_in, state_dict_of
from mechfourier.toys.forms import DEFAULT
from mechfourier.toys.modular.config import ACTIVATIONS, ModularConfig
from mechfourier.toys.one_layer.task import task
from mechfourier.toys.one_layer.weights import ACTIVATIONS as ONE_LAYER_ACTIVATIONS
from mechfourier.toys.one_layer.weights import OneLayerConfig, parameter_shapes
from mechfourier.toys.reading.acceptance import WARNED, Acceptance, accept
from mechfourier.toys.reading.beside import accuracy_of, configurations, hints_of, task_of
from mechfourier.toys.reading.chain import is_chain
from mechfourier.toys.reading.keymap import apply_key_map
from mechfourier.toys.reading.readings import Reading
from mechfourier.toys.reading.search import Found, otherwise, search
from mechfourier.toys.reading.settings import Hints
from mechfourier.toys.reading.tensors import Assigned, assign, completed

LAYOUTS = (
    "grokking-fourier",
    "hooked-transformer",
    "progress-measures",
    "clock-and-pizza",
    "fused-heads",
    "encoder-layer",
    "hugging-face",
    "mlp",
    "linear",
    "unnamed",
)
ALIASES = {"nanda": "progress-measures"}
CERTAIN = 0.99
"""Accuracy from which on the roles of tensors without names are taken from what they answer."""


@dataclass(frozen=True)
class Wish:
    """How a file is to be read, where the user says so (the options of ``mechfourier import``)."""

    layout: str = "auto"
    entry: str | None = None
    act: str | None = None
    attn_coeff: float | None = None
    task_name: str = "auto"
    key_map: Path | None = None
    ignore: tuple[str, ...] = ()
    table: Path | None = None


def is_foreign(tensors: Mapping[str, Tensor]) -> bool:
    """Whether a (possibly nested) state dict may be read here: it holds two matrices or more."""
    return sum(tensor.ndim >= 2 for tensor in tensors.values()) > 1


def read(
    tensors: Mapping[str, Tensor], wish: Wish | None = None, beside: Mapping[str, Any] | None = None
) -> Foreign:
    """A foreign state dict as our weights and configuration, with its accuracy over all questions.

    Raises ``BadCheckpoint`` naming the first tensor that has no place, or what the network seems to be.
    """
    wish, values = wish or Wish(), beside or {}
    inside, where = state_dict_of(tensors, wish.entry)
    if wish.key_map is not None:
        inside = apply_key_map(inside, wish.key_map)
    hints = _hints(wish, values)
    assigned = assign(inside, wish.ignore)
    layout = layout_of(assigned, inside)
    wanted = ALIASES.get(wish.layout, wish.layout)
    if wanted not in ("auto", *LAYOUTS):
        raise UsageError(
            f"no layout {wish.layout!r}; closest: {nearest(wish.layout, LAYOUTS)}; known: auto, {', '.join(LAYOUTS)}"
        )
    if wanted not in ("auto", layout):
        raise BadCheckpoint(
            f"its tensors are those of {layout}, not of {wanted}; leave out --format, or give that one"
        )
    found = search(inside, assigned, hints)
    judged = accept(found.answers, found.table, tried=found.tried)
    reason = judged.reason or otherwise(found, hints) or _guessed(inside, assigned, found)
    judged = dataclasses.replace(judged, reason=reason)
    notes = [f"read from {where!r}"] if where else []
    layout = "mlp" if found.reading.config.widths else layout
    return _foreign(layout, found, judged, [*notes, *_notes(found, layout, hints, values, judged)])


def _guessed(tensors: Mapping[str, Tensor], assigned: Assigned, found: Found) -> str:
    """Why the best of several ways to give nameless tensors their roles is not taken; empty where it is. A
    wrong one can answer nine questions in ten (attention in other heads, a token left out); the right one of
    a trained network answers nearly all."""
    if found.accuracy >= CERTAIN or found.reading.config.widths:  # networks of MLPs alone have one order
        return ""
    if len(list(itertools.islice(completed(tensors, assigned), 2))) < 2:
        return ""
    return f"and the names of {len(assigned.free)} of its tensors do not say what they are (a key map does: --map)"


def _hints(wish: Wish, values: Mapping[str, Any]) -> Hints:
    """What the user says goes before what the configuration says."""
    hints = hints_of(values)
    if wish.attn_coeff is not None and not 0 <= wish.attn_coeff <= 1:
        raise OutOfRange(
            f"the attention coefficient is {wish.attn_coeff}; it lies between 0 (constant) and 1 (softmax)"
        )
    if wish.act is not None and wish.act not in ACTIVATIONS:
        raise UsageError(
            f"no activation {wish.act!r}; closest: {nearest(wish.act, ACTIVATIONS)}; known: {', '.join(ACTIVATIONS)}"
        )
    tasks = () if wish.task_name == "auto" else (task(wish.task_name).name,)
    table = None if wish.table is None else own_table(wish.table)
    known = hints.questions if table is None else dataclasses.replace(hints.questions, p=len(table))
    return dataclasses.replace(
        hints,
        questions=known,
        act=wish.act or hints.act,
        attn_coeff=hints.attn_coeff if wish.attn_coeff is None else wish.attn_coeff,
        tasks=tasks,
        table=table,
    )


def own_table(path: Path) -> Tensor:
    """A multiplication table from an .npy file: square, whole numbers from 0 to below its length.

    Raises ``UsageError`` where it is none.
    """
    try:
        values = np.load(path, allow_pickle=False, mmap_mode="r")
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{path} is no table in NumPy's format ({type(error).__name__}); write it with numpy.save"
        ) from error
    n = len(values) if values.ndim else 0
    if values.shape != (n, n) or n < 2 or not np.issubdtype(values.dtype, np.integer):
        raise UsageError(
            f"{path} holds {values.dtype} of shape {values.shape}; a table is n × n whole numbers"
        )
    if values.min() < 0 or values.max() >= n:
        raise UsageError(
            f"{path} holds {values.min()} to {values.max()}; the elements of a table of {n} are 0 to {n - 1}"
        )
    return torch.from_numpy(np.array(values, dtype=np.int64))


def layout_of(assigned: Assigned, tensors: Mapping[str, Tensor]) -> str:
    """The name of the layout that the tensors' names and shapes are of."""
    roles = {role: name for (_, role), name in assigned.slots.items()}
    names = " ".join(roles.values()).lower()
    if is_chain(assigned) and not assigned.free:
        return "mlp"
    if not roles:
        return "unnamed"
    if "token_embed.weight" in names and "W_Q" in roles and tensors[roles["W_Q"]].ndim == 3:
        return "grokking-fourier"
    if "embed.w_e" in names and "W_O" in roles:
        if tensors[roles["W_O"]].ndim == 3:
            return "hooked-transformer"
        return "clock-and-pizza" if len(tensors.get(roles.get("W_pos", ""), ())) == 2 else "progress-measures"
    if "self_attn.in_proj" in names or ("self_attn.out_proj" in names and "norm1" in names):
        return "encoder-layer"
    if any(mark in names for mark in ("wte", "c_attn", "embed_tokens", "attention.self.query", "gpt_neox")):
        return "hugging-face"
    return "fused-heads" if "W_QKV" in roles else "linear"


def _foreign(layout: str, found: Found, judged: Acceptance, notes: list[str]) -> Foreign:
    config, weights = _network(found, layout)
    p, name = config.p, config.task
    sizes = f"p = {p}, d_model {config.d_model}, {config.n_heads} head{'s' * (config.n_heads != 1)}, d_mlp {config.d_mlp}"
    sizes += f", {config.n_layers} layers" if config.n_layers > 1 else ""
    return Foreign(
        layout=layout,
        weights=weights,
        config=config,
        accuracy=judged.accuracy,
        refused=judged.reason,
        asked=f"over all {p}² questions ({name})",
        chance=f"guessing: {1 / p:.1%}",
        sizes=sizes,
        notes=tuple(notes),
        facts={
            "p": p,
            "task": name,
            "attn_coeff": config.attn_coeff,
            "architecture": config.record,
            "question": str(found.reading.question),
            "p_value": judged.p_value,
            "notes": list(notes),
        },
        explained=explained(found.reading),
        tried=found.others,
    )


def _network(found: Found, layout: str) -> tuple[OneLayerConfig | ModularConfig, dict[str, Tensor]]:
    """The configuration of the record that has the network: the one-layer analysis takes one layer without
    norms, with softmax attention."""
    reading = found.reading
    config, weights = reading.config, reading.weights
    table = tuple(found.table.flatten().tolist()) if found.task == "table" else ()
    config = dataclasses.replace(config, task=found.task, table=table, model_name=layout)
    plain = config.n_layers == 1 and config.norm == "none" and not config.final_norm and config.pool == "last"
    usual = config.attention == "softmax" and config.d_mlp > 0 and config.act in ONE_LAYER_ACTIVATIONS
    if not (plain and usual) or config.widths or config.gated or config.rotary:
        return config, weights
    biases = any(".b_" in name and bool(value.any()) for name, value in weights.items())
    form = "" if config.form == DEFAULT.get(config.n_ctx) else config.form
    names = ("p", "d_model", "n_heads", "d_head", "d_mlp", "n_ctx", "act", "causal", "attn_coeff", "task")
    same = {name: getattr(config, name) for name in (*names, "model_name", "vocabularies", "table")}
    ours = OneLayerConfig(**same, biases=biases, form=form)
    return ours, {name: weights[name] for name in parameter_shapes(ours)}


def _notes(
    found: Found, layout: str, hints: Hints, values: Mapping[str, Any], judged: Acceptance
) -> list[str]:
    config = found.reading.config
    notes = [f"questions read as {found.reading.question}"]
    if hints.attn_coeff is None and (config.attn_coeff != 1.0 or layout == "clock-and-pizza"):
        notes.append(
            f"attention coefficient {config.attn_coeff:g} taken, by accuracy; --attn-coeff sets another"
        )
    if hints.act is None:
        same = found.acts()
        more = f"; {', '.join(same)} would answer as many (--act sets another)" if same else ""
        notes.append(f"activation {config.act} taken, by accuracy{more}")
    if not hints.tasks and hints.table is None:
        told = task_of(values)
        notes.append(
            f"task {found.task} taken, by accuracy"
            + ("" if told in (None, found.task) else f"; its configuration says {told}")
        )
    left = found.reading.assigned.left_out
    notes += [f"left out: {name} ({why})" for name, why in left.items() if why != "no weights"]
    told = accuracy_of(values)
    if told is not None and abs(told - judged.accuracy) > 0.05:
        notes.append(
            f"its configuration says an accuracy of {told:.1%}; over all questions it is {judged.accuracy:.1%}"
        )
    if judged.accuracy < WARNED:
        others = (
            "; ".join(f"{what}: {share:.1%}" for what, share in found.others)
            or "nothing else fits its shapes"
        )
        notes.append(
            f"warning: only {judged.accuracy:.1%} of the questions are answered; also tried: {others}"
        )
    return notes


def explained(reading: Reading) -> tuple[str, ...]:
    """One line per tensor of the file: what it became, or why it is left out."""
    ours, assigned = reading.ours, reading.assigned
    lines = []
    for name, (theirs, done) in ours.how.items():
        shape = tuple(ours.weights[name].shape)
        lines.append(f"{theirs} → {name} {shape}: {done}")
    return (*lines, *(f"{name}: left out, {why}" for name, why in assigned.left_out.items()))


def import_checkpoint(
    path: str | Path,
    out: str | Path,
    *,
    layout: str = "auto",
    entry: str | None = None,
    act: str | None = None,
    attn_coeff: float | None = None,
    task_name: str = "auto",
    key_map: str | Path | None = None,
    ignore: Sequence[str] = (),
    table: str | Path | None = None,
    force: bool = False,
) -> Foreign:
    """Read, convert, verify and write: afterwards ``out`` is a checkpoint folder like any other.

    The file is read without running code. ``key_map``: a TOML file (`mechfourier.toys.reading.keymap`);
    ``ignore``: patterns of tensors that are not needed; ``table``: the answers, p × p in an .npy file. What
    lies beside the file as its configuration is read. Refused (``BadCheckpoint``) where its answers are those
    of no reading (`mechfourier.toys.reading.acceptance`), unless ``force``.
    """
    wish = Wish(
        layout=layout,
        entry=entry,
        act=act,
        attn_coeff=attn_coeff,
        task_name=task_name,
        key_map=None if key_map is None else Path(key_map),
        ignore=tuple(ignore),
        table=None if table is None else Path(table),
    )
    beside = configurations(Path(path))
    return bring_in(path, out, lambda tensors, values: read(tensors, wish, values | beside), force=force)
