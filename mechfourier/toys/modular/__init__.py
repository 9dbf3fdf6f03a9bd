"""Imported networks on modular arithmetic that the one-layer analysis does not cover: several layers, layer
norm, linear attention, attention alone, MLPs alone."""
