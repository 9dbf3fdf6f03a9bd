"""The two real models as a user meets them: found, converted, right, and labelled."""

import json

import pytest
import torch
from real_models import NAMES, real_folder
from typer.testing import CliRunner

from mechfourier.cli.app import app
from mechfourier.hooks.site import sites
from mechfourier.models import load
from mechfourier.models.catalogue import find
from mechfourier.models.folder import count_parameters
from mechfourier.models.gguf import card_of, is_whole
from mechfourier.models.gguf_header import read_gguf_header
from mechfourier.models.outline import outline
from mechfourier.models.packaged import join, sha256_of

pytestmark = [pytest.mark.real, pytest.mark.slow]
MONTHS = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
]


@pytest.mark.parametrize("name", NAMES)
def test_it_says_what_comes_after_june_and_what_its_weights_are(name: str) -> None:
    folder = real_folder(name)
    model = load(folder)
    assert getattr(model, "mechfourier_weights", None) == (
        card_of(folder)["weights"] if card_of(folder) else None
    )
    tokens = torch.tensor([model.tokenizer("April, May, June,")["input_ids"]])  # type: ignore[attr-defined]
    logits = model(tokens)[0, -1]  # type: ignore[operator]
    first = [model.tokenizer(f" {month}", add_special_tokens=False)["input_ids"][0] for month in MONTHS]  # type: ignore[attr-defined]
    assert MONTHS[int(logits[first].argmax())] == "July"


@pytest.mark.parametrize("name", NAMES)
def test_hook_points_are_listed_without_the_weights(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = real_folder(name)
    loaded = [str(site) for site in sites(load(folder))]

    def never(*_: object, **__: object) -> None:
        raise AssertionError("the weights were loaded")

    monkeypatch.setattr("mechfourier.models.registry.load", never)
    assert [str(site) for site in sites(outline(folder))] == loaded
    reply = CliRunner().invoke(app, ["hooks", str(folder), "--json"])
    assert [site["name"] for site in json.loads(reply.stdout)["sites"]] == loaded


@pytest.mark.parametrize("name", NAMES)
def test_the_installed_packages_hold_the_known_file(name: str, tmp_path: object) -> None:
    info = find(name)
    assert info is not None and info.packaged is not None
    folder = real_folder(name)
    if info.packaged.paths() is None:
        pytest.skip(f"{name} is here without its packages: {info.packaged.requirement}")
    whole = join(info.packaged, tmp_path / "whole.gguf")  # type: ignore[operator]
    header = read_gguf_header(whole)
    assert sha256_of(whole) == info.packaged.sha256 and header.quantisation == info.packaged.quantisation
    assert count_parameters(folder) == header.parameters
    if card_of(folder):
        assert is_whole(folder) and card_of(folder)["sha256"] == info.packaged.sha256
