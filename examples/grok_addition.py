"""Train one layer on a + b mod p until it generalises, and read the algorithm off its weights.

Run: python examples/grok_addition.py [--quick]  (half a minute; --quick trains on a smaller modulus) One
learns: it first memorises, then generalises, and does so with a handful of frequencies. Expected output: a
test accuracy near 100 %, three to six key frequencies that hold most of the logits, and a share next to
nothing for an untrained network.
"""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import mechfourier as mf
from mechfourier.toys.one_layer.train import train_one_layer


def main(arguments: Sequence[str] | None = None) -> mf.OneLayerAnalysis:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--epochs", type=int, default=None, help="stop after so many epochs")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "run"
        run = train_one_layer(folder, p=59 if options.quick else 113, epochs=options.epochs)
        print(run)
        result = mf.analyze(folder)
    print(result)
    print(
        f"{len(result.key_freqs)} key frequencies hold {result.logit_share:.1%} of the logits; untrained: "
        f"{result.untrained.logit_share:.2%}"
    )
    return result


if __name__ == "__main__":
    main()
