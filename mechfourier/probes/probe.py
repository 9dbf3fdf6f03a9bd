"""``probe()``: a model and a domain in, a verdict with its evidence out."""

import dataclasses
import math
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from mechfourier._renamed import renamed
from mechfourier.domains.definition import Domain
from mechfourier.domains.definition import domain as find_domain
from mechfourier.domains.design import Design, confounds, max_cycles, read_positions
from mechfourier.domains.reads import tokens_read
from mechfourier.domains.tasks import has_logits
from mechfourier.errors import NotExpressible, OutOfRange, UsageError
from mechfourier.fourier.waves import harmonic_waves
from mechfourier.hooks.capture import capture
from mechfourier.hooks.passes import packing_notes
from mechfourier.hooks.site import Site, model_name, select_sites
from mechfourier.models.interface import Encoding, Model, encode
from mechfourier.models.untrained import untrained
from mechfourier.probes.caveats import caveats
from mechfourier.probes.planes import planes_of
from mechfourier.probes.result import Best, Circle, ProbeResult, SiteRow
from mechfourier.probes.size import check_size
from mechfourier.stats.operation import OperationEvidence, analyse_operation
from mechfourier.stats.operation_verdict import verdict_operation, words_by_site
from mechfourier.stats.spectrum import cross_gram
from mechfourier.stats.subspace import circle_positions
from mechfourier.stats.value import SiteEvidence, ValueEvidence, analyse_value
from mechfourier.stats.verdict import verdict_value

if TYPE_CHECKING:
    from mechfourier.hooks.store import ActivationStore

Kind = Literal["value", "operation"]
LEAST_TEMPLATES = 2


@renamed(permutations="n_permutations")
def probe(
    model: Model,
    domain: Domain | str,
    *,
    sites: "str | Site | Sequence[str | Site]" = "resid_post",
    layers: str | int | Iterable[int] | None = None,
    position: str | None = None,
    design: str = "auto",
    cycles: int = 4,
    n_permutations: int = 1000,
    seed: int = 0,
    store: "ActivationStore | None" = None,
    controls: bool = True,
) -> ProbeResult:
    """Does ``model`` represent ``domain`` on a circle, and what is that worth?

    Args: model: anything that `mechfourier.models.interface.Model` describes; `mechfourier.load` gives one.
    domain: a `Domain`, or the name or path of one. sites: kinds of hook points or full names
    (``"resid_post"``, ``"resid_post,mlp_post"``). layers: ``"0-3,7"``, a number or several; None for all.
    position: where value prompts are read: ``"value"`` or ``"last"``; None as the domain says. design:
    ``"value"`` (values in sentences), ``"operation"`` (value + offset), or ``"auto"``: values where the model
    can express at least two of the domain's sentences, else operations. cycles: cycles of offsets in
    operation designs (as many of them as the model can express). n_permutations: label permutations of the
    family-wise null. seed: of permutations, bootstrap and the re-initialised control. store: an activation
    store; captured activations are kept in it and found again. controls: also run the same architecture with
    re-initialised weights.

    Raises ``UnknownDomain``, ``UnknownSite``, ``OutOfRange``, ``NotExpressible`` or ``UsageError`` for a
    wrong call.
    """
    if n_permutations < 99:
        raise OutOfRange(f"n_permutations is {n_permutations}; fewer than 99 cannot give a p below .01")
    asked, chosen = find_domain(domain), select_sites(model, sites, layers)
    plan, encodings, notes = planned(model, asked, design, cycles, position)
    acts = _grid(model, plan, encodings, chosen, store)
    control = None
    if controls:
        with untrained(model, seed) as blank:
            control = _grid(blank, plan, encodings, chosen, store)
    read = captured(model, plan, encodings, chosen, acts, control, notes=notes, store=store)
    return analysed(read, n_permutations=n_permutations, seed=seed)


@dataclasses.dataclass(frozen=True, eq=False)
class Captured:
    """Activations of a design and all that their analysis needs of the model, which it no longer sees.

    ``acts`` and ``control`` (the untrained model's, or None) are ``[site, value, template, d]``, or
    ``[site, a, offset, d]``; ``features`` the confounds of an operation's cells; ``common`` what a result
    says whatever the design.
    """

    domain: Domain
    sites: tuple[str, ...]
    acts: Float[Tensor, "site row column d"]
    control: Float[Tensor, "site row column d"] | None
    features: Float[Tensor, "row column f"] | None
    digits: bool
    common: dict[str, Any]


def captured(
    model: Model,
    plan: Design,
    encodings: list[Encoding],
    sites: Sequence[Site],
    acts: Float[Tensor, "site row column d"],
    control: Float[Tensor, "site row column d"] | None,
    *,
    notes: Sequence[str] = (),
    store: "ActivationStore | None" = None,
) -> Captured:
    """Activations of a design, with what is said of the model: names, tokens read, caveats and confounds."""
    features = None
    if plan.kind == "operation":
        cells = confounds(plan, encodings).values
        features = rearrange(cells, "(a o) f -> a o f", a=plan.shape[0]).float()
    domain: Any = plan.domain
    common = _common(model, plan, encodings, sites, acts, notes, store)
    digits = _sees_digits(model, encodings)
    return Captured(domain, tuple(map(str, sites)), acts, control, features, digits, common)


def analysed(read: Captured, *, n_permutations: int = 1000, seed: int = 0) -> ProbeResult:
    """The statistics and the word of captured activations; no model runs."""
    domain, acts = read.domain, read.acts
    options: dict[str, Any] = dict(control=read.control, permutations=n_permutations, seed=seed)
    if read.features is None:
        evidence = analyse_value(acts, sites=read.sites, values=domain.values, unit=domain.unit, **options)
        result = value_result(evidence, acts, domain.values, read.common)
        means = acts.mean(2)
        return result.with_planes(lambda: planes_of(means, evidence.sites))
    features = read.features if read.features.shape[-1] else None
    measured = analyse_operation(acts, n=domain.n, confounds=features, digits=read.digits, **options)
    return operation_result(measured, acts, domain.values, list(read.sites), read.common)


def _common(
    model: Model,
    plan: Design,
    encodings: list[Encoding],
    sites: Sequence[Site],
    acts: Tensor,
    notes: Sequence[str],
    store: "ActivationStore | None",
) -> dict[str, Any]:
    """What a result says whatever the design: names, tokens read, caveats and notes."""
    domain, tokens = plan.domain, tokens_read(model, plan, encodings)
    modulus, read = domain.n if plan.kind == "operation" else None, read_positions(plan, encodings)
    against = caveats(model, encodings, read, sites, acts, modulus=modulus, store=store)
    return dict(
        model=model_name(model),
        domain=domain.name,
        domain_file="" if domain.source in ("packaged", "generated") else domain.source,
        n=domain.n,
        unit=domain.unit,
        design=plan.kind,
        position="value" if plan.spans is not None else "last",
        prompts=len(plan),
        answers=has_logits(model),
        tokens=tokens,
        caveats=against,
        notes=(*notes, *tokens.notes(), *against.notes(), *packing_notes(model)),
    )


def planned(
    model: Model,
    domain: Domain,
    kind: str = "auto",
    cycles: int = 4,
    position: str | None = None,
) -> tuple[Design, list[Encoding], list[str]]:
    """The design to run with its tokens, and notes on what the model could not express."""
    if kind not in ("auto", "value", "operation"):
        raise UsageError(f"no design {kind!r}; one of: auto, value, operation")
    if position not in (None, "value", "last"):
        raise OutOfRange(f"position {position!r} is neither 'value' nor 'last'")
    if kind == "operation":
        return _operation_plan(model, domain, cycles)
    try:
        return _value_plan(model, domain, position)
    except NotExpressible as error:
        if kind == "value" or domain.operation is None:
            raise
        design, encodings, notes = _operation_plan(model, domain, cycles)
        return design, encodings, [f"the operation was probed, not the values alone: {error}", *notes]


def _value_plan(
    model: Model, domain: Domain, position: str | None
) -> tuple[Design, list[Encoding], list[str]]:
    """The value design over the templates that the model can express."""
    check_size(domain.name, domain.n, len(domain.templates))
    kept, refused = [], None
    for template in domain.templates:
        alone = dataclasses.replace(domain, templates=(template,)).value_design()
        try:
            encode(model, alone.prompts)
        except NotExpressible as error:
            refused = error
        else:
            kept.append(template)
    if len(kept) < LEAST_TEMPLATES and refused is not None:
        raise NotExpressible(
            f"the model can express {len(kept)} of the {len(domain.templates)} sentences of {domain.name} "
            f"({refused})"
        )
    notes = []
    if refused is not None:
        notes.append(
            f"{len(kept)} of {len(domain.templates)} sentences were used; the others hold words the model "
            f"does not know "
            f"({refused})"
        )
    where: Any = position
    design = dataclasses.replace(domain, templates=tuple(kept)).value_design(position=where)
    return design, encode(model, design.prompts), notes


def _operation_plan(model: Model, domain: Domain, cycles: int) -> tuple[Design, list[Encoding], list[str]]:
    possible = max_cycles(domain, model, cycles)
    design = domain.operation_design(possible.cycles, template=possible.template)
    notes = [possible.note] if possible.note else []
    if cycles == 1:
        notes.append(
            "one cycle of offsets: the raw sum covers less than two periods, so k = 1 is weakly identified; "
            "--cycles 4 tells a circle from a smooth sum"
        )
    if possible.cycles == 1:
        notes.append(
            "over one cycle the test looks at the means of (a, o) and (o, a), a = o aside: a model that "
            "does not tell its operands "
            "apart would show any function of the pair as one of the sum"
        )
    return design, encode(model, design.prompts), notes


def _grid(
    model: Model,
    design: Design,
    encodings: list[Encoding],
    sites: Sequence[Site],
    store: "ActivationStore | None",
) -> Float[Tensor, "site row column d"]:
    """One captured pass as a grid: [site, value, template, d] or [site, a, offset, d]."""
    found = capture(model, encodings, list(sites), read_positions(design, encodings), store=store)
    return grid_of([found[site] for site in found.sites], design)


def grid_of(
    found: Sequence[Float[Tensor, "prompt ..."]], design: Design
) -> Float[Tensor, "site row column d"]:
    """Activations of the prompts of a design, site by site, on its grid.

    Sites of different widths are filled up with zeros, which no statistic sees: they are constant.
    """
    flat = [values.flatten(1) for values in found]
    width = max(values.shape[1] for values in flat)
    stacked = torch.stack([torch.nn.functional.pad(values, (0, width - values.shape[1])) for values in flat])
    return rearrange(stacked, "site (row column) d -> site row column d", row=design.shape[0]).float()


def _sees_digits(model: Model, encodings: Sequence[Encoding]) -> bool:
    """Whether base-10 digits can be known to the model: text tokenizers, or numbers split into several
    tokens."""
    return (
        getattr(model, "tokenizer", None) is not None
        or len({len(encoding.ids) for encoding in encodings}) > 1
    )


def value_result(
    evidence: ValueEvidence, acts: Tensor, values: Sequence[str], common: dict[str, Any]
) -> ProbeResult:
    """The result of a value design; ``common``: what a result says whatever the design."""
    verdict = verdict_value(evidence)
    rows = tuple(_value_row(site) for site in evidence.sites)
    best = evidence.best_site
    k = None if best is None else (best.contest and best.contest.k) or best.k
    circle = None
    if best is not None and k is not None and best.probe is not None:
        place, each = circle_positions(cross_gram(acts[evidence.best : evidence.best + 1])[0], k)
        circle = _circle(k, values, place, each)
    return ProbeResult(
        **common,
        verdict=verdict.word,
        used=verdict.used,
        reasons=(*verdict.reasons, *_sink_reason(common, best.site if best is not None else None)),
        p_value=evidence.p_value,
        best=None if best is None or k is None else Best(best.site, k, best.r2),
        sites=rows,
        circle=circle,
        value=evidence,
        operation=None,
        layers=_layers(rows, verdict.span),
    )


def _value_row(site: SiteEvidence) -> SiteRow:
    unchanged = site.contest is not None and site.contest.word == site.word
    label = site.contest.label if unchanged and site.contest is not None else site.word
    return SiteRow(site.site, site.p_value, site.k, site.r2, site.spectrum, site.word, label, site.shapes)


def _layers(rows: Sequence[SiteRow], span: tuple[int, int] | None) -> tuple[int, int] | None:
    """The layers of the first and the last site of the headline; None where either has no layer."""
    if span is None:
        return None
    first, last = (Site.parse(rows[i].site).layer for i in span)
    return None if first is None or last is None else (first, last)


def operation_result(
    evidence: OperationEvidence, acts: Tensor, values: Sequence[str], names: list[str], common: dict[str, Any]
) -> ProbeResult:
    """The result of an operation design; ``names``: of the hook points."""
    verdict = verdict_operation(evidence)
    best = evidence.best()
    rows = tuple(
        SiteRow(names[s.site], s.p, s.k, s.partial_r2, s.harmonic_shares, word, word, s.shapes)
        for s, word in zip(evidence.sites, words_by_site(evidence), strict=True)
    )
    circle = None
    if best is not None:
        place, each = class_positions(acts[best.site], best.k)
        circle = _circle(best.k, values, place, each)
    return ProbeResult(
        **common,
        verdict=verdict.word,
        used=verdict.used,
        reasons=(
            *(_named(reason, names) for reason in verdict.reasons),
            *_sink_reason(common, names[best.site] if best is not None else None),
        ),
        p_value=math.nan if best is None else best.p,
        best=None if best is None else Best(names[best.site], best.k, best.partial_r2),
        sites=rows,
        circle=circle,
        value=None,
        operation=evidence,
    )


def _sink_reason(common: dict[str, Any], site: str | None) -> tuple[str, ...]:
    """What a verdict must say where every prompt was read at an attention sink."""
    if site is None or common["caveats"] is None:
        return ()
    told = common["caveats"].reason(site) or common["tokens"].reason()
    return () if told is None else (told,)


def _named(reason: str, names: Sequence[str]) -> str:
    """Arrays know hook points by number; people know them by name."""
    return re.sub(r"\bhook point (\d+)", lambda found: names[int(found[1])], reason)


def class_positions(
    acts: Float[Tensor, "a offset d"], k: int
) -> tuple[Float[Tensor, "n two"], Float[Tensor, "half n two"]]:
    """Positions of the n classes (a + offset) mod n in the plane of harmonic ``k``: their mean, and every
    other operand's.

    The plane comes from the odd operands and the positions from the even ones (and the other way round), so
    that no activation is drawn in a plane it helped to choose.
    """
    n = acts.shape[0]
    y = acts.double()
    y = y - y.mean(0, keepdim=True) - y.mean(1, keepdim=True) + y.mean((0, 1))
    label = (torch.arange(n)[:, None] + torch.arange(acts.shape[1])) % n
    by_class = torch.nn.functional.one_hot(label, n).double()
    means = torch.einsum("aoc,aod->acd", by_class, y) / by_class.sum(1)[:, :, None].clamp_min(1)
    halves = torch.stack([means[0::2].mean(0), means[1::2].mean(0)])
    planes = torch.einsum("hcd,ci->hid", halves, harmonic_waves(n, k)).flip(0)
    planes = planes / torch.linalg.norm(planes, dim=(1, 2), keepdim=True).clamp_min(1e-300)
    each = torch.einsum("hcd,hid->hci", halves, planes)
    return each.mean(0), each


def _circle(
    k: int, labels: Sequence[str], place: Float[Tensor, "n two"], each: Float[Tensor, "t n two"]
) -> Circle:
    """Positions with their spread over the first axis of ``each``, rounded to what a figure shows."""
    deviation = each - each.mean(0)
    scale = max(len(each) - 1, 1)
    variance = (deviation**2).sum(0) / scale
    covariance = (deviation[..., 0] * deviation[..., 1]).sum(0) / scale
    sx, sy = variance.sqrt().unbind(-1)
    correlation = covariance / (sx * sy).clamp_min(1e-300)
    spread = torch.stack([sx, sy, correlation.clamp(-1, 1)], 1)
    points = tuple((float(x), float(y)) for x, y in place.tolist())
    return Circle(
        k, tuple(labels), points, tuple((float(a), float(b), float(c)) for a, b, c in spread.tolist())
    )
