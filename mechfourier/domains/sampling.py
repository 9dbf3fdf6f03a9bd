"""Drawing prompts with a seed, as many of each answer as can be."""

import torch
from jaxtyping import Int
from torch import Tensor

from mechfourier.errors import OutOfRange


def balanced_sample(label: Int[Tensor, " prompt"], samples: int | None, *, seed: int) -> Int[Tensor, " row"]:
    """``samples`` prompts, as many of each label as can be, in their order; all of them for None.

    Raises ``OutOfRange`` for fewer than one or more than there are.
    """
    count = len(label)
    if samples is None:
        return torch.arange(count)
    if not 1 <= samples <= count:
        raise OutOfRange(f"samples is {samples}; this design has {count} prompts (1 to {count})")
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    rank = torch.zeros(count, dtype=torch.long)  # how many of the same label came before, in a random order
    for value in label.unique():
        members = order[label[order] == value]
        rank[members] = torch.arange(len(members))
    turn = torch.argsort(rank[order], stable=True)
    return order[turn][:samples].sort().values
