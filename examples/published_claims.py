"""Published claims beside what is measured here, without any download.

Run: python examples/published_claims.py [--quick] [NAME …] One learns: the published failures beyond the
training range are those of an encoding, and the published R² of circles come with random weights too.
Expected output: a line per claim: stands, does not stand, noise, or not measured with what is missing.
"""

import argparse
import tempfile
from collections.abc import Sequence

from mechfourier.reproduce import QUICK, Reproduction, Settings, reproduce

OFFLINE = ("modular-addition", "adder", "miras-universal", "polynomial-against-fourier", "attention-routing")


def main(arguments: Sequence[str] | None = None) -> list[Reproduction]:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=OFFLINE)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as scratch:
        settings = QUICK if options.quick else Settings()
        results = list(reproduce(options.names, model="calendar", settings=settings, out=scratch))
    print(*results, sep="\n")
    return results


if __name__ == "__main__":
    main()
