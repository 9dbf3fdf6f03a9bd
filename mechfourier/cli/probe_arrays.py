"""``mechfourier probe --acts FILE``: the same command without a model."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mechfourier.errors import UsageError

if TYPE_CHECKING:
    from mechfourier.probes.arrays.grid import GridProbe
    from mechfourier.probes.result import ProbeResult


def refuse_model_options(model: str | None, given: Mapping[str, Any]) -> None:
    """Raise ``UsageError`` for what says something about a model, beside a file of activations."""
    names = [*([f"the model {model!r}"] if model is not None else []), *_given(given)]
    if names:
        raise UsageError(
            f"--acts reads arrays and runs no model, so {names[0]} has no meaning beside it; leave one of them out"
        )


def refuse_array_options(given: Mapping[str, Any]) -> None:
    """Raise ``UsageError`` for what says something about a file of activations, where there is none."""
    if names := _given(given):
        raise UsageError(f"{names[0]} is about a file of activations; give it with --acts FILE")


def _given(given: Mapping[str, Any]) -> list[str]:
    """Options that were set: a flag that is off, and "auto", are what stands there anyway."""
    return [
        f"--{name.replace('_', '-')}"
        for name, value in given.items()
        if value is not None and value is not False and value != "auto"  # a period of 0 was given
    ]


def of_arrays(
    acts: Path,
    domain: str | None,
    *,
    labels: str | None,
    templates: str | None,
    period: float | None,
    control: Path | None,
    **options: Any,
) -> "ProbeResult | GridProbe":
    """What ``mechfourier.probe_activations`` finds, asked on the command line."""
    from mechfourier.probes.arrays.probe import probe_activations

    if domain is None and period is None:
        raise UsageError(
            "say what the values are: --domain days|months|mod-N|degrees|mine.toml (mechfourier domains lists them)"
        )
    columns = None if labels is None else tuple(each.strip() for each in labels.split(","))
    return probe_activations(
        acts,
        domain,
        labels=columns[0] if columns is not None and len(columns) == 1 else columns,
        templates=templates,
        n=period,
        control=control,
        **options,
    )


def write_planes(result: "ProbeResult | GridProbe", figure: Path) -> Path | None:
    """The planes of a result of arrays beside its figure, ``<site>.basis`` [d, 2], ``.shape`` and ``.center``; None where it has
    none."""
    if result.arrays is None or (not hasattr(result, "factors") and "_planes" not in vars(result)):
        return None
    from mechfourier.models.checkpoint import write_tensors

    factors = getattr(result, "factors", (result,))
    tensors = {}
    for factor in factors:
        lead = f"{factor.domain}." if len(factors) > 1 else ""
        for plane in factor.planes:
            parts = {"basis": plane.basis, "shape": plane.shape, "center": plane.center}
            tensors |= {
                f"{lead}{plane.site}.k{plane.k}.{name}": part.contiguous() for name, part in parts.items()
            }
    return write_tensors(figure.with_suffix(".planes.safetensors"), tensors) if tensors else None
