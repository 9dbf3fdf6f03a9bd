"""Weights that come as the data files of Python packages, in parts. The packages are found and never
imported: none of their code runs."""

import hashlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path

from mechfourier.errors import BadCheckpoint
from mechfourier.files import explained

BLOCK = 1 << 22


@dataclass(frozen=True)
class PackagedWeights:
    """A GGUF file in parts: ``parts`` are (top-level package, path of the part inside it), in order;
    ``sha256`` is of the joined file."""

    file: str
    sha256: str
    bytes: int
    quantisation: str
    parts: tuple[tuple[str, str], ...]
    requirement: str

    def paths(self) -> tuple[Path, ...] | None:
        """The parts' files; None where a package is not installed or lacks its part."""
        found = tuple(_part(package, inside) for package, inside in self.parts)
        return tuple(path for path in found if path) if all(found) else None


def _part(package: str, inside: str) -> Path | None:
    """A data file of an installed package: a spec of a top-level name is found without running anything of
    it."""
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError, AttributeError):
        return None
    roots = (spec.submodule_search_locations or ()) if spec else ()
    return next((path for root in roots if (path := Path(root) / inside).is_file()), None)


def join(weights: PackagedWeights, target: Path) -> Path:
    """Write the joined file; raises ``BadCheckpoint`` where a part is missing or the checksum is another
    one."""
    paths = weights.paths()
    if paths is None:
        raise BadCheckpoint(f"the packages of {weights.file} are incomplete; run: {weights.requirement}")
    digest, size = hashlib.sha256(), 0
    with explained(target), target.open("wb") as joined:
        for path in paths:
            with path.open("rb") as part:
                while block := part.read(BLOCK):
                    digest.update(block)
                    size += len(block)
                    if size > weights.bytes:
                        break
                    joined.write(block)
    if (size, digest.hexdigest()) != (weights.bytes, weights.sha256):
        raise BadCheckpoint(
            f"the installed parts of {weights.file} have the sha256 {digest.hexdigest()[:16]}… ({size:,} "
            f"bytes) where {weights.sha256[:16]}… "
            f"({weights.bytes:,} bytes) is known; install them again: {weights.requirement} --force-reinstall"
        )
    return target


def sha256_of(path: Path) -> str:
    """The checksum of a file, in blocks."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()
