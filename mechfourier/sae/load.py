"""Dictionaries from disk or from SAELens's releases, and their features as directions."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from mechfourier.errors import BadCheckpoint, OutOfRange, UsageError, WeightsNotFound, nearest
from mechfourier.files import own_path, read_text
from mechfourier.hooks.site import Site, find_site, model_name
from mechfourier.models.interface import Model
from mechfourier.models.weights import weights_hash
from mechfourier.sae.rows import Reading
from mechfourier.sae.text import Source

if TYPE_CHECKING:
    from sae_lens import SAE

METADATA = "mechfourier.json"
CONFIG = "cfg.json"


@dataclass(frozen=True, eq=False)
class LoadedDictionary:
    """A dictionary with what is known of its training (``made`` is empty for those of others)."""

    name: str
    sae: "SAE[Any]"
    made: dict[str, Any]

    @property
    def site(self) -> str:
        """The hook point it was trained on; "" where nobody wrote it down."""
        return str(self.made.get("site") or self.sae.cfg.metadata.hook_name or "")

    @property
    def model(self) -> str:
        return str(self.made.get("model") or self.sae.cfg.metadata.model_name or "")

    @property
    def features(self) -> int:
        return int(self.sae.cfg.d_sae)

    @property
    def sources(self) -> tuple[Source, ...]:
        return tuple(Source(**source) for source in self.made.get("sources", ()))

    @property
    def reading(self) -> Reading:
        return Reading(**self.made.get("reading", {}))

    @property
    def directions(self) -> Float[Tensor, "feature d"]:
        """The decoder's rows at length 1 (0 for a feature without one)."""
        return torch.nn.functional.normalize(self.sae.W_dec.detach().float().cpu(), dim=1)

    def at(self, model: Model) -> Site:
        """Its site in ``model``; raises ``UsageError`` where it was trained on another one's activations."""
        site = find_site(model, self.site)
        known = self.made.get("weights")
        if known and known != weights_hash(model):
            raise UsageError(
                f"{self.name} was trained on {self.model}, and {model_name(model)} has other weights; "
                "load the model it belongs to, or train one on this model: mechfourier sae train"
            )
        return site


def load_sae(name: str | Path, *, device: str = "cpu") -> LoadedDictionary:
    """A dictionary from a folder that SAELens wrote, or from one of its releases (``release:sae_id``).

    Raises ``WeightsNotFound`` with where was looked, ``BadCheckpoint`` for damaged files, ``UsageError`` for
    a folder of several.
    """
    folder = own_path(name)
    if folder.is_dir():
        return _from_folder(folder, device)
    if folder.is_file():
        raise UsageError(
            f"{folder} is a file; name the folder that holds {CONFIG} and sae_weights.safetensors"
        )
    return _from_release(str(name), device)


def _from_folder(folder: Path, device: str) -> LoadedDictionary:
    from sae_lens import SAE

    if not (folder / CONFIG).exists():
        inside = sorted(
            str(path.parent) for path in folder.glob(f"*/{CONFIG}") if path.parent.name != "control"
        )
        if inside:
            raise UsageError(f"{folder} holds several dictionaries; name one of them: {', '.join(inside)}")
        unfinished = (
            " Its training is not finished: go on with --resume." if (folder / "training").exists() else ""
        )
        raise WeightsNotFound(f"{folder} holds no dictionary (no {CONFIG}).{unfinished}")
    try:
        sae = SAE.load_from_disk(folder, device=device)
        made = json.loads(read_text(folder / METADATA)) if (folder / METADATA).exists() else {}
        found = LoadedDictionary(str(folder), sae.eval(), made)
        _ = found.site, found.model, found.sources, found.reading  # what its metadata say must be readable
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise BadCheckpoint(
            f"the dictionary in {folder} cannot be read ({type(error).__name__}: {reason})"
        ) from error
    return found


def _from_release(name: str, device: str) -> LoadedDictionary:
    release, colon, identity = name.partition(":")
    if {"", ".", ".."} & {*release.split("/"), *(identity or "none").split("/")}:
        raise UsageError(f"{name!r} is no release; write release:sae_id, or org/name:folder")
    from sae_lens import SAE
    from sae_lens.loading.pretrained_saes_directory import get_pretrained_saes_directory

    known = get_pretrained_saes_directory()
    if release in known and not identity:
        ids = list(known[release].saes_map)
        raise UsageError(f"{release} has {len(ids)} dictionaries; name one: {release}:{ids[0]}")
    if release in known and identity not in known[release].saes_map:
        raise UsageError(
            f"{release} has no {identity!r}; closest: {nearest(identity, known[release].saes_map)}"
        )
    if release not in known and not colon:
        raise WeightsNotFound(
            f"{name!r} is no folder and no release of SAELens; closest releases: {nearest(name, known)}. "
            "Train one with: mechfourier sae train"
        )
    try:
        return LoadedDictionary(name, SAE.from_pretrained(release, identity, device=device).eval(), {})
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise WeightsNotFound(
            f"the release {name} could not be loaded ({reason}); give a local folder instead"
        ) from error


def feature_basis(
    sae: "str | Path | LoadedDictionary",
    features: int | Sequence[int],
    *,
    site: Site | str | None = None,
    model: Model | None = None,
) -> Float[Tensor, "d r"]:
    """Decoder directions as an orthonormal basis, for ``ablate(subspace=…)``, ``patch(subspace=…)``,
    ``rotate(plane=…)``.

    With ``site`` or ``model``, it must be the one that the dictionary was trained on. Raises ``OutOfRange``
    for a feature that it has not, ``UsageError`` for directions that are dependent or another site.
    """
    loaded = sae if isinstance(sae, LoadedDictionary) else load_sae(sae)
    chosen = [features] if isinstance(features, int) else list(features)
    wrong = [f for f in chosen if not 0 <= f < loaded.features]
    if wrong or not chosen:
        raise OutOfRange(
            f"{loaded.name} has features 0 to {loaded.features - 1}; {wrong or chosen} is none of them"
        )
    if model is not None:
        loaded.at(model)
    if site is not None and loaded.site and str(site) != loaded.site:
        raise UsageError(
            f"{loaded.name} was trained at {loaded.site}, not at {site}; use --site {loaded.site}"
        )
    vectors = loaded.directions[chosen].T
    left, singular, _ = torch.linalg.svd(vectors, full_matrices=False)
    if float(singular[-1]) < 1e-4:
        raise UsageError(
            f"the directions of features {chosen} of {loaded.name} do not span {len(chosen)} dimensions"
        )
    return left if len(chosen) > 1 else vectors
