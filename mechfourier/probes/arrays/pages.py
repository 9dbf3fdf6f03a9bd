"""Pages of a file that is mapped into memory, let go once they are read, so that a large file does not fill the memory."""

import ctypes
import mmap
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from torch import Tensor

LEAST = 2**20
"""Bytes of a tensor below which its pages are not worth a system call."""


def forget(tensors: Iterable[Tensor], *, ours: bool = False) -> None:
    """Let go of the pages of tensors that lie in files mapped for reading only; anything else is left alone. ``ours``: nobody
    else holds these tensors, and nothing was written to them, so that private mappings (PyTorch's) hold what the file holds too.

    What is read again comes from the system's cache of the file. Where a system has no such call, nothing happens.
    """
    large = [each for each in tensors if each.numel() * each.element_size() >= LEAST]
    if not large or sys.platform != "linux":
        return
    mapped = list(_mapped_files(ours))
    advise = ctypes.CDLL(None).madvise
    advise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    for each in large:
        begin, end = _span(each)
        for start, stop in mapped:
            if start <= begin and end <= stop:
                begin, end = -(-begin // mmap.PAGESIZE), end // mmap.PAGESIZE
                if end > begin:
                    advise(begin * mmap.PAGESIZE, (end - begin) * mmap.PAGESIZE, mmap.MADV_DONTNEED)
                break


def _span(tensor: Tensor) -> tuple[int, int]:
    """First and last address of what a view reaches."""
    reach = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    begin = tensor.data_ptr()
    return begin, begin + (reach + 1) * tensor.element_size()


def _mapped_files(ours: bool) -> Iterator[tuple[int, int]]:
    """Addresses of files whose pages hold what the file holds, and no more: mapped without leave to write or, where they are
    ``ours``, for nobody else to see."""
    for line in Path("/proc/self/maps").read_text("utf-8", errors="replace").splitlines():
        span, rights, _, _, inode = line.split()[:5]
        if inode != "0" and (rights.startswith("r--") or (ours and rights == "rw-p")):
            start, stop = span.split("-")
            yield int(start, 16), int(stop, 16)
