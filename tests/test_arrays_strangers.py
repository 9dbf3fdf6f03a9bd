"""What a stranger's files and grids showed: read rightly, or refused with the reason."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch

from mechfourier import UsageError, probe_activations
from mechfourier.errors import BadCheckpoint
from mechfourier.probes.arrays.files import open_arrays
from mechfourier.toys.foreign import bring_in, state_dict_of
from mechfourier.toys.reading.questions import Known, questions

FAST: dict[str, Any] = {"n_permutations": 99}
ROWS = np.random.default_rng(0).standard_normal((48, 6)).astype(np.float32)


@pytest.mark.parametrize("kind", ["file", "stream", "feather"])
def test_every_form_of_arrow_on_disk_is_read(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.arrow"
    table = pa.table({"acts": list(ROWS), "day": np.arange(48) % 7})
    if kind == "feather":
        table.to_pandas().to_feather(path)
    else:
        with pa.OSFile(str(path), "wb") as sink:
            maker = pa.ipc.new_file if kind == "file" else pa.ipc.new_stream
            with maker(sink, table.schema) as writer:
                writer.write_table(table)
    found = open_arrays(path)
    assert np.array_equal(torch.cat(found.arrays["acts"]).numpy(), ROWS)
    assert found.columns["day"].tolist() == (np.arange(48) % 7).tolist()


@pytest.mark.parametrize("suffix", ["npy", "npz", "parquet", "safetensors", "pt", "arrow"])
def test_an_empty_file_is_called_empty(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"nothing.{suffix}"
    path.touch()
    with pytest.raises(BadCheckpoint, match="is empty"):
        open_arrays(path)


@pytest.mark.parametrize("label", ["25:99", "99:00", "-3:00", "ab:cd", "12:345"])
def test_a_time_that_does_not_exist_is_named(label: str) -> None:
    times = [f"{i % 24}:00" for i in range(48)]
    times[5] = label
    with pytest.raises(UsageError, match=f"'{label}' is no time of day"):
        probe_activations(ROWS, "hours-24", labels=times, **FAST)


@pytest.mark.parametrize("n", [8, 9.5])
def test_a_number_of_values_against_the_domain_is_refused(n: float) -> None:
    acts = np.random.default_rng(0).standard_normal((7, 8, 6))
    with pytest.raises(UsageError, match=f"n is {n:g} .* days has 7 values"):
        probe_activations(acts, "days", n=n, **FAST)
    assert probe_activations(acts, "days", n=7, **FAST).n == 7


def test_a_name_of_a_column_where_there_are_none() -> None:
    with pytest.raises(UsageError, match="nor any other"):
        probe_activations(pd.DataFrame(ROWS), "days", labels="day", **FAST)


@pytest.mark.parametrize(("n", "cycles"), [(7, 1), (7, 2), (12, 1), (12, 2)])
def test_a_clock_on_too_few_cycles_is_undecided_and_a_line_is_not(n: int, cycles: int) -> None:
    rng = np.random.default_rng(n + cycles)
    total = np.arange(n)[:, None] + np.arange(n * cycles)
    plane = np.linalg.qr(rng.standard_normal((32, 2)))[0]
    noise = 0.4 * rng.standard_normal((n, n * cycles, 32))
    turns = 2 * np.pi * total / n
    clock = 3 * np.stack([np.cos(turns), np.sin(turns)], -1) @ plane.T
    line = 2 * total[..., None] / n * plane[:, 0]
    domain = {7: "days", 12: "months"}[n]
    words = [probe_activations(x + noise, domain, layout="a o d", **FAST).verdict for x in (clock, line)]
    assert words == ["undecided: circle or magnitude", "magnitude"]


def test_offsets_that_are_no_whole_cycles_are_said() -> None:
    acts = np.random.default_rng(0).standard_normal((7, 10, 16))
    notes = probe_activations(acts, "days", layout="a o d", **FAST).notes
    assert any("10 offsets are 1.43 cycles of 7" in note for note in notes)


def network(seed: int) -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return {f"{name}.weight": torch.randn(4, 4, generator=draw) for name in ("a", "b", "c", "d", "e")}


def test_networks_side_by_side_are_told_apart_whatever_they_are_called() -> None:
    both = {f"{name}.{key}": value for name in ("early", "late") for key, value in network(0).items()}
    with pytest.raises(UsageError, match=r"2 state dicts in one file \(early, late\); choose"):
        state_dict_of(both)
    assert state_dict_of(both, "late")[1] == "late" and set(state_dict_of(both, "late")[0]) == set(network(0))
    with pytest.raises(UsageError, match="no weights under 'middle'"):
        state_dict_of(both, "middle")


def test_what_holds_nan_is_named_before_anything_is_tried(tmp_path: Path) -> None:
    broken = network(1)
    broken["c.weight"][0, 0] = torch.nan
    torch.save(broken, tmp_path / "broken.pt")

    def never(*_: object) -> None:
        raise AssertionError("was converted")

    with pytest.raises(BadCheckpoint, match=r"holds NaN in c\.weight"):
        bring_in(tmp_path / "broken.pt", tmp_path / "out", never, force=True)  # pyright: ignore[reportArgumentType]


def test_a_table_that_is_padded_is_read_at_the_modulus_its_configuration_names() -> None:
    found = questions(64, 64, 2, Known(p=59), two_tables=False)
    assert found[0].form.p == 59 and found[0].rows[:59] == tuple(range(59))
    assert all(each.form.p != 59 for each in questions(64, 64, 2, Known(), two_tables=False))


def test_a_row_without_a_template_is_refused() -> None:
    acts = np.random.default_rng(0).standard_normal((56, 6))
    names = np.repeat([f"t{i}" for i in range(8)], 7).astype(object)
    names[3] = np.nan
    with pytest.raises(UsageError, match="rows without a template: 1 of 56"):
        probe_activations(acts, "days", labels=np.tile(np.arange(7), 8), templates=names, **FAST)


def test_numbers_whose_squares_overflow_are_refused_and_their_scale_is_nothing_else() -> None:
    acts = np.random.default_rng(0).standard_normal((7, 8, 6))
    with pytest.raises(UsageError, match="squares overflow"):
        probe_activations(acts * 1e200, "days", **FAST)
    assert (
        probe_activations(acts * 1e60, "days", **FAST).verdict
        == probe_activations(acts, "days", **FAST).verdict
    )
