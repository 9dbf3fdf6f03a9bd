"""The page of an atlas: domains by layers, and behind each cell its circle, contest, tokens and use."""

import json
import shlex
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from mechfourier._version import __version__
from mechfourier.atlas.result import AtlasResult, DomainAtlas
from mechfourier.drawing.html import Part, Section, inert, own_page, render, verdict_card
from mechfourier.drawing.marks import figure, heat
from mechfourier.drawing.template import BLUE, GREEN
from mechfourier.figures.atlas_cells import domain_data, matrix_rows, same_layers
from mechfourier.figures.atlas_words import colour, inks, letter
from mechfourier.files import result_name, write_text
from mechfourier.stats.words import CIRCLES

if TYPE_CHECKING:
    import plotly.graph_objects as go

FOOT = "A probe shows what is represented; only an intervention shows what is used. Opens without a network."


def atlas_figure(result: AtlasResult) -> "go.Figure":
    """Evidence of the word of every domain (down) and hook point (across)."""
    frame = result.frame()
    if not len(frame):
        return figure(height=260, title=f"Atlas of {result.model}")
    table = frame.pivot(index="domain", columns="site", values="evidence")
    table = table.loc[frame["domain"].unique(), frame["site"].unique()]
    layers = list(range(table.shape[1]))
    drawn = heat(layers, list(table.index), table.values, bar="evidence", hover="%{y}, %{x}: %{z:.2f}")
    return figure(drawn, x="hook point", height=140 + 28 * len(table), title=f"Atlas of {result.model}")


def atlas_part(result: AtlasResult) -> Part:
    """The atlas as a chapter of a report; its own page (``write_atlas``) shows the cells as well."""
    circles = [each.domain for each in result.domains if each.word in CIRCLES]
    card = verdict_card(
        f"{len(circles)} of {len(result.domains)} domains are circles",
        ", ".join(circles) or "none",
        [],
        accent=GREEN if circles else BLUE,
    )
    sections = [Section("Domains", result.table()), Section("Layers", atlas_figure(result))]
    return Part(f"Atlas: {result.model}", sections, card=card)


def page_name(results: Sequence[AtlasResult]) -> str:
    """The file name of the page."""
    return f"{result_name('atlas', *(each.model for each in results))}.html"


def write_atlas(results: Sequence[AtlasResult], folder: str | Path) -> Path:
    """Write the page of one or several atlases, and each as JSON, into ``folder``; the page's path."""
    out = Path(folder)
    for each in results:
        each.save(out / f"{result_name('atlas', each.model)}.json")
    return write_text(out / page_name(results), atlas_page(results))


def atlas_page(results: Sequence[AtlasResult]) -> str:
    """The page as text: the matrices as tables, everything behind a cell as JSON that a script draws."""
    models = [_model(index, each) for index, each in enumerate(results)]
    words = {word: colour(word) for m in models for row in m["rows"] for word in row["words"]}
    body = render(
        "atlas.html",
        models=models,
        legend=[
            (word, letter(word), shade, inks(word)[0]) for word, shade in sorted(words.items(), key=_by_word)
        ],
        differences=_differences(results),
        data=_inert({"models": [_data(each) for each in results]}),
    )
    names = ", ".join(each.model for each in results)
    return own_page(
        f"Atlas of {names}",
        body,
        leads=[text for each in results for text in (_lead(each), *each.notes)],
        assets=("atlas.css", "atlas.js"),
        footer=f"mechfourier {__version__}. {FOOT}",
    )


def _by_word(pair: tuple[str, str]) -> tuple[bool, bool, str]:
    return (pair[0] not in CIRCLES, pair[0].startswith("undecided"), pair[0])


def _inert(value: Any) -> Markup:
    return inert(json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":")))


def _lead(result: AtlasResult) -> str:
    """Which domains are circles, where, and which the model uses: the page's first sentence."""
    circles, p = [each for each in result.domains if each.word in CIRCLES], result.circle_p()
    told = "; ".join(f"{each.domain}{_where(each)}{_worth(p, each.domain)}" for each in circles)
    lie = f"{'lies' if len(circles) == 1 else 'lie'} on a circle"
    counts = Counter(each.word for each in result.domains if each.word not in CIRCLES)
    others = ", ".join(f"{word} ({count})" for word, count in counts.most_common())
    return (
        f"{result.model}: {len(circles)} of {len(result.domains)} domains {lie}"
        f"{f' ({told})' if circles else ''}.{f' The others: {others}.' if others else ''} {_use(result)}"
    )


def _where(each: DomainAtlas) -> str:
    layers = each.word_layers()
    return f" at layer{'' if layers.isdigit() else 's'} {layers}" if layers else ""


def _worth(p: dict[str, tuple[float, float]], domain: str) -> str:
    """The p-value of a circle beside the claim, and what it corrects for."""
    if domain not in p:
        return ""
    own, all_domains = p[domain]
    return (
        f", p = {own:.2g} corrected for its layers, {all_domains:.2g} for the {len(p)} domains tested as well"
    )


def _use(result: AtlasResult) -> str:
    if not result.studied:
        told = shlex.join(["mechfourier", "atlas", result.model])
        return f"Whether the model uses its circles was not tested; it is by: {told}"
    used = [each.domain for each in result.domains if each.used == "used"]
    return f"Used, by intervention: {', '.join(used) or 'none'}."


def _model(index: int, result: AtlasResult) -> dict[str, Any]:
    return {
        "index": index,
        "name": result.model,
        "rows": matrix_rows(result),
        "columns": same_layers(result),
        "studied": result.studied,
    }


def _data(result: AtlasResult) -> dict[str, Any]:
    return {
        "name": result.model,
        "command": shlex.join(["mechfourier", "atlas", result.model, *_options(result)]),
        "domains": [domain_data(each, result) for each in result.domains],
    }


def _options(result: AtlasResult) -> list[str]:
    names = [each.domain for each in result.domains]
    told = ["--domains", ",".join(names)]
    told += [] if result.studied else ["--quick"]
    told += ["--permutations", str(result.n_permutations)] if result.n_permutations != 1000 else []
    return [*told, *(["--seed", str(result.seed)] if result.seed else [])]


def _differences(results: Sequence[AtlasResult]) -> list[dict[str, Any]]:
    """Of two models, one row per domain that both have: what changes from the first to the second."""
    if len(results) != 2:
        return []
    second = {each.domain: each for each in results[1].domains}
    return [_difference(each, second[each.domain]) for each in results[0].domains if each.domain in second]


def _difference(one: DomainAtlas, two: DomainAtlas) -> dict[str, Any]:
    first, last = one.best_task(), two.best_task()
    change = "–"
    if first is not None and last is not None:
        change = f"{100 * (last.accuracy.share - first.accuracy.share):+.0f} points"
    return {
        "domain": one.domain,
        "words": (one.word, two.word),
        "layers": (_where(one).strip() or "–", _where(two).strip() or "–"),
        "tasks": tuple("none" if t is None else f"{t.task} {t.accuracy.share:.0%}" for t in (first, last)),
        "change": change,
        "used": (one.used, two.used),
        "same": one.word == two.word,
    }
