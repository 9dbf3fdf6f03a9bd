"""What the page of an atlas holds of every domain and hook point, as plain values."""

import math
import shlex
from collections.abc import Sequence
from typing import Any

from mechfourier.atlas.result import AtlasResult, DomainAtlas, evidence_at
from mechfourier.domains.tasks import TaskRow
from mechfourier.figures.atlas_words import colour, inks, letter
from mechfourier.hooks.site import Site
from mechfourier.probes.result import ProbeResult, SiteRow, short_names
from mechfourier.stats.shapes.catalogue import SHAPES
from mechfourier.stats.value import SiteEvidence

P_ORDER = (
    "permuted labels: how often the best score of a circular order, of all hook points and harmonics, is as high "
    "(family-wise over hook points and harmonics of this domain; not over domains)"
)
CLOSED = frozenset(shape.name for shape in SHAPES if shape.closed)
P_CONTEST = "how often data of the rival shapes would favour a circle as strongly, at this hook point alone"
EVIDENCE = "0 would be no better than the mean of the other values; at most 1"


def same_layers(result: AtlasResult) -> list[str]:
    """Names of the columns: those of the domain with the most hook points."""
    sites = max((each.probe.sites for each in result.domains if each.probe is not None), key=len, default=())
    return short_names([row.site for row in sites]) if sites else []


def matrix_rows(result: AtlasResult) -> list[dict[str, Any]]:
    """One row per domain of the matrix and of the table under it."""
    p = result.circle_p()
    return [_matrix_row(index, each, p.get(each.domain)) for index, each in enumerate(result.domains)]


def _matrix_row(index: int, each: DomainAtlas, p: tuple[float, float] | None) -> dict[str, Any]:
    mine, best = each.cells(), each.best_task()
    names = short_names([row["site"] for row in mine]) if mine else []
    return {
        "index": index,
        "domain": each.domain,
        "title": each.title,
        "n": each.n,
        "word": each.word,
        "colour": colour(each.word),
        "reason": each.reason or "",
        "cells": [_matrix_cell(each.domain, name, row) for name, row in zip(names, mine, strict=True)],
        "words": [row["word"] for row in mine],
        "layers": each.word_layers() or "–",
        "p": _p_of(each, p),
        "task": None if best is None else _task(best),
        "used": each.used,
        "share": _share(each),
    }


def _matrix_cell(domain: str, layer: str, row: dict[str, Any]) -> dict[str, Any]:
    evidence, word = _clean(row["evidence"]) or 0.0, str(row["word"])
    place = f"layer {layer}" if layer.isdigit() else layer
    # the faintest cell is still seen; noise says nothing, so it stays faint
    strength = round(0.18 + 0.82 * min(1.0, max(0.0, evidence)), 2)
    return {
        "letter": letter(word),
        "colour": colour(word),
        "strength": strength,
        "inks": inks(word, strength),
        "label": f"{domain}, {place}: {word}, evidence {evidence:.2f}, p {_shown(row['p'])}",
    }


def best_place(each: DomainAtlas) -> int:
    """The column of the hook point that speaks for the word."""
    if each.probe is None or each.probe.best is None:
        return 0
    return [row.site for row in each.probe.sites].index(each.probe.best.site)


def _p_of(each: DomainAtlas, p: tuple[float, float] | None) -> dict[str, str] | None:
    """The p-value of a circle, with what it corrects for."""
    probe = each.probe
    if probe is None or not probe.sites:
        return None
    if p is None:
        return {"text": _shown(probe.p_value), "null": P_ORDER} if probe.value is None else None
    return {
        "text": f"{_shown(p[0])} (Holm {_shown(p[1])})",
        "null": "that no hook point of this domain is a circle: the contest of shapes, all hook points combined "
        "(Cauchy), which corrects for the layers; in brackets corrected over the domains of this atlas as well",
    }


def _task(row: TaskRow) -> dict[str, str]:
    p = "" if row.p_holm is None else f", p = {_shown(row.p_holm)} (Holm over all tasks of the atlas)"
    return {
        "text": f"{row.task} {row.accuracy.share:.0%} [{row.accuracy.low:.0%}, {row.accuracy.high:.0%}]",
        "null": f"chance: {row.chance:.1%} (the best constant answer), exact binomial test of "
        f"{row.accuracy.right} of {row.accuracy.prompts}{p}",
    }


def _share(each: DomainAtlas) -> dict[str, str] | None:
    share = None if each.study is None else each.study.share
    if share is None:
        return None
    return {
        "text": str(share),
        "null": "of the answers that editing the whole token moves by exactly δ, the share that the circle's "
        "planes alone move; 0 is what planes without effect would give",
    }


def domain_data(each: DomainAtlas, result: AtlasResult) -> dict[str, Any]:
    """All that the page draws of one domain."""
    probe = each.probe
    told: dict[str, Any] = {
        "name": each.domain,
        "title": each.title,
        "word": each.word,
        "reason": each.reason,
        "best": best_place(each),
        "tasks": [_task_row(row) for row in each.tasks if row.template is None],
        "unasked": list(each.unasked),
        "study": study_data(each),
        "sites": [],
    }
    if probe is None:
        return told
    names = short_names([row.site for row in probe.sites])
    circles = {circle.site: circle for circle in each.circles}
    value = None if probe.value is None else {site.site: site for site in probe.value.sites}
    found = each.published()
    return told | {
        "n": probe.n,
        "unit": probe.unit,
        "values": _values(each),
        "design": probe.design,
        "prompts": probe.prompts,
        "k": each.circles[0].k if each.circles else None,
        "reasons": list(probe.reasons),
        "notes": list(probe.notes),
        "published": None if found is None else {"text": str(found), "real": found.real},
        "tokens": _tokens(probe),
        "command": shlex.join(["mechfourier", "probe", result.model, "--domain", each.domain]),
        "python": f"import mechfourier as mf\n\n"
        f"result = mf.probe(mf.load({result.model!r}), {each.domain!r})\n"
        "result.plot().show()",
        "sites": [
            _site(row, name, circles.get(row.site), None if value is None else value.get(row.site), probe)
            for row, name in zip(probe.sites, names, strict=True)
        ],
    }


def _values(each: DomainAtlas) -> list[str]:
    probe = each.probe
    if probe is not None and probe.circle is not None:
        return list(probe.circle.labels)
    if probe is not None and probe.value is not None and probe.value.values:
        return list(probe.value.values)
    return [str(v) for v in range(each.n)]


def _site(
    row: SiteRow, name: str, circle: Any, value: SiteEvidence | None, probe: ProbeResult
) -> dict[str, Any]:
    word = row.word or (probe.verdict if row.p_value < 0.05 else "noise")
    told: dict[str, Any] = {
        "site": row.site,
        "name": name,
        "layer": Site.parse(row.site).layer,
        "word": word,
        "label": row.label or word,
        "colour": colour(word),
        "k": row.k,
        "spectrum": [_clean(x) for x in row.spectrum],
        "numbers": _numbers(row, value, probe),
        "points": [] if circle is None else [list(p) for p in circle.points],
        "spread": [] if circle is None else [list(s) for s in circle.spread],
        "shapes": [
            [s.name, _clean(s.evidence), _clean(s.low), _clean(s.high), _clean(s.p), s.name in CLOSED]
            for s in row.shapes
        ],
        "reasons": [] if value is None else list(value.reasons),
    }
    if value is not None and value.control is not None:
        told["control"] = [_clean(value.control.evidence), _clean(value.control.p_value)]
    return told


def _numbers(row: SiteRow, value: SiteEvidence | None, probe: ProbeResult) -> list[list[str]]:
    """Name, number and null of what is said under the circle."""
    share = row.spectrum[row.k - 1] if 0 < row.k <= len(row.spectrum) else math.nan
    flat = 1 / max(1, len(row.spectrum))
    found = [
        ["p of circular order", _shown(row.p_value), P_ORDER],
        [
            f"power at k = {row.k}",
            _percent(share),
            f"share of the power between values, without template noise; a flat spectrum: {flat:.0%}",
        ],
    ]
    if value is None:
        return [
            *found,
            ["partial R²", _shown(row.r2), "best dimension beyond the confounds; 0 without signal"],
        ]
    if value.contest is not None:
        found.insert(0, ["evidence", f"{evidence_at(value):z.2f}", EVIDENCE])
        found.insert(1, ["p against rivals", _shown(value.contest.p), P_CONTEST])
    if value.probe is not None:
        found.append(
            [
                "held-out error",
                f"{value.probe.error:.2f} {probe.unit}",
                f"permuted labels: {value.probe.null_error:.2f} {probe.unit} (5 % of them below "
                f"{value.probe.null_low:.2f}), p = {_shown(value.probe.p_value)} at this hook point alone",
            ]
        )
    if value.control is not None:
        told = "evidence of the same shape with re-initialised weights; p: against permuted labels, as that shape scores them too"
        worth = f"{value.control.evidence:z.2f} (p = {_shown(value.control.p_value)})"
        found.append(["untrained model", worth, told])
    return found


def _tokens(probe: ProbeResult) -> dict[str, Any] | None:
    if probe.tokens is None:
        return None
    return {
        "beginning": probe.tokens.beginning(),
        "templates": [[list(row.tokens), row.read] for row in probe.tokens.templates],
    }


def _task_row(row: TaskRow) -> dict[str, Any]:
    a = row.accuracy
    return {
        "task": row.task,
        "share": a.share,
        "low": a.low,
        "high": a.high,
        "prompts": a.prompts,
        "chance": row.chance,
        "p": _clean(row.p_holm),
    }


def study_data(each: DomainAtlas) -> dict[str, Any] | None:
    """What interventions showed: sentences, and the ladder of shares and the causal map where there are any."""
    study = each.study
    if study is None:
        return None
    cells = () if study.map is None else study.map.cells
    return {
        "text": str(study).splitlines()[0],
        "sentence": "" if study.share is None else study.sentence(),
        "reasons": [reason for reason in study.reasons if reason not in study.probe.reasons],
        "ladder": _records(study.ladder, ("name", "moved", "low", "high")),
        "map": _records(cells, ("site", "layer", "position", "moved", "moved_whole", "p", "recovered")),
        "rows": [{k: _clean(v) for k, v in row.items()} for row in study.frame().to_dict("records")],
        "command": shlex.join(
            ["mechfourier", "study", study.model, "--domain", study.domain]
            + (["--task", study.task] if study.task else [])
        ),
    }


def _records(rows: Sequence[Any], names: Sequence[str]) -> list[dict[str, Any]]:
    return [{name: _clean(getattr(row, name, None)) for name in names} for row in rows]


def _clean(value: Any) -> Any:
    """A number for JSON: four digits, None where it is not finite."""
    if isinstance(value, float):
        return round(value, 4) if math.isfinite(value) else None
    return value


def _shown(value: float) -> str:
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:.2g}"


def _percent(value: float) -> str:
    return f"{value:.0%}" if math.isfinite(value) else "–"
