"""Where a name leads, and what is said when it leads nowhere."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny_folders import write_model
from typer.testing import CliRunner

from mechfourier.cli.app import app
from mechfourier.errors import (
    BadCheckpoint,
    DeviceUnavailable,
    MechFourierError,
    UnknownModel,
    UnsafeCheckpoint,
    UsageError,
    WeightsNotFound,
)
from mechfourier.models import catalogue, known_models, load
from mechfourier.models.catalogue import KNOWN, find
from mechfourier.models.checkpoint import save_checkpoint
from mechfourier.models.pretrained import HAS_HOOKED
from mechfourier.models.registry import resolve


@pytest.fixture(scope="module")
def qwen3(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "qwen3")


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, no $MECHFOURIER_MODELS, an empty Hugging Face cache, no hub."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.delenv("MECHFOURIER_MODELS", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return work


def test_a_folder_is_loaded_and_carries_its_name(qwen3: Path) -> None:
    model = load(qwen3)
    assert getattr(model, "mechfourier_name") == str(qwen3)  # noqa: B009
    assert type(model).__name__ == ("HookedTransformer" if HAS_HOOKED else "TransformerBridge")
    assert type(load(str(qwen3), engine="bridge")).__name__ == "TransformerBridge"


def test_the_places_are_tried_in_order(
    qwen3: Path, tmp_path: Path, nowhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(WeightsNotFound):
        resolve("qwen3-0.6b")
    cached = tmp_path / "hub" / "models--Qwen--Qwen3-0.6B" / "snapshots" / "abc"
    shutil.copytree(qwen3, cached)
    assert resolve("qwen3-0.6b") == cached
    assert resolve("Qwen/Qwen3-0.6B") == cached
    shutil.copytree(qwen3, tmp_path / "mine" / "qwen3-0.6b")
    monkeypatch.setenv("MECHFOURIER_MODELS", str(tmp_path / "mine"))
    assert resolve("qwen3-0.6b") == tmp_path / "mine" / "qwen3-0.6b"
    shutil.copytree(qwen3, nowhere / "qwen3-0.6b")
    assert resolve("qwen3-0.6b") == Path("qwen3-0.6b")
    assert getattr(load("Qwen3_0.6B"), "mechfourier_name") == "qwen3-0.6b"  # noqa: B009


def test_when_no_place_answers_all_four_are_named() -> None:
    with pytest.raises(WeightsNotFound) as caught:
        load("qwen3-0.6b")
    sentence = str(caught.value)
    for part in (
        "./qwen3-0.6b",
        "$MECHFOURIER_MODELS/qwen3-0.6b",
        "Hugging Face cache",
        "hub",
        "calendar",
        "minilm",
    ):
        assert part in sentence
    assert "\n" not in sentence


def test_an_unfinished_folder_of_that_name_is_said_so(nowhere: Path, qwen3: Path) -> None:
    (nowhere / "qwen3-0.6b").mkdir()
    shutil.copy(qwen3 / "config.json", nowhere / "qwen3-0.6b")
    with pytest.raises(WeightsNotFound, match="holds no weights"):
        load("qwen3-0.6b")


@pytest.mark.parametrize(
    ("name", "near"), [("calender", "calendar"), ("qwen3-0.6", "qwen3-0.6b"), ("mini-lm", "minilm")]
)
def test_an_unknown_name_gets_its_nearest(name: str, near: str) -> None:
    with pytest.raises(UnknownModel, match=f"no model '{name}'.*{near}.*mechfourier models"):
        load(name)


def test_a_path_that_is_no_folder(nowhere: Path, qwen3: Path) -> None:
    (nowhere / "run-1").mkdir()
    with pytest.raises(UnknownModel, match=r"no folder at .*run-1"):
        load("./run-2")
    with pytest.raises(UnknownModel, match="is a file"):
        load(qwen3 / "config.json")


@pytest.mark.parametrize("name", ["someone/a-model", "Qwen/Qwen3-0.7B"])
def test_a_hub_name_without_a_hub(name: str) -> None:
    with pytest.raises(WeightsNotFound, match=f"no weights for {name}"):
        load(name)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"engine": "hook"}, UsageError, "no engine 'hook'"),
        ({"device": "gpu"}, UsageError, "no device 'gpu'"),
        ({"device": "cuda:x"}, UsageError, "no device"),
        ({"dtype": "int8"}, UsageError, "no dtype 'int8'"),
        ({"dtype": torch.int32}, UsageError, "no dtype 'int32'"),
    ],
)
def test_wrong_options(qwen3: Path, options: dict[str, str], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        load(qwen3, **options)  # type: ignore[arg-type]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_cuda_where_there_is_none(qwen3: Path) -> None:
    with pytest.raises(DeviceUnavailable, match=r"cuda.*use device='cpu'"):
        load(qwen3, device="cuda")
    assert next(load(qwen3, device="auto", dtype="bf16").parameters()).dtype == torch.bfloat16  # type: ignore[attr-defined]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
@pytest.mark.parametrize("engine", ["hooked", "bridge"])
def test_a_gpu_gives_the_same_logits(qwen3: Path, engine: str) -> None:
    tokens = torch.arange(10)[None]
    there, here = load(qwen3, engine=engine, device="cuda"), load(qwen3, engine=engine, device="cpu")
    assert (there(tokens.cuda()).cpu() - here(tokens)).abs().max() < 1e-3  # type: ignore[operator]


def test_folders_of_this_project_go_to_their_own_loader(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "run", {"w": torch.ones(2)}, {"architecture": "one-lair"})
    with pytest.raises(UnknownModel, match="'one-lair'; closest: one-layer"):
        load(tmp_path / "run")
    save_checkpoint(tmp_path / "run", {"w": torch.ones(2)}, {"architecture": "one-layer"})
    with pytest.raises(BadCheckpoint):  # the loader was reached, and finds the weights wanting
        load(tmp_path / "run")
    with pytest.raises(UsageError, match="engine of its own"):
        load(tmp_path / "run", engine="bridge")


@pytest.mark.parametrize("config", [{}, {"architectures": []}, {"architectures": "x"}, {"architectures": 5}])
def test_a_config_without_architecture(tmp_path: Path, config: dict[str, object]) -> None:
    save_checkpoint(tmp_path / "run", {"w": torch.ones(2)}, config)
    with pytest.raises(UnknownModel, match="names neither"):
        load(tmp_path / "run")


def test_pickles_and_empty_folders(tmp_path: Path) -> None:
    with pytest.raises(BadCheckpoint, match=r"no config\.json"):
        load(tmp_path / "work")
    (tmp_path / "work" / "weights.pkl").write_bytes(b"")
    with pytest.raises(UnsafeCheckpoint, match=r"weights\.pkl is a pickle"):
        load(tmp_path / "work")


def test_every_known_model_has_a_loader_and_a_distinct_name() -> None:
    assert known_models() == KNOWN
    assert len({info.name for info in KNOWN}) == len(KNOWN)
    assert all(find(info.name) is info for info in KNOWN)
    assert all(info.download_bytes for info in KNOWN if not info.embedded)


@pytest.mark.parametrize("info", [i for i in KNOWN if i.embedded], ids=lambda info: info.name)
def test_every_embedded_model_loads_offline(info: catalogue.ModelInfo) -> None:
    if info.folder() is None:
        pytest.skip(f"the weights of {info.name} are not here")
    model = load(info.name)
    assert getattr(model, "mechfourier_name") == info.name  # noqa: B009
    assert info.parameters()


def test_published_sizes_follow_from_the_architecture(shared_data: Path) -> None:
    config = json.loads((shared_data / "qwen3-0.6b" / "config.json").read_text())
    d, head, vocab = config["hidden_size"], config["head_dim"], config["vocab_size"]
    heads = 2 * config["num_attention_heads"] + 2 * config["num_key_value_heads"]
    layer = heads * head * d + 3 * d * config["intermediate_size"] + 2 * d + 2 * head
    info = find("qwen3-0.6b")
    assert info is not None
    assert info.parameters() == config["num_hidden_layers"] * layer + vocab * d + d


def test_the_command_lists_every_model(nowhere: Path) -> None:
    table = CliRunner().invoke(app, ["models"])
    assert table.exit_code == 0
    assert all(info.name in table.stdout for info in KNOWN)
    assert "download 1.5 GB" in table.stdout
    reply = json.loads(CliRunner().invoke(app, ["models", "--json"]).stdout)
    rows = {row["name"]: row for row in reply["models"]}
    assert rows["qwen3-0.6b"]["found"] is None
    assert rows["qwen3-0.6b"]["download_bytes"] == 1_500_000_000
    assert rows["qwen3-0.6b"]["parameters"] == 596_049_920
    assert set(rows) == {info.name for info in KNOWN}


def test_the_command_says_where_weights_were_found(nowhere: Path, qwen3: Path) -> None:
    shutil.copytree(qwen3, nowhere / "qwen3-0.6b")
    reply = json.loads(CliRunner().invoke(app, ["models", "--json"]).stdout)
    row = next(row for row in reply["models"] if row["name"] == "qwen3-0.6b")
    assert (row["found"], row["download_bytes"]) == ("qwen3-0.6b", None)


def test_listing_models_needs_no_torch() -> None:
    code = (
        "import sys; from mechfourier.models.catalogue import KNOWN; [(i.folder(), i.parameters()) for i in "
        "KNOWN]; print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_errors_carry_the_exit_code() -> None:
    codes = {UnknownModel: 2, UsageError: 2, WeightsNotFound: 1, BadCheckpoint: 1, DeviceUnavailable: 1}
    assert all(
        error.exit_code == code and issubclass(error, MechFourierError) for error, code in codes.items()
    )


def test_full_memory_is_said_in_a_sentence(qwen3: Path) -> None:
    """A loader that asks for more memory than its process may have."""
    code = f"""
import resource
import torch
from mechfourier.errors import MechFourierError
from mechfourier.models import registry
torch.zeros(1)
def greedy(folder, **options):
    resource.setrlimit(resource.RLIMIT_AS, (2**33, 2**33))
    return torch.zeros(2**40)
import mechfourier.models.pretrained as pretrained
pretrained.load_pretrained = greedy
try:
    registry.load({str(qwen3)!r})
except MechFourierError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True
    )
    assert "not enough memory on cpu" in done.stdout


def test_a_network_of_this_project_knows_its_own_task(tmp_path: Path) -> None:
    from mechfourier.cli.common import domain_of
    from mechfourier.models.catalogue import own_task

    assert own_task("one-layer") == "mod-113" and domain_of(None, "one-layer").n == 113
    assert domain_of("days", "one-layer").name == "days"
    assert domain_of(None, "calendar").name == "months" and domain_of(None, "gpt2", "mod-23").n == 23
    config = {"architecture": "one-layer", "p": 31, "task": "add"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert own_task(str(tmp_path)) == "mod-31"
    (tmp_path / "config.json").write_text(json.dumps({**config, "task": "multiply"}))
    assert own_task(str(tmp_path)) is None
    (tmp_path / "config.json").write_text("{")
    assert own_task(str(tmp_path)) is None
