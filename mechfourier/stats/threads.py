"""Statistics that run on one thread."""

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """PyTorch on one thread: sums then come in one order, and decompositions of many small matrices do not wait for threads whose
    cores another process uses (200 times slower at 250 × 250)."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
