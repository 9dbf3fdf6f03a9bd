"""Which function handles a run: by the architecture in its config.json, or by the packaged model's name."""

import json
from pathlib import Path

import pytest

from mechfourier.cli.dispatch import architecture_of, handle
from mechfourier.errors import MechFourierError, UsageError
from mechfourier.models.architectures import named


def _folder(tmp_path: Path, config: dict[str, str]) -> Path:
    (tmp_path / "checkpoints").mkdir(parents=True)
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "checkpoints" / "step-000001.safetensors").write_bytes(b"")
    return tmp_path


def test_the_architecture_is_read_from_a_run_its_checkpoint_or_a_name(tmp_path: Path) -> None:
    run = _folder(tmp_path / "run", {"architecture": "adder"})
    assert architecture_of(str(run)) is named("adder")
    assert architecture_of(str(run / "checkpoints" / "step-000001.safetensors")) is named("adder")
    assert architecture_of("one-layer") is named("one-layer")
    theirs = _folder(tmp_path / "theirs", {"model_type": "qwen3"})
    assert architecture_of(str(theirs)) == "qwen3"


def test_an_option_goes_only_to_the_function_that_has_it(tmp_path: Path) -> None:
    run = str(_folder(tmp_path / "run", {"architecture": "adder"}))
    with pytest.raises(UsageError, match="--key-freqs means nothing for the architecture 'adder'"):
        handle("analyze", "analyze", run, {"key_freqs": (1,)}, instead="")


@pytest.mark.parametrize("run", ["qwen3-0.6b", "calendar", "minilm"])
def test_models_without_the_part_are_refused(run: str) -> None:
    with pytest.raises(UsageError, match=f"{run}.*analyze takes adder, miras, one-layer. Try probe"):
        handle("analyze", "analyze", run, {}, instead="Try probe")


def test_nothing_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(MechFourierError, match="no folder"):
        architecture_of(str(tmp_path / "absent"))
    (tmp_path / "x.pt").write_bytes(b"")
    with pytest.raises(UsageError, match="mechfourier import"):
        architecture_of(str(tmp_path / "x.pt"))
