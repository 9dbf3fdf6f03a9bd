"""Which tensor of a state dict becomes which of ours: by name, and where names say nothing by shape."""

import fnmatch
import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from mechfourier.errors import BadCheckpoint, nearest
from mechfourier.toys.reading.names import is_buffer, named
from mechfourier.toys.reading.questions import MOST_SPECIALS

MOST_POSITIONS = 8
OUTER = ("W_E", "W_pos", "W_U")
Slot = tuple[int | None, str]  # layer (None outside the blocks) and role


@dataclass(frozen=True)
class Assigned:
    """``slots``: role and layer → their name; ``left_out``: their name → why it is not needed; ``free``: what
    found no role."""

    slots: Mapping[Slot, str]
    left_out: Mapping[str, str] = field(default_factory=dict)
    free: tuple[str, ...] = ()

    def names(self, layer: int | None) -> dict[str, str]:
        """Roles of one layer."""
        return {role: name for (at, role), name in self.slots.items() if at == layer}

    @property
    def layers(self) -> int:
        return 1 + max((at for at, _ in self.slots if at is not None), default=-1)


def assign(tensors: Mapping[str, Tensor], ignore: Sequence[str] = ()) -> Assigned:
    """Roles by name. Tensors that match a pattern of ``ignore``, hold no weights, or equal another (or its
    transpose) that has the role already are left out, and said."""
    left_out: dict[str, str] = {}
    kept: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if pattern := next((each for each in ignore if fnmatch.fnmatch(name, each)), None):
            left_out[name] = f"--ignore {pattern}"
        elif is_buffer(name, tensor):
            left_out[name] = "no weights"
        else:
            kept[name] = tensor
    slots: dict[Slot, str] = {}
    free: list[str] = []
    for each in named(kept):
        slot = (each.layer, each.role)
        if (
            each.role == "ln.w" or each.role == "ln.b"
        ):  # one that is not numbered stands before the unembedding
            slot = (None, f"ln_final.{each.role[-1]}")
        if not each.role:
            free.append(each.name)
        elif slot not in slots:
            slots[slot] = each.name
        elif (
            slot == (None, "W_E") and (None, "W_E2") not in slots and not _equal(kept, each.name, slots[slot])
        ):
            slots[None, "W_E2"] = each.name
        else:
            free.append(each.name)
    _two_tables(slots, kept, free)
    return _without_copies(slots, kept, free, left_out)


def _two_tables(slots: dict[Slot, str], kept: Mapping[str, Tensor], free: list[str]) -> None:
    """A second table of embeddings is only one where it differs from the first and is as large."""
    first, second = slots.get((None, "W_E")), slots.get((None, "W_E2"))
    if second is None:
        return
    if first is None or kept[first].shape != kept[second].shape or _equal(kept, first, second):
        del slots[None, "W_E2"]
        if first is None:
            slots[None, "W_E"] = second
        else:
            free.append(second)


def _without_copies(
    slots: dict[Slot, str], kept: Mapping[str, Tensor], free: list[str], left_out: dict[str, str]
) -> Assigned:
    still = []
    for name in free:
        twin = next((other for other in slots.values() if _equal(kept, name, other)), None)
        if twin is None:
            still.append(name)
        else:
            left_out[name] = f"equal to {twin}"
    return Assigned(slots, left_out, tuple(still))


def _equal(tensors: Mapping[str, Tensor], one: str, other: str) -> bool:
    a, b = tensors[one].squeeze(), tensors[other].squeeze()
    if a.shape == b.shape and torch.equal(a, b):
        return True
    return a.ndim == 2 and b.ndim == 2 and a.T.shape == b.shape and torch.equal(a.T, b)


def d_model(tensors: Mapping[str, Tensor], assigned: Assigned) -> int:
    """The width of the residual stream: that of the norms, or the size that most matrices share."""
    for role in ("ln1.w", "ln_final.w"):
        found = next((name for (_, each), name in assigned.slots.items() if each == role), None)
        if found is not None:
            return tensors[found].numel()
    outer = [
        set(tensors[name].squeeze().shape) for (_, role), name in assigned.slots.items() if role in OUTER
    ]
    for one, other in itertools.combinations(outer, 2):  # tokens, positions and answers share the width alone
        if len(one & other) == 1:
            return (one & other).pop()
    sizes = Counter[int]()
    for (_, role), name in (*assigned.slots.items(), *(((None, ""), name) for name in assigned.free)):
        if tensors[name].ndim > 1 and not role.startswith("b_"):
            sizes.update(set(tensors[name].shape))
    if not sizes:
        raise BadCheckpoint("it holds no matrices, so it is no network; give a file with a state dict")
    most = max(sizes.values())
    return max(size for size, count in sizes.items() if count == most)


def completed(tensors: Mapping[str, Tensor], assigned: Assigned) -> Iterator[Assigned]:
    """Every way to give the tensors without a role one that is still missing, by their shapes.

    Raises ``BadCheckpoint`` naming the first tensor that has no place.
    """
    if not assigned.free:
        yield assigned
        return
    d = d_model(tensors, assigned)
    groups: dict[str, list[str]] = {}
    for name in assigned.free:
        groups.setdefault(_group(tensors[name], d), []).append(name)
    missing = {group: _missing(assigned, group) for group in groups}
    for group, names in groups.items():
        if len(names) > len(missing[group]):
            raise BadCheckpoint(
                f"{names[0]!r} {tuple(tensors[names[0]].shape)} has no place in such a network (closest of its "
                f"tensors: {nearest(names[0], assigned.slots.values())}); leave it out with --ignore "
                f"{names[0]!r}, or say what it is in a key map (--map)"
            )
    choices = [
        [dict(zip(roles, names, strict=True)) for roles in itertools.permutations(missing[group], len(names))]
        for group, names in groups.items()
    ]
    for combination in itertools.product(*choices):
        extra = {slot: name for part in combination for slot, name in part.items()}
        slots = {**assigned.slots, **extra}
        if _sizes_agree(tensors, slots, d):
            yield Assigned(slots, assigned.left_out)


def _sizes_agree(tensors: Mapping[str, Tensor], slots: Mapping[Slot, str], d: int) -> bool:
    """Whether what shares an axis beside the width ``d`` has it as long: the tokens and the answers but for
    special tokens (or two vocabularies), and what goes into a hidden layer and comes out of it. Roles that
    are certain by name are held to it as well, since no network has others."""

    def other(slot: Slot) -> int | None:
        """The length of the axis that is not ``d``."""
        if slot not in slots:
            return None
        size = tensors[slots[slot]].numel()
        return size if slot[1].startswith("b_") else size // d

    tokens, answers, shift = other((None, "W_E")), other((None, "W_U")), other((None, "b_U"))
    if tokens and answers and not any(abs(tokens - k * answers) <= MOST_SPECIALS for k in (1, 2)):
        return False
    if answers and shift not in (None, answers):
        return False
    for layer in {at for at, _ in slots if at is not None}:
        into, out, bias = (other((layer, role)) for role in ("W_in", "W_out", "b_in"))
        if len({into, out, bias} - {None}) > 1 and (layer, "W_gate") not in slots:
            return False
        if any(other((layer, role)) not in (None, d) for role in ("b_out", "b_O")):
            return False
    return True


def _group(tensor: Tensor, d: int) -> str:
    """Which kind of role a shape may have."""
    shape: tuple[int, ...] = tuple(size for size in tensor.shape if size != 1)
    if len(shape) == 1:
        return "vector"
    if len(shape) >= 3 or shape in ((d, d), (3 * d, d), (d, 3 * d)):
        return "other" if d not in shape else "fused" if 3 * d in shape or shape[:1] == (3,) else "attention"
    if d not in shape:
        return "other"
    return "positions" if min(shape) <= MOST_POSITIONS else "matrix"


def _missing(assigned: Assigned, group: str) -> list[Slot]:
    """The roles of a group that no tensor has yet."""
    layers = range(max(1, assigned.layers))
    roles: list[Slot] = {
        "positions": [(None, "W_pos")],
        "matrix": [
            (None, "W_E"),
            (None, "W_U"),
            *((at, role) for at in layers for role in ("W_in", "W_out")),
        ],
        "attention": [(at, f"W_{x}") for at in layers for x in "QKVO"],
        "fused": [(at, "W_QKV") for at in layers],
        "vector": [
            *((at, role) for at in layers for role in ("b_in", "b_out", "b_O", "b_QKV")),
            (None, "b_U"),
        ],
        "other": [],
    }[group]
    fused = {at for at, role in assigned.slots if role == "W_QKV"}
    apart = {at for at, role in assigned.slots if role in ("W_Q", "W_K", "W_V")}
    return [
        slot
        for slot in roles
        if slot not in assigned.slots
        and not (slot[0] in fused and slot[1] in ("W_Q", "W_K", "W_V"))
        and not (slot[0] in apart and slot[1] == "W_QKV")
    ]
