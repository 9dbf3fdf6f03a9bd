"""Train a sparse dictionary on the MLP of the one-layer model, and see whether its features recover the key
frequencies.

Run: python examples/sae_key_frequencies.py [--tokens 400000] [--out FOLDER] (about two minutes on two cores).
The frequencies that the features stand for are found on questions that the dictionary was not trained on, and
compared with those that ``mechfourier analyze one-layer`` reads from the weights.
"""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import mechfourier as mf
from mechfourier.sae.evaluation import evaluate
from mechfourier.sae.load import load_sae
from mechfourier.sae.rows import Reading
from mechfourier.sae.score_result import SAEScore
from mechfourier.sae.scoring import score
from mechfourier.sae.settings import Dictionary, Schedule
from mechfourier.sae.training import train


def main(arguments: Sequence[str] | None = None) -> tuple[SAEScore, tuple[int, ...]]:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=400_000)
    parser.add_argument("--permutations", type=int, default=199)
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_args(arguments)
    model = mf.load("one-layer")
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.out or Path(scratch) / "dictionary"
        print(
            train(
                model,
                [Dictionary("blocks.0.mlp.hook_post", "topk", "1x", k=32)],
                folder,
                schedule=Schedule(tokens=options.tokens, batch=256),
                reading=Reading(held_out=0.2),
                control=False,
            )
        )
        dictionary = load_sae(folder)
        print(evaluate(model, dictionary))
        found = score(model, dictionary, mf.domain("mod-113"), n_permutations=options.permutations)
    print(found)
    keys = tuple(mf.analyze("one-layer").key_freqs)
    held = sorted({s.k for s in found.scores if s.p_value < 0.05 and s.share > 0.5})
    print(f"key frequencies of the model: {keys}; harmonics that features stand for: {held}")
    return found, keys


if __name__ == "__main__":
    main()
