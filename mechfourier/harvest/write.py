"""Making one shard: the model's pass over its sequences, in order, and the file with its checksum."""

from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors.torch import save_file
from torch import Tensor

from mechfourier.errors import MechFourierError
from mechfourier.files import atomic_path
from mechfourier.harvest.index import DTYPES, Config, Shard, file_checksum, shard_name
from mechfourier.harvest.jobs import Job
from mechfourier.hooks.site import Site
from mechfourier.models.interface import Model
from mechfourier.sae.rows import Row
from mechfourier.sae.shards import capture_groups

GROUP_BYTES = 128 * 2**20  # of float32 activations, before they are rounded and put in their place
PAD = 16  # lengths that run together: texts end anywhere, and a batch of one sequence is a slow one


def make_shard(model: Model, config: Config, job: Job, folder: Path) -> Shard:
    """Capture the job's activations and write its file, atomically. The same job gives the same bytes."""
    tensors = {**job.text(), **activations(model, config, job.sequences)}
    path = folder / shard_name(job.number)
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata={"format": "pt"})
        size, checksum = temporary.stat().st_size, file_checksum(temporary)
    return Shard(job.number, path.name, job.rows, size, checksum, job.text_checksum())


def activations(model: Model, config: Config, sequences: Sequence[Row]) -> dict[str, Float[Tensor, "row d"]]:
    """What the shard holds of every site: a row per kept position, in the order of the text, in the harvest's
    dtype."""
    lengths = torch.tensor([len(row.keep) for row in sequences])
    first = lengths.cumsum(0) - lengths
    count, dtype = int(lengths.sum()), DTYPES[config.dtype]
    values = {
        site: torch.empty(count, width, dtype=dtype)
        for site, width in zip(config.sites, config.widths, strict=True)
    }
    most = max(1, GROUP_BYTES // (4 * sum(config.widths) * int(lengths.max())))
    sites = [Site.parse(name) for name in config.sites]
    pad = PAD if getattr(model.cfg, "attention_dir", "") == "causal" else 1
    for numbers, group in capture_groups(model, sequences, sites, most=most, pad=pad):
        place = torch.arange(int(lengths[numbers].max()))
        kept = place < lengths[numbers][:, None]
        at = (first[numbers][:, None] + place)[kept]
        for site, vectors in group.items():
            values[site][at] = _rounded(site, vectors[kept], dtype)
    return values


def _rounded(site: str, vectors: Float[Tensor, "row d"], dtype: torch.dtype) -> Tensor:
    """The activations in ``dtype``; float16 ends at 65504, and what lies beyond must not turn into infinity
    unseen."""
    if dtype == torch.float16 and (largest := float(vectors.abs().max())) > torch.finfo(dtype).max:
        raise MechFourierError(
            f"{site} reaches {largest:.0f}, which float16 cannot hold; use --dtype bfloat16 or float32"
        )
    return vectors.to(dtype)
