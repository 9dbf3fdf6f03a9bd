"""A one-layer network in closed form that adds modulo p by reading its operands off circles of chosen frequencies."""

from collections.abc import Sequence

from mechfourier.fourier.analytic import analytic_weights
from mechfourier.toys.one_layer.model import OneLayerConfig, OneLayerTransformer


def clock_network(p: int, frequencies: Sequence[int], *, d_mlp: int = 64) -> OneLayerTransformer:
    sizes = dict(d_model=32, n_heads=4, d_head=8, d_mlp=d_mlp)
    weights = analytic_weights(p, frequencies=frequencies, **sizes)  # type: ignore[arg-type]
    config = OneLayerConfig(p=p, **sizes)  # type: ignore[arg-type]
    return OneLayerTransformer(config, weights={name: value.float() for name, value in weights.items()})
