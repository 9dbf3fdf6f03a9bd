"""The key frequencies of a model, against the spectra of untrained ones (the rule is in
``fourier.key_freqs``)."""

from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

from mechfourier.fourier.clock_pizza import LEARNED_ACCURACY
from mechfourier.fourier.key_freqs import (
    answer_null,
    answer_share,
    gaussian_null,
    key_frequencies,
    matrix_share,
    null_threshold,
    significant,
)
from mechfourier.fourier.progress import class_means, sums
from mechfourier.toys.one_layer.tensors import View, view
from mechfourier.toys.one_layer.weights import initial_weights


@dataclass(frozen=True)
class KeyFrequencies:
    """``embed`` and ``w_l`` are significant in that matrix alone, strongest first; ``key`` in both,
    ascending.

    ``rule`` is ``weights``, or ``logits`` where the network answers right but no frequency stands out in the
    weights (it uses all of them alike): then ``key`` are those whose cos(w_k(a+b−c)) is significant in the
    logits.
    """

    key: tuple[int, ...]
    embed: tuple[int, ...]
    w_l: tuple[int, ...]
    embed_share: Float[Tensor, " freq"]
    w_l_share: Float[Tensor, " freq"]
    embed_threshold: float
    w_l_threshold: float
    rule: str


@lru_cache(maxsize=32)
def thresholds(n: int, d_embed: int, d_model: int, d_mlp: int) -> tuple[float, float]:
    """The largest power share that 95 % of 199 untrained models stay under, in W_E (``d_embed`` numbers per
    value) and in W_L.

    W_E has independent normal entries at initialisation, W_L = W_out W_U is a product of two such matrices.
    """
    mixing = torch.randn(d_model, d_mlp, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    embed = gaussian_null(n, d_embed, seed=1)
    w_l = gaussian_null(n, d_model, seed=2, mixing=mixing)
    return null_threshold(embed), null_threshold(w_l)


def find_key_frequencies(tables: View) -> KeyFrequencies:
    """Frequencies of W_E and W_L that an untrained model of this shape would not show."""
    embed_share, w_l_share = matrix_share(tables.W_E), matrix_share(tables.W_L)
    over_embed, over_w_l = thresholds(
        tables.n, tables.W_E.shape[1], tables.config.d_model, tables.config.d_mlp
    )
    embed, w_l = significant(embed_share, over_embed), significant(w_l_share, over_w_l)
    key, rule = key_frequencies(embed, w_l), "weights"
    if not key and _answers_right(tables):
        key, rule = _from_logits(tables), "logits"
    return KeyFrequencies(key, embed, w_l, embed_share, w_l_share, over_embed, over_w_l, rule)


def _answers_right(tables: View) -> bool:
    right = tables.logits.argmax(-1) == sums(tables.n)
    return float(right.double().mean()) >= LEARNED_ACCURACY


def _from_logits(tables: View) -> tuple[int, ...]:
    fresh = view(initial_weights(tables.config, seed=0), tables.config)
    threshold = null_threshold(answer_null(class_means(fresh.resid_post)))
    return tuple(sorted(significant(answer_share(class_means(tables.logits)), threshold)))
