"""What other tools and usual practice say of the same activations: five planted data sets, and months of Gemma.

Run: python -m benchmarks.tools_compared [--draws 10]   (minutes; months of Gemma only where its weights are)
python -m benchmarks.tools_compared --page   (only writes the table of docs/method.md)

What a tool says is what its method, as documented, says of arrays ``[value, template, d]``:

- *TransformerLens by hand*, best R²: the best dimension's R² against a cosine, a circle above .9.
- *TransformerLens by hand*, PCA: the angles of the class means in their first two components run once round in
  the order of the values.
- *SMDS* (supervised multidimensional scaling): of the distances that a circle, a semicircle, a line and unordered classes
  would have, the shape whose linear image of the activations has the least stress on templates left out.

Tools that give activations or edits and no verdict (pyvene, nnsight, SAELens without a trained dictionary) have
no column of their own: what they say is what their user does with the arrays.
"""

import argparse
import collections
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray

from benchmarks.marked import between
from benchmarks.shape_kinds import KINDS, planted
from mechfourier.stats.naive import NAIVE_R2, best_r2

ROOT = Path(__file__).resolve().parents[1]
RESULT, PAGE = ROOT / "benchmarks" / "results" / "tools_compared.json", ROOT / "docs" / "method.md"
FIRST, LAST = "<!-- table tools -->", "<!-- end of tools -->"
PLANTED = {
    "circle": "a circle",
    "arc 240": "an open arc of 240°",
    "cosine": "a cosine along one direction",
    "4 clusters": "four clusters of neighbours",
    "identity": "a random vector per value",
}
N, TEMPLATES, WIDTH, SNR = 12, 8, 640, 1.0
RIDGE = 1e-3  # of the mean variance, in the linear map of SMDS
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


def by_us(acts: Acts) -> str:
    """The verdict of mechfourier, without an untrained control, as for the others."""
    import mechfourier as mf

    return str(mf.probe_activations(acts, n=len(acts), layout="value template d", n_permutations=199).verdict)


METHODS: dict[str, Callable[[Acts], str]] = {
    "mechfourier": by_us,
    "best R² by hand": by_r2,
    "PCA by hand": by_pca,
    "SMDS": by_smds,
}


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
    site = "blocks.10.hook_resid_post"
    acts = capture(model, encodings, [site], read_positions(design, encodings))[site]
    return acts.reshape(*design.shape, -1).double().numpy()


def run(draws: int) -> None:
    """Ask every method of every data set."""
    from mechfourier.files import write_json
    from mechfourier.results.provenance import provenance

    found: dict[str, Any] = {
        title: {
            tool: dict(collections.Counter(ask(drawn(name, i)) for i in range(draws)))
            for tool, ask in METHODS.items()
        }
        for name, title in PLANTED.items()
    }
    if (months := gemma_months()) is not None:
        found["months of Gemma 3 270M, block 10"] = {tool: {ask(months): 1} for tool, ask in METHODS.items()}
    write_json(RESULT, {"draws": draws, "found": found, "provenance": provenance()})


def table() -> str:
    """What every method said, by data set."""
    found = json.loads(RESULT.read_text(encoding="utf-8"))["found"]
    rows = [f"| data | {' | '.join(METHODS)} |", "|---" * (len(METHODS) + 1) + "|"]
    for data, by_tool in found.items():
        cells = [
            ", ".join(f"{word} {count}" if sum(words.values()) > 1 else word for word, count in words.items())
            for words in (by_tool[tool] for tool in METHODS)
        ]
        rows.append(f"| {data} | {' | '.join(cells)} |")
    return "\n".join(rows)


def page(text: str) -> str:
    """The page with the table of the committed results."""
    return between(text, FIRST, LAST, table())


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--page", action="store_true", help="measure nothing")
    options = parser.parse_args()
    if not options.page:
        run(options.draws)
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
