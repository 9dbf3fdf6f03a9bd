"""``probe_activations()``: arrays in, the result of a probe out."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from mechfourier._arguments import checked
from mechfourier.errors import OutOfRange, UsageError
from mechfourier.fourier.bases import n_frequencies
from mechfourier.fourier.harmonics import r2_bound
from mechfourier.models.memory import gigabytes
from mechfourier.probes.arrays.asked import Plan, Request
from mechfourier.probes.arrays.cells import (
    MOST_CELLS,
    MOST_TEMPLATES,
    Cells,
    best_dimensions,
    cell_means,
    check_probabilities,
    compacted,
    copies_together,
)
from mechfourier.probes.arrays.grid import GridProbe, grid_probe
from mechfourier.probes.arrays.plan import plan
from mechfourier.probes.planes import planes_of
from mechfourier.probes.probe import operation_result, value_result
from mechfourier.probes.result import ArraysRead, ProbeResult
from mechfourier.probes.size import check_size
from mechfourier.stats.null import label_orders
from mechfourier.stats.operation import analyse_operation
from mechfourier.stats.shapes.contest import FEWEST_TEMPLATES
from mechfourier.stats.value import LEVEL, SIGN_FLIP_TEMPLATES, ValueEvidence, analyse_value

ENOUGH_TEMPLATES = 8
MOST_GRID_BYTES = 2**30
"""Operation grids are measured whole, in float64."""
ONE_TEMPLATE = (
    "one template cannot tell the value from its noise: whether there is a shape, which one, and the held-out error cannot be tested "
    f"(at least {FEWEST_TEMPLATES} templates are needed, better {ENOUGH_TEMPLATES})"
)


@checked
def probe_activations(
    acts: Any,
    domain: Any = None,
    *,
    labels: Any = None,
    n: int | float | None = None,
    templates: Any = None,
    sites: Any = None,
    layout: str | None = None,
    control: Any = None,
    design: str = "auto",
    probabilities: bool = False,
    position: int = -1,
    n_permutations: int = 1000,
    seed: int = 0,
) -> ProbeResult | GridProbe:
    """Are the values of a cycle on a circle in these activations? The statistics, words and pages of ``probe``, without a model.

    Args: acts: an array, a mapping of arrays (one per site, or one per value), a TransformerLens ``ActivationCache``, tensors that
    nnsight saved, a pandas frame, an xarray ``DataArray``, a ``datasets.Dataset``, or the path of a file (npy, npz, safetensors,
    PyTorch, Parquet, Arrow); nothing is copied, and nothing in a file is run. domain: a `Domain`, its name or path; ``"degrees"``,
    ``"radians"`` or ``"turns"`` where the labels are angles; two of them (``"days,hours-24"``) for a grid of two cycles. labels: one
    per row (names of the values, whole numbers, or angles), the name of the column that holds them, or the names of the values along
    their axis; two, as a tuple, for grids and operations. n: where there is no domain, the
    values on the cycle (a whole number), or the period of labels that are angles (a float).
    templates: the template (prompt, trial, session) of every row, or its column; where there is none, the rows of a value are cut
    into groups. sites: the arrays to take, names for a site axis, or a pattern such as ``"acts_{value}"``. layout: which axis is
    what ("site value template d", "layer d value", "a o d", "row d"), where the sizes do not say. control: the same from an
    untrained model. design: ``"operation"`` for values and offsets. probabilities: the arrays are answer distributions, and their
    square roots are looked at. position: of a position axis. n_permutations, seed: as in ``probe``.

    Raises ``UsageError`` (or a subclass), ``UnsafeCheckpoint`` or ``BadCheckpoint``, in one sentence, for what cannot be read.
    """
    if n_permutations < 99:
        raise OutOfRange(f"n_permutations is {n_permutations}; fewer than 99 cannot give a p below .01")
    if design not in ("auto", "value", "operation"):
        raise UsageError(f"no design {design!r}; one of: auto, value, operation")
    if isinstance(labels, tuple) and len(labels) > 2:  # two are those of a grid; more, one per row
        labels = list(labels)
    asked = Request(domain, labels, n, templates, sites, layout, design, probabilities, position)
    made = plan(acts, asked)
    if probabilities:
        for cells in made.sites:
            check_probabilities(cells)
    other = None if control is None else plan(control, asked)
    if other is not None:
        _check_control(made, other)
    if made.design == "operation":
        return _operation(made, other, n_permutations, seed)
    return _values(made, other, n_permutations, seed)


def _check_control(made: Plan, other: Plan) -> None:
    first, second = ([(c.name, len(c.values), c.templates) for c in each.sites] for each in (made, other))
    if [each[1:] for each in first] != [each[1:] for each in second]:
        raise UsageError(
            f"the control has other cells than the activations ({second[:2]}, {first[:2]}: site, values, templates); give the same rows"
        )


def _common(made: Plan, templates: int, design: str, *notes: str) -> dict[str, Any]:
    """What a result says whatever the design."""
    rows = max((cells.rows for cells in made.sites), default=0)
    return dict(
        model=made.name,
        domain=made.domain.name,
        n=made.domain.n,
        unit=made.domain.unit,
        design=design,
        position="array",
        prompts=rows,
        caveats=None,
        tokens=None,
        notes=(*made.notes, *notes),
        arrays=ArraysRead(made.source, made.layout, made.shape, made.dtype, templates),
    )


def _values(made: Plan, other: Plan | None, permutations: int, seed: int) -> ProbeResult | GridProbe:
    if made.reason:
        return _nothing(made)
    sites, notes = _few_templates(made.sites)
    for cells in sites:
        check_size(made.domain.name, len(cells.values), cells.templates)
    acts = compacted(sites, made.name)
    blank = None
    if other is not None:
        blank = _padded(compacted(_few_templates(other.sites, sites[0])[0], "the control"), acts)
        acts = _padded(acts, blank)
    notes = (*notes, *_about(made, acts), *_uncontrolled(other))
    if made.second is not None:
        return grid_probe(
            made,
            acts,
            blank,
            dict(permutations=permutations, seed=seed),
            _common(made, acts.shape[2], "grid", *notes),
        )
    evidence = value_evidence(
        acts, blank, made.domain.values, made.domain.unit, sites, permutations=permutations, seed=seed
    )
    common = _common(made, acts.shape[2], "value", *notes, *_may_close(evidence))
    result = value_result(evidence, acts, made.domain.values, common)
    if acts.shape[2] == 1:
        result = dataclasses.replace(result, reasons=(*result.reasons, *_single(evidence, acts, sites)))
    return result.with_planes(lambda: planes_of(map(cell_means, sites), evidence.sites))


def value_evidence(
    acts: Float[Tensor, "site value template r"],
    control: Tensor | None,
    values: Sequence[str],
    unit: str,
    sites: Sequence[Cells] = (),
    *,
    permutations: int,
    seed: int,
) -> ValueEvidence:
    """``analyse_value`` on coordinates, with the best dimensions of the ``sites`` themselves."""
    single = acts.shape[2] == 1
    # of one template the spectrum and the order can be asked for with its noise in it: as of two copies
    pair = acts.expand(-1, -1, 2, -1) if single else acts
    names = [cells.name for cells in sites] or None
    found = analyse_value(
        pair,
        control=control if control is None or not single else control.expand(-1, -1, 2, -1),
        sites=names,
        values=values,
        unit=unit,
        permutations=permutations,
        seed=seed,
        dimensions=False,
    )
    if single and found.sites:
        found = dataclasses.replace(found, templates=1, untestable=ONE_TEMPLATE)
    if not sites or not found.sites:
        return found
    best = best_dimensions(sites, acts, label_orders(len(values), permutations=permutations, seed=seed))
    rows = tuple(dataclasses.replace(row, dimensions=of) for row, of in zip(found.sites, best, strict=True))
    return dataclasses.replace(found, sites=rows, dimension_p=min(d.p_value for of in best for d in of))


def _few_templates(
    sites: Sequence[Cells], like: Cells | None = None
) -> tuple[tuple[Cells, ...], tuple[str, ...]]:
    """Templates averaged into fewer where there are more than any statistic needs (or as those of ``like`` were)."""
    templates, n = sites[0].templates, len(sites[0].values)
    most = max(1, min(MOST_TEMPLATES, MOST_CELLS // n))
    if like is not None:
        groups = like.groups
    elif templates <= most:
        return tuple(sites), ()
    else:
        groups = copies_together(sites, most)
    if groups is None:
        return tuple(sites), ()
    averaged = tuple(dataclasses.replace(cells, groups=groups) for cells in sites)
    count = averaged[0].averaged_templates
    told = f"{templates} templates were averaged, in their order, in {count} groups, which stand for templates (copies stay together)"
    return averaged, (told,)


def _padded(acts: Tensor, like: Tensor) -> Tensor:
    return torch.nn.functional.pad(acts, (0, max(0, like.shape[-1] - acts.shape[-1])))


def _uncontrolled(other: Plan | None) -> tuple[str, ...]:
    told = "whether training made this is not known without the same activations of an untrained model (control=, --control FILE)"
    return () if other is not None else (told,)


def _about(made: Plan, acts: Tensor) -> tuple[str, ...]:
    """What these arrays cannot show."""
    templates, notes = acts.shape[2], []
    if 1 < templates < ENOUGH_TEMPLATES:
        at = " at one site" if len(acts) == 1 else ""
        few = (
            f"intervals are wide, and sign-flip p-values {2.0 ** (1 - templates):.2g} at the least"
            if templates >= SIGN_FLIP_TEMPLATES
            else f"too few for intervals and sign flips ({SIGN_FLIP_TEMPLATES} are needed)"
        )
        notes.append(f"{templates} templates{at}: {few}; {ENOUGH_TEMPLATES} or more are better")
    if made.sites[0].root:
        notes.append(
            "answer distributions (square roots of probabilities): what the model answers, which need not be how it represents the values"
        )
    return tuple(notes)


def _may_close(evidence: ValueEvidence) -> tuple[str, ...]:
    """Rings of narrow bumps are no circles of few harmonics, and are not open for that."""
    best = evidence.best_site
    shapes = {} if best is None else {shape.name: shape for shape in best.shapes}
    closed, path = shapes.get("closed curve"), shapes.get("smooth path")
    if best is None or best.word != "open curve" or closed is None or path is None:
        return ()
    if (closed.p or 0.0) < LEVEL or (path.p is not None and path.p >= LEVEL):
        return ()
    return (
        f"{best.site}: a closed curve of more harmonics is not rejected (p = {closed.p:.2g}), and a path that stays open is (p = "
        f"{path.p or 0:.2g}): narrow or uneven tuning makes such rings, and here 'open curve' only says that they are no circle of few harmonics",
    )


def _single(evidence: ValueEvidence, acts: Tensor, sites: Sequence[Cells]) -> tuple[str, ...]:
    """What can be said of one template: its spectrum and R², beside what noise gives."""
    best = evidence.best_site
    if best is None or not best.dimensions:
        return ()
    n, dim = evidence.n, best.dimensions[0]
    cells = next(cells for cells in sites if cells.name == best.site)
    bound = r2_bound(n, cells.d * n_frequencies(n) * len(sites))
    return (
        f"{best.site}: {max(best.share, 0.0):.0%} of the between-value power, noise included, is at k = {best.k} (white noise: "
        f"{2 / (n - 1):.0%}); circular order against permuted labels: family-wise p = {best.p_value:.2g}, which a smooth path or a "
        f"drift reaches too",
        f"best dimension {dim.dim} at k = {dim.k}: R² {dim.r2:.3f}; the best of {cells.d * len(sites)} dimensions of white noise stays "
        f"under {bound:.3f} in 95 of 100 (permuted labels: p = {dim.p_value:.2g})",
    )


def _nothing(made: Plan) -> ProbeResult:
    return ProbeResult(
        **_common(made, 0, "value"),
        verdict="not testable",
        used="not tested",
        reasons=(made.reason,),
        p_value=math.nan,
        best=None,
        sites=(),
        circle=None,
        value=None,
        operation=None,
    )


def _operation(made: Plan, other: Plan | None, permutations: int, seed: int) -> ProbeResult:
    acts = _whole(made)
    notes = (
        ()
        if made.sites[0].templates == 1
        else (f"the {made.sites[0].templates} templates of every cell were averaged",)
    )
    blank = None if other is None else _whole(other)
    evidence = analyse_operation(acts, n=made.domain.n, control=blank, permutations=permutations, seed=seed)
    names = [cells.name for cells in made.sites]
    if made.offsets % made.domain.n:
        whole = made.offsets / made.domain.n
        notes += (
            f"{made.offsets} offsets are {whole:.3g} cycles of {made.domain.n}: no whole number, so the shares are rough",
        )
    digits = "base-10 digits of the sum were taken as a confound, as a text model sees them"
    common = _common(made, made.sites[0].templates, "operation", *notes, digits, *_uncontrolled(other))
    return operation_result(evidence, acts, made.domain.values, names, common)


def _whole(made: Plan) -> Float[Tensor, "site a offset d"]:
    size = sum(len(cells.values) * cells.d * 8 for cells in made.sites)
    if size > MOST_GRID_BYTES:
        raise UsageError(
            f"this grid takes {gigabytes(size)} in float64, and operations are measured whole (at most {gigabytes(MOST_GRID_BYTES)}); "
            f"take fewer sites (sites=, --sites)"
        )
    found = [rearrange(cell_means(cells), "(a o) d -> a o d", o=made.offsets) for cells in made.sites]
    width = max(each.shape[-1] for each in found)
    return torch.stack([torch.nn.functional.pad(each, (0, width - each.shape[-1])) for each in found])
