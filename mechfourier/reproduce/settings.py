"""How much work a reproduction does."""

from dataclasses import asdict, dataclass

from mechfourier._version import __version__


@dataclass(frozen=True, kw_only=True)
class Settings:
    """``permutations``: draws of every null. ``cycles`` of offsets in operation grids, or as many as
    ``cells`` allow, three at least. ``layers`` like "0-3,7" (None: all). ``samples``: prompts of an ablation
    (None: the whole grid of 529); ``controls``: matched controls, on ``control_samples`` prompts (None: as
    many as ten minutes allow). ``attended``: prompts per modulus whose attention is read. ``most``: moduli of
    a list that are asked (0: all). ``sae_rows`` activations that the dictionary sees, ``sae_width`` its
    features, ``sae_tokens`` activations gone by in its training. ``problems`` per cell of the accuracy
    sweeps."""

    permutations: int = 500
    cycles: int = 4
    cells: int = 1600
    layers: str | None = None
    samples: int | None = None
    controls: int = 200
    control_samples: int | None = None
    attended: int = 100
    most: int = 0
    sae_rows: int = 500
    sae_width: str = "4x"
    sae_tokens: int = 200_000
    problems: int = 2000
    seed: int = 0

    def plain(self) -> dict[str, str]:
        """The settings as text, with the version that judged: what a kept result must share to be read
        again."""
        own = {name: "" if value is None else str(value) for name, value in asdict(self).items()}
        return {**own, "version": __version__}


QUICK = Settings(
    permutations=199,
    samples=60,
    controls=40,
    control_samples=12,
    most=2,
    sae_width="1x",
    sae_tokens=20_000,
    problems=200,
)
