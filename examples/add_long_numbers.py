"""How long can the numbers be? The packaged adder was trained on 1 to 5 digits.

Run: python examples/add_long_numbers.py [--quick] One learns: with positions by significance a small network
adds numbers of lengths it never saw; an absolute position ends where training ended. Expected output: every
sum right, and an accuracy of 100 % (with its interval) for each length.
"""

import argparse
from collections.abc import Sequence

import mechfourier as mf
from mechfourier.toys.adder import AdderAccuracy, sweep_accuracy


def main(arguments: Sequence[str] | None = None) -> AdderAccuracy:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args(arguments)
    model = mf.load("adder")
    for problem in ("12345+67890=", "99999999999999999999+1=", "31415926535897932384+27182818284590452353="):
        print(problem, *model.answer([problem]))  # type: ignore[attr-defined]
    digits = 6 if options.quick else 20
    result = sweep_accuracy(
        model, max_digits=digits, samples=2 if options.quick else 10, category_samples=10, lengths=(digits,)
    )
    print(result)
    return result


if __name__ == "__main__":
    main()
