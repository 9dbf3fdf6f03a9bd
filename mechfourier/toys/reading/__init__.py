"""Other people's checkpoints of networks on modular arithmetic, whatever their tensors are called.

``tensors`` (the state dict, its roles by name and shape) → ``plans`` (which tensor becomes which of ours, and
how) → ``questions`` (how a question is written) → ``search`` (every reading answers; the best is kept) →
``acceptance`` (whether it is one, or looks like one).
"""

from mechfourier.toys.reading.imported import import_checkpoint, is_foreign, read

__all__ = ["import_checkpoint", "is_foreign", "read"]
