"""The map shows where a value is used and where it goes; edits are certified before anything is said of
them."""

import json
from math import isnan
from pathlib import Path
from typing import Any

import pytest
import torch
from test_causal_study import KEYS, PLANTED, clock

import mechfourier as mf
from mechfourier.causal.certify import certified
from mechfourier.causal.experiment import Experiment
from mechfourier.causal.heads import HeadReads, strongest
from mechfourier.causal.kept import Kept
from mechfourier.causal.share import Share
from mechfourier.causal.usage import spans, where_sentence
from mechfourier.causal.where import UseMap, use_map
from mechfourier.errors import EngineDiffers, OutOfRange, UsageError
from mechfourier.hooks.run import has_hooks
from mechfourier.hooks.site import select_sites


def mapped(model: Any, domain: str, ks: tuple[int, ...], n_prompts: int) -> UseMap:
    asked = Experiment.of(model, domain, n_prompts=n_prompts)
    sites = [*select_sites(model, "embed"), *select_sites(model, "resid_post")]
    return use_map(asked, sites, ks)


def test_one_layer_carries_the_value_from_the_embedding_to_the_last_token() -> None:
    found = mapped(clock(), "mod-13", KEYS, 39)
    assert found.positions == ("value", "value+1", "last")
    assert found.used("value") == (-1,) and found.used("last") == (0,) and found.used("value+1") == ()
    assert found.moves_at == 0 and (found.low, found.high) == (0, 0)
    cells = {(cell.site, cell.position): cell for cell in found.cells}
    start, end = cells["hook_embed", "value"], cells["blocks.0.hook_resid_post", "last"]
    for cell in (start, end):
        assert cell.moved == cell.moved_whole == 1.0 and cell.recovered == pytest.approx(1.0, abs=1e-3)
        assert cell.p == 1 / 40 and cell.recovered_p == 0.001
    other = cells["hook_embed", "value+1"]
    assert other.moved == 0.0 and isnan(other.p) and other.recovered_p > 0.05  # nothing there: not tested
    assert found.n_tested == 2 == sum(not isnan(cell.p) for cell in found.cells)
    readers = strongest(found.heads)
    assert {head.head for head in readers} == {0, 1}  # the closed form gives each circle a head
    assert sum(head.recovered for head in readers) == pytest.approx(1.0, abs=0.05)
    told = where_sentence(found)
    assert "used at the embedding of the value token, at layer 0 of the last token (in the map" in told


def test_a_circle_that_nothing_reads_is_used_nowhere() -> None:
    found = mapped(clock(planted=6.0), "mod-13", (PLANTED,), 39)
    assert found.used("value") == () and max(cell.moved for cell in found.cells) == 0.0
    assert found.moves_at == 0  # what the token says is used all the same, and patches find where
    assert "used at no layer" in where_sentence(found)


@pytest.mark.slow
def test_the_calendar_on_both_engines() -> None:
    found = [mapped(mf.load("calendar", engine=name), "days", (1,), 21) for name in ("hooked", "bridge")]
    for each in found:
        assert -1 in each.used("value") and each.moves_at in (0, 1)
        assert strongest(each.heads)
    for ours, theirs in zip(found[0].cells, found[1].cells, strict=True):
        assert (ours.site, ours.position) == (theirs.site, theirs.position)
        assert ours.moved == pytest.approx(theirs.moved, abs=0.03)
        assert ours.recovered == pytest.approx(theirs.recovered, abs=1e-3)


def test_layers_in_words() -> None:
    assert spans((-1, 0, 1, 2, 5)) == "the embedding and layers 0–2, 5"
    assert spans((3,)) == "layer 3" and spans((-1,)) == "the embedding"


def test_only_heads_beyond_chance_are_named() -> None:
    heads = [HeadReads(0, 0, 0.2, 0.1, 0.3, 0.01), HeadReads(0, 1, 0.5, 0.4, 0.6, 0.01)]
    quiet = [HeadReads(0, 2, 0.9, -1.0, 2.0, 0.3), HeadReads(0, 3, -0.4, -0.5, -0.3, 0.01)]
    assert [head.head for head in strongest([*heads, *quiet])] == [1, 0]


def test_a_token_that_some_prompts_lack() -> None:
    asked = Experiment.of(clock(), "mod-13", n_prompts=13)
    with pytest.raises(OutOfRange, match=r"13 of 13 prompts end before it \(at most 'value\+2'"):
        asked.places("value+3")
    with pytest.raises(UsageError, match="closest"):
        asked.at("hook_embed", "vallue+1")


def test_edits_that_are_none_change_nothing_on_either_engine() -> None:
    for engine in ("hooked", "bridge"):
        model = mf.load("calendar", engine=engine)
        result = mf.rotate(model, "days", site="blocks.0.hook_resid_post", n_controls=0, n_prompts=14)
        found = result.certificate
        assert found is not None and found.reader == "blocks.1.hook_resid_pre"
        assert found.arrived == pytest.approx(1.0, abs=1e-3)
        assert [each.edit for each in found.idle] == [
            "step of 0",
            "patch from itself",
            "turn by 0",
            "whole turn",
        ]
        assert max(each.change for each in found.idle) < 1e-4
        assert type(result).from_json(result.to_json()) == result


def test_hook_points_that_only_show_an_activation_are_refused() -> None:
    bridge = mf.load("calendar", engine="bridge")
    with pytest.raises(UsageError, match="would not reach the residual stream"):
        mf.rotate(bridge, "days", site="blocks.0.hook_resid_mid", n_controls=0)
    model = clock()
    block: Any = model.blocks[0]

    def shown(x: torch.Tensor) -> torch.Tensor:
        pre = block.hook_resid_pre(x)
        mid = pre + block.attn(pre)
        out = mid + block.mlp(mid)
        block.hook_resid_post(out)  # shows it, and hands on the other
        return out

    block.forward = shown
    with pytest.raises(UsageError, match="does not read this hook point"):
        mf.rotate(model, "mod-13", site="blocks.0.hook_resid_post", position="last", ks=KEYS, n_controls=0)
    assert not has_hooks(model)


def test_a_token_of_the_last_block_that_nothing_reads_is_no_fault_of_the_hook_point() -> None:
    found = mf.rotate(clock(), "mod-13", site="blocks.0.hook_resid_post", ks=KEYS, n_controls=0, n_prompts=13)
    assert found.exact_share == 0.0
    assert found.certificate is not None and found.certificate.reader == "scores"


def test_an_edit_that_should_be_none_and_is_not_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Experiment.of(clock(), "mod-13", n_prompts=13)
    place = asked.at("hook_embed", "value")
    scores = asked.engine.scores
    monkeypatch.setattr(
        asked.engine,
        "scores",
        lambda rows, *a, **b: scores(rows, *a, **b) + torch.arange(13.0),
    )
    with pytest.raises(EngineDiffers, match="step of 0 at hook_embed"):
        certified(asked, place)


def test_parts_of_an_interrupted_measurement_are_not_made_again(tmp_path: Path) -> None:
    made: list[str] = []

    def make(name: str) -> Share:
        made.append(name)
        return Share(0.1, 0.05, 0.2)

    model: Any = clock()
    kept = Kept.of(tmp_path, model, "months", 0)
    first = kept("share", Share, lambda: make("share"))
    again = Kept.of(tmp_path, model, "months", 0)
    assert again("share", Share, lambda: make("share")) == first and made == ["share"]
    assert again.found == ["share"]
    Kept.of(tmp_path, model, "months", 1)("share", Share, lambda: make("another seed"))
    assert kept.folder is not None
    (kept.folder / "share.json").write_text('{"value": ', encoding="utf-8")  # cut off
    again("share", Share, lambda: make("damaged"))
    assert made == ["share", "another seed", "damaged"]
    again.finish()
    assert not kept.folder.exists()
    assert Kept()("share", Share, lambda: make("no folder")) == first


def same(one: Any, other: Any) -> None:
    """Equal, numbers to the rounding that the place of arrays in memory makes."""
    assert type(one) is type(other)
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            same(one[key], other[key])
    elif isinstance(one, list):
        assert len(one) == len(other)
        for left, right in zip(one, other, strict=True):
            same(left, right)
    elif isinstance(one, float):
        assert one == pytest.approx(other, rel=1e-6, abs=1e-9, nan_ok=True)
    else:
        assert one == other


def test_a_study_goes_on_where_it_was_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options: dict[str, Any] = dict(site="hook_embed", n_permutations=99, n_prompts=26)
    whole = mf.study(clock(), "mod-13", **options)

    def interrupt(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("mechfourier.causal.study.patched", interrupt)
        with pytest.raises(KeyboardInterrupt):
            mf.study(clock(), "mod-13", folder=tmp_path, **options)
    parts = {path.stem for path in tmp_path.rglob("*.json")}
    assert {"probe", "places", "rotation", "share", "ablation"} <= parts
    with monkeypatch.context() as patch:
        patch.setattr("mechfourier.causal.study.rotation", interrupt)  # kept, so not run again
        again = mf.study(clock(), "mod-13", folder=tmp_path, **options)
    same(json.loads(again.to_json()), json.loads(whole.to_json()))
    assert not list(tmp_path.rglob("*.json"))
