"""What dictionaries are trained on: the same stream every time, weights in tokens, and what is never seen."""

import itertools
import json
from pathlib import Path

import pytest
from sae_models import tiny_model

from mechfourier.errors import OutOfRange, UsageError
from mechfourier.models.interface import Encoding
from mechfourier.sae.own import own_rows
from mechfourier.sae.rows import IGNORED, Reading, Row
from mechfourier.sae.text import HeldOut, Source, held_out_rows, mixed_rows, rows, training_rows
from mechfourier.toys.universal.config import ExtrapolatingConfig, FaithfulConfig
from mechfourier.toys.universal.model import ExtrapolatingTransformer, UniversalModulusTransformer


class Letters:
    """A tokenizer of letters, for texts without a trained model."""

    class cfg:
        n_ctx, d_vocab = 64, 128

    hook_dict = None
    mechfourier_name = "letters"

    def encode(self, prompts: list[str]) -> list[Encoding]:
        return [Encoding(tuple(map(ord, p)), tuple((i, i + 1) for i in range(len(p)))) for p in prompts]


@pytest.mark.parametrize(
    ("text", "name", "weight", "split"),
    [
        ("own", "own", 1.0, "train"),
        ("own=2", "own", 2.0, "train"),
        ("corpus.txt=0.5", "corpus.txt", 0.5, "train"),
        ("a/b:validation:body=3", "a/b", 3.0, "validation"),
    ],
)
def test_sources_are_read_from_the_command_line(text: str, name: str, weight: float, split: str) -> None:
    source = Source.parse(text)
    assert (source.name, source.weight, source.split) == (name, weight, split)


@pytest.mark.parametrize("text", ["own=x", "", "=2", "a:b:c:d"])
def test_an_unreadable_source_says_how_to_write_it(text: str) -> None:
    with pytest.raises(UsageError, match="write"):
        Source.parse(text)


@pytest.mark.parametrize("weight", [0.0, -1.0, float("inf"), float("nan")])
def test_a_weight_must_be_above_zero(weight: float) -> None:
    with pytest.raises(OutOfRange, match="weight"):
        Source("own", weight)


def test_the_grid_of_a_modular_model_is_read_where_it_answers() -> None:
    model = tiny_model(7)
    found = list(own_rows(model, Reading()))
    assert sorted(row.ids for row in found) == [(a, b, 7) for a in range(7) for b in range(7)]
    assert all(
        row.keep == (2,) and row.targets == (IGNORED, IGNORED, (row.ids[0] + row.ids[1]) % 7) for row in found
    )
    assert found == list(own_rows(model, Reading()))
    assert found != list(own_rows(model, Reading(seed=1)))


@pytest.mark.parametrize("by_value", [True, False])
def test_the_questions_of_every_modulus_once_each(by_value: bool) -> None:
    if by_value:
        model = ExtrapolatingTransformer(ExtrapolatingConfig(width=8, gates=8, draws=2, n_values=10))
    else:
        model = UniversalModulusTransformer(
            FaithfulConfig(n_values=9, d_model=8, n_heads=2, d_mlp=8, d_mem=8)
        )
    found = list(own_rows(model, Reading()))
    equals = model.cfg.equals
    assert sorted(row.ids for row in found) == [
        (m, a, b, equals) for m in range(2, 10) for a in range(m) for b in range(m)
    ]
    for row in found:
        m, a, b, _ = row.ids
        assert row.keep == (3,) and row.targets == (IGNORED, IGNORED, IGNORED, (a + b) % m)
    assert len({row.document for row in found}) == len(found)
    assert found == list(own_rows(model, Reading()))
    assert found != list(own_rows(model, Reading(seed=1)))


def test_training_and_held_out_share_nothing_and_leave_nothing_out() -> None:
    model, reading = tiny_model(), Reading(held_out=0.2)
    train = {row.ids for row in training_rows(model, [Source()], reading)}
    out = {row.ids for row in held_out_rows(model, [Source()], reading)}
    assert not train & out and len(train | out) == 23**2
    assert 0.12 < len(out) / 23**2 < 0.28


def test_the_weights_of_a_mixture_are_shares_of_its_tokens(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("aaaaaaaa\n" * 50)
    (tmp_path / "b.txt").write_text("bb\n" * 1000)
    sources = [Source(str(tmp_path / "a.txt"), 3.0), Source(str(tmp_path / "b.txt"), 1.0)]
    ids = [i for row in itertools.islice(mixed_rows(Letters(), sources, Reading()), 400) for i in row.ids]
    assert ids.count(ord("a")) / len(ids) == pytest.approx(0.75, abs=0.02)


def test_a_short_source_begins_again_until_the_longest_ends(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("aa\n")
    (tmp_path / "b.txt").write_text("bb\n" * 20)
    sources = [Source(str(tmp_path / name)) for name in ("a.txt", "b.txt")]
    found = [row.ids[0] for row in mixed_rows(Letters(), sources, Reading())]
    assert found.count(ord("b")) >= 20 and abs(found.count(ord("a")) - found.count(ord("b"))) <= 1


def test_documents_are_cut_to_the_context_and_skip_leaves_positions_out(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("abcdefghij\n")
    found = list(rows(Letters(), Source(str(tmp_path / "a.txt")), Reading(context=4, skip=1)))
    assert [row.ids for row in found] == [tuple(map(ord, part)) for part in ("abcd", "efgh", "ij")]
    assert found[0].keep == (1, 2, 3) and found[0].targets == (ord("b"), ord("c"), ord("d"), IGNORED)


def test_data_sets_of_several_formats_give_the_same_text(tmp_path: Path) -> None:
    import datasets

    texts = ["first text", "second text"]
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps({"text": t}) for t in texts))
    datasets.Dataset.from_dict({"text": texts}).save_to_disk(str(tmp_path / "saved"))
    for name in ("a.jsonl", "saved"):
        found = list(rows(Letters(), Source(str(tmp_path / name)), Reading()))
        assert [row.ids for row in found] == [tuple(map(ord, t)) for t in texts], name


def test_a_missing_column_names_those_there_are(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps({"body": "text"}))
    with pytest.raises(UsageError, match="no column 'text'; it has body"):
        list(rows(Letters(), Source(str(tmp_path / "a.jsonl")), Reading()))


def test_text_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no text"):
        list(rows(Letters(), Source(str(tmp_path / "none.txt")), Reading()))
    (tmp_path / "empty.txt").write_text("\n\n")
    with pytest.raises(UsageError, match="holds no text"):
        list(mixed_rows(Letters(), [Source(str(tmp_path / "empty.txt"))], Reading()))
    with pytest.raises(UsageError, match="no task of its own"):
        list(rows(Letters(), Source(), Reading()))


def test_every_second_template_of_a_domain_is_kept_out_of_training() -> None:
    from mechfourier.domains.definition import domain
    from mechfourier.models.registry import load
    from mechfourier.sae.text import value_prompts

    model = load("calendar")
    out = HeldOut(model, Reading())
    months = domain("months")
    for number, template in enumerate(months.templates):
        import dataclasses

        prompts = value_prompts(model, dataclasses.replace(months, templates=(template,)))
        assert prompts is not None
        hidden = [Row(e.ids, (at,), ()) in out for e, at in prompts]
        assert all(hidden) if number % 2 == 0 else not all(hidden)


@pytest.mark.parametrize(
    "wrong", [{"positions": "first"}, {"held_out": 0.0}, {"held_out": 0.9}, {"context": 1}, {"skip": -1}]
)
def test_a_wrong_reading_is_refused(wrong: dict) -> None:
    with pytest.raises((UsageError, OutOfRange)):
        Reading(**wrong)
