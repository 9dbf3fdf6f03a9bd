"""Which shape the values of a cycle lie in: circle, open curve, wave, clusters, line, another period, or
none."""

from mechfourier.stats.shapes.contest import Contest, ShapeEvidence, SiteShapes, contest
from mechfourier.stats.shapes.catalogue import SHAPES, Shape
from mechfourier.stats.shapes.evidence import Estimate
from mechfourier.stats.shapes.headline import Headline

__all__ = ["SHAPES", "Contest", "Estimate", "Headline", "Shape", "ShapeEvidence", "SiteShapes", "contest"]
