"""What every benchmark is held to: the bars of the project, each with the place in the committed JSON that
answers it. A room per subject; the page shows them in this order."""

from benchmarks.bars import activations, arithmetic, interface, one_layer, probing, verdicts
from benchmarks.bars.bar import Bar, Data

BARS: tuple[Bar, ...] = (
    *probing.BARS,
    *verdicts.BARS,
    *one_layer.BARS,
    *activations.BARS,
    *arithmetic.BARS,
    *interface.BARS,
)
