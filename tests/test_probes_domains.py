"""Domains are strict and complete; designs are row-major grids whose labels and spans are right."""

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from mechfourier.domains.definition import NUMBER_TEMPLATES, domain, list_domains, modular, parse_domain
from mechfourier.domains.design import confounds, max_cycles, read_positions
from mechfourier.domains.task_design import task_design
from mechfourier.domains.tokens import token_report
from mechfourier.errors import DomainSchemaError, NotExpressible, OutOfRange, UnknownDomain, UsageError
from mechfourier.models.interface import encode

PACKAGED = {
    "alphabet": 26,
    "compass": 8,
    "days": 7,
    "hours-12": 12,
    "hours-24": 24,
    "months": 12,
    "notes": 12,
    "numbers": 10,
    "seasons": 4,
}

GOOD = """\
title = "planets"
unit = "planets"
values = ["Mercury", "Venus", "Earth", "Mars", "Jupiter"]
templates = [
    "We fly to {value}", "They live on {value}", "A ship from {value}", "The air of {value}",
    "The colour of {value}", "The moons of {value}", "I can see {value}", "The next is {value}",
]

[operation]
templates = ["{value} + {offset} planets ="]
"""


def parse(text: str):
    return parse_domain(text, name="planets", where="planets.toml", source="planets.toml")


@pytest.fixture(scope="module")
def qwen(request: pytest.FixtureRequest):
    shared = request.getfixturevalue("shared_data")
    from transformers import AutoTokenizer

    return SimpleNamespace(tokenizer=AutoTokenizer.from_pretrained(shared / "qwen3-0.6b"))


@pytest.fixture(scope="module")
def calendar():
    from mechfourier.toys.calendar.tokens import build_tokenizer

    return SimpleNamespace(tokenizer=build_tokenizer())


def test_the_packaged_domains_are_the_promised_ones() -> None:
    assert {d.name: d.n for d in list_domains()} == PACKAGED
    for d in list_domains():
        assert len(d.templates) >= 8
        assert (d.operation is not None) == d.cyclic
        assert d.operation is None or len(d.operation.answers) == d.n
        assert len({task.name for task in d.tasks}) == len(d.tasks) > 1


def test_no_packaged_question_begins_with_the_value() -> None:
    """The first token is the attention sink of models without a beginning-of-sequence token."""
    for d in (*list_domains(), modular(23)):
        assert not any(t.startswith("{value}") for t in d.templates)
        assert not any(t.startswith("{value}") for t in (d.operation.templates if d.operation else ()))
        for task in d.tasks:
            design = task_design(d, task) if task.name != "arithmetic" else d.operation_design(1)
            assert design.operand is not None
            assert min(start for start, _ in design.operand) > 0


@settings(max_examples=12, deadline=None)
@given(n=st.integers(2, 200), cycles=st.integers(1, 4))
def test_modular_designs_state_true_sums(n: int, cycles: int) -> None:
    cycles = 1 if n > 30 else cycles
    design = domain(f"mod-{n}").operation_design(cycles)
    assert design.shape == (n, cycles * n)
    assert design.answers is not None
    for i in (0, len(design) // 2, len(design) - 1):
        found = re.fullmatch(r"Compute (\d+) \+ (\d+) mod (\d+) =", design.prompts[i])
        assert found
        a, o, m = map(int, found.groups())
        assert m == n
        assert design.answers[i] == f" {(a + o) % n}"
        assert (a, o) == (int(design.a[i]), int(design.offset[i]))  # type: ignore[index]
        assert design.candidates[int(design.label[i])] == design.answers[i]


@pytest.mark.parametrize("name", sorted(PACKAGED))
def test_grids_are_row_major_and_spans_cover_the_value(name: str) -> None:
    chosen = domain(name)
    values = chosen.value_design()
    assert values.spans is not None
    assert values.template is not None
    grid = torch.arange(len(values)).reshape(values.shape)
    for v in range(chosen.n):
        for t, i in enumerate(grid[v].tolist()):
            assert values.prompts[i] == chosen.templates[t].replace("{value}", chosen.values[v])
            start, stop = values.spans[i]
            assert values.prompts[i][start:stop] == chosen.values[v]
            assert (int(values.value[i]), int(values.template[i])) == (v, t)
    if chosen.operation is None:
        return
    operation = chosen.operation_design(2)
    assert operation.cycles == 2
    assert torch.equal(operation.label.reshape(operation.shape)[:, 0], torch.arange(chosen.n))
    assert operation.wraps.sum() == sum(
        a + o >= chosen.n for a in range(chosen.n) for o in range(2 * chosen.n)
    )


@pytest.mark.parametrize(
    "name", [*sorted(set(PACKAGED) - {"compass", "notes", "numbers"}), "mod-12", "mod-23"]
)
def test_the_calendar_model_can_say_every_sentence(name: str, calendar: Any) -> None:
    report = token_report(domain(name), calendar)
    assert report.values
    if domain(name).operation is None:  # a row: sums run past its values, so there are no cycles to ask
        assert name == "numbers" and report.cycles == 0
    elif name != "seasons":  # four values: no operation sentences of them are taught
        assert report.cycles == 4
        assert report.operation
        assert set(report.answers.values()) == {1}
    for row in report.values:
        assert row.tokens[row.read] in domain(name).values


def test_the_calendar_corpus_says_these_sentences() -> None:
    from mechfourier.toys.calendar.text import DOMAIN_TEXT

    spoken = {d.name: set(d.templates) for d in DOMAIN_TEXT}
    for name in sorted(set(PACKAGED) - {"compass", "notes"}):
        assert set(domain(name).templates) <= spoken[name]
    assert set(NUMBER_TEMPLATES) <= spoken["numbers"]


def test_the_vocabulary_limits_the_cycles(calendar: Any) -> None:
    found = max_cycles(domain("mod-50"), calendar)
    assert found.cycles == 2
    assert found.note is not None
    assert "2 of the 4 cycles" in found.note
    assert max_cycles(domain("mod-50"), calendar, 2).note is None
    with pytest.raises(NotExpressible, match="no token"):
        max_cycles(domain("compass"), calendar)


def test_a_model_mod_p_has_one_cycle() -> None:
    from mechfourier.toys.one_layer.model import OneLayerConfig, OneLayerTransformer

    model = OneLayerTransformer(OneLayerConfig(p=11, d_model=8, n_heads=1, d_head=8, d_mlp=8))
    found = max_cycles(domain("mod-11"), model)
    assert found.cycles == 1
    with pytest.raises(NotExpressible):
        max_cycles(domain("mod-12"), model)
    with pytest.raises(NotExpressible):
        encode(model, domain("mod-11").value_design().prompts)
    report = token_report(domain("mod-11"), model)
    assert report.values == ()
    assert len(report.operation) == 121


def test_qwen_reads_names_whole_and_numbers_in_digits(qwen: Any) -> None:
    for name in ("days", "months"):
        report = token_report(domain(name), qwen)
        assert not any("values are more than one token" in w for w in report.warnings)
        assert set(report.answers.values()) == {1}
        assert all(row.tokens[row.read].strip() in domain(name).values for row in report.values)
        assert {row.tokens[row.read] for row in report.operation} == {" ="}
    numbers = token_report(domain("mod-23"), qwen)
    assert any("split into digits" in w for w in numbers.warnings)
    assert any("values are more than one token" in w for w in numbers.warnings)
    assert numbers.answers[" 7"] == 2
    assert numbers.answers[" 22"] == 3


def test_positions_are_those_of_the_value_or_the_end(qwen: Any) -> None:
    hours = domain("hours-12")
    design = hours.value_design()
    encodings = encode(qwen, design.prompts)
    for prompt, e, i in zip(
        design.prompts, encodings, read_positions(design, encodings).tolist(), strict=True
    ):
        assert prompt[slice(*e.spans[i])].isdecimal()
    last = hours.value_design(position="last")
    assert last.spans is None
    assert read_positions(last, encodings).tolist() == [len(e.ids) - 1 for e in encodings]
    with pytest.raises(UsageError, match="encodings for"):
        read_positions(design, encodings[:-1])


def test_confounds_are_the_surface_of_the_cells(qwen: Any) -> None:
    design = domain("mod-23").operation_design()
    found = confounds(design, encode(qwen, design.prompts))
    column = dict(zip(found.names, found.values.T, strict=True))
    assert design.offset is not None
    a, o = design.a, design.offset
    assert torch.equal(column["carry"], ((a % 10) + (o % 10) >= 10).double())
    assert torch.equal(column["sum_tens"], ((a + o) // 10).double())
    assert torch.equal(
        column["tokens"] - column["tokens"].min(), ((a >= 10).long() + (o >= 10).long()).double()
    )
    named = confounds(domain("days").operation_design())
    assert named.names == ("offset_two_digits", "offset_tens")
    assert confounds(domain("days").operation_design(1)).names == ()
    with pytest.raises(UsageError):
        confounds(domain("days").value_design())


def test_unknown_names_get_the_nearest() -> None:
    with pytest.raises(UnknownDomain, match="months"):
        domain("monhts")
    with pytest.raises(UnknownDomain, match="no domain file"):
        domain("nowhere/mine.toml")
    for bad in (0, 1, 201):
        with pytest.raises(OutOfRange, match="2 to 200"):
            domain(f"mod-{bad}")
    assert domain(" Months ").name == "months"
    assert domain("mod23") == modular(23)


def test_bad_options_are_refused() -> None:
    with pytest.raises(OutOfRange, match="cycles"):
        domain("days").operation_design(0)
    with pytest.raises(OutOfRange, match="template 2"):
        domain("days").operation_design(template=2)
    with pytest.raises(OutOfRange, match="position"):
        domain("days").value_design(position="middle")


def test_a_file_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "planets.toml"
    path.write_text(GOOD)
    own = domain(path)
    assert own == domain(str(path))
    assert (own.name, own.n, own.source) == ("planets", 5, str(path))
    assert own.operation_design().answers[:2] == (" Mercury", " Venus")  # type: ignore[index]
    plain = parse(GOOD.partition("[operation]")[0])
    assert plain.operation is None
    with pytest.raises(UsageError, match="no operation"):
        plain.operation_design()
    path.write_bytes(b'title = "\xff"')
    with pytest.raises(DomainSchemaError, match="UTF-8"):
        domain(path)


@pytest.mark.parametrize(
    ("old", "new", "line", "says"),
    [
        ('unit = "planets"', 'units = "planets"', 2, "key units: unknown key 'units'; closest: unit"),
        ('unit = "planets"', "unit = 3", 2, "key unit: must be a text"),
        ('unit = "planets"\n', "", 1, "key unit: is missing"),
        ('unit = "planets"', 'unit = "planets"\nn = 6', 3, "key n: n is 6, and there are 5 values"),
        ('unit = "planets"', 'unit = "planets"\nposition = "first"', 3, "key position"),
        ('"Mars"', '"Earth"', 3, "key values: 'Earth' is there 2 times"),
        ('"Mars"', '"Mars "', 3, "'Mars ' is empty or has blanks"),
        ('"Mars"', "4", 3, "key values: must be a list of texts"),
        (', "Earth", "Mars", "Jupiter"', "", 3, "key values: 2 given, at least 3 needed"),
        ("The colour of {value}", "The colour", 6, "must hold {value} once each"),
        ("The colour of {value}", "The {value} of {value}", 6, "must hold {value} once"),
        ("The colour of {value}", "The colour of {value} {day}", 6, "{day}"),
        ('"The colour of {value}", ', "", 4, "key templates: 7 given, at least 8 needed"),
        ("The colour of {value}", "The air of {value} now", 6, "same text before {value}"),
        ("{value} + {offset} planets", "{value} + planets", 10, "key operation.templates"),
        ("[operation]", "[operations]", 9, "key operations: unknown key"),
        ('planets ="]', 'planets ="]\nanswers = ["a"]', 11, "key operation.answers: 1 answers for 5 values"),
        ('planets ="]', 'planets ="]\nanswer = ["a"]', 11, "key operation.answer: unknown key"),
    ],
)
def test_schema_errors_name_the_line_and_the_key(old: str, new: str, line: int, says: str) -> None:
    assert old in GOOD
    with pytest.raises(DomainSchemaError) as caught:
        parse(GOOD.replace(old, new, 1))
    assert f"planets.toml, line {line}, key " in str(caught.value)
    assert says in str(caught.value)


def test_syntax_errors_name_the_line() -> None:
    with pytest.raises(DomainSchemaError, match="line 2"):
        parse('title = "x"\nunit = \n')
    with pytest.raises(DomainSchemaError, match="operation must be a table"):
        parse("operation = 3\n" + GOOD.partition("[operation]")[0])


def run(*arguments: str):
    from mechfourier.cli.app import app

    result = CliRunner().invoke(app, list(arguments))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_the_command_lists_and_shows(shared_data: Path) -> None:
    listed = json.loads(run("domains", "--json").stdout)
    assert [row["name"] for row in listed["domains"]] == sorted(PACKAGED)
    assert "hours-24" in run("domains").stdout
    folder = str(shared_data / "qwen3-0.6b")
    shown = run("domains", "show", "mod-23", "--model", folder, "--json")
    report = json.loads(shown.stdout)
    assert report["answers"][" 22"] == 3
    assert "split into digits" in shown.stderr
    assert "«June»" in run("domains", "show", "months", "-m", folder).stdout.replace(" June", "June")
    assert "Compute Monday + 0 days = → ' Monday'" in run("domains", "show", "days").stdout
    prompts = json.loads(run("domains", "show", "days", "--json").stdout)
    assert len(prompts["operation_prompts"]["prompts"]) == 196
