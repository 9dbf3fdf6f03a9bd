"""Do months and mod 12 share a plane? Two circles of the same size need not be the same circle.

Run: python examples/shared_planes.py [--quick] One learns: planes that hold much variance overlap by
themselves, so the overlap stands beside random planes of as much variance. Expected output: whether 12 is
circular, and the overlap of the planes with its null.
"""

import argparse
from collections.abc import Sequence

import mechfourier as mf
from mechfourier.probes.scan import ScanResult, scan


def main(arguments: Sequence[str] | None = None) -> ScanResult:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    draws = 99 if parser.parse_args(arguments).quick else 1000
    result = scan(mf.load("calendar"), [12], compare=["months", "hours-12"], layers="1", n_permutations=draws)
    print(result)
    return result


if __name__ == "__main__":
    main()
