"""The models of every modulus as an `Architecture`."""

from mechfourier.models.architectures import Architecture

RECORD = Architecture(
    name="miras",
    title="addition in every modulus (numbers by value)",
    load="mechfourier.toys.universal.model:load_folder",
    own_domain="mod-23",
    rows="mechfourier.toys.universal.rows:rows",
    train="mechfourier.toys.universal.commands:train",
    analyze="mechfourier.toys.universal:analyze",
    sweep_accuracy="mechfourier.toys.universal:sweep_accuracy",
    experiments="mechfourier.toys.universal.experiments:EXPERIMENTS",
    is_foreign="mechfourier.toys.universal.foreign:is_foreign",
    import_checkpoint="mechfourier.toys.universal.foreign:import_miras",
)
