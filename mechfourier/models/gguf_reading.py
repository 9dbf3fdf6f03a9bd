"""transformers' GGUF reader, made quick: the same reader, with its slowest loops replaced while it runs."""

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

from mechfourier.models.gguf_header import LONGEST_KEPT
from mechfourier.progress import tracked


def newer_architectures() -> set[str]:
    """Architectures of the second reader that newer versions of transformers have."""
    try:
        from transformers.integrations.gguf import GGUF_CONFIG_ARCHS
    except ImportError:
        return set()
    return set(GGUF_CONFIG_ARCHS)


@contextlib.contextmanager
def quick_reader() -> Iterator[None]:
    """transformers reads a file's header three times through ``gguf.GGUFReader``, ten seconds each for
    262,144 tokens (every element of every list goes through numpy on its own), and makes gguf's table of
    tensor names once per module of the model. Inside this block the reader takes lists whole and passes over
    the long ones where nothing needs them, and the table is made once; all else is the same."""
    import gguf
    from transformers import modeling_gguf_pytorch_utils as reading

    # newer versions read the vocabulary by another function, which is quick
    quick = quick_class(gguf.GGUFReader, vocabulary=newer_architectures() == set())
    replaced = (
        (gguf, "GGUFReader", quick),
        (gguf, "get_tensor_name_map", functools.cache(gguf.get_tensor_name_map)),
        (reading, "tqdm", lambda items, **_: tracked(items, "dequantise", len(items))),
    )
    before = [(module, name, getattr(module, name)) for module, name, _ in replaced]
    for module, name, value in replaced:
        setattr(module, name, value)
    try:
        yield
    finally:
        for module, name, value in before:
            setattr(module, name, value)


def quick_class(plain: Any, *, vocabulary: bool) -> Any:
    """``gguf.GGUFReader`` with another way to read the elements of a list; any other value is left to the
    class itself."""
    import numpy as np
    from gguf import GGUFValueType

    class QuickReader(plain):
        def _get_field_parts(self, orig_offs: Any, raw_type: Any) -> Any:  # numpy's integers, or Python's
            if int(raw_type) != GGUFValueType.ARRAY:
                return super()._get_field_parts(orig_offs, raw_type)
            data = self.data.view(np.ndarray)  # slices of a memmap take ten times as long
            kind, length = data[orig_offs : orig_offs + 4], data[orig_offs + 4 : orig_offs + 12]
            inner, count = GGUFValueType(int(kind.view("<u4")[0])), int(length.view("<u8")[0])
            read = _strings if inner == GGUFValueType.STRING else _numbers(self.gguf_scalar_to_np[inner])
            end, parts, places = read(data, orig_offs + 12, count, vocabulary or count <= LONGEST_KEPT)
            types = [GGUFValueType.ARRAY, inner] if count else [GGUFValueType.ARRAY]
            return (
                end - orig_offs,
                [kind.view("<u4"), length.view("<u8"), *parts],
                [p + 2 for p in places],
                types,
            )

    return QuickReader


Read = Callable[[Any, int, int, bool], tuple[int, list[Any], list[int]]]


def _strings(data: Any, start: int, count: int, kept: bool) -> tuple[int, list[Any], list[int]]:
    """The end of ``count`` strings, their lengths and bytes, and where the bytes stand among those."""
    parts: list[Any] = []
    view, place = memoryview(data), start
    for _ in range(count):
        text = place + 8
        end = text + int.from_bytes(view[place:text], "little")
        if kept:
            parts += (data[place:text].view("<u8"), data[text:end])
        place = end
    return place, parts, list(range(1, len(parts), 2))


def _numbers(kind: Any) -> Read:
    def read(data: Any, start: int, count: int, kept: bool) -> tuple[int, list[Any], list[int]]:
        import numpy as np

        end = start + count * np.dtype(kind).itemsize
        values = data[start:end].view(kind)
        return (
            end,
            [values[i : i + 1] for i in range(count)] if kept else [],
            list(range(count if kept else 0)),
        )

    return read
