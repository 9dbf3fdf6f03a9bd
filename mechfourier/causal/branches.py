"""Edited passes that run what sequences share only once.

The sequences of an answer task share much: prompts their beginnings ("5 + 9 …", "5 + 10 …"), and the continuations that are
scored after a prompt all of it. What a beginning computes under an edit is the same whatever follows it, so its keys and
values serve all: beginnings → prompts → what all continuations begin with → continuations. Layers before the edit run once for all edits. The numbers are
those of whole passes within float error.
"""

import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from einops import repeat
from jaxtyping import Float, Int
from torch import Tensor

from mechfourier.domains.answers import AnswerPlan, Bucket
from mechfourier.hooks.cache import empty_cache, fork
from mechfourier.hooks.edit import Edit
from mechfourier.hooks.prefix import can_share, shared_prefix
from mechfourier.hooks.run import (
    UNEMBED,
    HookFunction,
    device_of,
    forward,
    hooked,
    logits_of,
    serving,
)
from mechfourier.hooks.site import Site
from mechfourier.hooks.unembed import Unembedding, before_unembedding

# Sites with one vector for each token that runs, so that a part of a sequence shows an edit what the whole would.
PER_TOKEN = frozenset(
    [
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
CACHE_BUDGET = 2**26  # numbers in the keys and values of one batch: 256 MB in float32

EditOf = Callable[[Int[Tensor, " chosen"], int | None], Edit]


def can_start_inside(model: Any) -> bool:
    """Whether a pass can begin at a block, as a HookedTransformer's can."""
    return "start_at_layer" in inspect.signature(model.forward).parameters and not hasattr(
        model, "original_model"
    )


def can_branch(model: Any, site: Site) -> bool:
    """Whether edits at ``site`` can run on shared beginnings: a causal HookedTransformer without other hooks, and a site with
    one vector per token."""
    per_token = site.layer is not None and site.stack == "blocks" and site.kind in PER_TOKEN
    return per_token and can_start_inside(model) and can_share(model)


def start_layer(site: Site) -> int:
    """The block at which passes with an edit at ``site`` begin."""
    return (site.layer or 0) + (site.kind == "resid_post")


def _front(model: Any, site: Site, tokens: Int[Tensor, "row pos"], cache: Any) -> Float[Tensor, "row pos d"]:
    """The unedited residual stream in front of the block where edited passes begin, for tokens that follow those whose keys and
    values are in ``cache``; theirs are added to it."""
    tokens = tokens.to(device_of(model))
    # Said outright, as TransformerLens would look for padding by token id.
    return model(
        tokens, past_kv_cache=cache, attention_mask=torch.ones_like(tokens),
        stop_at_layer=start_layer(site), return_type=None,
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class Tree:
    """Prompts of one length as beginnings that several share (``begin``; ``which`` is each prompt's), the ``rest`` of each prompt,
    what all continuations begin with (``stalk``), and the rest of each (``leaves``, with the bucket that it answers for); all
    as the residual stream in front of the edited layer. Nothing where a part has no tokens."""

    prompts: Int[Tensor, " prompt"]
    which: Int[Tensor, " prompt"]
    begin: Float[Tensor, "beginning begin d"]
    rest: Float[Tensor, "prompt rest d"]
    stalk: Float[Tensor, "prompt stalk d"]
    leaves: tuple[tuple[Bucket, Float[Tensor, "prompt leaf d"]], ...]


def trees(model: Any, plan: AnswerPlan, site: Site, *, last_only: bool, rows: int) -> Iterator[Tree]:
    """The plan's sequences, at most ``rows`` prompts at a time. With an edit at the last token only (``last_only``), all before it
    is a beginning: it is the same under every edit."""
    lengths: dict[int, list[int]] = {}
    for i, encoding in enumerate(plan.encodings):
        lengths.setdefault(len(encoding.ids), []).append(i)
    for length, members in lengths.items():
        for chosen in torch.tensor(members).split(rows):
            tokens = torch.tensor([plan.encodings[i].ids for i in chosen.tolist()])
            shared = None if last_only else shared_prefix(tokens, length - 1)
            cut = length - 1 if last_only else shared.length if shared else 0
            yield _tree(model, plan, site, chosen, tokens, cut)


def _tree(model: Any, plan: AnswerPlan, site: Site, chosen: Tensor, tokens: Tensor, cut: int) -> Tree:
    count = len(tokens)
    which = torch.zeros(count, dtype=torch.long)
    if cut:
        which = torch.unique(tokens[:, :cut], dim=0, return_inverse=True)[1]
    first = torch.stack([(which == i).nonzero()[0, 0] for i in range(int(which.max()) + 1)])
    cache = empty_cache(model, count)
    whole = _front(model, site, tokens, cache)
    none = whole[:, :0]
    common = shared_start(plan.paths)
    stalk = _front(model, site, torch.tensor(common).expand(count, -1), cache) if common else none
    leaves = []
    for path in plan.paths:
        leaf = torch.tensor(path[len(common) :]).expand(count, -1)
        stream = _front(model, site, leaf, fork(model, cache)) if leaf.shape[1] else none
        leaves.append((plan.bucket(path, chosen), stream))
    return Tree(chosen, which, whole[first, :cut], whole[:, cut:], stalk, tuple(leaves))


def shared_start(paths: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """The tokens that all paths begin with."""
    low, high = min(paths), max(paths)
    size = next(
        (i for i, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), min(len(low), len(high))
    )
    return low[:size]


def rows_that_fit(model: Any, plan: AnswerPlan, rows: int) -> int:
    """At most ``rows``, with the keys and values of a batch inside ``CACHE_BUDGET``."""
    heads = getattr(model.cfg, "n_key_value_heads", None) or model.cfg.n_heads
    length = max(len(e.ids) for e in plan.encodings) + plan.deepest
    per_row = 2 * model.cfg.n_layers * heads * model.cfg.d_head * length
    return max(1, min(rows, CACHE_BUDGET // per_row))


@dataclass(frozen=True, eq=False)
class _Pass:
    """Edited passes from the block where ``site`` needs them to begin, after the keys and values of a cache."""

    model: Any
    site: Site
    read: Unembedding | None = None  # logits of the answers only

    def __call__(
        self, stream: Tensor, edit: Edit | None, rows: Tensor, cache: Any, *, keep: int | None
    ) -> Tensor | None:
        """Run ``stream`` (its row r has the edit ``rows[r]``) and leave its keys and values in ``cache``; logits at the last
        ``keep`` positions, or none."""
        start = start_layer(self.site)
        functions: list[tuple[Site, HookFunction]] = []
        if edit is not None and start and self.site == Site("resid_post", start - 1):
            stream = edit.apply(stream, rows)
        elif edit is not None:
            functions.append((self.site, lambda value: edit.apply(value, rows)))
        if keep and self.read is None:
            functions.append((UNEMBED, lambda value: value[:, -keep:]))

        def run() -> Any:
            wanted = "logits" if keep else None
            return forward(self.model, stream, start_at_layer=start, past_kv_cache=cache, return_type=wanted)

        with serving(rows), hooked(self.model, functions):
            if keep and self.read is not None:
                return self.read(before_unembedding(self.model, run, keep))
            output = run()
        return logits_of(self.model, output)[:, -keep:].float() if keep else None


def run_branches(
    model: Any,
    plan: AnswerPlan,
    site: Site,
    edit_of: EditOf,
    count: int,
    *,
    last_only: bool,
    rows: int,
    advance: Callable[[int], None],
    read: Unembedding | None = None,
) -> Float[Tensor, "edit prompt edge"]:
    """Log-probabilities of the plan's edges under ``count`` edits; ``edit_of(chosen, position)`` is an edit whose "prompts" are the
    chosen ones in their order. ``read``: the edges' logits instead, for plans whose every answer is one token."""
    table = torch.zeros(count, len(plan.encodings), len(plan.edges))
    fit, run = rows_that_fit(model, plan, rows), _Pass(model, site, read)
    for tree in trees(model, plan, site, last_only=last_only, rows=fit):
        prompts = len(tree.prompts)
        before = _unedited(run, tree) if last_only else None
        for chosen in torch.arange(count).split(max(1, fit // prompts)):
            edits = (edit_of(chosen, None), edit_of(chosen, 0) if last_only else None)
            for bucket, logits in _branches(run, tree, chosen, edits, before):
                edges, values = _edges(plan, bucket, logits, read)
                values = values.float().cpu().unflatten(0, (len(chosen), prompts))
                table[chosen[:, None, None], bucket.prompt[:, None], edges] = values
                advance(len(chosen) * prompts)
    return table


def _edges(
    plan: AnswerPlan, bucket: Bucket, logits: Tensor, read: Unembedding | None
) -> tuple[Int[Tensor, " edge"], Float[Tensor, "row edge"]]:
    if read is not None:
        return torch.arange(len(plan.edges)), logits[:, -1]
    edges, values, _ = plan.read(bucket, logits)
    return edges, values


def _unedited(run: _Pass, tree: Tree) -> Any:
    cache = empty_cache(run.model, len(tree.begin))
    if tree.begin.shape[1]:
        run(tree.begin, None, torch.arange(len(tree.begin)), cache, keep=None)
    return cache


def _branches(
    run: _Pass, tree: Tree, chosen: Tensor, edits: tuple[Edit, Edit | None], before: Any
) -> Iterator[tuple[Bucket, Tensor]]:
    """The logits that each bucket reads, rows edit-major."""
    copies = len(chosen)
    everywhere, at_last = edits
    after = None if at_last else everywhere
    rows = repeat(torch.arange(copies), "c -> (c row)", row=len(tree.prompts))
    cache = _begun(run, tree, everywhere, copies, rows, before)
    read = [_logits(run(_copies(tree.rest, copies), at_last or everywhere, rows, cache, keep=1))]
    if size := tree.stalk.shape[1]:
        read.append(_logits(run(_copies(tree.stalk, copies), after, rows, cache, keep=size)))
    for bucket, stream in tree.leaves:
        own = read
        if size := min(bucket.keep, stream.shape[1]):
            grown = fork(run.model, cache)
            own = [*read, _logits(run(_copies(stream, copies), after, rows, grown, keep=size))]
        yield bucket, torch.cat(own, dim=1)[:, -bucket.keep :]


def _begun(run: _Pass, tree: Tree, edit: Edit, copies: int, rows: Tensor, before: Any) -> Any:
    """Keys and values of the beginnings, a row for every prompt and edit."""
    if not tree.begin.shape[1]:
        return empty_cache(run.model, len(rows))
    if before is not None:
        return fork(run.model, before, tree.which.repeat(copies))
    beginnings = len(tree.begin)
    cache = empty_cache(run.model, copies * beginnings)
    of = repeat(torch.arange(copies), "c -> (c row)", row=beginnings)
    run(_copies(tree.begin, copies), edit, of, cache, keep=None)
    return fork(run.model, cache, rows * beginnings + tree.which.repeat(copies))


def _logits(found: Tensor | None) -> Tensor:
    if found is None:
        raise ValueError("logits were not kept")
    return found


def _copies(stream: Tensor, copies: int) -> Tensor:
    return repeat(stream, "row pos d -> (c row) pos d", c=copies)
