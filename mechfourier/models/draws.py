"""Random weights of the size of trained ones, drawn in any order and any part, always the same for a seed and
a name.

Every tensor has a stream of its own (PCG64, which can be entered at any place), so a row of an embedding, or
one block of a model, is drawn alone and is what it would be in a model drawn whole. Values are uniform, as
PyTorch initialises its own layers, with the trained tensor's mean and standard deviation: sums over a layer's
inputs are normal all the same, and a uniform number takes a third of the time of a normal one.
"""

import hashlib
import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

VERSION = 2  # part of the activation store's key: raised when the same seed gives other weights
CHUNK = 2**18  # numbers made at a time: they stay in the processor's cache until they are scaled
PER_RAW = 4  # 16-bit numbers in one raw number of the generator
STEPS_STD = 2**16 / math.sqrt(12)  # standard deviation of a uniform 16-bit number
SAMPLED_ROWS = 512  # of an embedding, whose own mean and standard deviation would take longer than the pass


@dataclass(frozen=True)
class Stream:
    """The random numbers of one tensor: ``width`` numbers a row, where rows are drawn alone (0: one long
    row)."""

    name: str
    seed: int
    mean: float
    std: float
    width: int = 0

    def fill(self, out: Float[Tensor, " n"], first: int = 0) -> None:
        """Numbers ``first`` and following (``first`` a multiple of 4) into ``out``, in float32 on the CPU."""
        bits = np.random.PCG64(np.random.SeedSequence([self.seed, _number(self.name)]))
        bits.advance(first // PER_RAW)
        scale = self.std / STEPS_STD
        shift = self.mean + scale / 2  # whole numbers from −2¹⁵ to 2¹⁵ − 1 have the mean −½
        values = out.numpy()
        # numpy, as thousands of short parallel loops of torch would each wait for a thread that a busy
        # machine has put to sleep
        for start in range(0, len(values), CHUNK):
            chunk = values[start : start + CHUNK]
            raw = bits.random_raw(-(-len(chunk) // PER_RAW)).view(np.int16)
            chunk[:] = raw[: len(chunk)]
            chunk *= np.float32(scale)
            chunk += np.float32(shift)

    def fill_row(self, out: Float[Tensor, " width"], row: int) -> None:
        """One row, as ``fill_all`` would have it."""
        self.fill(out, row * -(-self.width // PER_RAW) * PER_RAW)

    def fill_all(self, out: Float[Tensor, " n"]) -> None:
        """All numbers of the tensor, in the order they lie in memory."""
        if self.width % PER_RAW == 0:
            self.fill(out)
        else:
            for number, row in enumerate(out.split(self.width)):
                self.fill_row(row, number)


def stream(name: str, seed: int, trained: Tensor, *, by_rows: bool) -> Stream:
    """The stream that stands in for ``trained``: a table of rows that are drawn alone, or a tensor that is
    drawn whole."""
    if not by_rows:
        return Stream(name, seed, *moments(trained.reshape(-1)))
    step = max(1, len(trained) // SAMPLED_ROWS)
    return Stream(name, seed, *moments(trained[::step].reshape(-1)), width=trained.shape[1])


def moments(values: Float[Tensor, " n"]) -> tuple[float, float]:
    """Mean and standard deviation. (``torch.std_mean`` takes fifteen times as long on one core.)"""
    values = values.float()
    mean = float(values.mean())
    square = float(torch.linalg.vector_norm(values)) ** 2 / max(len(values), 1)
    if mean**2 > 0.01 * square:  # the difference of the two would lose its digits
        return mean, float((values - mean).norm()) / math.sqrt(max(len(values), 1))
    return mean, math.sqrt(max(square - mean**2, 0.0))


def _number(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=16).digest(), "little")
