"""What the configurations of this folder's networks share: JSON, and what TransformerLens asks of a
``cfg``."""

import dataclasses
from typing import Any, ClassVar, TypeVar

from mechfourier.results.base import rebuild

Config = TypeVar("Config", bound="NetworkConfig")


@dataclasses.dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """Base of the configurations; ``record`` is the name of the network's `Architecture`."""

    record: ClassVar[str]
    act_fn: ClassVar[str] = "relu"
    normalization_type: ClassVar[str | None] = None
    attn_only: ClassVar[bool] = False
    use_attn_result: ClassVar[bool] = True  # hook_result runs whenever something listens to it

    @classmethod
    def from_dict(cls: type[Config], values: dict[str, Any]) -> Config:
        """From the JSON of a checkpoint; unknown keys (the recipe, the provenance) are left out, values of
        another type a ``TypeError``."""
        return rebuild(cls, values)

    def to_dict(self) -> dict[str, Any]:
        return {"architecture": self.record, **dataclasses.asdict(self)}
