"""Harmonic spectra of value representations, with the template noise removed.

Activations ``acts[site, value, template, d]`` of n values in T templates are taken as

    acts[v, t] = mean[t] + signal[v] + noise[v, t],

``mean`` being what a template adds to every value. A power computed from the average over templates holds the
power of the noise as well, so every number here is a mean over pairs of *different* templates: X̄ᵗ·Xᵘ, t ≠ u,
has the power of the signal as its expectation (the "cross-validated" or crossnobis estimate of Walther et al.
2016, NeuroImage 137). All of it follows from the Gram matrices of the values, which are n × n whatever d is:
:func:`cross_gram` makes them once, and the permutation null, the bootstrap and the closure tests are matrix
products on them.
"""

import torch
from einops import einsum, rearrange
from jaxtyping import Bool, Float
from torch import Tensor

from mechfourier.fourier.bases import fourier_basis, n_frequencies


def cross_gram(acts: Float[Tensor, "site value template d"]) -> Float[Tensor, "site t u value value2"]:
    """Inner products ⟨acts[v, t], acts[w, u]⟩ with the mean over values taken from every template, in
    float64."""
    sites, n, templates, _ = acts.shape
    grams = acts.new_empty(sites, templates, templates, n, n, dtype=torch.float64)
    for site, gram in zip(acts, grams, strict=True):  # float64 copies of all sites would not fit
        y = site.double()
        flat = rearrange(y - y.mean(0), "value template d -> (template value) d")
        gram.copy_(rearrange(flat @ flat.T, "(t v) (u w) -> t u v w", t=templates, u=templates))
    return grams


def shared_gram(
    cross: Float[Tensor, "site t u value value2"], weights: Float[Tensor, "*draw t"] | None = None
) -> Float[Tensor, "*draw site value value2"]:
    """What the templates share: the mean of ``cross`` over pairs t ≠ u. Unbiased for the Gram matrix of the
    signal.

    ``weights`` (for a bootstrap: how often a template was drawn) weigh pair (t, u) by w_t·w_u; a template is
    never paired with itself, however often it was drawn.
    """
    count = cross.shape[1]
    w = torch.ones(count, dtype=cross.dtype) if weights is None else weights.to(cross.dtype)
    pairs = einsum(w, w, "... t, ... u -> ... t u") * (1 - torch.eye(count, dtype=cross.dtype))
    pairs = pairs / pairs.sum((-2, -1), keepdim=True)
    return einsum(pairs, cross, "... t u, site t u v w -> ... site v w")


def harmonic_planes(n: int) -> Float[Tensor, "k pair value"]:
    """Unit cosine and sine of k = 1..⌈n/2⌉−1 on Z_n: every harmonic that has two quadratures (Nyquist has
    one)."""
    rows = fourier_basis(n)[1 : 1 + 2 * ((n - 1) // 2)]
    return rearrange(rows, "(k pair) value -> k pair value", pair=2)


def harmonic_power(gram: Float[Tensor, "*lead value value2"]) -> Float[Tensor, "*lead k"]:
    """Between-value power at k = 1..⌊n/2⌋ (last axis: index 0 is k = 1); sums to the trace of a centred
    ``gram``."""
    n = gram.shape[-1]
    basis = fourier_basis(n)[1:]
    rows = einsum(basis, gram, basis, "row v, ... v w, row w -> ... row")
    if n % 2 == 0:
        rows = torch.cat([rows, torch.zeros_like(rows[..., :1])], -1)  # the sine that Nyquist has not
    return rearrange(rows, "... (k pair) -> ... k pair", k=n_frequencies(n)).sum(-1)


def harmonic_share(gram: Float[Tensor, "*lead value value2"]) -> Float[Tensor, "*lead k"]:
    """Power at every harmonic as a share of the between-value power.

    Unbiased powers may fall below 0 where there is only noise; shares are of Σ|power|, so they stay within
    ±1, and equal power/total wherever no power is negative.
    """
    power = harmonic_power(gram)
    whole = power.abs().sum(-1, keepdim=True)
    return torch.where(whole > 0, power / whole.clamp_min(torch.finfo(power.dtype).tiny), 0.0)


def quadratures(gram: Float[Tensor, "*lead value value2"]) -> Float[Tensor, "*lead k two"]:
    """Power along the stronger and the weaker axis of the ellipse that every harmonic draws, k = 1..⌈n/2⌉−1.

    Equal for a circle; the second is 0 for a cosine along one direction, which is periodic and no circle.
    """
    planes = harmonic_planes(gram.shape[-1])
    return plane_axes(planes, gram)


def plane_axes(
    planes: Float[Tensor, "*planes pair value"], gram: Float[Tensor, "*lead value value2"]
) -> Float[Tensor, "*both two"]:
    """Eigenvalues (larger first) of ``gram`` restricted to every plane; axes: lead, then planes, then 2."""
    flat = rearrange(planes.reshape(-1, 2, planes.shape[-1]), "p pair v -> (p pair) v")
    lead = gram.shape[:-2]
    half = (flat @ gram).reshape(*lead, -1, 2, planes.shape[-1])
    pairs = flat.reshape(-1, 2, planes.shape[-1])
    aa = (half[..., 0, :] * pairs[:, 0]).sum(-1)
    bb = (half[..., 1, :] * pairs[:, 1]).sum(-1)
    ab = (half[..., 0, :] * pairs[:, 1]).sum(-1)
    middle, spread = (aa + bb) / 2, torch.hypot((aa - bb) / 2, ab)
    axes = torch.stack([middle + spread, middle - spread], -1)
    return axes.reshape(*lead, *planes.shape[:-2], 2)


def dimension_power(acts: Float[Tensor, "value template d"]) -> Float[Tensor, "k d"]:
    """Unbiased power at k = 1..⌊n/2⌋ of every dimension: mean over t ≠ u of X_kᵗ·X_kᵘ, in float64."""
    y = acts.double()
    n, count = y.shape[:2]
    rows = torch.tensordot(fourier_basis(n)[1:], y - y.mean(0), dims=1)
    power = (rows.sum(1) ** 2 - (rows**2).sum(1)) / (count * (count - 1))
    if n % 2 == 0:
        power = torch.cat([power, torch.zeros_like(power[:1])])
    return rearrange(power, "(k pair) d -> k pair d", k=n_frequencies(n)).sum(1)


def dimension_share(acts: Float[Tensor, "value template d"]) -> Float[Tensor, "k d"]:
    """The same as shares of Σ|power| per dimension; 0 where a dimension is constant."""
    power = dimension_power(acts)
    whole = power.abs().sum(0, keepdim=True)
    return torch.where(whole > 0, power / whole.clamp_min(torch.finfo(power.dtype).tiny), 0.0)


def constant_sites(acts: Float[Tensor, "site value template d"]) -> Bool[Tensor, " site"]:
    """Sites where every value reads the same in every template, up to float rounding: nothing there can be
    tested."""
    # a site at a time: differences of all sites would be a second copy
    spread = torch.stack([(site - site.mean(0)).abs().amax() for site in acts])
    scale = torch.stack([site.abs().amax() for site in acts])
    return spread <= 1e-6 * scale.clamp_min(torch.finfo(acts.dtype).tiny)
