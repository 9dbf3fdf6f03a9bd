"""The one-layer transformer as an `Architecture`."""

from collections.abc import Mapping
from typing import Any

from mechfourier.models.architectures import Architecture

RECORD = Architecture(
    name="one-layer",
    title="addition mod 113",
    load="mechfourier.toys.one_layer.model:load_folder",
    own_domain="mechfourier.toys.one_layer.record:own_domain",
    rows="mechfourier.toys.one_layer.rows:rows",
    readout="mechfourier.toys.one_layer.model:readout",
    train="mechfourier.toys.one_layer.commands:train",
    analyze="mechfourier.toys.one_layer:analyze",
    sweep="mechfourier.toys.one_layer.commands:sweep",
    page="mechfourier.toys.one_layer.page:page",
    experiments="mechfourier.toys.one_layer.experiments:EXPERIMENTS",
    is_foreign="mechfourier.toys.reading:is_foreign",
    import_checkpoint="mechfourier.toys.reading:import_checkpoint",
)


def own_domain(config: Mapping[str, Any]) -> str | None:
    """``mod-113``: the questions of a network that adds modulo 113."""
    modulus = config.get("p")
    return f"mod-{modulus}" if isinstance(modulus, int) and config.get("task", "add") == "add" else None
