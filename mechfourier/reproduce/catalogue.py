"""The experiments of grokking-fourier by name: what was claimed, and what it takes. No torch here: ``--list`` answers at once.

Published figures are from the README files of https://github.com/unixsysdev/grokking-fourier; see docs/from-grokking-fourier.md.
"""

from dataclasses import dataclass

LANGUAGE, ONE_LAYER, ADDER, MIRAS = "language model", "one-layer", "adder", "miras"


@dataclass(frozen=True)
class Experiment:
    """``needs``: the kind of weights, ``packaged``: the model taken where none is given ("" where the package has none that
    fits), ``train``: the command that makes what is missing, ``function``: a dotted path (Session) -> tuple of claims.
    ``minutes``: on two cores, with Qwen3-0.6B for the language model, and with the training where one is needed."""

    name: str
    title: str
    claimed: str
    needs: str
    packaged: str
    function: str
    minutes: float
    train: str = ""


_TOYS, _SUMS, _INSIDE = (
    "mechfourier.reproduce.toys",
    "mechfourier.reproduce.sums",
    "mechfourier.reproduce.inside",
)

EXPERIMENTS: tuple[Experiment, ...] = (
    Experiment(
        "modular-addition", "Addition mod 113 in one layer", "test accuracy 99.9 %, five key frequencies",
        ONE_LAYER, "one-layer", f"{_TOYS}:modular_addition", 0.2, "mechfourier train one-layer --p 113",
    ),
    Experiment(
        "small-primes", "Addition mod 53 and 71", "does not generalise: 1.3 % and 0.5 %",
        ONE_LAYER, "", f"{_TOYS}:small_primes", 2, "mechfourier train one-layer --p 53",
    ),
    Experiment(
        "phase-transitions", "Three phases of grokking", "memorisation, circuit formation, clean-up",
        ONE_LAYER, "", f"{_TOYS}:phase_transitions", 20, "mechfourier train one-layer --p 113 --recipe classic",
    ),
    Experiment(
        "adder", "Multi-digit addition", "96.2 % on lengths of the training, 0 % at 6 digits",
        ADDER, "adder", f"{_TOYS}:adder", 1, "mechfourier train adder",
    ),
    Experiment(
        "miras-primes", "Every modulus, trained on primes", "unseen p = 71 67.5 %, p = 101 11 %",
        MIRAS, "", f"{_TOYS}:miras_primes", 45, "mechfourier train miras --form faithful --moduli primes",
    ),
    Experiment(
        "miras-universal", "Every modulus, trained on 2 to 120", "held-out moduli 100 %, 91.6 % at 121, 17.3 % at 199",
        MIRAS, "miras", f"{_TOYS}:miras_universal", 1, "mechfourier train miras --form faithful",
    ),
    Experiment(
        "miras-sparse", "Every modulus, trained on 24 of them", "figures of moduli in between",
        MIRAS, "", f"{_TOYS}:miras_sparse", 120, "mechfourier train miras --form faithful --moduli sparse",
    ),
    Experiment(
        "miras-rl", "Every modulus, by policy gradient", "REINFORCE learns the trained moduli",
        MIRAS, "", f"{_TOYS}:miras_rl", 45, "mechfourier train miras --form faithful --moduli primes --loss reinforce",
    ),
    Experiment(
        "qwen3-layer-scan", "Addition mod 23, every layer", "dimension 35 of layer 9 is a cosine of the sum, R² .9578",
        LANGUAGE, "", f"{_SUMS}:layer_scan", 8,
    ),
    Experiment(
        "calendar-domains", "Days, months, hours, letters", "one dimension each, R² .93 to .995",
        LANGUAGE, "", f"{_SUMS}:calendar_domains", 20,
    ),
    Experiment(
        "polynomial-against-fourier", "A cosine or a polynomial", "cosine .9855, line .0256 (mod 7)",
        LANGUAGE, "", f"{_SUMS}:polynomial", 7,
    ),
    Experiment(
        "primes", "Prime moduli 7 to 31", "a dimension of its own for every prime, R² .94 to .997",
        LANGUAGE, "", f"{_SUMS}:primes", 45,
    ),
    Experiment(
        "range-detector", "Composite moduli 14 to 28", "dimension 867 serves every n from 14 to 29",
        LANGUAGE, "", f"{_SUMS}:range_detector", 30,
    ),
    Experiment(
        "calendar-against-arithmetic", "Calendar and mod 12", "separate dimensions",
        LANGUAGE, "", f"{_SUMS}:calendar_against_arithmetic", 15,
    ),
    Experiment(
        "ablation-layer7-dim8", "Zeroing dimension 8 after layer 7", "28 % → 12 % right, text unharmed",
        LANGUAGE, "", f"{_INSIDE}:ablation_layer7_dim8", 15,
    ),
    Experiment(
        "ablation-layer9-dim35", "Zeroing dimension 35 after layer 9", "28 % → 4 % right, perplexity 408",
        LANGUAGE, "", f"{_INSIDE}:ablation_layer9_dim35", 15,
    ),
    Experiment(
        "sae-layer7", "A dictionary at layer 7", "feature 2822, R² .9717",
        LANGUAGE, "", f"{_INSIDE}:sae_layer7", 10,
    ),
    Experiment(
        "attention-routing", "Attention to the modulus", "3 to 5 %: attention does not route",
        LANGUAGE, "", f"{_INSIDE}:attention_routing", 5,
    ),
    Experiment(
        "logit-lens", "Where the answer arises", "the answer shows in inner layers",
        LANGUAGE, "", f"{_INSIDE}:logit_lens", 2,
    ),
)  # fmt: skip


def chosen(names: list[str]) -> tuple[Experiment, ...]:
    """The experiments of these names (all for none), in the order of the catalogue. Raises ``UsageError`` for an unknown one."""
    from mechfourier.errors import UsageError, nearest

    known = {each.name: each for each in EXPERIMENTS}
    for name in names:
        if name not in known:
            raise UsageError(
                f"no experiment {name!r}; closest: {nearest(name, known)}. List them with: mechfourier reproduce --list"
            )
    return tuple(each for each in EXPERIMENTS if not names or each.name in names)
