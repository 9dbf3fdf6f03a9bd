"""Fourier analysis of plain arrays: bases, spectra, harmonic fits, and the measures of modular addition. No model in sight."""

from mechfourier.fourier.analytic import analytic_weights, choose_frequencies
from mechfourier.fourier.bases import fold_frequency, fourier_basis, n_frequencies, row_frequencies
from mechfourier.fourier.clock_pizza import classify, distance_irrelevance, gradient_cosines
from mechfourier.fourier.dft import (
    LinePower,
    fourier_coefficients,
    fourier_coefficients_2d,
    frequency_power,
    frequency_power_2d,
    line_power,
    norm_by_component,
    power_share,
    sum_line_share,
)
from mechfourier.fourier.harmonics import HarmonicFit, fit_harmonic, harmonic_r2, partial_r2, r2_bound
from mechfourier.fourier.key_freqs import gaussian_null, matrix_share, null_threshold, significant
from mechfourier.fourier.neurons import NeuronSpectrum, neuron_spectrum
from mechfourier.fourier.progress import gini, progress_measures, trig_amplitudes, trig_share

__all__ = [
    "fourier_basis", "row_frequencies", "n_frequencies", "fold_frequency",
    "fourier_coefficients", "fourier_coefficients_2d", "frequency_power", "frequency_power_2d", "power_share",
    "norm_by_component", "line_power", "LinePower", "sum_line_share",
    "harmonic_r2", "fit_harmonic", "HarmonicFit", "partial_r2", "r2_bound",
    "neuron_spectrum", "NeuronSpectrum",
    "progress_measures", "trig_share", "trig_amplitudes", "gini",
    "matrix_share", "gaussian_null", "null_threshold", "significant",
    "distance_irrelevance", "gradient_cosines", "classify",
    "analytic_weights", "choose_frequencies",
]  # fmt: skip
