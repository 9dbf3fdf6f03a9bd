"""The experiments of grokking-fourier by name, those on trained networks first. No torch here: ``--list``
answers at once.

Published figures are from the README files of https://github.com/unixsysdev/grokking-fourier; see
docs/from-grokking-fourier.md.
"""

import contextlib
from collections.abc import Iterator

from mechfourier.errors import UsageError, nearest
from mechfourier.models.architectures import architectures, built_in
from mechfourier.reproduce.experiment import LANGUAGE, Experiment

_SUMS, _INSIDE, _ABLATIONS = (f"mechfourier.reproduce.{name}" for name in ("sums", "inside", "ablations"))


def _of_networks() -> Iterator[Experiment]:
    """What the networks' own records bring; a package that cannot be imported has none."""
    for record in architectures():
        if record.experiments:
            with contextlib.nullcontext() if record in built_in() else contextlib.suppress(UsageError):
                yield from record.part("experiments")


EXPERIMENTS: tuple[Experiment, ...] = (
    *_of_networks(),
    Experiment(
        "qwen3-layer-scan",
        "Addition mod 23, every layer",
        "dimension 35 of layer 9 is a cosine of the sum, R² .9578",
        LANGUAGE,
        "",
        f"{_SUMS}:layer_scan",
        8,
    ),
    Experiment(
        "calendar-domains",
        "Days, months, hours, letters",
        "one dimension each, R² .93 to .995",
        LANGUAGE,
        "",
        f"{_SUMS}:calendar_domains",
        20,
    ),
    Experiment(
        "polynomial-against-fourier",
        "A cosine or a polynomial",
        "cosine .9855, line .0256 (mod 7)",
        LANGUAGE,
        "",
        f"{_SUMS}:polynomial",
        7,
    ),
    Experiment(
        "primes",
        "Prime moduli 7 to 31",
        "a dimension of its own for every prime, R² .94 to .997",
        LANGUAGE,
        "",
        f"{_SUMS}:primes",
        45,
    ),
    Experiment(
        "range-detector",
        "Composite moduli 14 to 28",
        "dimension 867 serves every n from 14 to 29",
        LANGUAGE,
        "",
        f"{_SUMS}:range_detector",
        30,
    ),
    Experiment(
        "calendar-against-arithmetic",
        "Calendar and mod 12",
        "separate dimensions",
        LANGUAGE,
        "",
        f"{_SUMS}:calendar_against_arithmetic",
        15,
    ),
    Experiment(
        "ablation-layer7-dim8",
        "Zeroing dimension 8 after layer 7",
        "28 % → 12 % right, text unharmed",
        LANGUAGE,
        "",
        f"{_ABLATIONS}:ablation_layer7_dim8",
        15,
    ),
    Experiment(
        "ablation-layer9-dim35",
        "Zeroing dimension 35 after layer 9",
        "28 % → 4 % right, perplexity 408",
        LANGUAGE,
        "",
        f"{_ABLATIONS}:ablation_layer9_dim35",
        15,
    ),
    Experiment(
        "sae-layer7",
        "A dictionary at layer 7",
        "feature 2822, R² .9717",
        LANGUAGE,
        "",
        f"{_INSIDE}:sae_layer7",
        10,
    ),
    Experiment(
        "attention-routing",
        "Attention to the modulus",
        "3 to 5 %: attention does not route",
        LANGUAGE,
        "",
        f"{_INSIDE}:attention_routing",
        5,
    ),
    Experiment(
        "logit-lens",
        "Where the answer arises",
        "the answer shows in inner layers",
        LANGUAGE,
        "",
        f"{_INSIDE}:logit_lens",
        2,
    ),
)


def chosen(names: list[str]) -> tuple[Experiment, ...]:
    """The experiments of these names (all for none), in the order of the catalogue. Raises ``UsageError`` for
    an unknown one."""
    known = {each.name: each for each in EXPERIMENTS}
    for name in names:
        if name not in known:
            raise UsageError(
                f"no experiment {name!r}; closest: {nearest(name, known)}. List them with: mechfourier "
                f"reproduce --list"
            )
    return tuple(each for each in EXPERIMENTS if not names or each.name in names)
