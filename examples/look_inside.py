"""Where does the answer arise, and where does the model look? Logit lens and attention roles of months.

Run: python examples/look_inside.py [--quick] One learns: both are read beside a null (answers or roles
shuffled), since any guess is right sometimes. Expected output: the answer is right after the last layer, at
chance before the first, and heads that look at the month and at the offset.
"""

import argparse
from collections.abc import Sequence

import mechfourier as mf
from mechfourier.probes.attention import attention
from mechfourier.probes.attention_result import AttentionResult
from mechfourier.probes.lens import LensResult, lens


def main(arguments: Sequence[str] | None = None) -> tuple[LensResult, AttentionResult]:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    draws = 99 if parser.parse_args(arguments).quick else 1000
    model, months = mf.load("calendar"), mf.domain("months")
    answers = lens(model, months, n_permutations=draws)
    looks = attention(model, months, n_permutations=draws)
    print(answers, looks, sep="\n")
    return answers, looks


if __name__ == "__main__":
    main()
