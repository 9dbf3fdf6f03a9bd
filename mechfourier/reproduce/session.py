"""What the experiments of one call share: the models, loaded once and only when asked for, and grids that
were measured."""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from mechfourier.errors import UsageError
from mechfourier.hooks.site import Site, select_sites
from mechfourier.models.weights import reinitialised, weights_hash
from mechfourier.reproduce.settings import Settings

T = TypeVar("T")
TRAINED = "trained"  # folder of the networks that train made


@dataclass
class Session:
    """``language``: name, folder or model for the experiments on text; ``run``: a folder for those on trained
    networks; ``train``: make what is missing; ``out``: where results and trainings lie."""

    language: Any
    run: str | Path | None
    settings: Settings
    out: Path
    train: bool = False
    device: str = "auto"
    kept: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def model(self) -> Any:
        """The language model; raises what ``load`` raises."""
        if not isinstance(self.language, str | Path):
            return self.language
        from mechfourier.models.registry import load

        return load(self.language, device=self.device)

    @cached_property
    def blank(self) -> Any:
        """The language model with re-initialised weights."""
        return reinitialised(self.model, self.settings.seed)

    @cached_property
    def weights(self) -> str:
        """Content hash of the language model, which no experiment changes."""
        return weights_hash(self.model)

    @property
    def name(self) -> str:
        """What the language model is called, without loading it."""
        if isinstance(self.language, str | Path):
            return str(self.language)
        return str(getattr(self.language, "mechfourier_name", type(self.language).__name__))

    @cached_property
    def sites(self) -> tuple[Site, ...]:
        """The residual stream after every layer that is asked."""
        return select_sites(self.model, "resid_post", self.settings.layers)

    @property
    def is_qwen3_06b(self) -> bool:
        """Whether published layers and dimensions mean anything here: 28 layers of 1024."""
        cfg = self.model.cfg
        return (int(cfg.n_layers), int(cfg.d_model)) == (28, 1024)

    def some(self, values: tuple[T, ...]) -> tuple[T, ...]:
        """The first ``settings.most`` of a list (all for 0)."""
        return values[: self.settings.most] if self.settings.most else values

    def trained(self, what: str) -> Path:
        """Where ``train`` puts a network: another seed is another network."""
        return self.out / TRAINED / f"{what}-seed{self.settings.seed}"

    @property
    def training_device(self) -> str:
        """Trainings of these small networks go to the GPU only where that is asked for by name."""
        return "cpu" if self.device == "auto" else self.device

    def source(self, architecture: str, packaged: str) -> str | Path | None:
        """The run given, where it is of this architecture, else the packaged model, else None."""
        if self.run is not None and _architecture(self.run) == architecture:
            return self.run
        return packaged or None


def _architecture(run: str | Path) -> str:
    from mechfourier.models.folder import CONFIG, read_config

    folder = Path(run)
    if not (folder / CONFIG).is_file():
        raise UsageError(
            f"--run {str(run)!r} is no run folder (it has no {CONFIG}); give one that `mechfourier train` "
            f"wrote"
        )
    return str(read_config(folder).get("architecture", ""))
