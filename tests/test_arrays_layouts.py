"""Planted activations in every layout, file and object that people hand over: the same words, and the same numbers."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file
from value_arrays import planted

import mechfourier as mf
from mechfourier import ProbeResult, probe_activations
from mechfourier.domains.definition import domain
from mechfourier.errors import UsageError
from mechfourier.probes.arrays.asked import Request
from mechfourier.probes.arrays.plan import plan
from mechfourier.stats.value import analyse_value
from mechfourier.stats.verdict import verdict_value

DAYS = domain("days").values
FAST: dict[str, Any] = {"n_permutations": 99}


@pytest.fixture(scope="module")
def acts() -> np.ndarray:
    """A circle of days at the first of two layers, noise at the second: [site, value, template, d]."""
    circle, noise = planted("circle", 7, d=24, snr=8.0), planted("white", 7, d=24, seed=1)
    return torch.cat([circle, noise]).numpy()


@pytest.fixture(scope="module")
def expected(acts: np.ndarray) -> ProbeResult:
    found = probe_activations(acts, "days", **FAST)
    assert isinstance(found, ProbeResult) and found.verdict == "circular"
    return found


def rows_of(acts: np.ndarray, order: np.ndarray | None = None) -> tuple[np.ndarray, list[str], list[str]]:
    """Rows of the first site, in any order, with their day and template."""
    n, templates, d = acts.shape[1:]
    order = np.arange(n * templates) if order is None else order
    rows = acts[0].reshape(-1, d)[order]
    return rows, [DAYS[i // templates] for i in order], [f"t{i % templates}" for i in order]


def same(found: object, expected: ProbeResult, site: int = 0) -> None:
    assert isinstance(found, ProbeResult)
    assert found.value is not None and expected.value is not None
    row = next(each for each in found.value.sites if each.word == "circular")
    wanted = expected.value.sites[site]
    assert (row.word, row.k, row.distinct) == (wanted.word, wanted.k, wanted.distinct)
    assert row.spectrum == pytest.approx(wanted.spectrum, abs=1e-6)
    assert row.probe is not None and wanted.probe is not None
    assert row.probe.error == pytest.approx(wanted.probe.error, abs=1e-6)
    assert row.dimensions[0].r2 == pytest.approx(wanted.dimensions[0].r2, abs=1e-6)


def test_the_numbers_are_those_of_the_statistics_on_the_whole_arrays(
    acts: np.ndarray, expected: ProbeResult
) -> None:
    direct = analyse_value(torch.from_numpy(acts), permutations=99, values=DAYS, unit="days")
    assert expected.value is not None and verdict_value(direct).word == expected.verdict
    for mine, theirs in zip(expected.value.sites, direct.sites, strict=True):
        assert mine.word == theirs.word and mine.p_value == theirs.p_value
        assert mine.spectrum == pytest.approx(theirs.spectrum, abs=1e-9)
        assert [d.dim for d in mine.dimensions] == [d.dim for d in theirs.dimensions]
        assert [d.p_value for d in mine.dimensions] == [d.p_value for d in theirs.dimensions]
        assert mine.dimensions[0].r2 == pytest.approx(theirs.dimensions[0].r2, abs=1e-9)


@pytest.mark.parametrize(
    ("layout", "axes"),
    [
        (None, (0, 1, 2, 3)),
        ("site template value d", (0, 2, 1, 3)),
        ("value site template d", (1, 0, 2, 3)),
        ("layer, neuron, trial, day", (0, 3, 2, 1)),
        ("[template day d layer]", (2, 1, 3, 0)),
    ],
)
def test_every_order_of_the_axes(
    acts: np.ndarray, expected: ProbeResult, layout: str | None, axes: tuple[int, ...]
) -> None:
    names = None if layout is None else layout.replace("day", "value")
    same(probe_activations(acts.transpose(axes), "days", layout=names, **FAST), expected)


def test_names_of_a_domain_are_names_of_axes(acts: np.ndarray, expected: ProbeResult) -> None:
    same(probe_activations(acts[0], "days", layout="days template d", **FAST), expected)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, ">f4"])
def test_number_formats_change_no_word(acts: np.ndarray, expected: ProbeResult, dtype: Any) -> None:
    same(probe_activations(np.asfortranarray(acts.astype(dtype)), "days", **FAST), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_gives_the_same_word(acts: np.ndarray, dtype: torch.dtype) -> None:
    assert probe_activations(torch.from_numpy(acts).to(dtype), "days", **FAST).verdict == "circular"


def test_labels_of_an_axis_say_its_order(acts: np.ndarray, expected: ProbeResult) -> None:
    order = [3, 0, 6, 1, 5, 2, 4]
    names = [DAYS[i].upper()[:3] for i in order]
    same(
        probe_activations(acts[:, order], "days", labels=names, layout="site value template d", **FAST),
        expected,
    )
    alone = probe_activations(acts[:, :], labels=list(DAYS), layout="site value template d", **FAST)
    assert isinstance(alone, ProbeResult) and alone.n == 7 and alone.circle is not None
    assert alone.circle.labels == DAYS


def files(folder: Path, acts: np.ndarray) -> dict[str, tuple[Path, dict[str, Any]]]:
    """The same activations in every format, with what has to be said about each."""
    first = acts[0]
    rows, days, templates = rows_of(acts)
    by_value = {f"acts_{day}": first[i] for i, day in enumerate(DAYS)}
    frame = pd.DataFrame({"day": days, "template": templates, "resid": list(rows)})
    loose = pd.DataFrame(rows, columns=[f"d{i}" for i in range(rows.shape[1])]).assign(
        day=days, template=templates
    )
    np.save(folder / "a.npy", acts)
    np.savez(folder / "values.npz", **by_value)
    np.savez_compressed(folder / "packed.npz", **by_value)
    np.savez(folder / "table.npz", acts=rows, labels=np.array(days), template=np.array(templates))
    save_file({k: torch.from_numpy(v).contiguous() for k, v in by_value.items()}, folder / "v.safetensors")
    save_file(
        {"h.0": torch.from_numpy(first.copy()), "h.1": torch.from_numpy(acts[1].copy())},
        folder / "s.safetensors",
    )
    torch.save({"acts": torch.from_numpy(rows), "labels": days, "template": templates}, folder / "t.pt")
    torch.save(torch.from_numpy(acts), folder / "bare.pt")
    frame.to_parquet(folder / "lists.parquet")
    loose.to_parquet(folder / "columns.parquet")
    import datasets

    datasets.Dataset.from_dict({"day": days, "template": templates, "resid": rows.tolist()}).save_to_disk(
        folder / "ds"
    )
    table: dict[str, Any] = {"labels": "labels"}
    return {
        "npy": (folder / "a.npy", {}),
        "one array per value": (folder / "values.npz", {}),
        "compressed": (folder / "packed.npz", {}),
        "npz table": (folder / "table.npz", table),
        "safetensors by value": (folder / "v.safetensors", {}),
        "safetensors by site": (folder / "s.safetensors", {}),
        "torch table": (folder / "t.pt", table),
        "torch tensor": (folder / "bare.pt", {}),
        "parquet of lists": (folder / "lists.parquet", {}),
        "parquet of columns": (folder / "columns.parquet", {"labels": "day", "templates": "template"}),
        "datasets": (folder / "ds", {}),
    }


def test_every_file_gives_the_same_numbers(acts: np.ndarray, expected: ProbeResult, tmp_path: Path) -> None:
    for name, (path, options) in files(tmp_path, acts).items():
        found = probe_activations(path, "days", **options, **FAST)
        assert isinstance(found, ProbeResult) and found.model == path.name, name
        same(found, expected)


class Labelled:
    """The part of an xarray DataArray that is used."""

    def __init__(self, data: np.ndarray, dims: tuple[str, ...], coords: dict[str, Any]) -> None:
        self.values, self.data, self.dims, self.coords, self.name = data, data, dims, coords, "resid"


class Cache:
    """The part of a TransformerLens ActivationCache that is used."""

    def __init__(self, tensors: dict[str, torch.Tensor]) -> None:
        self.cache_dict = tensors


class Proxy:
    """A value that nnsight saved, as its older versions hand it out."""

    def __init__(self, value: torch.Tensor) -> None:
        self.value = value


def test_objects_of_other_libraries(acts: np.ndarray, expected: ProbeResult) -> None:
    order = np.random.default_rng(0).permutation(7 * acts.shape[2])
    rows, days, templates = rows_of(acts, order)
    frame = pd.DataFrame(rows).assign(day=days, prompt=templates)
    same(probe_activations(frame, "days", labels="day", templates="prompt", **FAST), expected)
    array = Labelled(acts[:, [2, 0, 1, 3, 4, 5, 6]], ("layer", "day", "template", "d"), {})
    array.coords["day"] = np.array([DAYS[i] for i in (2, 0, 1, 3, 4, 5, 6)])
    array.dims = ("layer", "value", "template", "d")
    array.coords["value"] = array.coords.pop("day")
    same(probe_activations(array, "days", **FAST), expected)
    padded = torch.from_numpy(rows)[:, None].expand(-1, 3, -1)
    cache = Cache(
        {"blocks.0.hook_resid_post": padded, "blocks.0.attn.hook_pattern": torch.zeros(len(rows), 2, 3, 3)}
    )
    kept = probe_activations(cache, "days", labels=days, templates=templates, **FAST)
    same(kept, expected)
    assert isinstance(kept, ProbeResult) and kept.sites[0].site == "blocks.0.hook_resid_post"
    same(
        probe_activations(Proxy(torch.from_numpy(rows)), "days", labels=days, templates=templates, **FAST),
        expected,
    )
    captured = mf.Activations((), {mf.Site("resid_post", 0): torch.from_numpy(rows)}, None)  # type: ignore[call-arg]
    same(probe_activations(captured, "days", labels=days, templates=templates, **FAST), expected)


def test_nothing_is_copied_on_the_way_in(acts: np.ndarray) -> None:
    rows, days, templates = rows_of(acts)
    frame = pd.DataFrame(rows).assign(day=days, prompt=templates)
    held = np.asarray(frame.iloc[:, : rows.shape[1]])
    labelled = Labelled(acts, ("site", "value", "template", "d"), {})
    cases: Any = (
        (acts, {}, acts),
        (torch.from_numpy(acts), {}, acts),
        ({"a": acts[0], "b": acts[1]}, {}, acts),
        (acts.transpose(0, 3, 2, 1), {"layout": "site d template value"}, acts),
        (labelled, {}, acts),
        (Cache({"x": torch.from_numpy(rows)[:, None]}), {"labels": days}, rows),
        (frame, {"labels": "day", "templates": "prompt"}, held),
    )
    for given, options, memory in cases:
        cells = plan(given, Request("days", **options)).sites[0]
        tensor = cells.grid if cells.grid is not None else cells.chunks[0]
        assert tensor is not None and np.shares_memory(tensor.numpy(), memory)


def test_files_are_mapped_into_memory(acts: np.ndarray, tmp_path: Path) -> None:
    made = files(tmp_path, acts)
    for name in ("npy", "one array per value"):
        path = made[name][0]
        cells = plan(path, Request("days")).sites[0]
        tensor = cells.grid if cells.grid is not None else cells.chunks[0]
        assert tensor is not None
        content, first = path.read_bytes(), tensor.flatten()[0].numpy().tobytes()
        assert content.count(first) == 1
        with path.open("r+b") as file:
            file.seek(content.index(first))
            file.write(np.float32(42).tobytes())
        assert float(tensor.flatten()[0]) == 42  # what is on the disk is what is in memory


def test_a_result_of_arrays_is_a_result(acts: np.ndarray, expected: ProbeResult, tmp_path: Path) -> None:
    again = ProbeResult.from_json(expected.to_json())
    assert again == expected and again.arrays == expected.arrays
    with pytest.raises(mf.UsageError, match="keeps no planes"):
        again.planes
    saved = expected.save(tmp_path / "r.json")
    assert json.loads(saved.read_text())["arrays"]["shape"] == [2, 7, 8, 24]
    assert expected.next_steps() == () and "8 templates" in str(expected.arrays)
    from mechfourier.figures.probe import write_probe

    page = write_probe(expected, tmp_path).read_text(encoding="utf-8")
    assert "contest" in page.lower() and "site value template d" in page


def test_what_a_model_shows_its_activations_show() -> None:
    """Captured, or in TransformerLens's own cache, the activations of a model give the numbers of ``probe``."""
    model = mf.load("calendar")
    design = mf.domain("days").value_design()
    from mechfourier.domains.design import read_positions
    from mechfourier.models.interface import encode

    encodings = encode(model, design.prompts)
    held = mf.capture(model, encodings, "resid_post", read_positions(design, encodings))
    assert design.template is not None
    labels, templates = design.value.numpy(), design.template.numpy()
    found = probe_activations(held, "days", labels=labels, templates=templates, **FAST)
    wanted = mf.probe(model, "days", controls=False, **FAST)
    assert isinstance(found, ProbeResult) and found.value is not None and wanted.value is not None
    assert found.verdict == wanted.verdict and found.p_value == wanted.p_value
    assert [row.site for row in found.sites] == [row.site for row in wanted.sites]
    for mine, theirs in zip(found.value.sites, wanted.value.sites, strict=True):
        assert mine.word == theirs.word and mine.spectrum == pytest.approx(theirs.spectrum, abs=1e-5)
        assert [d.dim for d in mine.dimensions] == [d.dim for d in theirs.dimensions]
    plane = found.planes[0]
    tokens = torch.tensor([encodings[0].ids])
    plain = model.run_with_hooks(tokens, fwd_hooks=[plane.rotate_hook(0)])
    turned = model.run_with_hooks(tokens, fwd_hooks=[plane.rotate_hook(3, position=-1)])
    assert torch.allclose(plain, model(tokens), atol=1e-3) and not torch.allclose(turned, plain, atol=1e-2)
    _, cache = model.run_with_cache(tokens)
    with pytest.raises(
        mf.UsageError, match="no row is labelled Tuesday"
    ):  # the cache is read; one row is no week
        plan(cache, Request("days", labels=["Monday"], sites=[plane.site]))


def test_a_small_window_gives_the_same_numbers_and_says_how_far_it_is(
    acts: np.ndarray,
    expected: ProbeResult,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from mechfourier import progress
    from mechfourier.probes.arrays import cells

    monkeypatch.setattr(cells, "WINDOW_BYTES", 8 * 7 * 8 * 5)  # five dimensions at a time
    monkeypatch.setattr(cells, "NULL_DIMENSIONS", 5)
    widths = [block.shape[-1] for block in plan(acts, Request("days")).sites[0].windows()]
    assert widths == [5, 5, 5, 5, 4]
    same(probe_activations(acts, "days", **FAST), expected)
    rows, days, templates = rows_of(acts)
    same(probe_activations(rows, "days", labels=days, templates=templates, **FAST), expected)
    monkeypatch.setattr(cells, "WINDOW_BYTES", 2**21)
    monkeypatch.setattr(progress, "LINE_SECONDS", 0)
    monkeypatch.setattr("sys.stderr.isatty", lambda: False, raising=False)
    np.save(tmp_path / "wide.npy", np.random.default_rng(0).normal(size=(7, 8, 20_000)))
    cells.compacted(plan(tmp_path / "wide.npy", Request("days")).sites, "wide.npy")
    assert "reading wide.npy (MB): 4 of 8" in capsys.readouterr().err


def test_the_design_says_that_the_second_axis_is_offsets() -> None:
    acts = np.random.default_rng(0).normal(size=(13, 13, 8))
    told = mf.probe_activations(acts, "mod-13", design="operation", n_permutations=99)
    assert isinstance(told, ProbeResult) and told.design == "operation"
    assert told.arrays is not None and told.arrays.layout == "a o d"
    with pytest.raises(UsageError, match="'template value d' or 'a o d'"):
        mf.probe_activations(acts, "mod-13")
