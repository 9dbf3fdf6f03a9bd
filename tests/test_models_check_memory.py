"""What was found out about a file's weights is found out once, and again for other weights."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from test_hooks_packing import encodings, places
from tiny_folders import VOCABULARY, write_model

from mechfourier.hooks import capture, passes
from mechfourier.models import pretrained
from mechfourier.models.pretrained import load_pretrained


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """How often a prompt was run alone beside a packed pass, and a model held against Hugging Face."""
    counts = {"prompt": 0, "model": 0}

    def counting(name: str, function: Any) -> Any:
        def count(*arguments: Any, **options: Any) -> Any:
            counts[name] += 1
            return function(*arguments, **options)

        return count

    monkeypatch.setattr(passes, "_check", counting("prompt", passes._check))
    monkeypatch.setattr(pretrained, "compare", counting("model", pretrained.compare))
    return counts


def read(folder: Path, **options: Any) -> torch.Tensor:
    prompts = encodings(len(VOCABULARY))
    return capture(load_pretrained(folder, **options), prompts, "resid_post", places(prompts)).stack()


@pytest.mark.parametrize("engine", ["hooked", "bridge"])
def test_a_folder_is_checked_once(tmp_path: Path, counted: dict[str, int], engine: str) -> None:
    folder = write_model(tmp_path / "model", "Qwen3")
    first, second = read(folder, engine=engine), read(folder, engine=engine)
    assert torch.equal(first, second)
    assert counted == {"prompt": 1, "model": 1}


def test_other_weights_in_the_same_place_are_checked_anew(tmp_path: Path, counted: dict[str, int]) -> None:
    folder = write_model(tmp_path / "model", "Qwen3")
    read(folder)
    write_model(folder, "Qwen3", num_hidden_layers=1)
    read(folder)
    assert counted == {"prompt": 2, "model": 2}


def test_files_are_read_again_only_where_they_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mechfourier.models.check_memory import file_digest

    path = tmp_path / "weights"
    path.write_bytes(b"one")
    first = file_digest(path)
    opened = Path.open

    def watched(self: Path, *arguments: Any, **options: Any) -> Any:
        assert self != path, "read again"
        return opened(self, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", watched)
        assert file_digest(path) == first
    path.write_bytes(b"two")
    os.utime(path, ns=(1, 1))
    assert file_digest(path) != first


def test_a_check_that_was_left_out_is_not_remembered(tmp_path: Path, counted: dict[str, int]) -> None:
    folder = write_model(tmp_path / "model", "Qwen3")
    read(folder, check=False)
    read(folder, check=False)
    assert counted == {"prompt": 2, "model": 0}


@pytest.mark.parametrize("family", ["Gemma", "Qwen3", "GPT2"])
def test_norms_show_their_parts_to_who_reads_them(tmp_path: Path, family: str) -> None:
    model = load_pretrained(write_model(tmp_path, family), engine="bridge")
    norm = model.blocks[1].ln1
    tokens = torch.tensor([[1, 2, 3, 4]])
    plain = model(tokens)
    seen: dict[str, torch.Tensor] = {}

    def keep(name: str) -> Any:
        return lambda value, hook: seen.__setitem__(name, value)

    names = ("hook_in", "hook_scale", "hook_normalized")
    read = model.run_with_hooks(tokens, fwd_hooks=[(f"blocks.1.ln1.{n}", keep(n)) for n in names])
    assert torch.equal(plain, read)
    values = seen["hook_in"]
    if not norm.uses_rms_norm:
        values = values - values.mean(-1, keepdim=True)
    torch.testing.assert_close(seen["hook_normalized"] * seen["hook_scale"], values, rtol=1e-4, atol=1e-5)
    twice = model.run_with_hooks(
        tokens, fwd_hooks=[("blocks.1.ln1.hook_scale", lambda value, hook: 2 * value)]
    )
    assert not torch.allclose(plain, twice, rtol=1e-3), "a change of a norm's scale has no effect"
