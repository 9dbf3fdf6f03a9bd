"""What was published of this network, by name; no torch here, so that it can be listed at once."""

from mechfourier.reproduce.experiment import Experiment

_CLAIMS = "mechfourier.toys.universal.claims"

EXPERIMENTS = (
    Experiment(
        "miras-primes",
        "Every modulus, trained on primes",
        "unseen p = 71 67.5 %, p = 101 11 %",
        "miras",
        "",
        f"{_CLAIMS}:miras_primes",
        45,
        "mechfourier train miras --form faithful --moduli primes",
    ),
    Experiment(
        "miras-universal",
        "Every modulus, trained on 2 to 120",
        "held-out moduli 100 %, 91.6 % at 121, 17.3 % at 199",
        "miras",
        "miras",
        f"{_CLAIMS}:miras_universal",
        1,
        "mechfourier train miras --form faithful",
    ),
    Experiment(
        "miras-sparse",
        "Every modulus, trained on 24 of them",
        "figures of moduli in between",
        "miras",
        "",
        f"{_CLAIMS}:miras_sparse",
        120,
        "mechfourier train miras --form faithful --moduli sparse",
    ),
    Experiment(
        "miras-rl",
        "Every modulus, by policy gradient",
        "REINFORCE learns the trained moduli",
        "miras",
        "",
        f"{_CLAIMS}:miras_rl",
        45,
        "mechfourier train miras --form faithful --moduli primes --loss reinforce",
    ),
)
