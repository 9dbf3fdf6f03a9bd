"""One network for every modulus, asked beyond the moduli it was trained on, beside a network that never
wraps.

Run: python examples/every_modulus.py [--quick] One learns: accuracy beyond the range means nothing until it
is put beside never wrapping (a + b), and the questions next to the wrap are where it fails first. Expected
output: no error to 199, where never wrapping is right about half of the time.
"""

import argparse
from collections.abc import Sequence

from mechfourier.toys.universal import AccuracySweep, sweep_accuracy


def main(arguments: Sequence[str] | None = None) -> AccuracySweep:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args(arguments)
    moduli = (15, 115, 121, 199) if options.quick else (15, 65, 115, 121, 127, 149, 199, 499)
    result = sweep_accuracy("miras", only=moduli, samples=200 if options.quick else 2000)
    print(result)
    print(
        result.frame()[["m", "role", "accuracy", "low", "never_wrap", "boundary_errors"]].to_string(
            index=False
        )
    )
    return result


if __name__ == "__main__":
    main()
