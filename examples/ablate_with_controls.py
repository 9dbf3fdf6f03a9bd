"""Take a plane out of a model, beside planes of the same size: is it used?

Run: python examples/ablate_with_controls.py [--quick] One learns: an effect means something only beside
matched controls; single dimensions of a residual stream rarely matter, the planes of the harmonics do.
Expected output: the planes take the answers to chance (1 in 7) with p = 1/(controls + 1), one dimension
changes nothing.
"""

import argparse
from collections.abc import Sequence

import mechfourier as mf


def main(arguments: Sequence[str] | None = None) -> tuple[mf.AblationResult, mf.AblationResult]:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args(arguments)
    model = mf.load("calendar")
    site, controls = mf.Site("embed"), 39 if options.quick else 200
    experiment = mf.Experiment.of(model, "days")
    one = mf.ablate(experiment, site=site, dims=8, n_controls=controls, text=())
    all_ = mf.ablate(experiment, site=site, ks=(1, 2, 3), n_controls=controls, text=())
    for result in (one, all_):
        print(result)
    return one, all_


if __name__ == "__main__":
    main()
