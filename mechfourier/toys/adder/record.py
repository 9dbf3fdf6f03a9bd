"""The adder as an `Architecture`."""

from mechfourier.models.architectures import Architecture

RECORD = Architecture(
    name="adder",
    title="multi-digit addition (character-level encoder-decoder)",
    load="mechfourier.toys.adder.model:load_folder",
    own_domain="digit-sum-mod-10",
    domains={
        r"(digit-a|digit-b|digit-sum-mod-10|carry-in|carry-out|significance)(@[0-9]{1,9})?": "mechfourier.toys.adder.domains:domain_named"
    },
    train="mechfourier.toys.adder.commands:train",
    analyze="mechfourier.toys.adder:analyze",
    sweep_accuracy="mechfourier.toys.adder:sweep_accuracy",
    experiments="mechfourier.toys.adder.experiments:EXPERIMENTS",
)
