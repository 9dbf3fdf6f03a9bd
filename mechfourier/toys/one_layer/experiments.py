"""What was published of this network, by name; no torch here, so that it can be listed at once."""

from mechfourier.reproduce.experiment import Experiment

_CLAIMS = "mechfourier.toys.one_layer.claims"

EXPERIMENTS = (
    Experiment(
        "modular-addition",
        "Addition mod 113 in one layer",
        "test accuracy 99.9 %, five key frequencies",
        "one-layer",
        "one-layer",
        f"{_CLAIMS}:modular_addition",
        0.2,
        "mechfourier train one-layer --p 113",
    ),
    Experiment(
        "small-primes",
        "Addition mod 53 and 71",
        "does not generalise: 1.3 % and 0.5 %",
        "one-layer",
        "",
        f"{_CLAIMS}:small_primes",
        2,
        "mechfourier train one-layer --p 53",
    ),
    Experiment(
        "phase-transitions",
        "Three phases of grokking",
        "memorisation, circuit formation, clean-up",
        "one-layer",
        "",
        f"{_CLAIMS}:phase_transitions",
        20,
        "mechfourier train one-layer --p 113 --recipe classic",
    ),
)
