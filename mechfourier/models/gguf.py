"""A GGUF file -> an ordinary Hugging Face folder in the cache, made once; everything downstream loads the
folder.

The weights are dequantised to float32 by transformers' own reader, the tokenizer is the file's. What that
reader leaves out of the configuration is put back by ``gguf_config``; a tensor that it would leave out
without a word is an error here.
"""

import contextlib
import json
import os
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mechfourier.errors import BadCheckpoint, DiskFull, MechFourierError, UnknownModel, nearest, need
from mechfourier.files import default_folder, explained, read_text, slug, write_json
from mechfourier.models.folder import CONFIG, brief, out_of_memory, read_json_object
from mechfourier.models.gguf_header import FLOATS, Header, read_gguf_header
from mechfourier.models.gguf_reading import newer_architectures, quick_reader
from mechfourier.models.memory import WORKING_ROOM, gigabytes, need_memory
from mechfourier.models.packaged import PackagedWeights, join, sha256_of

CARD = "mechfourier.json"
FORMAT = 1  # raised when what a converted folder holds changes: older ones are made again
LINK = "source.gguf"
FREQUENCIES = "rope_freqs.weight"


def models_folder() -> Path:
    """Where converted models lie: ``models`` in the cache folder."""
    return default_folder() / "models"


def converted(sha256: str) -> Path | None:
    """The finished folder of the GGUF file with this checksum; None where there is none yet."""
    for card in sorted(models_folder().glob(f"{sha256[:16]}-*/{CARD}")):
        if is_whole(card.parent):
            return card.parent
    return None


def is_whole(folder: Path) -> bool:
    """Whether a converted folder has all its files in the sizes that were written (their content is not
    read)."""
    try:
        card = read_json_object(folder / CARD)
        sizes = card["files"]
        return card["format"] == FORMAT and all(
            (folder / name).stat().st_size == size for name, size in sizes.items()
        )
    except (MechFourierError, OSError, LookupError, TypeError, AttributeError):
        return False


def folder_of(source: "Path | PackagedWeights", *, name: str | None = None) -> Path:
    """The Hugging Face folder of a GGUF file (or of one that packages carry in parts), converted where it is
    not there yet.

    Two processes that ask at once convert once. Raises ``BadCheckpoint``, ``UnknownModel``, ``MissingExtra``,
    ``DiskFull`` or ``MechFourierError``, each in one sentence; what was begun is removed.
    """
    sha256 = source.sha256 if isinstance(source, PackagedWeights) else _known_sha256(source)
    if (done := converted(sha256)) is not None:
        return done
    need("gguf", extra="gguf")
    label = name or (source.stem if isinstance(source, Path) else source.file)
    folder = models_folder() / f"{sha256[:16]}-{slug(label)}"
    with _alone(folder, label):
        return converted(sha256) or _make(source, folder, label, sha256)


def _known_sha256(path: Path) -> str:
    """The checksum of a file, remembered by its place, size, times and inode, so that a file of gigabytes is
    read once for it."""
    read_gguf_header(path)  # what is no GGUF is said before it is read whole
    state = path.stat()
    seen = [
        str(path.resolve()),
        *(getattr(state, f"st_{kind}") for kind in ("size", "mtime_ns", "ctime_ns", "ino")),
    ]
    record = models_folder() / ".checksums" / f"{slug(path.stem)}-{_short(seen[0])}.json"
    with contextlib.suppress(MechFourierError, OSError):
        known = read_json_object(record)
        if known.get("seen") == seen and isinstance(known.get("sha256"), str):
            return known["sha256"]
    digest = sha256_of(path)
    write_json(record, {"seen": seen, "sha256": digest})
    return digest


def _short(text: str) -> str:
    import hashlib

    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:12]


@contextlib.contextmanager
def _alone(folder: Path, label: str) -> Iterator[None]:
    """One process at a time makes ``folder``; the others wait, and say for what. The lock dies with its
    process."""
    from filelock import FileLock, Timeout

    with explained(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder.parent / f".{folder.name}.lock")
    with explained(folder):
        try:
            lock.acquire(timeout=0)
        except Timeout:
            _say(f"{label}: another process is converting it; waiting")
            lock.acquire()
    try:
        for left in folder.parent.glob(f".{folder.name}.*.part"):
            shutil.rmtree(left, ignore_errors=True)  # of a process that was killed
        yield
    finally:
        lock.release()


def _make(source: "Path | PackagedWeights", folder: Path, label: str, sha256: str) -> Path:
    with explained(folder):
        work = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.", suffix=".part"))
    try:
        whole = source if isinstance(source, Path) else join(source, work / "joined.gguf")
        header = read_gguf_header(whole)
        _check_room(header, folder, label)
        made = work / "model"
        with explained(folder):
            made.mkdir()
            card = _convert(header, work, made, label)
            file = source.name if isinstance(source, Path) else source.file
            write_json(made / CARD, {**card, "source": file, "sha256": sha256, "files": _sizes(made)})
            for path in (made, *made.iterdir()):
                path.chmod(0o755 if path.is_dir() else 0o644)
            shutil.rmtree(folder, ignore_errors=True)  # damaged, or of an older format
            made.replace(folder)
        return folder
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _sizes(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in sorted(folder.iterdir())}


def _check_room(header: Header, folder: Path, label: str) -> None:
    size = 4 * header.parameters
    free = shutil.disk_usage(folder.parent).free
    if free < size:
        raise DiskFull(
            f"{label} takes {gigabytes(size)} in float32 and the disk of {folder.parent} has "
            f"{gigabytes(free)} left; "
            "free some, or set MECHFOURIER_CACHE to a folder on another disk"
        )
    need_memory(
        f"converting {label} ({header.parameters:,} parameters) to float32",
        # at its peak it holds all tensors and, of the largest, one more as it is read and one as it is copied
        size + 8 * max(tensor.elements for tensor in header.tensors) + 2 * WORKING_ROOM,
        "take a smaller model, or close other programs",
    )


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


# the conversion


def _convert(header: Header, work: Path, made: Path, label: str) -> dict[str, Any]:
    """Write config, weights and tokenizer to ``made``; what the folder's card says of them."""
    import importlib.metadata

    _refuse_architecture(header)
    size = gigabytes(4 * header.parameters)
    _say(
        f"{label}: {header.quantisation} weights are converted once, to a Hugging Face folder of {size} "
        f"(float32)"
    )
    from mechfourier.models.gguf_tokenizer import write_tokenizer
    from mechfourier.models.quiet import quiet

    place = _linked(header.path, work)
    with quiet(), quick_reader(), _as_checkpoint_error(header):
        notes = write_tokenizer(header, place, made)
        _write_model(header, place, made)
    versions = {name: importlib.metadata.version(name) for name in ("transformers", "gguf")}
    return {
        "format": FORMAT,
        "quantisation": header.quantisation,
        "weights": weights_text(header.quantisation),
        "architecture": header.architecture,
        "name": str(header.metadata.get("general.name", "")),
        "parameters": header.parameters,
        "source_bytes": header.path.stat().st_size,
        "notes": notes,
        "versions": versions,
    }


def weights_text(quantisation: str) -> str:
    """What results say of weights that were read from a GGUF file."""
    if quantisation == "F32":
        return "F32"
    return f"{quantisation}, {'converted' if quantisation in FLOATS else 'dequantised'} to float32"


def _linked(path: Path, work: Path) -> Path:
    """The file under a plain name: transformers looks at extensions, and joins names to addresses."""
    link = work / LINK
    try:
        link.symlink_to(path.resolve())
        return link
    except OSError:  # no links here (Windows without the right to make them)
        return path


def _refuse_architecture(header: Header) -> None:
    from transformers.modeling_gguf_pytorch_utils import GGUF_SUPPORTED_ARCHITECTURES

    aliases = {
        "qwen2moe",
        "qwen3moe",
        "gpt-oss",
        "minimax-m2",
    }  # llama.cpp's spelling of what transformers has
    known = ({*GGUF_SUPPORTED_ARCHITECTURES} | aliases | newer_architectures()) - {"general", "tokenizer"}
    if header.architecture not in known:
        raise UnknownModel(
            f"{header.path} holds the architecture {header.architecture[:60]!r}, which transformers cannot "
            f"read from GGUF; "
            f"closest that it can: {nearest(header.architecture[:60], sorted(known))}; take its Hugging "
            f"Face folder instead"
        )


@contextlib.contextmanager
def _as_checkpoint_error(header: Header) -> Iterator[None]:
    """Whatever the libraries raise on a file that they cannot use, as one sentence; full disks and memory
    stay what they are."""
    try:
        yield
    except (MechFourierError, OSError):
        raise
    except Exception as error:
        if out_of_memory(error) or "No space left" in str(error) or "os error" in str(error):
            raise
        kinds = ", ".join(sorted({tensor.type for tensor in header.tensors}))
        raise BadCheckpoint(
            f"{header.path} cannot be converted ({brief(error)}; architecture {header.architecture}, "
            f"tensors {kinds}); "
            "fetch it again, or take its Hugging Face folder"
        ) from error


def _write_model(header: Header, place: Path, made: Path) -> None:
    import torch
    import transformers

    options: dict[str, Any] = {"gguf_file": place.name, "local_files_only": True, "trust_remote_code": False}
    config = _config(header, place)
    if (quantised := getattr(transformers, "GgufConfig", None)) is not None:
        # without it newer versions keep the blocks, which cannot be saved; older ones always dequantise
        options["quantization_config"] = quantised(dequantize=True)
    loaded: Any = transformers.AutoModelForCausalLM.from_pretrained(
        str(place.parent), config=config, dtype=torch.float32, output_loading_info=True, **options
    )
    model, report = loaded
    _check_complete(header, model, report)
    model.save_pretrained(made)


def config_of(source: "Path | PackagedWeights") -> Any:
    """The Hugging Face configuration of a GGUF file, as its converted folder would have it; nothing is kept
    on disk."""
    import transformers

    need("gguf", extra="gguf")
    with tempfile.TemporaryDirectory(prefix="mechfourier-") as work:
        whole = source if isinstance(source, Path) else join(source, Path(work) / "joined.gguf")
        header = read_gguf_header(whole)
        _refuse_architecture(header)
        with quick_reader(), _as_checkpoint_error(header):
            config = _config(header, _linked(whole, Path(work)))
    kind: Any = transformers.AutoModelForCausalLM._model_mapping[type(config)]  # type: ignore[index]
    config.architectures = [kind.__name__]
    return config


def _config(header: Header, place: Path) -> Any:
    import transformers

    from mechfourier.models.gguf_config import complete

    options: dict[str, Any] = {"gguf_file": place.name, "local_files_only": True, "trust_remote_code": False}
    config = transformers.AutoConfig.from_pretrained(str(place.parent), **options)
    complete(config, header, _frequencies(header))
    return config


def _frequencies(header: Header) -> Any:
    """The rotary factors of Llama 3, which transformers' reader passes over; None where the file has none."""
    import numpy as np

    tensor = header.tensor(FREQUENCIES)
    if tensor is None or tensor.type != "F32":
        return None
    return np.fromfile(header.path, "<f4", tensor.elements, offset=tensor.start)


def _check_complete(header: Header, model: Any, report: dict[str, Any]) -> None:
    """Every number of the file is in the model, and every number of the model was in the file: the reader
    drops what it does not know."""
    if missing := sorted(report.get("missing_keys") or ()):
        raise BadCheckpoint(
            f"{header.path} lacks {len(missing)} tensors of its architecture ({missing[0]}); fetch it again"
        )
    layers = getattr(model.config, "num_hidden_layers", 10**9)
    used = [t for t in header.tensors if t.name != FREQUENCIES and not _beyond(t.name, layers)]
    in_file = Counter(tensor.elements for tensor in used)
    in_model = Counter(parameter.numel() for parameter in model.parameters())
    if in_file.total() and sum(t.elements for t in used) == sum(p.numel() for p in model.parameters()):
        return
    extra = in_file - in_model
    names = [tensor.name for tensor in used if extra[tensor.elements] > 0]
    raise BadCheckpoint(
        f"{header.path} holds {len(names)} tensors that transformers' reader of {header.architecture} "
        f"leaves out "
        f"({', '.join(name[:60] for name in names[:4])}); take its Hugging Face folder instead"
    )


def _beyond(name: str, layers: int) -> bool:
    """A block after the last one: the heads that predict several tokens, which no forward pass here uses."""
    parts = name.split(".")
    return parts[0] == "blk" and parts[1].isdigit() and int(parts[1]) >= layers


def card_of(folder: Path) -> dict[str, Any]:
    """What a converted folder says of its source; {} for every other folder."""
    try:
        return json.loads(read_text(folder / CARD))
    except (OSError, ValueError):
        return {}


def weights_of_folder(folder: Path) -> str | None:
    """``"Q4_K_M, dequantised to float32"`` for a folder made from a GGUF file; None for weights as they were
    published."""
    text = card_of(folder).get("weights") if os.path.isfile(folder / CONFIG) else None  # noqa: PTH113
    return text if isinstance(text, str) else None
