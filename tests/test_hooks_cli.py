"""The commands `mechfourier hooks` and `mechfourier cache`, as a user types them."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hook_models import Toy, tokens, toy
from typer.testing import CliRunner

from mechfourier.cli.app import app
from mechfourier.hooks import ActivationStore, capture, sites

RUNNER = CliRunner()


def run(*arguments: str) -> str:
    outcome = RUNNER.invoke(app, list(arguments), catch_exceptions=False)
    assert outcome.exit_code == 0
    return outcome.stdout


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> Toy:
    """The command's own way through, with a small model in the place of one on disk."""
    monkeypatch.setattr("mechfourier.models.outline.outline", lambda name, **_: toy())
    return toy()


def test_hooks_lists_every_kind_with_its_layers(loaded: Toy) -> None:
    text = run("hooks", "toy")
    lines = [line.split() for line in text.splitlines()]
    assert ["resid_post", "0-1", "blocks.{}.hook_resid_post"] in lines
    assert ["embed", "hook_embed"] in lines
    assert text.endswith("7 hook points. Next: mechfourier probe toy --sites resid_post\n")


def test_hooks_as_json(loaded: Toy) -> None:
    found: dict[str, Any] = json.loads(run("hooks", "toy", "--json"))
    assert found["model"] == "toy" and found["n"] == len(found["sites"])
    assert [site["name"] for site in found["sites"]] == [str(site) for site in sites(loaded)]
    assert {"name": "blocks.1.hook_resid_pre", "kind": "resid_pre", "layer": 1, "stack": "blocks"} in found[
        "sites"
    ]


def test_cache_ls_and_clear() -> None:
    assert run("cache", "ls").startswith("0 arrays, 0 B of 8.59 GB")
    capture(toy(), tokens(3, 4), "resid_post", store=ActivationStore())
    text = run("cache", "ls")
    assert "toy  blocks.1.hook_resid_post  3×16" in text and "2 arrays" in text
    listed = json.loads(run("cache", "ls", "--json"))
    assert listed["n"] == 2 and listed["bytes"] == sum(shard["bytes"] for shard in listed["shards"])
    assert json.loads(run("cache", "clear", "--json"))["freed_bytes"] == listed["bytes"]
    assert run("cache", "clear").startswith("0 B freed")


def test_a_cache_of_gigabytes_is_readable(tmp_path: Path) -> None:
    from mechfourier.cli.cache import readable

    assert [readable(n) for n in (0, 999, 1536, 2_400_000, 7e12)] == [
        "0 B",
        "999 B",
        "1.54 kB",
        "2.4 MB",
        "7e+03 GB",
    ]
    store = ActivationStore(tmp_path)
    store.put("00" * 32, torch.zeros(2), model="m", site="s")
    assert store.ls()[0].model == "m"


@pytest.mark.parametrize(
    ("name", "engine"),
    [
        ("calendar", "auto"),
        ("calendar", "bridge"),
        ("adder", "auto"),
        ("one-layer", "auto"),
        ("miras", "auto"),
        ("minilm", "auto"),
    ],
)
def test_hook_points_are_the_loaded_models_without_its_weights(name: str, engine: str) -> None:
    from mechfourier.models import load
    from mechfourier.models.catalogue import find
    from mechfourier.models.outline import outline

    info = find(name)
    assert info is not None
    if info.folder() is None:
        pytest.skip(f"the weights of {name} are not here")
    light = outline(name, engine=engine)
    assert [str(site) for site in sites(light)] == [str(site) for site in sites(load(name, engine=engine))]
    if name in ("calendar", "minilm"):  # the others are loaded: they have a megabyte
        assert all(parameter.device.type == "meta" for parameter in torch.nn.Module.parameters(light))
