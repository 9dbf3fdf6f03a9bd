"""``mechfourier train MODEL``: one subcommand per model this project trains.

A new one: a module beside this file with ``register(train)``, and its name in ``TRAININGS``.
"""

import importlib

import typer

# Modules of mechfourier.cli, each with ``register(train)``; none of them imports torch at the top.
TRAININGS: tuple[str, ...] = ("train_adder", "train_calendar", "train_miras", "train_one_layer")

train = typer.Typer(
    name="train",
    help="Train the models that ship with mechfourier, or variants of them, from scratch.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

for _name in TRAININGS:
    importlib.import_module(f"mechfourier.cli.{_name}").register(train)


@train.callback()
def _train() -> None:
    """Keeps ``train`` a group of commands while it has only one."""


def register(app: typer.Typer) -> None:
    app.add_typer(train)
