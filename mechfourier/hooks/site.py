"""Hook points as values: where in a model an activation is read or changed.

A ``Site`` is a kind of activation, a layer and a stack of blocks; it prints as TransformerLens's hook name
and is read back from it. The kinds are the field's names (``resid_post``, ``mlp_post``, ``pattern``); a hook
point that fits no pattern keeps its own path as its kind, so that every name of every model makes the round
trip.
"""

import functools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mechfourier._arguments import checked
from mechfourier.errors import OutOfRange, UnknownSite, UsageError, nearest
from mechfourier.models.interface import Hooked

# kind -> path inside a block (or at the root), in the order of a forward pass. A kind that is not here prints
# as ``hook_<kind>``; a kind with a dot in it is the path itself.
_PATHS: dict[str, str] = {
    "tokens": "hook_tokens",
    "embed": "hook_embed",
    "pos_embed": "hook_pos_embed",
    "full_embed": "hook_full_embed",
    "in": "hook_in",
    "resid_pre": "hook_resid_pre",
    "attn_in": "hook_attn_in",
    "q_input": "hook_q_input",
    "k_input": "hook_k_input",
    "v_input": "hook_v_input",
    "ln1_scale": "ln1.hook_scale",
    "ln1_normalized": "ln1.hook_normalized",
    "q_norm_scale": "attn.q_norm.hook_scale",
    "q_norm_normalized": "attn.q_norm.hook_normalized",
    "k_norm_scale": "attn.k_norm.hook_scale",
    "k_norm_normalized": "attn.k_norm.hook_normalized",
    "q": "attn.hook_q",
    "k": "attn.hook_k",
    "v": "attn.hook_v",
    "rot_q": "attn.hook_rot_q",
    "rot_k": "attn.hook_rot_k",
    "attn_scores": "attn.hook_attn_scores",
    "pattern": "attn.hook_pattern",
    "z": "attn.hook_z",
    "result": "attn.hook_result",
    "ln1_post_scale": "ln1_post.hook_scale",
    "ln1_post_normalized": "ln1_post.hook_normalized",
    "attn_out": "hook_attn_out",
    "resid_mid": "hook_resid_mid",
    "cross_attn_in": "hook_cross_attn_in",
    "cross_q": "cross_attn.hook_q",
    "cross_k": "cross_attn.hook_k",
    "cross_v": "cross_attn.hook_v",
    "cross_attn_scores": "cross_attn.hook_attn_scores",
    "cross_pattern": "cross_attn.hook_pattern",
    "cross_z": "cross_attn.hook_z",
    "cross_result": "cross_attn.hook_result",
    "cross_attn_out": "hook_cross_attn_out",
    "resid_mid_cross": "hook_resid_mid_cross",
    "mlp_in": "hook_mlp_in",
    "ln2_scale": "ln2.hook_scale",
    "ln2_normalized": "ln2.hook_normalized",
    "mlp_pre": "mlp.hook_pre",
    "mlp_pre_linear": "mlp.hook_pre_linear",
    "mlp_mid": "mlp.hook_mid",
    "mlp_post": "mlp.hook_post",
    "ln2_post_scale": "ln2_post.hook_scale",
    "ln2_post_normalized": "ln2_post.hook_normalized",
    "mlp_out": "hook_mlp_out",
    "resid_post": "hook_resid_post",
    "normalized_resid_post": "hook_normalized_resid_post",
    "out": "hook_out",
    "ln_final_scale": "ln_final.hook_scale",
    "ln_final_normalized": "ln_final.hook_normalized",
}
_KINDS = {path: kind for kind, path in _PATHS.items()}
_ORDER = {kind: place for place, kind in enumerate(_PATHS)}
# Paths of no known kind take the place of the last known kind of the same part of a block.
_PART_ORDER = {
    "ln1": "ln1_normalized",
    "attn": "v",
    "self_attn": "v",
    "cross_attn": "cross_v",
    "ln2": "ln2_normalized",
    "mlp": "mlp_pre",
    "embed": "embed",
    "rotary_emb": "pos_embed",
    "pos_embed": "pos_embed",
}
_BEFORE = re.compile(r"^(hook_)?(tokens|(?!un)\w*emb|pos)")
_LAYERED = re.compile(r"^(?P<stack>.+?)\.(?P<layer>\d+)\.(?P<path>.+)$")

# Kinds whose last two axes are [query position, key position], after the head.
ATTENTION_KINDS = frozenset({"attn_scores", "pattern", "cross_attn_scores", "cross_pattern"})
# Kinds whose position and head may be one axis with the prompt's.
FUSED_KINDS = frozenset({"q_norm_scale", "q_norm_normalized", "k_norm_scale", "k_norm_normalized"})
# Kinds with a head axis after the position.
HEAD_KINDS = frozenset(
    {
        "q",
        "k",
        "v",
        "z",
        "result",
        "rot_q",
        "rot_k",
        "attn_in",
        "q_input",
        "k_input",
        "v_input",
        "cross_q",
        "cross_k",
        "cross_v",
        "cross_z",
        "cross_result",
    }
)


@functools.total_ordering
@dataclass(frozen=True)
class Site:
    """A hook point: ``Site("resid_post", 7)`` is ``blocks.7.hook_resid_post``.

    ``kind`` is the field's name for the activation, ``layer`` the block (None outside the blocks), ``stack``
    the list of blocks (``encoder`` and ``decoder`` where a model has both). Sites sort in the order of a
    forward pass.
    """

    kind: str
    layer: int | None = None
    stack: str = "blocks"

    def __post_init__(self) -> None:
        if not self.kind:
            raise UnknownSite("a site needs a kind, for example resid_post")
        if self.layer is not None and self.layer < 0:
            raise OutOfRange(f"a site's layer counts from 0; got {self.layer}")

    @property
    def path(self) -> str:
        """The hook point's name inside its block (or inside the model where there is no layer)."""
        if self.kind in _PATHS:
            return _PATHS[self.kind]
        return self.kind.removeprefix(".") if "." in self.kind else f"hook_{self.kind}"

    def __str__(self) -> str:
        return self.path if self.layer is None else f"{self.stack}.{self.layer}.{self.path}"

    @classmethod
    def parse(cls, name: str) -> "Site":
        """The site of a hook name; ``str(Site.parse(name)) == name`` for every name."""
        if not name or name.isspace():
            raise UnknownSite("a site needs a name, for example blocks.0.hook_resid_post")
        found = _LAYERED.match(name)
        # int() would turn "007" into 7, and the name would not come back.
        if found and str(int(found["layer"])) == found["layer"]:
            return cls(_kind_of(found["path"]), int(found["layer"]), found["stack"])
        return cls(_kind_of(name))

    def __lt__(self, other: "Site") -> bool:
        return self._key < other._key

    @property
    def _key(self) -> tuple[int, int, int, str, str]:
        layer = -1 if self.layer is None else self.layer
        return (self._part, layer, _place(self), self.stack, self.kind)

    @property
    def _part(self) -> int:
        """Embeddings, (encoder) blocks, what follows the encoder, decoder blocks, the rest."""
        name = str(self)
        if self.layer is not None:
            return 3 if self.stack.startswith("decoder") else 1
        if name.startswith("encoder"):
            return 2
        return 0 if _BEFORE.match(name) else 4


def _kind_of(path: str) -> str:
    if path in _KINDS:
        return _KINDS[path]
    short = path.removeprefix("hook_")
    if path != short and short and "." not in path and short not in _PATHS:
        return short
    return path if "." in path else f".{path}"


def _place(site: Site) -> int:
    if site.kind in _ORDER:
        return _ORDER[site.kind]
    part = site.path.split(".")[0]
    return _ORDER[_PART_ORDER[part]] if part in _PART_ORDER else len(_ORDER)


def model_name(model: object) -> str:
    """What the user called the model (``mechfourier_name``), or its class."""
    return str(getattr(model, "mechfourier_name", None) or type(model).__name__)


@checked
def sites(model: Hooked) -> tuple[Site, ...]:
    """Every hook point of ``model``, in the order of a forward pass."""
    # by key: a comparison would work it out again, which takes a tenth of a second for 28 layers
    return tuple(sorted((Site.parse(name) for name in model.hook_dict), key=lambda site: site._key))


def find_site(model: Hooked, site: "Site | str", points: Mapping[str, Any] | None = None) -> Site:
    """``site`` (or the site of that hook name) when ``model`` has it; else ``UnknownSite`` or ``OutOfRange``.

    ``points``: the model's ``hook_dict``, where the caller has it already.
    """
    wanted = Site.parse(site) if isinstance(site, str) else site
    if str(wanted) in (model.hook_dict if points is None else points):
        return wanted
    layers = {s.layer for s in sites(model) if (s.kind, s.stack) == (wanted.kind, wanted.stack)} - {None}
    if wanted.layer is not None and layers:
        _check_layers(model, [wanted.layer], layers)
    raise _unknown(model, str(wanted), model.hook_dict)


def parse_layers(text: str) -> tuple[int, ...]:
    """``"0-3,7"`` as ``(0, 1, 2, 3, 7)``; raises ``UsageError`` for anything else."""
    layers: list[int] = []
    for part in text.split(","):
        found = re.fullmatch(
            r"\s*(\d{1,4})\s*(?:-\s*(\d{1,4})\s*)?", part
        )  # a range of more digits would not end
        if not found or (found[2] and int(found[2]) < int(found[1])):
            raise UsageError(f"cannot read the layers {text[:60]!r}; write them like 0-3,7")
        layers += range(int(found[1]), int(found[2] or found[1]) + 1)
    return tuple(dict.fromkeys(layers))


@checked
def select_sites(
    model: Hooked,
    kinds: "str | Site | Sequence[str | Site]" = "resid_post",
    layers: str | int | Iterable[int] | None = None,
) -> tuple[Site, ...]:
    """The model's sites of these kinds and layers, in the order of a forward pass.

    ``kinds``: ``"resid_post"``, several joined by commas, ``"decoder.resid_post"`` for one stack, full hook
    names, or ``Site`` values. ``layers`` (``"0-3,7"``, a number or several) narrows the kinds, not full
    names; sites outside the blocks stay. Raises ``UnknownSite`` and ``OutOfRange``.
    """
    known = sites(model)
    wanted = _parse_layer_choice(layers)
    chosen: set[Site] = set()
    for item in _items(kinds):
        matches = _matching(model, item, known)
        if wanted is not None and not (isinstance(item, Site) or item in model.hook_dict):
            matches = _of_layers(model, matches, wanted)
        chosen.update(matches)
    return tuple(sorted(chosen))


def _items(kinds: "str | Site | Sequence[str | Site]") -> list["str | Site"]:
    if isinstance(kinds, Site):
        return [kinds]
    if isinstance(kinds, str):
        return [part.strip() for part in kinds.split(",")]
    return list(kinds)


def _parse_layer_choice(layers: str | int | Iterable[int] | None) -> tuple[int, ...] | None:
    if layers is None:
        return None
    if isinstance(layers, str):
        return parse_layers(layers)
    return (layers,) if isinstance(layers, int) else tuple(layers)


def _matching(model: Hooked, item: "str | Site", known: Sequence[Site]) -> list[Site]:
    if isinstance(item, Site) or item in model.hook_dict or _LAYERED.match(item):
        return [find_site(model, item)]
    stacks = {s.stack for s in known if s.layer is not None}
    stack, _, kind = item.partition(".")
    if stack in stacks and kind:
        matches = [s for s in known if s.stack == stack and s.layer is not None and s.kind == _plain(kind)]
    else:
        matches = [s for s in known if s.kind == _plain(item)]
    if not matches:
        raise _unknown(model, item, dict.fromkeys(s.kind for s in known))
    return matches


def _plain(kind: str) -> str:
    """A kind as users may write it (``hook_resid_post``, ``mlp.hook_post``, ``resid_post``)."""
    return kind if kind in _PATHS or not kind else _KINDS.get(kind, kind.removeprefix("hook_"))


def _of_layers(model: Hooked, matches: Sequence[Site], wanted: tuple[int, ...]) -> list[Site]:
    available = {s.layer for s in matches} - {None}
    if available:
        _check_layers(model, wanted, available)
    return [s for s in matches if s.layer is None or s.layer in wanted]


def _check_layers(model: Hooked, wanted: Iterable[int], available: Iterable[int | None]) -> None:
    have = sorted(layer for layer in available if layer is not None)
    for layer in wanted:
        if layer not in have:
            raise OutOfRange(
                f"{model_name(model)} has layers {layer_ranges(have)}; {layer} is not one of them"
            )


def layer_ranges(numbers: Sequence[int]) -> str:
    """Sorted whole numbers in the way ``parse_layers`` reads: ``0-3,7``."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ",".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs)


def _unknown(model: Hooked, name: str, options: Iterable[str]) -> UnknownSite:
    who = model_name(model)
    return UnknownSite(
        f"{who} has no hook point {name!r}; closest: {nearest(name, options)}. List them with: mechfourier "
        f"hooks {who}"
    )
