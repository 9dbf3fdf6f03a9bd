"""Tasks: what a file may hold, what a question looks like, and how a model's answers are counted."""

import json
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from byte_models import DAYS, byte_model
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

import mechfourier
from mechfourier.domains.definition import domain, list_domains, parse_domain
from mechfourier.domains.task_choice import choose_task
from mechfourier.domains.task_design import _Column, chat_wrap, expressible, shown_pairs, task_design
from mechfourier.domains.task_spec import fill
from mechfourier.domains.tasks import TasksResult, score_task, specs_of, tasks
from mechfourier.errors import DomainSchemaError, NotExpressible, UsageError
from mechfourier.models.registry import load

GOOD = """\
title = "planets"
unit = "planets"
values = ["Mercury", "Venus", "Earth", "Mars", "Jupiter"]
templates = [
    "We fly to {value}", "They live on {value}", "A ship from {value}", "The air of {value}",
    "The colour of {value}", "The moons of {value}", "I can see {value}", "The next is {value}",
]

[operation]
templates = ["Take {value} + {offset} planets ="]

[[task]]
name = "list"
kind = "successor"
templates = ["In order: {value-2}, {value-1}, {value},"]

[[task]]
name = "before"
kind = "predecessor"
templates = ["The planet before {value} is"]
example = "The planet before {value} is {answer}."
examples = 2
draws = 3
"""


def parse(text: str = GOOD):
    return parse_domain(text, name="planets", where="planets.toml", source="planets.toml")


def test_an_operation_is_the_first_task_and_the_tables_follow() -> None:
    found = parse()
    assert [(task.name, task.kind) for task in found.tasks] == [
        ("arithmetic", "arithmetic"),
        ("list", "successor"),
        ("before", "predecessor"),
    ]
    assert found.task("list").answers[0] == " Mercury"
    with pytest.raises(UsageError, match="closest: list"):
        found.task("lst")


def replaced(old: str, new: str) -> str:
    assert old in GOOD
    return GOOD.replace(old, new, 1)


@pytest.mark.parametrize(
    ("old", "new", "line", "says"),
    [
        ('kind = "successor"', 'kind = "next"', 14, "key task[0].kind: kind is 'next'; closest:"),
        ('name = "before"', 'name = "list"', 18, "key task[1].name: two tasks are called 'list'"),
        ('name = "before"', "name = 3", 18, "key task[1].name: must be a text"),
        ('name = "before"\n', "", 17, "key task[1].name: is missing"),
        ("draws = 3", "draw = 3", 23, "key task[1].draw: unknown key 'draw'; closest: draws"),
        ("draws = 3", "draws = 0", 23, "draws is 0; it must be 1 to 100"),
        ("examples = 2", 'examples = "many"', 22, "examples is 'many'; it must be 1 to 4 or \"all\""),
        ("examples = 2", 'examples = "all"', 23, "nothing to draw"),
        ("{value-1}, {value},", "{value+1}, {value},", 15, "{value+1}, which is the answer"),
        ("{value-1}, {value},", "{value-4}, {value},", 15, "{value-4}, which is the answer"),
        ('before {value} is"]', 'before {offset} is"]', 20, "must hold {value} once"),
        ('before {value} is"]', 'before {value} is "]', 20, "blanks at its ends"),
        ("{value-1}, {value},", "{value-1}, {value} {day},", 15, "{day}, which means nothing"),
        (
            "is {answer}.",
            "is it.",
            21,
            "key task[1].example: 'The planet before {value} is it.' must hold {answer} once",
        ),
        ('example = "The planet before {value} is {answer}."\n', "", 17, "key task[1].example: is missing"),
        ("draws = 3", 'answers = ["a"]', 23, "key task[1].answers: 1 answers for 5 values"),
        ("draws = 3", 'blank = "no"', 23, "key task[1].blank: blank is 'no'; it must be true or false"),
        ("draws = 3", 'separator = ", "', 23, "key task[1].separator"),
        ('planets ="]', 'planets ="]\nfallback = ["{value}"]', 11, "key operation.fallback"),
        ('unit = "planets"', 'unit = "planets"\ncyclic = 1', 3, "key cyclic: cyclic is 1"),
        (
            'unit = "planets"',
            'unit = "planets"\ncyclic = false',
            10,
            "key operation: operation runs round a cycle",
        ),
    ],
)
def test_schema_errors_name_the_line_and_the_key(old: str, new: str, line: int, says: str) -> None:
    with pytest.raises(DomainSchemaError) as caught:
        parse(replaced(old, new))
    assert f"planets.toml, line {line}, key " in str(caught.value)
    assert says in str(caught.value)


def test_neighbours_run_round_the_cycle_and_the_span_is_the_value_asked() -> None:
    found = parse()
    design = task_design(found, found.task("list"))
    assert design.prompts[0] == "In order: Mars, Jupiter, Mercury,"
    assert design.answers is not None and design.answers[4] == " Mercury"
    assert design.operand is not None
    assert [design.prompts[i][a:b] for i, (a, b) in enumerate(design.operand)] == list(found.values)
    assert design.wraps.tolist() == [False] * 4 + [True]
    before = task_design(found, found.task("before"))
    assert before.wraps.reshape(before.shape).all(dim=1).tolist() == [True] + [False] * 4


@given(seed=st.integers(0, 50), draw=st.integers(0, 5), value=st.integers(0, 11))
def test_examples_never_hold_the_pair_that_is_asked(seed: int, draw: int, value: int) -> None:
    months = domain("months")
    spec = months.task("next")
    column = _Column(0, draw, None)
    shown = shown_pairs(months, spec, value, column, seed)
    assert shown == shown_pairs(months, spec, value, column, seed)
    assert len({v for v, _ in shown}) == len(shown) == 2
    # with twelve months neither the answer nor the value asked about need to be named
    assert not {v for v, _ in shown} & {value, (value + 1) % 12, (value - 1) % 12}


def test_draws_differ_and_the_value_asked_is_the_last_one_named() -> None:
    months = domain("months")
    design = task_design(months, months.task("next"), seed=1)
    assert design.operand is not None and design.shape == (12, 3)
    assert len(set(design.prompts)) == len(design)
    for prompt, (start, stop), v in zip(design.prompts, design.operand, design.value.tolist(), strict=True):
        assert prompt[start:stop] == months.values[v] and prompt.endswith(f"after {months.values[v]} is")
    assert task_design(months, months.task("next"), seed=1).prompts == design.prompts
    assert task_design(months, months.task("next"), seed=2).prompts != design.prompts
    chain = task_design(months, months.task("chain"))
    assert all(prompt.count("followed by") == 12 for prompt in chain.prompts)


@pytest.mark.parametrize("name", sorted(d.name for d in list_domains()))
def test_answers_are_what_the_kind_says(name: str) -> None:
    chosen = domain(name)
    for spec in chosen.tasks:
        design = chosen.operation_design(1) if spec.name == "arithmetic" else task_design(chosen, spec)
        step = design.offset if design.offset is not None else spec.step
        right = design.value + step
        assert torch.equal(design.label, right % chosen.n if chosen.cyclic else right)
        assert int(design.label.max()) < design.n_answers
        # another value asked about, the same wording: the answer moves by as many steps
        delta = torch.ones_like(design.label)
        expected = delta if chosen.cyclic else torch.where(design.value < chosen.n - 1, 1, 1 - chosen.n)
        assert torch.equal(design.moved(torch.arange(len(design)), delta), expected)


def test_answers_start_with_a_blank_unless_the_question_opens_something() -> None:
    def answer(template: str, extra: str = "") -> str:
        text = replaced("In order: {value-2}, {value-1}, {value},", template) + extra
        return parse(text).task("list").answers[0]

    assert answer("After {value} comes") == " Mercury"
    assert answer("After {value} comes\\n") == "Mercury"
    assert answer('After {value} comes \\"') == "Mercury"
    with pytest.raises(DomainSchemaError, match="some end in a newline"):
        parse(
            replaced(
                '["In order: {value-2}, {value-1}, {value},"]', '["After {value} comes", "After {value}:\\n"]'
            )
        )
    both = replaced(
        '["In order: {value-2}, {value-1}, {value},"]',
        '["After {value} comes", "After {value}:\\n"]\nblank = true\nanswers = ["a", "b", "c", "d", "e"]',
    )
    assert parse(both).task("list").answers[0] == " a"


def test_fill_leaves_everything_else_as_it_is() -> None:
    assert fill("{value} + {offset} = {answer}.", ("a", "b"), 1, offset=3, answer="x") == (
        "b + 3 = x.",
        (0, 1),
    )


CHAT = (
    "{% for m in messages %}<s>{{ m['role'] }}: {{ m['content'] }}{% endfor %}{% if add_generation_prompt "
    "%} >{% endif %}"
)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return byte_model(tmp_path_factory.mktemp("tiny"))


def test_a_chat_template_goes_round_the_question(tiny: Any) -> None:
    spec = domain("days").task("chat")
    with pytest.raises(NotExpressible, match="no chat template"):
        chat_wrap(SimpleNamespace(tokenizer=tiny.tokenizer))
    tokenizer = SimpleNamespace(
        chat_template=CHAT,
        bos_token=None,
        apply_chat_template=lambda messages, **_: f"user: {messages[0]['content']} >",
    )
    wrap = chat_wrap(SimpleNamespace(tokenizer=tokenizer))
    design = task_design(domain("days"), spec, wrap=wrap)
    assert design.prompts[0] == "user: Which day comes after Monday? Answer with one word. >"
    assert design.operand is not None
    days = domain("days").values
    assert [design.prompts[i][a:b] for i, (a, b) in enumerate(design.operand)] == [
        day for day in days for _ in range(2)
    ]
    assert design.candidates[0] == "Monday"


def test_a_model_takes_the_wordings_that_it_has_words_for() -> None:
    calendar = load("calendar")
    days = domain("days")
    assert days.operation_design(1, model=calendar).prompts[0] == "Monday + 0 days ="
    with pytest.raises(NotExpressible, match="','"):
        expressible(calendar, days, days.task("list"))
    text = replaced(
        '["In order: {value-2}, {value-1}, {value},"]', '["After {value} is", "Bananas after {value} are"]'
    )
    for i, day in enumerate(("Mercury", "Venus", "Earth", "Mars", "Jupiter")):
        text = text.replace(f'"{day}"', f'"{days.values[i]}"')
    weekdays = parse(text.replace("After {value} is", "The day after {value} is"))
    design, notes = expressible(calendar, weekdays, weekdays.task("list"))
    assert design.wordings == ("The day after {value} is",)
    assert "1 of the 2 templates" in notes[0]


@pytest.fixture(scope="module")
def of_calendar() -> TasksResult:
    return tasks(load("calendar"), "days")


def test_the_calendar_adds_days_and_nothing_else(of_calendar: TasksResult) -> None:
    best = of_calendar.best("days")
    assert best is not None and best.task == "arithmetic" and best.accuracy.share > 0.95
    assert best.accuracy.low < best.accuracy.share <= best.accuracy.high
    assert best.p_holm is not None and best.p_holm < 1e-20
    assert any(reason.startswith("days, list: ") for reason in of_calendar.unasked)
    others = [row for row in of_calendar.tasks if row.task != "arithmetic"]
    assert others and not any(row.answered for row in others)


def test_the_table_fits_a_terminal_and_json_comes_back(of_calendar: TasksResult) -> None:
    assert max(map(len, str(of_calendar).splitlines())) <= 80
    assert TasksResult.from_json(of_calendar.to_json()).to_json() == of_calendar.to_json()
    frame = of_calendar.frame()
    assert {"accuracy", "accuracy_low", "accuracy_high", "wrap", "greedy", "p_holm"} <= set(frame.columns)
    assert len(of_calendar.plot().data) == 2


def test_the_package_of_tasks_can_be_called() -> None:
    from mechfourier.toys.one_layer import task as modular

    assert modular.__name__ == "mechfourier.toys.one_layer.task"
    found = mechfourier.tasks(load("one-layer"), "mod-113", n_prompts=30)
    best = found.best("mod-113")
    assert best is not None and best.accuracy.share == 1.0


def test_a_model_without_text_says_which_it_has_none_of() -> None:
    found = tasks(load("one-layer"), ["days", "numbers"])
    assert not found.rows
    assert "no task can be asked of this model" in str(found)
    assert max(map(len, str(found).splitlines())) <= 80


def test_the_choice_is_the_best_answered_and_falls_back_with_the_table(tiny: Any) -> None:
    chosen = choose_task(load("calendar"), domain("days"))
    assert (
        chosen.answered
        and chosen.spec.name == "arithmetic"
        and "the best that the model answers" in str(chosen.reason)
    )
    assert choose_task(load("calendar"), domain("days"), "next").spec.name == "next"
    with pytest.raises(UsageError, match="closest: next"):
        choose_task(load("calendar"), domain("days"), "nxt")
    lost = choose_task(tiny, DAYS)
    assert not lost.answered and "no task is answered above chance" in str(lost.reason)
    assert len(lost.table) > 3


def test_answers_of_many_tokens_are_judged_by_fewer_prompts(tiny: Any) -> None:
    """But by no fewer than a dozen, balanced over the answers."""
    for sequences, most in ((1, 12), (10**6, 48)):
        rows, _ = score_task(tiny, DAYS, specs_of(DAYS)[0], samples=48, sequences=sequences)
        assert rows[0].accuracy.prompts == min(most, len(DAYS.values) ** 2)


def test_a_first_token_value_is_warned_of(tiny: Any) -> None:
    from mechfourier.causal.task import task_of

    letters = replaced('"Mercury", "Venus", "Earth", "Mars", "Jupiter"', '"A", "B", "C", "D", "E"')
    own = parse(letters.replace("Take {value}", "{value}"))
    assert any("attention sink" in note for note in task_of(tiny, own, task="arithmetic").notes)
    assert not any(
        "attention sink" in note for note in task_of(tiny, parse(letters), task="arithmetic").notes
    )


def run(*arguments: str) -> Any:
    from mechfourier.cli.app import app

    return CliRunner().invoke(app, list(arguments), catch_exceptions=False)


def test_the_command_prints_a_table_or_json() -> None:
    shown = run("tasks", "calendar", "--domain", "days", "--task", "arithmetic", "--samples", "14")
    assert "best: arithmetic" in shown.stdout
    value = json.loads(run("tasks", "calendar", "--domain", "days", "--samples", "7", "--json").stdout)
    assert value["rows"][0]["task"] == "arithmetic" and value["rows"][0]["accuracy"]["prompts"] == 7


COMMANDS = {
    "ablate": ["--layer", "0", "--dim", "3", "--controls", "0"],
    "rotate": ["--site", "blocks.0.hook_resid_post", "--k", "1", "--controls", "0"],
    "patch": ["--site", "blocks.0.hook_resid_post", "--k", "1", "--controls", "0"],
    "sweep-ablate": ["--site", "z", "--layers", "0", "--flips", "9"],
    "attribution": ["--neurons", "1"],
    "find-plane": ["--site", "blocks.0.hook_resid_post", "--steps", "2"],
    "lens": ["--permutations", "99"],
}


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_causal_command_takes_a_task_and_says_which(command: str, tmp_path: Any) -> None:
    out = ["--out", str(tmp_path)]
    arguments = [command, "calendar", "--domain", "days", "--task", "next", *COMMANDS[command], *out]
    value = json.loads(run(*arguments, "--json").stdout)
    assert value["task"] == "next"
    with pytest.raises(UsageError, match="closest: next"):
        run(*[each if each != "next" else "nxt" for each in arguments])


def test_a_study_without_an_answered_task_turns_the_models_own_answers(tiny: Any) -> None:
    from mechfourier.causal.study import study

    found = study(tiny, DAYS, n_controls=199, n_permutations=99, n_prompts=14)
    assert found.used == "not used" and found.rotation is not None and found.ablation is None
    assert any("answers at chance" in reason for reason in found.reasons)
    assert any("no task is answered above chance" in note for note in found.notes)
    assert {"arithmetic", "list", "next"} <= {row.task for row in found.tasks}
