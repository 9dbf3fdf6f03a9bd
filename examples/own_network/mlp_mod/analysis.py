"""``mechfourier analyze`` for this network: the Fourier spectrum of its embedding."""

from dataclasses import dataclass
from typing import Any

import pandas as pd

from mechfourier.results.base import Result


@dataclass(frozen=True)
class Spectrum(Result, kind="mlp-mod-spectrum", figure="mlp_mod.analysis:spectrum_figure"):
    """``power[k − 1]`` is the share of frequency k (cycles per p values) in the power of W_E."""

    model: str
    p: int
    power: tuple[float, ...]

    def frame(self) -> pd.DataFrame:
        return pd.DataFrame({"frequency": range(1, len(self.power) + 1), "share": self.power})

    def __str__(self) -> str:
        frame = self.frame().nlargest(3, "share")
        top = ", ".join(
            f"{k} ({share:.0%})" for k, share in zip(frame["frequency"], frame["share"], strict=True)
        )
        return f"{self.model}: addition mod {self.p}\nlargest frequencies in W_E: {top}"


def analyze(run: str, *, seed: int = 0, first: int | None = None) -> Spectrum:
    """The spectrum of a run's embedding, or its ``first`` frequencies (``mechfourier analyze RUN --set
    first=3``)."""
    from mechfourier.fourier.key_freqs import matrix_share
    from mechfourier.models.registry import load

    del seed  # nothing is drawn
    model: Any = load(run)
    return Spectrum(run, model.cfg.p, tuple(matrix_share(model.W_E[: model.cfg.p].detach()).tolist()[:first]))


def spectrum_figure(result: Spectrum) -> Any:
    """The shares as bars."""
    import plotly.express as px

    return px.bar(result.frame(), x="frequency", y="share", title="Spectrum of W_E")
