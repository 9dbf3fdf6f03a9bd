"""The prompts that a dictionary is scored on: those of a domain that it was not trained on, as values by
templates."""

import dataclasses
from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from mechfourier.domains.definition import Domain, list_domains
from mechfourier.domains.design import max_cycles
from mechfourier.errors import NotExpressible, UsageError
from mechfourier.hooks.site import Site, model_name
from mechfourier.models.interface import Encoding, Model, encode
from mechfourier.sae.load import LoadedDictionary
from mechfourier.sae.rows import IGNORED, Row
from mechfourier.sae.shards import capture_rows
from mechfourier.sae.text import HeldOut, held_out_templates, value_prompts

MOST_TEMPLATES = 8  # per answer: more would only make the probe slow


@dataclass(frozen=True, eq=False)
class ScoredPrompts:
    """Prompts, value by value: ``rows[value · T + template]``, each read at its only kept position."""

    domain: Domain
    rows: tuple[Row, ...]
    templates: int
    held_out: bool
    kind: str
    notes: tuple[str, ...]

    def capture(self, model: Model, site: Site) -> Float[Tensor, "value template d"]:
        """Activations at the site. The rows of ``capture_rows`` come grouped by length, so they are put back
        in order here."""
        order: dict[tuple[int, int], list[int]] = {}
        for number, row in enumerate(self.rows):
            order.setdefault((len(row.ids), len(row.keep)), []).append(number)
        flat = capture_rows(model, self.rows, [site])[str(site)]
        acts = torch.empty_like(flat)
        acts[torch.tensor([number for group in order.values() for number in group])] = flat
        return rearrange(acts, "(value template) d -> value template d", template=self.templates)


def scored_prompts(model: Model, domain: Domain, loaded: LoadedDictionary) -> ScoredPrompts:
    """Values in sentences where the model has the words, else answers of operations; only what training did
    not see.

    Raises ``NotExpressible`` where the model has neither, ``UsageError`` where too little was held out.
    """
    found = _values(model, domain, loaded)
    if found is not None:
        return found
    if domain.operation is None:
        raise NotExpressible(f"{model_name(model)} has no words for the sentences of {domain.name}")
    return _answers(model, domain, loaded)


def _values(model: Model, domain: Domain, loaded: LoadedDictionary) -> ScoredPrompts | None:
    packaged = domain in list_domains()
    kept = held_out_templates(domain) if packaged and loaded.made else domain
    read = [value_prompts(model, dataclasses.replace(kept, templates=(t,))) for t in kept.templates]
    usable = [prompts for prompts in read if prompts is not None]
    if len(usable) < 2:
        return None
    rows = [_row(*prompts[value]) for value in range(domain.n) for prompts in usable]
    notes = _notes(packaged, loaded, f"{len(usable)} of {len(domain.templates)} templates")
    return ScoredPrompts(
        domain, tuple(rows), len(usable), packaged and bool(loaded.made), "values in sentences", notes
    )


def _row(encoding: Encoding, at: int) -> Row:
    return Row(encoding.ids, (at,), (IGNORED,) * len(encoding.ids))


def _notes(held_out: bool, loaded: LoadedDictionary, what: str) -> tuple[str, ...]:
    if not loaded.made:
        return ("what this dictionary was trained on is not recorded: it may have seen these prompts",)
    if not held_out:
        return (
            "this domain is not packaged, so its prompts were not kept out of the training of the dictionary",
        )
    return (f"scored on the {what} that were kept out of the dictionary's training",)


def _answers(model: Model, domain: Domain, loaded: LoadedDictionary) -> ScoredPrompts:
    """Questions by their answer: the ones held out by their tokens, as many for every answer."""
    cycles = max_cycles(domain, model, 4)
    design = domain.operation_design(cycles.cycles, template=cycles.template)
    encodings = encode(model, design.prompts)
    rows = [_row(encoding, encoding.last) for encoding in encodings]
    unseen = HeldOut(model, loaded.reading)
    usable = [row in unseen for row in rows] if loaded.made else [True] * len(rows)
    by_answer: list[list[Row]] = [[] for _ in range(domain.n)]
    for row, label, out in zip(rows, design.label.tolist(), usable, strict=True):
        if out:
            by_answer[label].append(row)
    count = min(min(map(len, by_answer)), MOST_TEMPLATES)
    if count < 2:
        raise UsageError(
            f"only {count} questions were held out for some answers of {domain.name}; train with a larger "
            f"share: --held-out 0.2"
        )
    notes = _notes(True, loaded, f"questions ({count} for each answer)")
    if cycles.cycles == 1:
        notes = (*notes, "one cycle of offsets: k = 1 is not told from a smooth function of the raw sum")
    chosen = tuple(row for group in by_answer for row in group[:count])
    return ScoredPrompts(domain, chosen, count, bool(loaded.made), "answers of operations", notes)
