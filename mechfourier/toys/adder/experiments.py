"""What was published of this network, by name; no torch here, so that it can be listed at once."""

from mechfourier.reproduce.experiment import Experiment

_CLAIMS = "mechfourier.toys.adder.claims"

EXPERIMENTS = (
    Experiment(
        "adder",
        "Multi-digit addition",
        "96.2 % on lengths of the training, 0 % at 6 digits",
        "adder",
        "adder",
        f"{_CLAIMS}:adder",
        1,
        "mechfourier train adder",
    ),
)
