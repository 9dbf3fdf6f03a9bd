"""Fourier analysis of plain arrays: bases, spectra, harmonic fits, and the measures of modular addition. No
model in sight."""

from typing import TYPE_CHECKING

from mechfourier._lazy import lazy

if TYPE_CHECKING:
    from mechfourier.fourier.analytic import (
        analytic_weights as analytic_weights,
        choose_frequencies as choose_frequencies,
    )
    from mechfourier.fourier.bases import (
        fold_frequency as fold_frequency,
        fourier_basis as fourier_basis,
        n_frequencies as n_frequencies,
        row_frequencies as row_frequencies,
    )
    from mechfourier.fourier.clock_pizza import (
        classify as classify,
        distance_irrelevance as distance_irrelevance,
        gradient_cosines as gradient_cosines,
    )
    from mechfourier.fourier.dft import (
        LinePower as LinePower,
        fourier_coefficients as fourier_coefficients,
        fourier_coefficients_2d as fourier_coefficients_2d,
        frequency_power as frequency_power,
        frequency_power_2d as frequency_power_2d,
        line_power as line_power,
        norm_by_component as norm_by_component,
        power_share as power_share,
        sum_line_share as sum_line_share,
    )
    from mechfourier.fourier.harmonics import (
        HarmonicFit as HarmonicFit,
        fit_harmonic as fit_harmonic,
        harmonic_r2 as harmonic_r2,
        partial_r2 as partial_r2,
        r2_bound as r2_bound,
    )
    from mechfourier.fourier.key_freqs import (
        gaussian_null as gaussian_null,
        matrix_share as matrix_share,
        null_threshold as null_threshold,
        significant as significant,
    )
    from mechfourier.fourier.neurons import (
        NeuronSpectrum as NeuronSpectrum,
        neuron_spectrum as neuron_spectrum,
    )
    from mechfourier.fourier.progress import (
        gini as gini,
        progress_measures as progress_measures,
        trig_amplitudes as trig_amplitudes,
        trig_share as trig_share,
    )

__getattr__, __dir__ = lazy(__name__)
