"""Imported networks of any depth as an `Architecture`."""

from mechfourier.models.architectures import Architecture

RECORD = Architecture(
    name="modular",
    title="an imported network on modular arithmetic",
    load="mechfourier.toys.modular.model:load_folder",
    own_domain="mechfourier.toys.one_layer.record:own_domain",
    rows="mechfourier.toys.one_layer.rows:rows",
)
