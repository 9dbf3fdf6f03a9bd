"""The contest of shapes on real activations with a planted shape: semi-synthetic data with a known answer.

``python -m benchmarks.shapes_in_models ACTS.pt … [--draws 10]`` reads files of ``{"acts": [site, value, template,
d]}`` (one per model and domain), and writes benchmarks/results/shapes_in_models.json. The value signal is
projected out exactly: an orthonormal basis of the contrasts between templates leaves T − 1 pseudo-templates in
which everything that templates share is gone, and the model's own noise (its few strong dimensions, its heavy
tails, its dependence on the value) is left. A shape is then put in, at a stated share of the variance, in
directions of chance or in directions drawn from the noise.
"""

import argparse
import collections
import json
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from numpy.random import Generator as Rng

from benchmarks.shape_kinds import KINDS, Kind, unit
from mechfourier.stats.intervals import wilson
from mechfourier.stats.shapes import contest

RESULTS = Path(__file__).parent / "results" / "shapes_in_models.json"
SHAPES = ("circle", "circle, line 1", "arc 240", "4 clusters", "identity", "noise")
SHARES = (0.5, 0.1)
"""Of the variance of single prompts."""


def noise_of(acts: Float[ndarray, "value template d"]) -> Float[ndarray, "value contrast d"]:
    """What templates do not share."""
    t = acts.shape[1]
    contrasts = np.linalg.svd(np.eye(t) - 1 / t)[0][:, : t - 1]
    own = acts - acts.mean(0)
    return np.einsum("vtd,ts->vsd", own, contrasts)


def directions(noise: Float[ndarray, "value contrast d"], count: int, where: str, rng: Rng) -> ndarray:
    """``count`` orthonormal directions: of chance, or combinations of the noise's own vectors."""
    d = noise.shape[-1]
    if where == "chance":
        return np.linalg.qr(rng.standard_normal((d, count)))[0]
    rows = noise.reshape(-1, d)
    return np.linalg.qr(rows.T @ rng.standard_normal((len(rows), count)))[0]


def put_in(noise: ndarray, kind: Kind, share: float, where: str, rng: Rng) -> Float[ndarray, "value t d"]:
    y = kind.make(len(noise), rng)
    if not np.ptp(y) > 0:
        return noise
    power = (noise**2).sum(-1).mean() * share / (1 - share)
    y = unit(y) * np.sqrt(power)
    return (y @ directions(noise, y.shape[1], where, rng).T)[:, None] + noise


def layers_of(count: int) -> list[int]:
    """An early, a middle and a late hook point."""
    return sorted({count // 6, count // 2, count - 2})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="*", type=Path, help="without any, nothing is run")
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    found = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for path in options.files:
        acts = torch.load(path, weights_only=True)["acts"].double().numpy()
        name = f"{path.parent.name}, {path.stem}"
        for share in SHARES:
            for where in ("chance", "noise"):
                rows = {shape: words(acts, shape, share, where, options) for shape in SHAPES}
                found.setdefault(name, {})[f"share {share:g}, directions of {where}"] = rows
                RESULTS.write_text(json.dumps(found, indent=1) + "\n")
                print(name, share, where, {k: v["words"] for k, v in rows.items()}, flush=True)


def words(acts: ndarray, shape: str, share: float, where: str, options: argparse.Namespace) -> dict:
    """Words of one shape over layers and draws."""
    counts: collections.Counter[str] = collections.Counter()
    for layer in layers_of(len(acts)):
        noise = noise_of(acts[layer])
        for i in range(options.draws):
            rng = np.random.default_rng([options.seed, i, layer, *shape.encode()])
            counts[contest(put_in(noise, KINDS[shape], share, where, rng), seed=i).word] += 1
    draws = sum(counts.values())
    hits = sum(counts[word] for word in ("circular", "flattened circle"))
    return {
        "draws": draws,
        "circular": hits,
        "interval": wilson(hits, draws),
        "words": dict(counts.most_common()),
    }


if __name__ == "__main__":
    main()
