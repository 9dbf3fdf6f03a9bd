"""``mechfourier domains`` and ``mechfourier domains show``: what can be asked, and what a tokenizer makes of
it."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from mechfourier.cli.common import CYCLES, emit_json, note, quiet_libraries
from mechfourier.cli.options import Json
from mechfourier.cli.refusals import Group
from mechfourier.files import own_path

if TYPE_CHECKING:
    from pathlib import Path

    from mechfourier.domains.definition import Domain
    from mechfourier.domains.tokens import PromptTokens, TokenReport


def register(app: typer.Typer) -> None:
    """Add the commands."""
    domains = typer.Typer(
        cls=Group,
        help="List the cyclic domains; `domains show NAME` prints the prompts of one.",
        invoke_without_command=True,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    domains.callback()(list_command)
    domains.command("show")(show_command)
    app.add_typer(domains, name="domains")


def list_command(context: typer.Context, as_json: Json = False) -> None:
    """List the packaged domains; mod-N is generated for any N from 2 to 200."""
    if context.invoked_subcommand is not None:
        return
    from mechfourier.domains.definition import MODULI, NUMBER_TEMPLATES, list_domains

    rows = [_row(d) for d in list_domains()]
    if as_json:
        generated = {"name": "mod-N", "N": list(MODULI), "templates": len(NUMBER_TEMPLATES)}
        emit_json({"domains": rows, "generated": [generated]})
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("domain", "n", "what", "first values", "operation")
    for row in rows:
        first = ", ".join(row["values"][:3])
        table.add_row(row["name"], str(row["n"]), row["title"], first, row["operation"] or "none")
    low, high = MODULI
    table.add_row("mod-N", f"{low}–{high}", "numbers modulo N", "0, 1, …", "{value} + {offset} mod N =")
    Console().print(table)
    note(
        "prompts and tokens: mechfourier domains show months --model MODEL · your own: --domain "
        "path/to/mine.toml"
    )


def _row(domain: "Domain") -> dict[str, Any]:
    return {
        "name": domain.name,
        "title": domain.title,
        "n": domain.n,
        "unit": domain.unit,
        "values": list(domain.values),
        "templates": len(domain.templates),
        "operation": domain.operation.templates[0] if domain.operation else None,
        "tasks": [task.name for task in domain.tasks],
    }


def show_command(
    name: Annotated[str, typer.Argument(help="A domain (months, mod-23, …) or the path of a TOML file.")],
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", help="Show this model's tokens: a name, or a folder with a tokenizer."),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every prompt, not a few.")] = False,
    cycles: Annotated[int, typer.Option(help="Cycles of offsets in the operation prompts.", **CYCLES)] = 4,
    as_json: Json = False,
) -> None:
    """Print the prompts of a domain; with --model also their tokens, and warnings about how they are cut."""
    from mechfourier.domains.definition import domain

    chosen = domain(name)
    quiet_libraries()
    if model is None:
        return _show_prompts(chosen, cycles, everything, as_json)
    from mechfourier.domains.tokens import token_report

    report = token_report(chosen, _reader(model), cycles=cycles)
    if as_json:
        for warning in report.warnings:
            note(f"warning: {warning}")
        return emit_json(report.to_dict())
    _print_tokens(chosen, report, everything)
    _print_questions(chosen, everything)
    return None


def _reader(name: str) -> Any:
    """Something that turns text into tokens: the tokenizer of a model's folder alone where it has one, else
    the model."""
    from types import SimpleNamespace

    from mechfourier.models.hugging_face import load_tokenizer
    from mechfourier.models.registry import load, resolve

    folder = _tokenizer_folder(name) or resolve(name)
    if _has_tokenizer(folder) and (tokenizer := load_tokenizer(folder)) is not None:
        return SimpleNamespace(tokenizer=tokenizer, mechfourier_name=name)
    return load(name)


def _tokenizer_folder(name: str) -> "Path | None":
    """A folder of that name with a tokenizer, be there weights in it or not."""
    import os
    from pathlib import Path

    from mechfourier.models.catalogue import FOLDERS_VARIABLE

    places = [own_path(name)]
    if root := os.environ.get(FOLDERS_VARIABLE):
        places.append(Path(root) / name)
    return next((place for place in places if _has_tokenizer(place)), None)


def _has_tokenizer(folder: "Path") -> bool:
    return any((folder / file).is_file() for file in ("tokenizer.json", "tokenizer_config.json"))


def _show_prompts(domain: "Domain", cycles: int, everything: bool, as_json: bool) -> None:
    values = domain.value_design()
    operation = domain.operation_design(cycles) if domain.operation else None
    if as_json:
        asked = operation and {"prompts": list(operation.prompts), "answers": list(operation.answers or ())}
        questions = {name: [prompt for prompt, _ in pairs] for name, pairs in _questions(domain).items()}
        emit_json(
            {
                **_row(domain),
                "value_prompts": list(values.prompts),
                "operation_prompts": asked,
                "task_prompts": questions,
            }
        )
        return
    typer.echo(f"{domain.name}: {domain.title}, n = {domain.n} ({domain.unit}), {len(values)} value prompts")
    for prompt in _some(values.prompts, everything, values.shape[1] + 1):
        typer.echo(f"  {prompt}")
    if operation and operation.answers:
        typer.echo(f"{len(operation)} operation prompts ({cycles} cycles)")
        pairs = list(zip(operation.prompts, operation.answers, strict=True))
        for prompt, answer in _some(pairs, everything, operation.shape[1] + 1):
            typer.echo(f"  {prompt} → {answer!r}")
    _print_questions(domain, everything)
    note("add --model MODEL to see the tokens")


def _print_questions(domain: "Domain", everything: bool) -> None:
    """Two prompts of every task, or all, with the answer that is right."""
    for name, pairs in _questions(domain).items():
        typer.echo(f"{len(pairs)} prompts of task {name}")
        for prompt, answer in pairs if everything else pairs[:: len(pairs) // domain.n + 1][:2]:
            shown = prompt.replace("\n", "\\n")
            typer.echo(f"  {shown} → {answer!r}")


def _questions(domain: "Domain") -> dict[str, list[tuple[str, str]]]:
    """Prompts and right answers of the tasks beside the operation (of chat tasks without the template round
    them)."""
    from mechfourier.domains.task_design import task_design
    from mechfourier.domains.task_spec import NATIVE

    designs = {
        task.name: task_design(domain, task)
        for task in domain.tasks
        if task.name != NATIVE or not domain.operation
    }
    return {
        name: list(zip(design.prompts, design.answers or (), strict=True)) for name, design in designs.items()
    }


def _print_tokens(domain: "Domain", report: "TokenReport", everything: bool) -> None:
    from mechfourier.cli.tables import say

    say(
        f"{domain.name} for {report.model}: n = {domain.n}; {report.beginning}; «…» is the token that is read"
    )
    for warning in report.warnings:
        say(f"warning: {warning}")
    if report.values:
        say(f"{len(report.values)} value prompts")
        for row in _some(report.values, everything, len(domain.templates) + 1):
            say(f"  {_marked(row)}")
    if report.operation:
        say(f"{len(report.operation)} operation prompts ({report.cycles} cycles of offsets)")
        for row in _some(report.operation, everything, report.cycles * domain.n + 1):
            count = report.answers[row.answer or ""]
            say(f"  {_marked(row)} → {row.answer!r} ({count} token{'s' * (count > 1)})")


def _marked(row: "PromptTokens") -> str:
    """The tokens between bars, the one read in «…»; line breaks as they are written."""
    shown = [f"«{t}»" if i == row.read else t or "·" for i, t in enumerate(row.tokens)]
    return "|".join(shown).replace("\n", "\\n")


def _some(rows: Any, everything: bool, stride: int, most: int = 8) -> Any:
    """A few rows from all over the grid: a stride of one row and one column."""
    return rows if everything else rows[::stride][:most]
