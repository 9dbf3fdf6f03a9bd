"""How good a dictionary is on activations that it was not trained on."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from mechfourier.errors import OutOfRange, UsageError
from mechfourier.hooks.edit import Edit, Where
from mechfourier.hooks.interventions import edit_zero, intervene
from mechfourier.hooks.run import Batch, batches, forward, inference, logits_of, serving
from mechfourier.hooks.site import Site, model_name
from mechfourier.hooks.unembed import Unembedding, before_unembedding, unembedding_of
from mechfourier.models.interface import Model
from mechfourier.progress import tracked
from mechfourier.results.base import Result
from mechfourier.sae.load import LoadedDictionary, load_sae
from mechfourier.sae.rows import IGNORED, Reading, Row
from mechfourier.sae.shards import capture_rows
from mechfourier.sae.text import Source, held_out_rows
from mechfourier.sae.training import first_positions

if TYPE_CHECKING:
    import pandas as pd

DENSE = 0.1  # a feature that fires on more than this share of activations
LOGIT_NUMBERS = 2**25  # logits of one batch
LOGIT_WIDTH = (
    2**12
)  # numbers per position where they are made in slices: the residual stream, and a block's neurons


@dataclass(frozen=True)
class SAEEvaluation(Result, kind="sae-evaluation"):
    """A dictionary on held-out activations.

    ``l0``: active features per activation; ``explained_variance``: 1 − squared error / variance;
    ``shrinkage``: norm of the reconstruction over that of the activation (1 = none); ``dead``, ``dense``:
    shares of the features that never fire, and that fire on more than a tenth. ``loss``, ``loss_sae``,
    ``loss_zero``: cross-entropy (nats) of the model as it is, with the site replaced by its reconstruction,
    and by zero; ``loss_recovered`` = (loss_zero − loss_sae) / (loss_zero − loss); None for a model without a
    vocabulary.
    """

    name: str
    model: str
    site: str
    features: int
    activations: int
    l0: float
    explained_variance: float
    shrinkage: float
    dead: float
    dense: float
    loss: float | None
    loss_sae: float | None
    loss_zero: float | None
    loss_recovered: float | None
    predictions: int
    notes: tuple[str, ...]

    def frame(self) -> "pd.DataFrame":
        import pandas as pd

        return pd.DataFrame([{k: v for k, v in self.to_dict().items() if not isinstance(v, list)}])

    def plot(self) -> Any:
        """The three losses side by side."""
        import plotly.express as px

        names, values = ("as it is", "reconstruction", "zero"), (self.loss, self.loss_sae, self.loss_zero)
        return px.bar(x=names, y=values, labels={"x": self.site, "y": "cross-entropy (nats)"})

    def __str__(self) -> str:
        lines = [
            f"{self.name}: {self.features} features at {self.site} of {self.model}, {self.activations} "
            f"held-out activations",
            f"L0 {self.l0:.2f}, explained variance {self.explained_variance:.4f}, norm of the "
            f"reconstruction {self.shrinkage:.3f}",
            f"dead {self.dead:.1%}, dense (active on more than {DENSE:.0%}) {self.dense:.1%}",
        ]
        if self.loss is not None:
            lines.append(
                f"loss {self.loss:.4f} nats, with the reconstruction {self.loss_sae:.4f}, with zero "
                f"{self.loss_zero:.4f}: "
                f"recovered {self.loss_recovered:.4f} ({self.predictions} predictions)"
            )
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])


def evaluate(
    model: Model,
    sae: "LoadedDictionary | str",
    *,
    sources: Sequence[Source] | None = None,
    reading: Reading | None = None,
    activations: int = 16_384,
) -> SAEEvaluation:
    """Measure a dictionary on ``activations`` of text that it was not trained on.

    ``sources`` and ``reading`` are those of its training unless given; what was held out then is what is read
    here. Raises ``UsageError`` where its training text is unknown and none is given, or the model is not the
    one it belongs to.
    """
    loaded = load_sae(sae) if not isinstance(sae, LoadedDictionary) else sae
    if activations < 1:
        raise OutOfRange(f"{activations} activations are too few; read at least one")
    site = loaded.at(model)
    texts = tuple(sources) if sources is not None else loaded.sources
    if not texts:
        raise UsageError(
            f"nothing is known of the text {loaded.name} was trained on; give one: --text own or a file"
        )
    rows = first_positions(held_out_rows(model, texts, reading or loaded.reading), activations)
    if not rows:
        raise UsageError("nothing is held out of this text; give more of it")
    acts = capture_rows(model, rows, [site])[str(site)]
    _check_width(loaded, acts, site)
    loss = losses(model, loaded, site, rows)
    return SAEEvaluation(
        name=loaded.name,
        model=model_name(model),
        site=str(site),
        features=loaded.features,
        activations=len(acts),
        **statistics(loaded, acts),
        **loss,
        notes=_notes(loaded, loss),
    )


def _notes(loaded: LoadedDictionary, loss: dict[str, Any]) -> tuple[str, ...]:
    unknown = (
        ""
        if loaded.made
        else "what this dictionary was trained on is not recorded: this text may have been part of it"
    )
    silent = "" if loss["loss"] is not None else "the model predicts no tokens here: no loss to recover"
    return tuple(note for note in (unknown, silent) if note)


def _check_width(loaded: LoadedDictionary, acts: Tensor, site: Site) -> None:
    if acts.shape[1] != loaded.sae.cfg.d_in:
        raise UsageError(
            f"{loaded.name} reads {loaded.sae.cfg.d_in} dimensions, and {site} has {acts.shape[1]}; it "
            f"belongs to another site"
        )


@torch.no_grad()
def statistics(loaded: LoadedDictionary, acts: Float[Tensor, "row d"]) -> dict[str, float]:
    """What needs no model, by SAELens's counters."""
    from sae_lens.evals import ExplainedVarianceCalculator
    from sae_lens.synthetic.evals import DeadLatentsCalculator, L0Calculator, ShrinkageCalculator

    sae = loaded.sae
    variance, l0, shrinkage = ExplainedVarianceCalculator(), L0Calculator(), ShrinkageCalculator()
    dead, fired = DeadLatentsCalculator(loaded.features), torch.zeros(loaded.features)
    for part in acts.split(1024):
        features = sae.encode(part.to(sae.device)).cpu()
        output = sae.decode(features.to(sae.device)).cpu()
        variance.add_batch(output, part)
        l0.add_batch(features)
        shrinkage.add_batch(output, part)
        dead.add_batch(features)
        fired += (features > 0).float().sum(0)
    return {
        "l0": l0.compute(),
        "explained_variance": variance.compute(),
        "shrinkage": shrinkage.compute(),
        "dead": dead.compute() / loaded.features,
        "dense": float((fired / len(acts) > DENSE).float().mean()),
    }


def edit_reconstruct(site: Site, sae: Any, *, positions: Sequence[int] | None = None) -> Edit:
    """Put the dictionary's reconstruction in the place of the activation (at ``positions``)."""

    def change(old: Float[Tensor, "row pos d"], rows: Tensor) -> Float[Tensor, "row pos d"]:
        del rows
        flat = rearrange(old, "row pos d -> (row pos) d").to(sae.device, sae.dtype)
        return rearrange(sae(flat), "(row pos) d -> row pos d", pos=old.shape[1]).to(old)

    return Edit("reconstruct", Where(site, positions=positions), change)


@torch.no_grad()
def losses(model: Model, loaded: LoadedDictionary, site: Site, rows: Sequence[Row]) -> dict[str, Any]:
    """Cross-entropy as it is, with the reconstruction, and with zero, at the positions that the dictionary
    was trained on."""
    wanted = [row for row in rows if any(target != IGNORED for target in row.targets)]
    nothing = dict.fromkeys(("loss", "loss_sae", "loss_zero", "loss_recovered"))
    if not wanted or not _predicts(model):
        return {**nothing, "predictions": 0}
    base, count = _loss(model, wanted, None)
    with_sae, _ = _loss(model, wanted, lambda at: edit_reconstruct(site, loaded.sae, positions=at))
    with_zero, _ = _loss(model, wanted, lambda at: edit_zero(site, positions=at))
    span = with_zero - base
    return {
        "loss": base,
        "loss_sae": with_sae,
        "loss_zero": with_zero,
        "loss_recovered": (with_zero - with_sae) / span if abs(span) > 1e-9 else None,
        "predictions": count,
    }


def _predicts(model: Model) -> bool:
    return "unembed.hook_in" in model.hook_dict or any("unembed" in name for name in model.hook_dict)


def _loss(model: Model, rows: Sequence[Row], edit: Any) -> tuple[float, int]:
    """Mean cross-entropy over the wanted tokens, and their number; ``edit`` makes the change at these
    positions."""
    total, count = 0.0, 0
    with inference(model):
        read = unembedding_of(model, torch.tensor([rows[0].ids]))
        for group in _same_positions(rows):
            # a number of the vocabulary's size per position, unless logits are made a slice at a time
            wide = LOGIT_WIDTH if read is not None else int(getattr(model.cfg, "d_vocab", None) or 2**15)
            size = max(1, LOGIT_NUMBERS // (len(group[0].ids) * max(wide, 1)))
            for batch in batches(model, [row.ids for row in group], batch_size=min(size, 512)):
                found, here = _batch_loss(model, [group[i] for i in batch.rows.tolist()], batch, edit, read)
                total, count = total + found, count + here
    return total / count, count


def _same_positions(rows: Sequence[Row]) -> Iterator[list[Row]]:
    groups: dict[tuple[int, tuple[int, ...]], list[Row]] = {}
    for row in rows:
        groups.setdefault((len(row.ids), row.keep), []).append(row)
    yield from tracked(list(groups.values()), "loss")


def _batch_loss(
    model: Model, rows: Sequence[Row], batch: Batch, edit: Any, read: Unembedding | None
) -> tuple[float, int]:
    edits = [] if edit is None else [edit(list(rows[0].keep))]
    targets = torch.tensor([row.targets for row in rows])

    def run() -> Any:
        return forward(model, batch.tokens, logits=True)

    with serving(torch.arange(len(rows))), intervene(model, edits, must_change=False):
        found = logits_of(model, run()) if read is None else before_unembedding(model, run)
    wanted = targets != IGNORED
    flat, right = found[wanted.to(found.device)], targets[wanted].to(found.device)
    parts = [slice(None)] if read is None else read.slices(len(flat))
    loss = sum(_cross_entropy(flat[some], right[some], read) for some in parts)
    return float(loss), int(wanted.sum())


def _cross_entropy(found: Tensor, right: Tensor, read: Unembedding | None) -> float:
    logits = found.float() if read is None else read(found)
    return float(torch.nn.functional.cross_entropy(logits, right, reduction="sum"))
