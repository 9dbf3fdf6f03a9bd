"""Where a model runs and in which number format."""

import torch

from mechfourier.errors import DeviceUnavailable, UsageError, nearest

DTYPES = {
    "float32": torch.float32,
    "fp32": torch.float32,
    "float64": torch.float64,
    "fp64": torch.float64,
    "bfloat16": torch.bfloat16,
    "bf16": torch.bfloat16,
    "float16": torch.float16,
    "fp16": torch.float16,
}
DEVICES = ("auto", "cpu", "cuda", "mps")


def resolve_device(device: str | torch.device = "auto") -> str:
    """``"auto"`` is CUDA where there is one, else the CPU.

    Apple's MPS is used only when asked for: TransformerLens warns that it can give wrong results silently.
    Raises ``DeviceUnavailable`` for a device that is not there and ``UsageError`` for one that does not
    exist.
    """
    name = str(device)
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, index = name.partition(":")
    if kind not in DEVICES or (index and not index.isdigit()):
        raise UsageError(f"no device {name!r}; closest: {nearest(kind, DEVICES)}")
    if kind == "cuda":
        _need_cuda(name, index)
    if kind == "mps" and not torch.backends.mps.is_available():
        raise DeviceUnavailable("no MPS device here (it needs an Apple GPU); use device='cpu'")
    return name


def _need_cuda(name: str, index: str) -> None:
    if not torch.cuda.is_available():
        build = (
            "this PyTorch is built without CUDA" if torch.version.cuda is None else "no CUDA GPU is visible"
        )
        raise DeviceUnavailable(f"device {name!r} was asked for, but {build}; use device='cpu' or 'auto'")
    if index and int(index) >= torch.cuda.device_count():
        raise DeviceUnavailable(
            f"device {name!r} was asked for, but there are {torch.cuda.device_count()} GPUs (numbered from "
            f"0); "
            "use device='cuda'"
        )


def resolve_dtype(dtype: torch.dtype | str | None) -> torch.dtype | None:
    """A floating-point dtype by itself or by name; ``None`` stays ``None`` (the loader chooses)."""
    if dtype is None:
        return None
    if isinstance(dtype, torch.dtype) and dtype in DTYPES.values():
        return dtype
    name = str(dtype).removeprefix("torch.")
    if name not in DTYPES:
        raise UsageError(f"no dtype {name!r} for a model; closest: {nearest(name, DTYPES)}")
    return DTYPES[name]
