"""What other tools and usual practice say of the same activations: five planted data sets, and months of Gemma.

Run: python -m benchmarks.tools_compared [--draws 10]   (minutes; months of Gemma only where its weights are)
python -m benchmarks.tools_compared --only "Fourier probe"   (one method, the others as they are in the results)
python -m benchmarks.tools_compared --captures FOLDER   (what pyvene and nnsight give, in an environment with them)
python -m benchmarks.tools_compared --page   (only writes the tables of docs/method.md)

What a tool says is what its method, as documented, says of arrays ``[value, template, d]``:

- *TransformerLens by hand*, best R²: the best dimension's R² against a cosine, a circle above .9.
- *TransformerLens by hand*, PCA: the angles of the class means in their first two components run once round in
  the order of the values.
- *SMDS* (supervised multidimensional scaling): of the distances that a circle, a semicircle, a line and unordered classes
  would have, the shape whose linear image of the activations has the least stress on templates left out.
- *Fourier probe* (causalab): a ridge readout of cosine and sine of the value, the penalty chosen on validation
  templates, R² on templates left out, beside one fit to shuffled labels. It gives no verdict; counted is whether the
  phase can be read (R² above .5, the shuffled fit below).

Tools that give activations or edits and no verdict (pyvene, nnsight, SAELens without a trained dictionary) have
no column there but a table of their own: what their user gets, and whether their activations are ours.
"""

import argparse
import collections
import importlib
import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy import ndarray

from benchmarks.marked import between
from benchmarks.shape_kinds import KINDS, planted
from mechfourier.stats.naive import NAIVE_R2, best_r2

ROOT = Path(__file__).resolve().parents[1]
RESULT, PAGE = ROOT / "benchmarks" / "results" / "tools_compared.json", ROOT / "docs" / "method.md"
FIRST, LAST = "<!-- table tools -->", "<!-- end of tools -->"
FIRST_GIVEN, LAST_GIVEN = "<!-- table given -->", "<!-- end of given -->"
PLANTED = {
    "circle": "a circle",
    "arc 240": "an open arc of 240°",
    "cosine": "a cosine along one direction",
    "4 clusters": "four clusters of neighbours",
    "identity": "a random vector per value",
}
N, TEMPLATES, WIDTH, SNR = 12, 8, 640, 1.0
RIDGE = 1e-3  # of the mean variance, in the linear map of SMDS
PENALTIES = (100.0, 10.0, 1.0, 0.1, 0.01, 0.001)  # that causalab's documents name
READABLE = 0.5  # R² of cosine and sine on templates left out
BLOCK = 10  # of Gemma, after which months are read
Acts = Float[ndarray, "value template d"]


def by_r2(acts: Acts) -> str:
    """The published practice: one dimension."""
    r2 = best_r2(torch.tensor(acts.mean(1)[None]))
    return "circle" if r2 > NAIVE_R2 else "no circle"


def by_pca(acts: Acts) -> str:
    """A look at the plane of the first two principal components: do the values come in their order?"""
    means = acts.mean(1) - acts.mean((0, 1))
    left, size, _ = np.linalg.svd(means, full_matrices=False)
    angle = np.arctan2(*(left[:, :2] * size[:2]).T)
    order = np.argsort(angle)
    steps = np.diff(np.append(order, order[0])) % len(order)
    once_round = bool((steps == 1).all() or (steps == len(order) - 1).all())
    return "circle" if once_round else "no circle"


def distances(n: int) -> dict[str, Float[ndarray, "n n"]]:
    """What the shapes would have between values."""
    apart = np.abs(np.arange(n)[:, None] - np.arange(n))
    return {
        "circle": 2 * np.sin(np.pi * apart / n),
        "semicircle": 2 * np.sin(np.pi * apart / (2 * n)),
        "line": apart / n,
        "unordered": (apart > 0).astype(float),
    }


def by_smds(acts: Acts) -> str:
    """The shape of least stress on templates left out, each fitted by classical scaling of its distances and
    a ridge regression from the activations."""
    half = acts.shape[1] // 2
    centre = acts[:, :half].mean((0, 1))
    seen, unseen = (part.reshape(-1, acts.shape[-1]) - centre for part in (acts[:, :half], acts[:, half:]))
    rows = np.repeat(np.arange(len(acts)), half)
    others = np.repeat(np.arange(len(acts)), acts.shape[1] - half)
    stress = {}
    for name, apart in distances(len(acts)).items():
        found = mapped(seen, coordinates(apart)[rows], unseen)
        got = np.linalg.norm(found[:, None] - found, axis=-1)
        ideal = apart[np.ix_(others, others)]
        scale = (got * ideal).sum() / max((got**2).sum(), 1e-12)
        stress[name] = ((scale * got - ideal) ** 2).sum() / (ideal**2).sum()
    return min(stress, key=lambda name: stress[name])


def coordinates(apart: Float[ndarray, "n n"]) -> Float[ndarray, "n k"]:
    """Classical multidimensional scaling of these distances."""
    n = len(apart)
    centring = np.eye(n) - 1 / n
    values, vectors = np.linalg.eigh(-centring @ apart**2 @ centring / 2)
    kept = values > 1e-9 * values.max()
    return vectors[:, kept] * np.sqrt(values[kept])


def mapped(
    seen: Float[ndarray, "row d"], target: Float[ndarray, "row k"], unseen: Float[ndarray, "other d"]
) -> Float[ndarray, "other k"]:
    """``unseen`` under the ridge regression from ``seen`` to ``target``."""
    gram = seen @ seen.T
    weights = np.linalg.solve(gram + RIDGE * gram.trace() / len(gram) * np.eye(len(gram)), target)
    return unseen @ seen.T @ weights


def by_fourier_probe(acts: Acts) -> str:
    """Can cosine and sine of the value be read from templates that the fit did not see?"""
    n, templates = acts.shape[:2]
    angle = 2 * np.pi * np.arange(n) / n
    target = np.stack([np.cos(angle), np.sin(angle)], 1)
    parts = np.split(np.arange(templates), [templates // 2, 3 * templates // 4])
    shuffled = np.random.default_rng(0).permutation(n * len(parts[0]))
    own, chance = (_read_off(acts, target, parts, order) for order in (np.arange(len(shuffled)), shuffled))
    return "phase readable" if own > READABLE > chance else "not readable"


def _read_off(
    acts: Acts, target: Float[ndarray, "n two"], parts: list[ndarray], order: Int[ndarray, " row"]
) -> float:
    """R² on the last part of the templates of a ridge readout fitted to the first, its labels in this order,
    the penalty chosen on the second."""
    train, *held = (acts[:, part].reshape(-1, acts.shape[-1]) for part in parts)
    truth, *labels = (np.repeat(target, len(part), 0) for part in parts)
    centre, left = train.mean(0), train - train.mean(0)
    gram = left @ left.T
    errors = []
    for penalty in PENALTIES:
        weights = np.linalg.solve(gram + penalty * np.eye(len(gram)), truth[order])
        read = [(rows - centre) @ left.T @ weights for rows in held]
        errors.append([((a - b) ** 2).sum() / (b**2).sum() for a, b in zip(read, labels, strict=True)])
    return 1 - min(errors)[1]  # of the least error on validation


def by_us(acts: Acts) -> str:
    """The verdict of mechfourier, without an untrained control, as for the others."""
    import mechfourier as mf

    return str(mf.probe_activations(acts, n=len(acts), layout="value template d", n_permutations=199).verdict)


METHODS: dict[str, Callable[[Acts], str]] = {
    "mechfourier": by_us,
    "best R² by hand": by_r2,
    "PCA by hand": by_pca,
    "SMDS": by_smds,
    "Fourier probe": by_fourier_probe,
}
GIVES = {
    "TransformerLens": (
        "run: one of the engines here",
        "every activation by name, and edits through hooks; what is read from them is the user's",
    ),
    "nnsight": (
        "run",
        "any module's input and output inside a `trace`, and edits there, also on a remote model",
    ),
    "pyvene": ("run", "interventions as a configuration (collect, swap, rotate), also trainable ones (DAS)"),
    "SAELens": (
        "installed; no dictionary for these arrays",
        "dictionaries, pretrained or trained; which feature means what is the user's ([scored here](sae.md))",
    ),
    "causalab": (
        "its documents; installs from a clone with a Rust compiler only",
        "interchange interventions and DAS against a causal model, and the Fourier probe above, written here after its "
        "description: R² and phase error per period beside one shuffled fit, no null of a search, no rival shape",
    ),
}
"""Tools, how we know, and what a user gets from them."""


def drawn(name: str, draw: int) -> Acts:
    """One draw of a planted data set."""
    rng = np.random.default_rng([draw, *name.encode()])
    return planted(KINDS[name], N, TEMPLATES, WIDTH, SNR, "white", rng)


def gemma_months() -> Acts | None:
    """Months of Gemma 3 270M at the value token after block 10; None where its weights are not here."""
    import mechfourier as mf
    from mechfourier.domains.definition import domain
    from mechfourier.domains.design import read_positions
    from mechfourier.errors import MechFourierError
    from mechfourier.hooks.capture import capture
    from mechfourier.models.interface import encode

    try:
        model = mf.load("gemma3-270m")
    except MechFourierError as error:
        print(f"months of Gemma are left out: {error}")
        return None
    design = domain("months").value_design()
    encodings = encode(model, design.prompts)
    site = f"blocks.{BLOCK}.hook_resid_post"
    acts = capture(model, encodings, [site], read_positions(design, encodings))[site]
    return acts.reshape(*design.shape, -1).double().numpy()


def captured(folder: Path) -> dict[str, Any]:
    """What nnsight and pyvene read after a block of the Gemma 3 270M in ``folder``, against the model's own hidden
    states: largest difference over their largest number. A tool that is not installed is left out."""
    import importlib.metadata as installed

    from transformers import AutoModelForCausalLM, AutoTokenizer

    from mechfourier.domains.definition import domain

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    batch = dict(tokenizer(list(domain("months").value_design().prompts), return_tensors="pt", padding=True))
    with torch.no_grad():
        own = model(**batch, output_hidden_states=True).hidden_states[BLOCK + 1]
        ask = {"nnsight": by_nnsight, "pyvene": by_pyvene}
        there = {tool: read for tool, read in ask.items() if importlib.util.find_spec(tool)}
        seen = batch["attention_mask"].bool()
        apart = {
            tool: (read(model, tokenizer, batch) - own)[seen].abs().max() for tool, read in there.items()
        }
    return {
        tool: {"version": installed.version(tool), "difference": float(largest / own[seen].abs().max())}
        for tool, largest in apart.items()
    }


def by_nnsight(model: Any, tokenizer: Any, batch: dict[str, Any]) -> Float[torch.Tensor, "prompt pos d"]:
    """The residual stream after the block, as nnsight's documents say."""
    nnsight: Any = importlib.import_module("nnsight")
    traced = nnsight.LanguageModel(model, tokenizer=tokenizer)
    with traced.trace(batch):
        output = traced.model.layers[BLOCK].output.save()
    return output[0] if isinstance(output, tuple) else output


def by_pyvene(model: Any, tokenizer: Any, batch: dict[str, Any]) -> Float[torch.Tensor, "prompt pos d"]:
    """The same from an intervention that keeps what it sees and changes nothing."""
    pyvene: Any = importlib.import_module("pyvene")
    kept: list[torch.Tensor] = []

    def keep(output: torch.Tensor, source: Any) -> torch.Tensor:
        kept.append(output)
        return output

    place = f"model.layers[{BLOCK}].output"
    pyvene.IntervenableModel([{"component": place, "intervention": keep}], model=model)(base=batch)
    return kept[0]


def read() -> dict[str, Any]:
    """The committed results, or none."""
    return json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.is_file() else {"found": {}}


def keep(data: dict[str, Any]) -> None:
    """Write the results with where they come from."""
    from mechfourier.files import write_json
    from mechfourier.results.provenance import provenance

    write_json(RESULT, data | {"provenance": provenance()})


def run(draws: int, only: list[str]) -> None:
    """Ask every method (or these) of every data set."""
    methods = {tool: ask for tool, ask in METHODS.items() if not only or tool in only}
    data = read()
    found = data["found"] if only else {}
    for name, title in PLANTED.items():
        for tool, ask in methods.items():
            told = collections.Counter(ask(drawn(name, i)) for i in range(draws))
            found.setdefault(title, {})[tool] = dict(told)
    if (months := gemma_months()) is not None:
        title = f"months of Gemma 3 270M, block {BLOCK}"
        found.setdefault(title, {}).update({tool: {ask(months): 1} for tool, ask in methods.items()})
    keep(data | {"draws": draws, "found": found})


def table() -> str:
    """What every method said, by data set."""
    rows = [f"| data | {' | '.join(METHODS)} |", "|---" * (len(METHODS) + 1) + "|"]
    for data, by_tool in read()["found"].items():
        cells = [_cell(by_tool.get(tool, {})) for tool in METHODS]
        rows.append(f"| {data} | {' | '.join(cells)} |")
    return "\n".join(rows)


def _cell(words: dict[str, int]) -> str:
    return ", ".join(f"{word} {count}" if sum(words.values()) > 1 else word for word, count in words.items())


def given() -> str:
    """What tools without a verdict give."""
    captures = read().get("captures", {})
    rows = [
        "| tool | how we know | what a user gets | verdict on a shape | months of Gemma, block 10 |",
        "|---" * 5 + "|",
    ]
    for tool, (how, what) in GIVES.items():
        seen = captures.get(tool)
        agrees = "–" if seen is None else _agreement(seen["difference"])
        name = tool if seen is None else f"{tool} {seen['version']}"
        rows.append(f"| {name} | {how} | {what} | none | {agrees} |")
    return "\n".join(rows)


def _agreement(difference: float) -> str:
    return (
        f"the model's own, within {difference:.0e} of the largest"
        if difference
        else "the model's own, exactly"
    )


def page(text: str) -> str:
    """The page with the tables of the committed results."""
    return between(between(text, FIRST, LAST, table()), FIRST_GIVEN, LAST_GIVEN, given())


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--only", nargs="*", default=[], choices=METHODS, help="methods, by name")
    parser.add_argument("--captures", type=Path, help="a Hugging Face folder of Gemma 3 270M")
    parser.add_argument("--page", action="store_true", help="measure nothing")
    options = parser.parse_args()
    if options.captures:
        keep(read() | {"captures": captured(options.captures)})
    elif not options.page:
        run(options.draws, options.only)
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
