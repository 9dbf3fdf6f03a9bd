"""Cells of a table, read through a window: statistics on values need the inner products of cells, which have far fewer coordinates
than activations, so that nothing else of a large file stays in memory."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from mechfourier.errors import UsageError
from mechfourier.probes.arrays.files import Chunks
from mechfourier.probes.arrays.pages import forget
from mechfourier.progress import Progress, progress
from mechfourier.stats.copies import distinct, template_groups
from mechfourier.stats.dimensions import Dimension
from mechfourier.stats.null import LabelPermutations, dimension_null, dimension_r2
from mechfourier.stats.spectrum import cross_gram

WINDOW_BYTES = 64 * 2**20
MOST_CELLS = 2048
"""Values times templates of one site; their inner products are a matrix of that size."""
MOST_TEMPLATES = 32
NULL_DIMENSIONS = 4096
CONSTANT = 1e-6
"""Largest difference between values that is taken for rounding, relative to the largest number."""
SUMS_TO_ONE = 0.02
LARGEST = 1e100


@dataclass(frozen=True, eq=False)
class Cells:
    """One site as cells [value, template, d].

    Either a ``grid`` (a view [value, template, d]), or rows in ``chunks``, each in the cell ``index`` (value · templates + template;
    −1: left out), the rows of a cell averaged. ``groups[template]``: the group that it is averaged into. ``root``: the numbers are
    probabilities, and their square roots are looked at. ``order``: where each value stands in the grid. ``from_file``: the numbers were opened here, from a file, and nobody
    else holds them.
    """

    name: str
    values: tuple[str, ...]
    templates: int
    d: int
    grid: Tensor | None = None
    chunks: Chunks = ()
    index: Int[Tensor, " row"] | None = None
    groups: Int[Tensor, " template"] | None = None
    order: Int[Tensor, " value"] | None = None
    root: bool = False
    from_file: bool = False

    @property
    def rows(self) -> int:
        """Rows that take part."""
        return len(self.values) * self.templates if self.index is None else int((self.index >= 0).sum())

    @property
    def averaged_templates(self) -> int:
        """Templates after averaging."""
        return self.templates if self.groups is None else int(self.groups.max()) + 1

    @property
    def megabytes(self) -> int:
        """The size of what is read, in float64."""
        return self.rows * self.d * 8 // 10**6

    def windows(self, bar: Progress | None = None) -> Iterator[Float[Tensor, "value template window"]]:
        """All dimensions in turn, in float64. Raises ``UsageError`` where a number is not finite, or no probability."""
        width = max(1, WINDOW_BYTES // (8 * max(len(self.values) * self.templates, 1)))
        for start in range(0, self.d, width):
            block = self._block(start, min(start + width, self.d), bar)
            if not bool(torch.isfinite(block).all()):
                raise UsageError(self._where_not_finite(block, start))
            if (largest := float(block.abs().max())) > LARGEST:
                raise UsageError(
                    f"{self.name} holds numbers as large as {largest:.0e}, whose squares overflow; divide all of them by one number"
                )
            yield block if self.groups is None else _averaged(block, self.groups)
        forget(self.chunks if self.grid is None else (self.grid,), ours=self.from_file)

    def _block(self, start: int, stop: int, bar: Progress | None) -> Float[Tensor, "value template window"]:
        if self.grid is not None:
            block = self._rooted(self.grid[..., start:stop].double())
            block = block if self.order is None else block[self.order]
            _advance(bar, block)
            return block
        assert self.index is not None
        total = torch.zeros(len(self.values) * self.templates, stop - start, dtype=torch.float64)
        seen = 0
        for part in (p for c in self.chunks for p in c.split(max(1, WINDOW_BYTES // (8 * (stop - start))))):
            where = self.index[seen : seen + len(part)]
            seen += len(part)
            rows = self._rooted(part[where >= 0, start:stop].double())
            total.index_add_(0, where[where >= 0], rows)
            _advance(bar, rows)
        counts = torch.bincount(self.index[self.index >= 0], minlength=len(total))
        return rearrange(total / counts[:, None], "(v t) d -> v t d", t=self.templates)

    def _rooted(self, block: Tensor) -> Tensor:
        return block.clamp_min(0).sqrt() if self.root else block

    def _where_not_finite(self, block: Tensor, start: int) -> str:
        value, template, d = (~torch.isfinite(block)).nonzero()[0].tolist()
        return (
            f"{self.name} holds NaN or infinity (value {self.values[value]}, template {template}, dimension {start + d}); leave such "
            f"rows out, or give them in a wider type"
        )


def _advance(bar: Progress | None, block: Tensor) -> None:
    if bar is not None:
        bar.advance(block.numel() * 8 // 10**6)


def _averaged(
    block: Float[Tensor, "value template d"], groups: Int[Tensor, " template"]
) -> Float[Tensor, "value group d"]:
    count = int(groups.max()) + 1
    sums = block.new_zeros(block.shape[0], count, block.shape[2]).index_add_(1, groups, block)
    return sums / torch.bincount(groups, minlength=count)[:, None]


def check_probabilities(cells: Cells) -> None:
    """Raise ``UsageError`` unless every row is a distribution: nothing negative, a sum of 1."""
    tensors = cells.chunks if cells.grid is None else (cells.grid,)
    low = min(float(each.min()) for each in tensors)
    sums = torch.cat([each.sum(-1, dtype=torch.float64).flatten() for each in tensors])
    if low < -1e-6 or float((sums - 1).abs().max()) > SUMS_TO_ONE:
        raise UsageError(
            f"{cells.name} holds no answer distributions (smallest number {low:.3g}, sums {float(sums.min()):.3g} to "
            f"{float(sums.max()):.3g}); give softmax outputs whose rows sum to 1, not logits"
        )


def compacted(sites: Sequence[Cells], label: str) -> Float[Tensor, "site value template r"]:
    """Coordinates of every site's cells that have the same inner products, each template's mean over values taken off.

    At most as many as there are cells; sites without any difference between values are zero.
    """
    n, templates = len(sites[0].values), sites[0].averaged_templates
    most = max(min(each.d, n * templates) for each in sites)
    out = torch.zeros(len(sites), n, templates, most, dtype=torch.float64)
    with progress(f"reading {label} (MB)", sum(each.megabytes for each in sites)) as bar:
        for place, each in zip(out, sites, strict=True):
            found = _compact(each, bar)
            place[..., : found.shape[-1]] = found
    return out


def _compact(cells: Cells, bar: Progress) -> Float[Tensor, "value template r"]:
    kept: list[Tensor] = []
    gram: Tensor | None = None
    spread = scale = 0.0
    shape = (0, 0)
    for block in cells.windows(bar):
        scale = max(scale, float(block.abs().max()))
        centred = block - block.mean(0)
        spread, shape = max(spread, float(centred.abs().max())), block.shape[:2]
        flat = rearrange(centred, "v t d -> (v t) d")
        if cells.d <= len(flat):
            kept.append(flat)
        else:
            gram = flat @ flat.T if gram is None else gram + flat @ flat.T
    flat = torch.cat(kept, 1) if gram is None else _root(gram)
    if spread <= CONSTANT * scale:
        flat = torch.zeros_like(flat)
    return rearrange(flat, "(v t) r -> v t r", v=shape[0])


def _root(gram: Float[Tensor, "c c"]) -> Float[Tensor, "c r"]:
    """Coordinates with these inner products."""
    values, vectors = torch.linalg.eigh(gram)
    return vectors * values.clamp_min(0).sqrt()


def cell_means(cells: Cells, kept: Sequence[int] | None = None) -> Float[Tensor, "value d"]:
    """The mean of every value over its templates (those in ``kept``)."""
    return torch.cat([(b if kept is None else b[:, list(kept)]).mean(1) for b in cells.windows()], 1)


def best_dimensions(
    sites: Sequence[Cells], coordinates: Float[Tensor, "site value template r"], orders: LabelPermutations
) -> list[tuple[Dimension, ...]]:
    """As ``stats.dimensions.best_dimensions``, a site at a time: its three best dimensions, with p over all sites."""
    tops, nulls = [], []
    for i, cells in enumerate(sites):
        kept = distinct(template_groups(cross_gram(coordinates[i : i + 1])[0]))
        means = cell_means(cells, kept)[None]
        best = dimension_r2(means)[0].max(0)
        top = best.values.topk(min(3, means.shape[-1]))
        tops.append([(int(d), int(best.indices[d]) + 1, float(r2)) for r2, d in zip(*top, strict=True)])
        # a window of dimensions at a time: as many at once as a wide site has would take gigabytes
        worst = [dimension_null(part, orders)[:, 0].double() for part in means.split(NULL_DIMENSIONS, 2)]
        nulls.append(torch.stack(worst).amax(0))
    null = torch.stack(nulls, 1).amax(1)
    worth = [orders.p_value(torch.tensor([[r2 for *_, r2 in top]]).double() - 1e-5, null)[0] for top in tops]
    return [
        tuple(Dimension(d, k, r2, float(p)) for (d, k, r2), p in zip(top, ps, strict=True))
        for top, ps in zip(tops, worth, strict=True)
    ]


def copies_together(sites: Sequence[Cells], most: int) -> Int[Tensor, " template"]:
    """Groups of templates that are averaged into ``most`` at the most, in their order; copies (at the site that has fewest
    different templates, though more than one) stay together, since copies in several groups would agree by themselves."""
    templates = sites[0].templates
    if templates > MOST_CELLS:
        return torch.arange(templates) * most // templates
    first = torch.arange(templates)
    fewest = templates
    for cells in sites:
        inner = sum(_template_products(block) for block in cells.windows())
        groups = template_groups(torch.as_tensor(inner)[..., None, None])
        count = len(groups.unique())
        if 1 < count < fewest:
            first, fewest = groups, count
    rank = first.unique(return_inverse=True)[1]
    return (rank * min(most, fewest) // fewest).long()


def _template_products(block: Float[Tensor, "v t d"]) -> Float[Tensor, "t t"]:
    centred = rearrange(block - block.mean(0), "v t d -> t (v d)")
    return centred @ centred.T
