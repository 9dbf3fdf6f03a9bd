"""Direct logit attribution: which part of a model writes the answer, and in which harmonics.

The residual stream is a sum, so with the final norm's scale frozen the margin of the right answer is a sum
over parts (Elhage et al. 2021, "A mathematical framework for transformer circuits"). Only direct paths count:
what a head does by way of a later layer is credited to that layer.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechfourier._renamed import renamed
from mechfourier.causal.norm import EXACT, frozen_norm, no_norm, unembedding
from mechfourier.causal.parts import (
    add_up,
    block_ends,
    cap_note,
    inner_sites,
    output_factor,
    part_sites,
    reach,
    rest_note,
    whole_note,
)
from mechfourier.causal.written import GridShares, Harmonic, grid_shares, harmonics_of
from mechfourier.domains.definition import Domain
from mechfourier.domains.definition import domain as find_domain
from mechfourier.domains.prepare import Questions, questions
from mechfourier.domains.reads import TokensRead, tokens_asked
from mechfourier.domains.task_spec import NATIVE
from mechfourier.errors import HookNeverFired, MechFourierError, OutOfRange
from mechfourier.hooks.capture import capture
from mechfourier.hooks.site import Site, model_name
from mechfourier.models.interface import Model
from mechfourier.probes.lens import candidate_logits
from mechfourier.results.base import Result
from mechfourier.stats.paired import bootstrap_means, chance_note

if TYPE_CHECKING:
    import pandas as pd

TOP_NEURONS = 20


@dataclass(frozen=True)
class Contribution:
    """What one part adds to the margin: mean over prompts (nats of logit) with a 95 % bootstrap interval, and
    its share of the whole mean margin. ``kind``: embed, attn, mlp, block (where it is one part), bias, rest
    (these add up to the margin), head, neuron."""

    name: str
    kind: str
    layer: int | None
    index: int | None
    mean: float
    low: float
    high: float
    share: float


@dataclass(frozen=True)
class AttributionResult(
    Result,
    kind="attribution",
    figure="mechfourier.figures.sweep:attribution_figure",
    part="mechfourier.figures.sweep:attribution_part",
):
    """Who writes the answer. ``margin``: mean logit of the right choice minus the mean of the other choices;
    ``parts`` add up to it within ``sum_error`` (largest over prompts). ``heads`` split the attention parts,
    ``neurons`` (the greatest) the MLP parts. ``harmonics``: which harmonics of the answer the choices' logits
    hold over the whole (a, offset) grid; ``grid`` says where the rest of their variance lies (both empty
    where only some cells were asked; ``grid`` is that of arithmetic tasks)."""

    model: str
    domain: str
    n: int
    n_prompts: int
    n_choices: int
    accuracy: float
    margin: float
    margin_ci: tuple[float, float]
    norm: str
    parts: tuple[Contribution, ...]
    heads: tuple[Contribution, ...]
    neurons: tuple[Contribution, ...]
    n_neurons: int
    harmonics: tuple[Harmonic, ...]
    grid: GridShares | None
    sum_error: float
    notes: tuple[str, ...]
    seed: int
    task: str = NATIVE
    tokens: TokensRead | None = None

    def frame(self) -> "pd.DataFrame":
        """One row per part, head and neuron."""
        import pandas as pd

        return pd.DataFrame([vars(each) for each in (*self.parts, *self.heads, *self.neurons)])

    def harmonic_frame(self) -> "pd.DataFrame":
        """One row per harmonic, the strongest first: its share of the logits' variance, and who writes it."""
        import pandas as pd

        rows = [{"k": h.k, "share": h.share, **h.written_by} for h in self.harmonics]
        frame = pd.DataFrame(rows, columns=None if rows else ["k", "share"])
        return frame.sort_values("share", ascending=False, kind="stable", ignore_index=True)

    def __str__(self) -> str:
        best = sorted(self.parts, key=lambda part: -abs(part.mean))[:3]
        named = ", ".join(f"{part.name} {part.mean:+.3g} ({part.share:.0%})" for part in best)
        lines = [
            f"{self.model}, {self.domain}, task {self.task}: the right answer leads the other "
            f"{self.n_choices - 1} by {self.margin:.3g} nats of logit "
            f"on average ({self.n_prompts} prompts, accuracy {self.accuracy:.1%}); written by {named}"
        ]
        if self.harmonics:
            top = sorted(self.harmonics, key=lambda h: -h.share)[:5]
            named = ", ".join(f"k = {h.k} {h.share:.1%}" for h in top)
            whole = (
                ""
                if self.grid is None
                else f"{self.grid.sum:.1%} over the grid is a function of the answer; "
            )
            lines.append(f"variance of the logits: {whole}harmonics of the answer {named}")
        lines.append(f"final norm: {self.norm}")
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])


@renamed(samples="n_prompts")
def attribution(
    model: Model,
    domain: Domain | str,
    *,
    task: str | None = None,
    cycles: int = 1,
    n_prompts: int | None = None,
    neurons: int = TOP_NEURONS,
    seed: int = 0,
) -> AttributionResult:
    """Split the margin of the right answer (its logit minus the mean of the other candidates') into what each
    part writes.

    Parts: the embedding (with position), every layer's attention and MLP, biases after them; heads and the
    ``neurons`` greatest neurons by |mean|. The final norm's scale is frozen at each prompt's value, which
    makes the sum exact and says nothing of what a part does by changing that scale. ``task``: one of the
    domain's tasks by name (None: the best one that the model answers). ``n_prompts`` cells of the grid at
    random (None: all, which the harmonics need). Where a tokenizer splits answers, the first token that tells
    them apart is judged.

    Raises ``UsageError`` (a model without an unembedding, or whose final norm is no scaled linear map),
    ``OutOfRange``, ``NotExpressible`` and ``UnknownSite``.
    """
    if neurons < 0:
        raise OutOfRange(f"neurons is {neurons}; give 0 for none, or how many to list")
    wanted = domain if isinstance(domain, Domain) else find_domain(domain)
    asked = questions(model, wanted, task=task, cycles=cycles, samples=n_prompts, seed=seed)
    return _result(AnswerStream(model, asked), neurons, seed)


def _result(stream: "AnswerStream", neurons: int, seed: int) -> AttributionResult:
    asked, logits, margin = stream.asked, stream.logits, stream.margin
    parts, error = _parts(stream)
    heads, neuron_values, notes = _inner(stream, parts)
    columns = {**parts, **heads, **_greatest(neuron_values, neurons)}
    table = _contributions(columns, float(margin.mean()), seed)
    full, right = len(asked.rows) == len(asked.design), logits.argmax(dim=1) == asked.right
    choice_note = None if full else "harmonics need the whole grid; leave n_prompts out"
    chance = chance_note(right, len(asked.choices))
    said = [whole_note(stream.whole), rest_note(parts), cap_note(stream.model), choice_note, chance]
    domain, design = asked.design.domain, asked.design
    return AttributionResult(
        model=model_name(stream.model),
        domain=domain.name,
        n=domain.n,
        n_prompts=len(asked.encodings),
        n_choices=len(asked.choices),
        accuracy=float(right.double().mean()),
        margin=float(margin.mean()),
        margin_ci=bootstrap_means(margin[:, None], seed=seed)[0],
        norm=stream.norm_words,
        parts=tuple(c for c in table if c.kind not in ("head", "neuron")),
        heads=tuple(c for c in table if c.kind == "head"),
        neurons=tuple(c for c in table if c.kind == "neuron"),
        n_neurons=sum(values.shape[1] for values in neuron_values.values()),
        harmonics=_harmonics(stream, design.label[asked.rows]) if full else (),
        grid=grid_shares(logits, design.shape) if full and design.kind == "operation" else None,
        sum_error=error,
        notes=tuple(note for note in [*asked.notes, *notes, *said] if note),
        seed=seed,
        task=asked.task,
        tokens=tokens_asked(stream.model, asked),
    )


def _harmonics(stream: "AnswerStream", label: Int[Tensor, " prompt"]) -> tuple[Harmonic, ...]:
    """Harmonics of the answer; none where the answers are no cycle."""
    design = stream.asked.design
    if design.kind != "operation" and not design.domain.cyclic:
        return ()
    return harmonics_of(stream.class_logits(label), design.n, stream.logits, label)


def _parts(stream: "AnswerStream") -> tuple[dict[str, Float[Tensor, " prompt"]], float]:
    """What every part adds to the margin of every prompt, and by how much the sum misses it at most."""
    parts = {name: vectors_on(value, stream.readers) for name, value in stream.parts.items()}
    parts["bias"] = stream.bias
    rest = stream.margin - torch.stack(list(parts.values())).sum(dim=0)
    largest = max(float(values.abs().max()) for values in parts.values())
    if float(rest.abs().max()) > EXACT * max(1.0, largest):
        parts["rest"] = rest
        rest = torch.zeros_like(rest)
    return parts, float(rest.abs().max())


class AnswerStream:
    """The residual stream at the token before the answer as a sum of parts, and how the choices read it.

    ``readers[prompt]``: the direction whose product with a part is what it adds to the margin, scale and gain
    of the norm included.
    """

    def __init__(self, model: Any, asked: Questions) -> None:
        self.model, self.asked = model, asked
        self._inner: Mapping[Site, Tensor] = {}
        self.at = torch.tensor([len(e.ids) - 1 for e in asked.encodings])
        sites, ends = part_sites(model), block_ends(model)
        final = ends[-1]
        found = capture(model, asked.encodings, [*sites.values(), *ends], self.at)
        self.parts, self.whole = add_up(
            {name: found[site].double() for name, site in sites.items()}, found, ends
        )
        linear = candidate_logits(model, found[final][None], asked.choices)[0].double()
        factor = output_factor(model, asked, linear)
        self.logits = factor * linear
        right = self.logits.gather(1, asked.right[:, None])[:, 0]
        self.margin = right - (self.logits.sum(dim=1) - right) / (self.logits.shape[1] - 1)
        weights, bias = unembedding(model, asked.choices)
        self.weights, bias = factor * weights, factor * bias
        norm = frozen_norm(model, found[final]) or no_norm(found[final])
        self.scale, self.norm_words = norm.scale, norm.words
        self.columns = norm.gain[:, None] * self.weights
        if norm.centred:
            self.columns = self.columns - self.columns.mean(dim=0)
        others = len(asked.choices) - 1
        self.readers = (
            (self.columns - (self.columns.sum(dim=1, keepdim=True) - self.columns) / others)[:, asked.right]
            / self.scale
        ).T
        constant = norm.shift @ self.weights + bias
        self.bias = (constant - (constant.sum() - constant) / others)[asked.right]

    def capture(self, site: Site) -> Tensor:
        """Activations at a site of heads or neurons; the first call reads those of all layers in one pass."""
        if site not in self._inner:
            try:
                found = self._read([*inner_sites(self.model), site])
            except HookNeverFired:  # a layer of another kind has hook points that do not run
                found = self._read([site])
            self._inner = {**self._inner, **found}
        return self._inner[site].double()

    def _read(self, sites: list[Site]) -> Mapping[Site, Tensor]:
        return capture(self.model, self.asked.encodings, sites, self.at).values

    def class_logits(self, label: Int[Tensor, " prompt"]) -> dict[str, Float[Tensor, "n choice"]]:
        """What every part adds to the logits, averaged over the prompts of each answer."""
        n = self.asked.design.n_answers
        count = torch.bincount(label, minlength=n)[:, None]
        means = {}
        for name, value in self.parts.items():
            sums = torch.zeros(n, value.shape[1], dtype=torch.float64)
            sums.index_add_(0, label, value / self.scale[:, None])
            means[name] = sums / count @ self.columns
        return means


def vectors_on(
    values: Float[Tensor, "prompt d"], readers: Float[Tensor, "prompt d"]
) -> Float[Tensor, " prompt"]:
    """The product of every prompt's vector with its reader."""
    return (values * readers).sum(dim=1)


def _inner(
    stream: AnswerStream, parts: dict[str, Tensor]
) -> tuple[dict[str, Tensor], dict[int, Float[Tensor, "prompt neuron"]], list[str]]:
    """What heads and neurons add, where they add up to their layer's part."""
    heads: dict[str, Tensor] = {}
    neurons: dict[int, Tensor] = {}
    missing = []
    for name in list(parts):
        kind, _, layer = name.partition(" ")
        if kind not in INNER:
            continue
        inner = _split(stream, kind, int(layer), name)
        if inner is None or not _adds_up(inner[0].sum(dim=1) + inner[1], parts[name]):
            missing.append(name)
        elif kind == "attn":
            heads.update({f"head {layer}.{i}": column for i, column in enumerate(inner[0].T)})
        else:
            neurons[int(layer)] = inner[0]
    note = f"not split into heads or neurons: {', '.join(missing)}"
    return heads, neurons, [note] if missing else []


def _adds_up(total: Tensor, part: Tensor) -> bool:
    return float((total - part).abs().max()) <= EXACT * max(1.0, float(part.abs().max()))


# kind of a part -> module in its block, matrix and bias that write it, and the site in front of the matrix
INNER = {"attn": ("attn", "W_O", "b_O", "z"), "mlp": ("mlp", "W_out", "b_out", "mlp_post")}


def _split(stream: AnswerStream, kind: str, layer: int, name: str) -> tuple[Tensor, Tensor] | None:
    """What every head [prompt, head] or neuron [prompt, neuron] of a layer adds, and what the bias does."""
    inner, matrix, bias_name, site_kind = INNER[kind]
    block, site = stream.model.blocks[layer], Site(site_kind, layer)
    module = getattr(block, inner, None)
    weights = getattr(module, matrix, None)
    if not isinstance(weights, Tensor) or str(site) not in stream.model.hook_dict:
        return None
    acts, W = stream.capture(site), weights.detach().double().cpu()
    if W.ndim == 2:  # a neuron is a head of one dimension
        acts, W = acts[..., None], W[:, None]
    if W.ndim != 3 or acts.shape[1:] != W.shape[:2]:
        return None
    bias = _bias(module, bias_name, W.shape[2])
    way = reach(stream.model, block, torch.einsum("phe,hed->pd", acts, W) + bias, stream.parts[name])
    if way is None:
        return None
    readers, constant = way.pull_back(stream.readers), stream.readers @ way.shift
    return (acts * torch.einsum("hed,pd->phe", W, readers)).sum(dim=2), readers @ bias + constant


def _bias(module: Any, name: str, d: int) -> Float[Tensor, " d"]:
    bias = getattr(module, name, None)
    return bias.detach().double().cpu() if isinstance(bias, Tensor) else torch.zeros(d, dtype=torch.float64)


def _greatest(neurons: dict[int, Float[Tensor, "prompt neuron"]], count: int) -> dict[str, Tensor]:
    """The neurons of greatest |mean|, of all layers."""
    means = [
        (abs(mean), layer, i)
        for layer, values in neurons.items()
        for i, mean in enumerate(values.mean(dim=0).tolist())
    ]
    chosen = sorted(means, key=lambda item: -item[0])[:count]
    return {f"neuron {layer}.{i}": neurons[layer][:, i] for _, layer, i in chosen}


def _contributions(columns: dict[str, Tensor], whole: float, seed: int) -> list[Contribution]:
    if not columns:
        raise MechFourierError("the model has no part that writes to its residual stream")
    values = torch.stack(list(columns.values()), dim=1)
    means, intervals = values.mean(dim=0).tolist(), bootstrap_means(values, seed=seed)
    found = []
    for name, mean, (low, high) in zip(columns, means, intervals, strict=True):
        kind, _, where = name.partition(" ")
        layer, index = (int(text) if text else None for text in where.partition(".")[::2])
        share = mean / whole if abs(whole) > 1e-12 else 0.0
        found.append(Contribution(name, kind, layer, index, mean, low, high, share))
    return found
