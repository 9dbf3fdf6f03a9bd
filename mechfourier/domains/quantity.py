"""What a domain file says: the values of a cycle, and the sentences and tasks about them."""

from dataclasses import dataclass
from typing import Literal

from mechfourier.domains.task_spec import Operation, TaskSpec
from mechfourier.errors import UsageError, nearest

Position = Literal["value", "last"]


@dataclass(frozen=True)
class Quantity:
    """``n`` values on a cycle, in order: value number v is followed by (v + 1) mod n.

    ``unit`` is the plural name of one step ("days"). ``position`` is where value prompts are read: at the
    value's last token (``"value"``) or at the prompt's last token (``"last"``). ``source`` is ``"packaged"``,
    ``"generated"`` or the path of a file. ``tasks`` are the questions that a model can be asked, the
    ``operation`` first; ``cyclic`` is False for an open row of values (numbers), whose last one is followed
    by none of them.
    """

    name: str
    title: str
    unit: str
    values: tuple[str, ...]
    templates: tuple[str, ...]
    operation: Operation | None
    position: Position = "value"
    source: str = "packaged"
    tasks: tuple[TaskSpec, ...] = ()
    cyclic: bool = True

    @property
    def n(self) -> int:
        """Length of the cycle."""
        return len(self.values)

    def task(self, name: str) -> TaskSpec:
        """The task of that name; raises ``UsageError``."""
        for task in self.tasks:
            if task.name == name:
                return task
        known = [task.name for task in self.tasks]
        if not known:
            raise UsageError(f"domain {self.name!r} has no tasks; add a [[task]] table to {self.source}")
        raise UsageError(
            f"domain {self.name!r} has no task {name!r}; closest: {nearest(name, known)} (it has "
            f"{', '.join(known)})"
        )
