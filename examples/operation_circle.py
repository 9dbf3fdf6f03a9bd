"""Does a model turn with (a + b) mod 7, or only with something that looks so? The same test on trained and on
random weights.

Run: python examples/operation_circle.py [--quick] One learns: the best R² over dimensions is high for random
weights too; the operation test tells them apart. Expected output: two R² above .9, and the verdicts circular
(trained) and no circle (random).
"""

import argparse
from collections.abc import Sequence

import mechfourier as mf
from mechfourier.models.weights import reinitialised
from mechfourier.probes.scan import ScanResult, scan


def main(arguments: Sequence[str] | None = None) -> tuple[ScanResult, ScanResult]:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    draws = 199 if parser.parse_args(arguments).quick else 1000
    trained = mf.load("calendar")
    found, chance = (
        scan(model, [7], controls=False, n_permutations=draws)
        for model in (trained, reinitialised(trained, 0))
    )
    for name, result in (("trained", found), ("random weights", chance)):
        row = result.moduli[0]
        print(
            f"{name:15} best R² {row.naive_r2:.3f}   verdict {row.verdict} (p = {row.p_value:.2g}, "
            f"specificity {row.ratio:.1f})"
        )
    return found, chance


if __name__ == "__main__":
    main()
