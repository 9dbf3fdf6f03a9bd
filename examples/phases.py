"""See grokking before it shows: progress measures over the checkpoints of a training.

Run: python examples/phases.py [--quick] [--run FOLDER] One learns: restricted loss falls and excluded loss
rises while the test accuracy still stands at chance. Expected output: a table of the checkpoints, and the
steps at which memorisation and clean-up ended (with the fast recipe the plateau is short, and may be
missing).
"""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

from mechfourier.toys.one_layer import Phases, find_phases, progress_curves
from mechfourier.toys.one_layer.train import train_one_layer


def main(arguments: Sequence[str] | None = None) -> Phases:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--run", type=Path, default=None, help="a run folder with checkpoints")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.run or Path(scratch) / "run"
        if options.run is None:
            train_one_layer(folder, p=59 if options.quick else 113)
        curves = progress_curves(folder)
    print(
        curves.frame()[
            ["step", "accuracy_test", "restricted_loss", "excluded_loss_train", "gini_W_E"]
        ].to_string(index=False)
    )
    phases = find_phases(curves)
    print(phases)
    return phases


if __name__ == "__main__":
    main()
