"""One experiment over a grid of settings, on this machine or on a Ray cluster."""

from mechfourier.sweep.grid import Axis, axis, points
from mechfourier.sweep.phase import PhaseDiagram, phase_diagram
from mechfourier.sweep.run import Sweep, sweep

__all__ = ["Axis", "PhaseDiagram", "Sweep", "axis", "phase_diagram", "points", "sweep"]
