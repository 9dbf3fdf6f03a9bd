"""One experiment over a grid of settings, on this machine or on a Ray cluster."""

from typing import TYPE_CHECKING

from mechfourier._lazy import lazy

if TYPE_CHECKING:
    from mechfourier.sweep.grid import Axis as Axis, axis as axis, points as points
    from mechfourier.sweep.phase import PhaseDiagram as PhaseDiagram, phase_diagram as phase_diagram
    from mechfourier.sweep.run import Sweep as Sweep, sweep as sweep

__getattr__, __dir__ = lazy(__name__)
