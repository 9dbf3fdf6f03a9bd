"""What one feature stands for: where it fires, on which values, beside which features, and what it writes."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from mechfourier.domains.definition import Domain
from mechfourier.domains.definition import domain as find_domain
from mechfourier.errors import OutOfRange, UsageError
from mechfourier.hooks.interventions import edit_add, intervene
from mechfourier.hooks.run import batches, forward, inference, last_logits, serving
from mechfourier.hooks.site import Site, model_name
from mechfourier.models.interface import Model
from mechfourier.results.base import Result
from mechfourier.sae.load import LoadedDictionary, load_sae
from mechfourier.sae.prompts import scored_prompts
from mechfourier.sae.rows import Row
from mechfourier.sae.scoring import encoded
from mechfourier.sae.shards import capture_rows
from mechfourier.sae.text import Source, held_out_rows
from mechfourier.sae.training import first_positions
from mechfourier.stats.null import dimension_r2

if TYPE_CHECKING:
    import pandas as pd

TOP = 8
LOGIT_ROWS = 32
ACTIVATIONS = 8192


@dataclass(frozen=True)
class Firing:
    """One place where the feature fires: the text before its token, the token, the text after, and how
    strongly."""

    activation: float
    before: str
    token: str
    after: str


@dataclass(frozen=True)
class FeaturePage(Result, kind="sae-feature", figure="mechfourier.figures.sae:values_figure"):
    """A feature. ``density``: share of held-out activations it fires on; ``firings``: the strongest;
    ``values``: its mean activation by value of the domain with the harmonic ``k`` that fits it best (``r2``);
    ``neighbours``: features with the nearest decoder directions (cosine); ``raised``, ``lowered``: next
    tokens whose centred logit it moves most when added at its usual strength."""

    name: str
    feature: int
    site: str
    model: str
    density: float
    strength: float
    firings: tuple[Firing, ...]
    domain: str
    labels: tuple[str, ...]
    values: tuple[float, ...]
    k: int
    r2: float
    neighbours: tuple[tuple[int, float], ...]
    raised: tuple[tuple[str, float], ...]
    lowered: tuple[tuple[str, float], ...]

    def frame(self) -> "pd.DataFrame":
        """Mean activation by value."""
        import pandas as pd

        return pd.DataFrame({"value": self.labels, "activation": self.values})

    def firing_frame(self) -> "pd.DataFrame":
        import pandas as pd

        return pd.DataFrame([asdict(firing) for firing in self.firings])

    def __str__(self) -> str:
        lines = [
            f"feature {self.feature} of {self.name}: fires on {self.density:.2%} of held-out activations"
        ]
        if self.values:
            lines.append(f"by {self.domain}: best harmonic k = {self.k}, R² {self.r2:.3f}")
        lines += [f"  {f.activation:.2f}  {f.before} [{f.token}] {f.after}".rstrip() for f in self.firings]
        lines.append("neighbours: " + ", ".join(f"{f} (cosine {c:.2f})" for f, c in self.neighbours))
        if self.raised:
            lines.append("raises " + ", ".join(f"{t!r} {x:+.2f}" for t, x in self.raised))
            lines.append("lowers " + ", ".join(f"{t!r} {x:+.2f}" for t, x in self.lowered))
        return "\n".join(lines)


def feature_pages(
    model: Model,
    sae: "LoadedDictionary | str",
    features: Sequence[int],
    *,
    domain: Domain | str | None = None,
    sources: Sequence[Source] | None = None,
    activations: int = ACTIVATIONS,
) -> tuple[FeaturePage, ...]:
    """Pages of these features, from ``activations`` held-out activations and, with ``domain``, its held-out
    prompts.

    Raises ``OutOfRange`` for features the dictionary has not, and what ``evaluate`` raises.
    """
    domain = None if domain is None else find_domain(domain)
    loaded = sae if isinstance(sae, LoadedDictionary) else load_sae(sae)
    site = loaded.at(model)
    wrong = [f for f in features if not 0 <= f < loaded.features]
    if wrong or not features:
        raise OutOfRange(
            f"{loaded.name} has features 0 to {loaded.features - 1}; {wrong or 'no feature'} is none of them"
        )
    texts = tuple(sources) if sources is not None else loaded.sources
    if not texts:
        raise UsageError(
            f"nothing is known of the text {loaded.name} was trained on; give one: --text own or a file"
        )
    rows = sorted(
        first_positions(held_out_rows(model, texts, loaded.reading), activations),
        key=lambda r: (len(r.ids), len(r.keep)),
    )
    index = list(features)
    fired = _strengths(loaded, capture_rows(model, rows, [site])[str(site)], index)
    places = [(row, position) for row in rows for position in row.keep]
    by_value = None if domain is None else _by_value(model, loaded, site, domain, index)
    effects = _logit_effects(model, loaded, site, rows, fired, index)
    near = loaded.directions @ loaded.directions[index].T
    return tuple(
        FeaturePage(
            name=loaded.name,
            feature=feature,
            site=str(site),
            model=model_name(model),
            density=float((fired[:, i] > 0).double().mean()),
            strength=_usual(fired[:, i]),
            firings=_firings(model, places, fired[:, i]),
            **_value_part(domain, by_value, i),
            neighbours=_neighbours(near[:, i], feature),
            **effects[i],
        )
        for i, feature in enumerate(index)
    )


@torch.no_grad()
def _strengths(
    loaded: LoadedDictionary, acts: Float[Tensor, "row d"], index: list[int]
) -> Float[Tensor, "row feature"]:
    parts = [
        loaded.sae.encode(part.to(loaded.sae.device))[:, index].float().cpu() for part in acts.split(2048)
    ]
    return torch.cat(parts)


def _usual(fired: Float[Tensor, " row"]) -> float:
    """Mean activation where it fires; 0 for a feature that never does."""
    return float(fired[fired > 0].double().mean()) if bool((fired > 0).any()) else 0.0


def _firings(
    model: Model, places: Sequence[tuple[Row, int]], fired: Float[Tensor, " row"]
) -> tuple[Firing, ...]:
    """The strongest, one per sequence."""
    found: list[Firing] = []
    seen: set[tuple[int, ...]] = set()
    for number in fired.argsort(descending=True, stable=True).tolist():
        row, at = places[number]
        if float(fired[number]) <= 0 or len(found) == TOP:
            break
        if row.ids in seen:
            continue
        seen.add(row.ids)
        before, token, after = (
            text_of(model, part) for part in (row.ids[:at], row.ids[at : at + 1], row.ids[at + 1 :])
        )
        found.append(Firing(float(fired[number]), before, token, after))
    return tuple(found)


def text_of(model: Model, ids: Sequence[int]) -> str:
    """Tokens as text by the model's tokenizer; as numbers where it has none."""
    tokenizer = getattr(model, "tokenizer", None)
    return " ".join(map(str, ids)) if tokenizer is None else str(tokenizer.decode(list(ids)))


def _by_value(
    model: Model, loaded: LoadedDictionary, site: Site, domain: Domain, index: list[int]
) -> Float[Tensor, "value feature"]:
    prompts = scored_prompts(model, domain, loaded)
    return encoded(loaded, prompts.capture(model, site))[..., index].mean(1)


def _value_part(domain: Domain | None, means: Tensor | None, i: int) -> dict[str, Any]:
    if domain is None or means is None:
        return {"domain": "", "labels": (), "values": (), "k": 0, "r2": math.nan}
    column = means[:, i]
    best = dimension_r2(column.double()[None, :, None])[0, :, 0].max(0)
    return {
        "domain": domain.name,
        "labels": domain.values,
        "values": tuple(column.tolist()),
        "k": int(best.indices) + 1,
        "r2": float(best.values),
    }


def _neighbours(cosine: Float[Tensor, " feature"], feature: int) -> tuple[tuple[int, float], ...]:
    top = cosine.topk(min(7, len(cosine)))
    pairs = [(int(f), float(c)) for c, f in zip(top.values, top.indices, strict=True)]
    return tuple(pair for pair in pairs if pair[0] != feature)[:6]


def _logit_effects(
    model: Model, loaded: LoadedDictionary, site: Site, rows: Sequence[Row], fired: Tensor, index: list[int]
) -> list[dict[str, Any]]:
    """What adding a feature at its usual strength, at the last position, does to the logits there (mean over
    some prompts)."""
    if not any("unembed" in name for name in model.hook_dict):
        return [{"raised": (), "lowered": ()} for _ in index]
    chosen = _sample(rows)
    base = _last_logits(model, chosen, site, None)
    vectors = loaded.sae.W_dec.detach().float().cpu()[index]
    found = []
    for i in range(len(index)):
        strength = _usual(fired[:, i])
        if strength == 0:
            found.append({"raised": (), "lowered": ()})
            continue
        change = (_last_logits(model, chosen, site, strength * vectors[i]) - base).mean(0)
        change = change - change.mean()
        count = min(6, len(change))
        up, down = change.topk(count), (-change).topk(count)
        found.append(
            {
                "raised": tuple(
                    (text_of(model, [t]), float(x))
                    for x, t in zip(up.values, up.indices.tolist(), strict=True)
                ),
                "lowered": tuple(
                    (text_of(model, [t]), -float(x))
                    for x, t in zip(down.values, down.indices.tolist(), strict=True)
                ),
            }
        )
    return found


def _sample(rows: Sequence[Row]) -> list[Row]:
    """Prompts spread over all lengths."""
    step = max(1, len(rows) // LOGIT_ROWS)
    return list(rows[::step][:LOGIT_ROWS])


def _last_logits(
    model: Model, rows: Sequence[Row], site: Site, vector: Float[Tensor, " d"] | None
) -> Float[Tensor, "row vocab"]:
    parts = []
    with inference(model):
        for batch in batches(model, [row.ids for row in rows]):
            at = batch.tokens.shape[1] - 1
            edits = [] if vector is None else [edit_add(site, vector, positions=at)]
            with serving(batch.rows), intervene(model, edits, must_change=False):
                tokens = batch.tokens
                last = torch.full((len(tokens),), at)
                parts.append(
                    last_logits(model, lambda tokens=tokens: forward(model, tokens, logits=True), last)
                )
    return torch.cat(parts)
