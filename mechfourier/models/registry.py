"""Names and paths -> models. ``load`` is the one door; nothing heavy is imported before it knows which model
it is."""

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mechfourier._arguments import checked
from mechfourier.errors import (
    BadCheckpoint,
    MechFourierError,
    MissingExtra,
    UnknownModel,
    UsageError,
    WeightsNotFound,
    nearest,
)
from mechfourier.files import own_path, regular
from mechfourier.models.architectures import architectures, imported, of_config, of_folder
from mechfourier.models.catalogue import (
    FOLDERS_VARIABLE,
    HUB_FILES,
    KNOWN,
    ModelInfo,
    cached_folders,
    find,
    gguf_files,
    known,
    named_folders,
    weights_at,
)
from mechfourier.models.folder import (
    CONFIG,
    brief,
    count_parameters,
    has_weights,
    is_adapter,
    out_of_memory,
    read_config,
    refuse_pickles,
    weight_files,
)
from mechfourier.models.gguf import folder_of, weights_of_folder
from mechfourier.models.gguf_header import is_gguf
from mechfourier.models.memory import WORKING_ROOM, need_memory
from mechfourier.results.provenance import NOT_CHECKED, remember_weights

if TYPE_CHECKING:
    import torch

    from mechfourier.models.interface import LoadedModel
    from mechfourier.models.packaged import PackagedWeights

UNCHECKED = "MECHFOURIER_NO_CHECK"  # an environment variable, because worker processes inherit it
ENGINES = ("auto", "hooked", "bridge")
HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/\w[\w.-]*")
# Hugging Face architectures that are no language models -> their loader.
ENCODERS = {"BertModel": "mechfourier.models.minilm:load_folder"}
PRETRAINED = "mechfourier.models.pretrained:load_pretrained"
CHECKED = (PRETRAINED, ENCODERS["BertModel"])


def known_models() -> tuple[ModelInfo, ...]:
    """The models with a name, the embedded ones first, those of other installed packages last."""
    return known()


@checked
def load(
    name_or_path: str | Path,
    *,
    engine: str = "auto",
    device: "str | torch.device" = "auto",
    dtype: "torch.dtype | str | None" = None,
    check: bool = True,
) -> "LoadedModel":
    """A model by name (``mechfourier models`` lists them), by Hugging Face name (``org/name``), by folder or
    by GGUF file.

    Weights of a named model are looked for in a folder of that name, in ``$MECHFOURIER_MODELS/<name>`` (a
    folder, or a GGUF file of that name), in the installed packages that carry them, in the Hugging Face cache
    and on the hub, in this order; embedded models (``calendar``, ``minilm`` …) come with pip. Code from a
    repository is never run, and pickles are never read.

    ``engine``: ``"hooked"`` (HookedTransformer), ``"bridge"`` (TransformerBridge) or ``"auto"``.
    ``device="auto"``: CUDA, else the CPU. ``dtype=None``: float32 on the CPU, the checkpoint's own on a GPU.

    A model of transformers is held against its own forward pass the first time it is loaded
    (``model.mechfourier_check``); ``check=False`` leaves that out, and every result says so beside its
    weights.

    Raises ``UnknownModel``, ``WeightsNotFound``, ``BadCheckpoint``, ``UnsafeCheckpoint``, ``MissingExtra``,
    ``EngineDiffers``, ``DeviceUnavailable`` or ``UsageError``, each in one sentence.
    """
    if engine not in ENGINES:
        raise UsageError(f"no engine {engine!r}; one of: {', '.join(ENGINES)}")
    from mechfourier.models.device import resolve_device, resolve_dtype

    device, dtype = resolve_device(device), resolve_dtype(dtype)
    folder = resolve(name_or_path)
    loader = _loader(folder)
    options: dict[str, Any] = {"device": device, "dtype": dtype}
    if loader in CHECKED:
        options["check"] = check and not os.environ.get(UNCHECKED)
    if loader == PRETRAINED:
        options["engine"] = engine
    elif engine != "auto":
        raise UsageError(f"{name_or_path} has an engine of its own; leave out engine={engine!r}")
    _check_memory(folder, device, dtype)
    model = _read(loader, folder, options)
    if (record := of_folder(folder)) is not None:
        model.mechfourier_architecture = record.name
    info = find(str(name_or_path))
    model.mechfourier_name = info.name if info else str(name_or_path)
    model.mechfourier_weights = "; ".join(filter(None, (weights_of_folder(folder), _mark(model)))) or None
    remember_weights(model.mechfourier_name, model.mechfourier_weights)
    return model


def _check_memory(folder: Path, device: str, dtype: "torch.dtype | None") -> None:
    """Say before anything is read that the weights will not fit into the memory that there is (a GPU says so
    itself)."""
    if device != "cpu":
        return
    try:
        count = count_parameters(folder)
    except MechFourierError:
        return  # the loader says what is wrong with the files
    name, size = ("float32", 4) if dtype is None else (str(dtype).removeprefix("torch."), dtype.itemsize)
    need_memory(
        f"{folder} ({count:,} parameters in {name})",
        count * size + WORKING_ROOM,
        "take a smaller model, close other programs, or load it on another device",
    )


@contextlib.contextmanager
def unchecked() -> Iterator[None]:
    """Within it no model is held against Hugging Face when it is loaded (``--no-check``), in worker processes
    begun here either."""
    before = os.environ.get(UNCHECKED)
    os.environ[UNCHECKED] = "1"
    try:
        yield
    finally:
        del os.environ[UNCHECKED]
        if before is not None:
            os.environ[UNCHECKED] = before


def _mark(model: Any) -> str | None:
    """What every result says of the weights of a model that was not checked."""
    found = getattr(model, "mechfourier_check", None)
    return None if found is None or found.checked else NOT_CHECKED


def _loader(folder: Path) -> str:
    """The dotted path of the function that reads this folder, by its config."""
    if is_adapter(folder):
        return PRETRAINED
    config = read_config(folder)
    record = of_config(config, folder / CONFIG)
    if record is not None and record.load:
        return record.load
    theirs = config.get("architectures")
    if not isinstance(theirs, list) or not theirs:
        ours = ", ".join(record.name for record in architectures() if record.load)
        raise UnknownModel(
            f"{folder / CONFIG} names neither 'architecture' ({ours}) nor Hugging Face's 'architectures'"
        )
    return ENCODERS.get(str(theirs[0]), PRETRAINED)


def _read(loader: str, folder: Path, options: dict[str, Any]) -> Any:
    """Call the loader; a config whose values it cannot use is a bad checkpoint, not a bug to show."""
    read = imported(loader, f"{folder} is read by {{}}")
    try:
        return read(folder, **options)
    except (
        TypeError,
        ValueError,
        LookupError,
        AttributeError,
        ArithmeticError,
        RuntimeError,
        MemoryError,
    ) as error:
        if out_of_memory(error):
            raise MechFourierError(
                f"not enough memory on {options['device']} for {folder}; take a smaller model, "
                f"dtype='bfloat16', or another device"
            ) from error
        raise BadCheckpoint(
            f"{folder} cannot be loaded ({brief(error)}); its {CONFIG} and weights do not fit each other"
        ) from error


def resolve(name_or_path: str | Path) -> Path:
    """The folder that holds the weights of a model; downloads it where the hub has it and nothing else does,
    and converts a GGUF."""
    source = source_of(name_or_path)
    if isinstance(source, Path) and source.is_dir():
        return source
    info = find(name_or_path) if isinstance(name_or_path, str) else None
    return folder_of(source, name=info.name if info else None)


def source_of(name_or_path: str | Path) -> "Path | PackagedWeights":
    """Where the weights of a model are: its folder, or a GGUF file (or installed parts of one) that is not
    converted yet."""
    name = str(name_or_path)
    info = find(name) if isinstance(name_or_path, str) else None
    if info is not None:
        return info.found() or _fetch(info)
    path = own_path(name_or_path)
    # not Path's own: they raise where a name is longer than any file's
    if os.path.isdir(path):  # noqa: PTH112
        return _checked(path)
    if os.path.exists(path):  # noqa: PTH110
        if is_gguf(regular(path)):
            return path
        raise UnknownModel(
            f"{path} is a file and no GGUF; give the folder that holds {CONFIG} and model.safetensors, or a "
            f"GGUF file"
        )
    if (
        isinstance(name_or_path, Path)
        or path.is_absolute()
        or name.startswith((".", "~"))
        or name.count("/") > 1
    ):
        near = nearest(
            path.name, [p.name for p in path.parent.iterdir() if p.is_dir()] if path.parent.is_dir() else []
        )
        raise UnknownModel(
            f"no folder at {path}; closest beside it: {near}. Named models: mechfourier models"
        )
    if not HUB_NAME.fullmatch(name):
        raise UnknownModel(
            f"no model {name!r} and no folder of that path; closest: "
            f"{nearest(name, [i.name for i in KNOWN])}. "
            "List them with: mechfourier models (a Hugging Face name looks like org/name)"
        )
    places = (*named_folders(name.split("/")[1], name), *cached_folders(name))
    return next(filter(None, map(weights_at, places)), None) or _download(name, name)


def _checked(folder: Path) -> Path:
    """A folder given by the user, or the one GGUF file in it; says what it lacks to be a model folder."""
    if is_adapter(folder):
        return folder
    if not has_weights(folder) and (files := gguf_files(folder)):
        return _only(folder, files)
    if not (folder / CONFIG).is_file():
        refuse_pickles(folder)
    read_config(folder)
    weight_files(folder)
    return folder


def _only(folder: Path, files: list[Path]) -> Path:
    if len(files) > 1:
        names = ", ".join(path.name for path in files[:6]) + (" …" if len(files) > 6 else "")
        raise UsageError(
            f"{folder} holds {len(files)} GGUF files ({names}); name the one to take, for example {files[0]}"
        )
    return files[0]


def _fetch(info: ModelInfo) -> Path:
    """What to do when a known model is nowhere on this machine."""
    if info.repo is not None:
        for place in (Path(info.name), *named_folders(info.name, info.repo)):
            if place.is_dir() and ((place / CONFIG).is_file() or gguf_files(place)):
                return _checked(
                    place
                )  # a folder that was meant and is incomplete: say so instead of downloading
        return _download(info.name, info.repo)
    if info.extra is not None:
        raise MissingExtra(
            f"{info.name} is not installed; install it with: pip install 'mechfourier[{info.extra}]'"
        )
    trained = info.record is not None and info.record.train
    raise WeightsNotFound(
        f"the weights of {info.name} are not in this installation of {info.source}; "
        + (f"train it with: mechfourier train {info.name}" if trained else "give a folder of its weights")
    )


def _download(name: str, repo: str) -> Path:
    """Safetensors, config and tokenizer of ``repo`` from the hub into the Hugging Face cache."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError

    try:
        folder = Path(snapshot_download(repo, allow_patterns=list(HUB_FILES)))
    except GatedRepoError as error:
        raise WeightsNotFound(
            f"{repo} asks for its licence to be accepted on the Hugging Face hub first; then run: hf auth "
            f"login"
        ) from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise UnknownModel(
            f"the Hugging Face hub has no model {repo!r} (or it is private); "
            f"closest known: {nearest(name, [i.name for i in KNOWN])}"
        ) from error
    except Exception as error:  # no network: the hub client raises its own, httpx's and OS errors
        raise _nowhere(name, repo, error) from error
    return _checked(folder)


def _nowhere(name: str, repo: str, error: Exception) -> WeightsNotFound:
    info = find(name)
    packaged = f", not installed ({info.packaged.requirement} does that)" if info and info.packaged else ""
    embedded = ", ".join(info.name for info in KNOWN if info.embedded or info.folder() is not None)
    return WeightsNotFound(
        f"no weights for {name}: not in a folder ./{name}, not in "
        f"${FOLDERS_VARIABLE}/{name.split('/')[-1]}{packaged}, not in the "
        f"Hugging Face cache, and the hub did not answer for {repo} ({brief(error).removeprefix('Got: ')}); "
        f"give a folder with its "
        f"safetensors or a GGUF file, or use a model that is here: {embedded}"
    )
