"""Labels and tables as other libraries hold them: read right, or refused in one sentence."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch

from mechfourier import probe_activations
from mechfourier.domains.definition import Domain, domain
from mechfourier.errors import BadCheckpoint, UsageError
from mechfourier.probes.arrays.values import cycle, matched
from mechfourier.probes.result import ProbeResult

N, T, D = 12, 8, 6
MONTHS = domain("months").values
LABELS = np.repeat(np.arange(N), T)
TEMPLATES = np.tile(np.arange(T), N)
CLOCK = Domain(
    "clock",
    "Hours that start at six",
    "hours",
    tuple(str(1 + (i + 5) % N) for i in range(N)),
    tuple(f"t{i} {{value}}" for i in range(T)),
    None,
    source="test",
)


def rows() -> np.ndarray:
    """Values on a circle, in the order of the months."""
    angle = 2 * np.pi * LABELS / N
    noise = np.random.default_rng(0).normal(0, 0.05, (N * T, D))
    noise[:, 0] += np.cos(angle)
    noise[:, 1] += np.sin(angle)
    return noise.astype(np.float32)


def probed(acts: Any, of: Any = "months", **more: Any) -> ProbeResult:
    options: dict[str, Any] = {"n_permutations": 99} | more
    found = probe_activations(acts, of, **options)
    assert isinstance(found, ProbeResult)
    return found


def dataset() -> datasets.Dataset:
    """Months as classes, whose codes follow the alphabet."""
    names = sorted(MONTHS)
    features = datasets.Features(
        acts=datasets.Sequence(datasets.Value("float32")),
        month=datasets.ClassLabel(names=names),
        template=datasets.Value("int64"),
    )
    codes = [names.index(MONTHS[i]) for i in LABELS]
    held = dict(acts=rows().tolist(), month=codes, template=TEMPLATES.tolist())
    return datasets.Dataset.from_dict(held, features=features)


def test_classes_are_read_by_their_names_and_not_by_their_codes(tmp_path: Path) -> None:
    made = dataset()
    made.save_to_disk(str(tmp_path / "disk"))
    made.to_parquet(str(tmp_path / "file.parquet"))
    plain = probed(rows(), labels=LABELS, templates=TEMPLATES)
    for each in (made, tmp_path / "disk", tmp_path / "file.parquet", made.shuffle(seed=1)):
        found = probed(each, labels="month", templates="template")
        assert found.verdict == plain.verdict == "circular"
        assert found.value is not None and found.value.sites[0].k == 1


def test_rows_without_a_class_are_refused() -> None:
    table = dataset().data.table
    codes = table.column("month").to_pylist()
    lost = table.set_column(1, "month", pa.array([-1, *codes[1:]]))
    with pytest.raises(UsageError, match="1 of 96 rows have no class in column 'month'"):
        probed(lost, labels="month", templates="template")


def test_categories_of_frames_and_tables_are_texts() -> None:
    frame = pd.DataFrame(rows(), columns=[f"d{i}" for i in range(D)])
    frame["month"] = pd.Categorical([MONTHS[i] for i in LABELS], categories=sorted(MONTHS))
    for each in (frame, pa.Table.from_pandas(frame)):
        assert probed(each, labels="month").verdict == "circular"


@pytest.mark.parametrize(
    "written",
    [str, float, int, lambda v: f"{float(v)}", lambda v: f"{int(v):02d}"],
    ids=["text", "float", "int", "text of a float", "two digits"],
)
def test_numbers_name_the_values_that_they_equal(written: Callable[[str], Any]) -> None:
    labels = np.asarray([written(CLOCK.values[i]) for i in LABELS])
    assert matched(labels, CLOCK).tolist() == LABELS.tolist()


def test_places_are_no_labels_where_values_are_numbers() -> None:
    with pytest.raises(UsageError, match="the label 0 is no value of clock"):
        matched(LABELS, CLOCK)
    assert matched(LABELS + 1, cycle(N)).tolist() == ((LABELS + 1) % N).tolist()  # 12 is 0 modulo 12
    assert matched(LABELS, domain("months")).tolist() == LABELS.tolist()
    assert matched(LABELS + 1, domain("months")).tolist() == LABELS.tolist()


def test_a_tuple_of_labels_is_one_label_per_row() -> None:
    texts = tuple(MONTHS[i] for i in LABELS)
    assert probed(rows(), labels=texts, templates=TEMPLATES).verdict == "circular"
    brain = torch.tensor(LABELS).bfloat16()
    assert probed(rows(), labels=brain, templates=TEMPLATES).verdict == "circular"


def frame(**columns: Any) -> pd.DataFrame:
    made = pd.DataFrame(rows(), columns=[f"d{i}" for i in range(D)]).assign(month=[MONTHS[i] for i in LABELS])
    return made.assign(**columns)


def expanded(tmp_path: Path) -> Path:
    torch.save({"acts": torch.zeros(1).expand(12, 4000, 100_000)}, tmp_path / "acts.pt")
    return tmp_path / "acts.pt"


def saved(tmp_path: Path, value: Any) -> Path:
    torch.save({"acts": value}, tmp_path / "acts.pt")
    return tmp_path / "acts.pt"


def header(tmp_path: Path) -> Path:
    start = b"\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'fortran_order': False, 'shape': (\xff"
    (tmp_path / "acts.npy").write_bytes(start + b" " * 80)
    return tmp_path / "acts.npy"


HOLES = [None, *np.ones(N * T - 1).tolist()]
REFUSED: dict[str, tuple[Callable[[Path], Any], str, dict[str, Any]]] = {
    "two columns of a name": (
        lambda _: pd.concat([frame(), frame()[["month"]]], axis=1),
        "2 columns called 'month'",
        {"labels": "month"},
    ),
    "complex": (lambda _: frame(d1=np.ones(N * T) * 1j), "'d1' holds complex numbers", {"labels": "month"}),
    "holes": (
        lambda _: frame(d1=pd.Series(HOLES, dtype=object)),
        "'d1' has 1 rows without numbers",
        {"labels": "month"},
    ),
    "no rows": (lambda _: dataset().select([]), "the table has no rows", {"labels": "month"}),
    "empty frame": (lambda _: frame().iloc[:0], "the frame has no rows", {"labels": "month"}),
    "splits": (
        lambda _: datasets.DatasetDict({"train": dataset()}),
        r"give one of them: acts\['train'\]",
        {"labels": "month"},
    ),
    "two Arrow columns": (
        lambda _: pa.table([pa.array(LABELS), pa.array(LABELS)], names=["m", "m"]),
        "several columns called 'm'",
        {"labels": "m"},
    ),
    "a row without a vector": (
        lambda _: pa.table(
            {"acts": pa.array([None, *rows().tolist()[1:]], pa.list_(pa.float32())), "m": LABELS}
        ),
        "without a vector: 1 of 96",
        {"labels": "m"},
    ),
    "ragged": (lambda _: [[1.0, 2.0], [1.0]], "rows of different lengths", {}),
    "ragged labels": (lambda _: rows(), "labels cannot be read", {"labels": [[1], [2, 3]]}),
    "bytes that are no text": (
        lambda _: rows(),
        "labels cannot be read",
        {"labels": np.array([b"\xff"] * N * T)},
    ),
    "a number as labels": (lambda _: rows(), r"labels is 5 \(int\)", {"labels": 5}),
    "far labels": (lambda _: rows(), r"run from 1e\+30", {"labels": [10**30] * N * T}),
    "two labels": (lambda _: rows(), "two labels per row", {"labels": (LABELS, TEMPLATES)}),
    "few templates": (lambda _: rows(), "3 templates for 96", {"labels": LABELS, "templates": [0, 1, 2]}),
    "no sites": (lambda _: rows(), r"sites is \[\]", {"labels": LABELS, "sites": []}),
    "a position": (lambda _: rows(), "no axis of positions", {"labels": LABELS, "position": 3}),
    "sparse": (lambda tmp: saved(tmp, torch.eye(3).to_sparse()), "without its numbers in memory", {}),
    "no home": (lambda _: "~nobody-of-that-name/acts.npy", "is no path", {}),
    "a long name": (lambda _: "a" * 5000, "is no path", {}),
    "an empty name": (lambda _: "", "the path is empty", {}),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_in_one_sentence(case: str, tmp_path: Path) -> None:
    make, says, more = REFUSED[case]
    with pytest.raises(UsageError, match=says):
        probed(make(tmp_path), **more)


@pytest.mark.parametrize("given", [7, True, {}, [1, 2], np.arange(3), ["months", 3], 3.5], ids=range(7))
def test_what_is_no_domain_is_refused(given: Any) -> None:
    with pytest.raises(UsageError, match="domain is "):
        probed(rows(), given, labels=LABELS)


@pytest.mark.parametrize("make", [expanded, header])
def test_damaged_files_and_repeated_numbers_are_refused(make: Callable[[Path], Path], tmp_path: Path) -> None:
    with pytest.raises(BadCheckpoint, match=r"would unpack to|damaged"):
        probed(make(tmp_path))


def test_an_object_that_raises_on_reading_is_refused() -> None:
    class Cursed:
        iloc, columns = None, ()

        @property
        def dtypes(self) -> Any:
            raise RuntimeError("no")

    with pytest.raises(UsageError, match="this Cursed cannot be read as activations"):
        probed(Cursed())
