"""Edited passes that run what sequences share only once.

The sequences of an answer task share much: prompts their beginnings ("5 + 9 …", "5 + 10 …"), the
continuations that are scored after a prompt all of it, and every edit the tokens before it, which it does not
change. What such tokens compute is kept as keys and values: beginnings → the rest of each prompt → what all
continuations begin with → each continuation. In a HookedTransformer layers before the edit run once for all
edits too. The first use at a kind of site of a model compares such passes with whole ones.
"""

import contextlib
import contextvars
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechfourier.causal.edits import EditedRows
from mechfourier.causal.readers import AnswerReader
from mechfourier.causal.suffix import start_layer
from mechfourier.domains.answer_plan import AnswerPlan
from mechfourier.domains.continuations import alike, shared_start
from mechfourier.hooks.cache import grown, no_cache, numbers_per_token, take
from mechfourier.hooks.edit import Edit, Where
from mechfourier.hooks.prefix import can_pack, can_share, shared_prefix
from mechfourier.hooks.run import (
    UNEMBED,
    HookFunction,
    StopForward,
    forward,
    has_hooks,
    hooked,
    is_bridge,
    serving,
)
from mechfourier.hooks.site import Site, model_name
from mechfourier.models.interface import Model

# Sites with one vector for each token that runs, so that a part of a sequence shows an edit what the whole
# would.
PER_TOKEN = frozenset(
    [
        "embed",
        "resid_pre",
        "resid_mid",
        "resid_post",
        "attn_in",
        "q_input",
        "k_input",
        "v_input",
        "ln1_normalized",
        "q",
        "k",
        "v",
        "z",
        "result",
        "attn_out",
        "mlp_in",
        "ln2_normalized",
        "mlp_pre",
        "mlp_pre_linear",
        "mlp_mid",
        "mlp_post",
        "mlp_out",
    ]
)
STREAMS = 2**25  # numbers of all residual streams that are remembered: 128 MB in float32
LARGE = 2**22  # of those of some prompts in front of all blocks: more are not remembered
CACHE_BUDGET = 2**26  # numbers in the keys and values of one batch: 256 MB in float32
EVERY = -1  # passes that will begin at any block
COMPARED = 2  # prompts of the comparison with whole passes
SAME = 1e-4  # largest difference, relative to the largest score
KEPT = "_mechfourier_prefix_sharing"


@dataclass
class _Memory:
    """What unedited tokens leave behind. ``caches``: keys and values of beginnings; ``streams``: what stands in
    front of every block, with its numbers, the oldest first."""

    caches: dict[Any, Any] = field(default_factory=dict)
    streams: dict[Any, tuple[int, list[Any]]] = field(default_factory=dict)

    def keep(self, key: Any, numbers: int, pieces: list[Any]) -> list[Any]:
        """Keep streams, and let the oldest go where they become too many."""
        while self.streams and numbers + sum(count for count, _ in self.streams.values()) > STREAMS:
            del self.streams[next(iter(self.streams))]
        self.streams[key] = (numbers, pieces)
        return pieces


_REMEMBERED: contextvars.ContextVar[_Memory | None] = contextvars.ContextVar("remembered", default=None)


@contextlib.contextmanager
def remembering() -> Iterator[None]:
    """Keep what unedited tokens leave behind, for many sites that are edited in turn: the keys and values of
    beginnings, and what stands in front of every block; the model must not change meanwhile."""
    token = _REMEMBERED.set(_Memory())
    try:
        yield
    finally:
        _REMEMBERED.reset(token)


def fits(model: Model, reader: AnswerReader, rows: EditedRows, whole: Callable[..., Tensor]) -> bool:
    """Whether these rows can run so, with something to be saved, and give the numbers of ``whole`` passes (a
    function like ``run``)."""
    if not len(rows) or rows.together or not can_run(model, rows):
        return False
    known: dict[tuple[str, bool, bool], bool] = vars(model).setdefault(KEPT, {})
    key = (rows.site.kind, reader.choice is not None, rows.at is None)
    if key not in known:
        known[key] = _agrees(model, reader, rows, whole)
    return known[key]


def can_run(model: Model, rows: EditedRows) -> bool:
    """A causal model that keeps keys and values, without other hooks, a site with a vector per token, and a
    token before the edit (or a HookedTransformer, in which beginnings under one edit are shared too)."""
    if rows.site.stack != "blocks" or rows.site.kind not in PER_TOKEN or has_hooks(model):
        return False
    if is_bridge(model):
        return rows.at is not None and int(rows.at.min()) > 0 and can_pack(model)
    return can_share(model) and (rows.at is None or int(rows.at.min()) > 0 or rows.site.layer is not None)


def notes(model: Model) -> tuple[str, ...]:
    """What a result must say where such passes were not those of whole ones."""
    known: dict[tuple[str, bool, bool], bool] = vars(model).get(KEPT, {})
    kinds = sorted({kind for (kind, *_), same in known.items() if not same})
    if not kinds:
        return ()
    return (
        f"edits at {', '.join(kinds)} of {model_name(model)} ran whole passes: passes of the last tokens "
        "only "
        "differ from them",
    )


def run(
    model: Model, reader: AnswerReader, rows: EditedRows, size: int, advance: Callable[[int], None]
) -> Float[Tensor, "row edge"]:
    """The numbers of the plan's edges for every row."""
    table = torch.zeros(len(rows), reader.columns)
    lengths = torch.tensor([len(e.ids) for e in reader.plan.encodings])[rows.prompt]
    fit = rows_that_fit(model, reader.plan, size)
    for length in lengths.unique().tolist():
        mine = (lengths == length).nonzero()[:, 0]
        with torch.no_grad():  # what comes before the edits
            tree = _Tree(model, reader, rows, mine)
        for chosen in mine.split(fit):
            with serving(rows.prompt[chosen]):
                for columns, values in tree.read(chosen, advance):
                    table[chosen[:, None], columns] = values.float().cpu()
    return table


def rows_that_fit(model: Model, plan: AnswerPlan, rows: int) -> int:
    """At most ``rows``, with the keys and values of a batch inside ``CACHE_BUDGET``."""
    length = max(len(e.ids) for e in plan.encodings) + plan.deepest
    return max(1, min(rows, CACHE_BUDGET // (numbers_per_token(model) * length)))


class _Tree:
    """The prompts of one length that some rows need, and the pieces of their sequences: tokens, or the
    residual stream in front of the block where edited passes begin."""

    def __init__(self, model: Model, reader: AnswerReader, rows: EditedRows, mine: Tensor) -> None:
        self.model, self.reader, self.rows = model, reader, rows
        # passes begin at a block where a block can be left out
        inside = not is_bridge(model) and rows.site.layer is not None
        self.start = start_layer(rows.site) or None if inside else None
        self.prompts, place = rows.prompt[mine].unique(return_inverse=True)
        self.place = torch.full((len(rows),), -1).scatter(0, mine, place)
        tokens = torch.tensor([reader.plan.encodings[i].ids for i in self.prompts.tolist()])
        if rows.at is not None:
            self.cut = int(rows.at[mine].min())
        else:
            shared = shared_prefix(tokens, tokens.shape[1] - 1)
            self.cut = shared.length if shared else 0
        heads, self.which = (
            tokens[:, : self.cut].unique(dim=0, return_inverse=True) if self.cut else (None, None)
        )
        self.before = None if heads is None or rows.at is None else self._beginnings(heads)
        self._cut_up(tokens)

    def _beginnings(self, tokens: Int[Tensor, "beginning pos"]) -> Any:
        """The keys and values that unedited tokens leave behind, in all blocks."""
        kept = _REMEMBERED.get()
        key = (id(self.model), tuple(map(tuple, tokens.tolist())))
        if kept is None or key not in kept.caches:
            cache = no_cache(self.model, len(tokens))
            with _without_logits(self.model):
                grown(self.model, tokens, cache)
            if kept is None:
                return cache
            kept.caches[key] = cache
        return kept.caches[key]

    def _cut_up(self, tokens: Int[Tensor, "prompt pos"]) -> None:
        kept = _REMEMBERED.get()
        if kept is None or self.start is None or (numbers := self._numbers(tokens)) > LARGE:
            pieces = self._pieces(tokens, self.start)
        else:
            prompts, paths = tuple(map(tuple, tokens.tolist())), tuple(self.reader.plan.paths)
            key = (id(self.model), self.cut, self.before is None, prompts, paths)
            _, every = kept.streams.get(key) or (0, kept.keep(key, numbers, self._pieces(tokens, EVERY)))
            pieces = [(path, streams[self.start]) for path, streams in every]
        (_, begin), (_, self.rest), (_, self.stalk), *self.leaves = pieces
        self.begin = begin if self.cut and self.before is None else None

    def _numbers(self, tokens: Int[Tensor, "prompt pos"]) -> int:
        cfg, paths = self.model.cfg, self.reader.plan.paths
        own = tokens.shape[1] - (self.cut if self.before is not None else 0)
        return len(tokens) * (own + sum(map(len, paths))) * int(cfg.d_model) * (int(cfg.n_layers) + 1)

    def _pieces(self, tokens: Int[Tensor, "prompt pos"], start: int | None) -> list[tuple[Any, Any]]:
        """The beginning (without tokens where it is run without an edit), the rest of the prompts, what all
        paths begin with, and of every path what is left of it."""
        plan, count = self.reader.plan, len(tokens)
        common = shared_start(plan.paths)
        cache = None  # only the blocks that are left out need one here
        if start is not None:
            unedited = self.before is None
            cache = no_cache(self.model, count) if unedited else take(self.model, self.before, self.which)
        own = self.cut if self.before is None else 0
        found: list[tuple[Any, Any]] = [
            (None, self._piece(part, cache, start))
            for part in (
                tokens[:, :own],
                tokens[:, self.cut :],
                torch.tensor(common, dtype=torch.long).expand(count, -1),
            )
        ]
        for path in plan.paths:
            leaf = torch.tensor(path[len(common) :], dtype=torch.long).expand(count, -1)
            after = take(self.model, cache, None) if leaf.shape[1] and start is not None else cache
            found.append((path, self._piece(leaf, after, start)))
        return found

    def _piece(self, tokens: Int[Tensor, "prompt pos"], cache: Any, start: int | None) -> Any:
        """The tokens; where passes begin at a block, what the blocks before it make of them after ``cache``
        (``EVERY``: in front of each block, and after the last)."""
        if start is None:
            return tokens
        if start != EVERY:
            return tokens if not tokens.shape[1] else grown(self.model, tokens, cache, stop_at_layer=start)
        last = int(self.model.cfg.n_layers)
        if not tokens.shape[1]:
            return [tokens] * (last + 1)
        streams: list[Tensor] = []
        looks = [
            (Site("resid_pre", layer), lambda value: streams.append(value.detach())) for layer in range(last)
        ]
        with hooked(self.model, looks):
            streams.append(grown(self.model, tokens, cache, stop_at_layer=last))
        return streams

    def read(
        self, chosen: Int[Tensor, " row"], advance: Callable[[int], None]
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """The columns and numbers of every path, for these rows."""
        place = self.place[chosen]
        cache = self._begun(chosen, place)
        everywhere = self.rows.at is None
        found = [self._logits(self.rest, chosen, place, cache, 1, self.cut)]
        if size := self.stalk.shape[1]:
            found.append(self._logits(self.stalk, chosen, place, cache, size, 0 if everywhere else None))
        for leaves in self._leaves_alike(len(chosen)):
            size, copies = leaves[0][1].shape[1], len(leaves)
            after: tuple[Tensor | None, ...] = (None,) * copies
            if size:
                rows = torch.arange(len(chosen)).repeat(copies)
                piece = torch.cat([leaf for _, leaf in leaves])
                at = torch.cat([place + i * len(self.prompts) for i in range(copies)])
                own = take(self.model, cache, rows if copies > 1 else None)
                logits = self._logits(piece, chosen[rows], at, own, size, 0 if everywhere else None)
                after = logits.split(len(chosen))
            for (path, _), part in zip(leaves, after, strict=True):
                bucket = self.reader.plan.bucket(path, self.prompts[place])
                whole = torch.cat(found if part is None else [*found, part], dim=1)
                yield self.reader.edges(bucket, whole[:, -bucket.keep :])
                advance(len(chosen))

    def _leaves_alike(self, rows: int) -> Iterator[list[tuple[tuple[int, ...], Tensor]]]:
        """The paths whose last tokens run in one pass: of equal length, as many as have room in the logits and
        the cache."""
        width = 1 if self.reader.choice is not None else int(self.model.cfg.d_vocab)

        def most(size: int) -> int:
            return rows_that_fit(self.model, self.reader.plan, CACHE_BUDGET // (width * size)) // rows

        return alike(self.leaves, lambda leaf: leaf[1].shape[1], most)

    def _begun(self, chosen: Tensor, place: Tensor) -> Any:
        """Keys and values of the beginnings, a row for each of the rows."""
        if self.which is None:
            return no_cache(self.model, len(chosen))
        which = self.which[place]
        if self.begin is None:
            return take(self.model, self.before, which)
        number = torch.arange(len(chosen)) if self.rows.number is None else self.rows.number[chosen]
        _, shared = torch.stack([number, which]).unique(dim=1, return_inverse=True)
        first = torch.full((int(shared.max()) + 1,), len(chosen)).scatter_reduce(
            0, shared, torch.arange(len(chosen)), "amin"
        )
        cache = no_cache(self.model, len(first))
        with _without_logits(self.model), serving(self.rows.prompt[chosen[first]]):
            self._pass(self.begin, chosen[first], place[first], cache, 0)
        return take(self.model, cache, shared)

    def _logits(
        self, piece: Tensor, chosen: Tensor, place: Tensor, cache: Any, keep: int, edited: int | None
    ) -> Float[Tensor, "row keep word"]:
        return self.reader.logits(lambda: self._pass(piece, chosen, place, cache, edited), keep)

    def _pass(self, piece: Tensor, chosen: Tensor, place: Tensor, cache: Any, edited: int | None) -> Any:
        """Run a piece for these rows and leave its keys and values in ``cache``; ``edited``: the position in
        the prompt at which the piece begins, where the edit is in it."""
        given = piece[place.to(piece.device)]
        functions: list[tuple[Site, HookFunction]] = []
        if edited is not None:
            edit, local = _moved(self.rows.edit_of(chosen), edited), torch.arange(len(chosen))
            if self.start and self.rows.site == Site("resid_post", self.start - 1):
                given = edit.apply(given, local)
            else:
                functions.append((self.rows.site, lambda value: edit.apply(value, local)))
        with hooked(self.model, functions):
            if self.start is None:
                return grown(self.model, given, cache)
            return forward(self.model, given, start_at_layer=self.start, past_kv_cache=cache)


def _moved(edit: Edit, by: int) -> Edit:
    """``edit`` in tokens that begin at position ``by`` of the prompt."""
    at = edit.where.positions
    if not isinstance(at, Tensor) or not by:
        return edit
    return replace(edit, where=replace(edit.where, positions=at - by))


@contextlib.contextmanager
def _without_logits(model: Model) -> Iterator[None]:
    """Passes end in front of the unembedding."""

    def stop(value: Tensor) -> None:
        raise StopForward

    with hooked(model, [(UNEMBED, stop)] if str(UNEMBED) in model.hook_dict else []):
        yield


def _agrees(model: Model, reader: AnswerReader, rows: EditedRows, whole: Callable[..., Tensor]) -> bool:
    """Whether a few of the prompts without an edit have the numbers of whole passes."""
    few, where = torch.arange(min(COMPARED, len(rows))), Where(rows.site)

    def nothing(chosen: Int[Tensor, " row"]) -> Edit:
        at = None if rows.at is None else rows.at[chosen]
        return Edit("nothing", replace(where, positions=at), lambda old, which: old)

    plain = EditedRows(rows.site, rows.prompt[few], nothing, None if rows.at is None else rows.at[few], few)
    tokens = replace(plain, site=Site("embed")) if str(Site("embed")) in model.hook_dict else plain
    try:
        ours = run(model, reader, plain, COMPARED, lambda done: None)
    except Exception:  # each architecture fails in its own way; a whole pass always works
        return False
    theirs = whole(model, reader, tokens, COMPARED, lambda done: None)
    return bool((ours - theirs).abs().max() <= SAME * theirs.abs().max().clamp(min=1.0))
