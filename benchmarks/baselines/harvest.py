"""The straightforward way to put a data set's activations on disk: a pass per document, a pickle per
batch."""

from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch


@torch.no_grad()
def save_activations(
    model: Any, documents: Iterable[Sequence[int]], sites: Sequence[str], folder: Path, *, batch: int = 64
) -> int:
    """``run_with_cache`` per document, ``torch.save`` per batch of documents; the tokens saved."""
    folder.mkdir(parents=True)
    stream, count, number = iter(documents), 0, 0
    while group := list(islice(stream, batch)):
        kept: dict[str, list[torch.Tensor]] = {site: [] for site in sites}
        for ids in group:
            _, cache = model.run_with_cache(torch.tensor([ids]))
            for site in sites:
                kept[site].append(cache[site][0].cpu())
            count += len(ids)
        torch.save(
            {site: torch.cat(parts) for site, parts in kept.items()}, folder / f"batch-{number:05d}.pt"
        )
        number += 1
    return count
