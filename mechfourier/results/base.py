"""The shape that every result shares: frozen, printable, and the same after a trip through JSON."""

import dataclasses
import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from mechfourier.errors import BadCheckpoint
from mechfourier.files import write_json
from mechfourier.results.kinds import Kind, load, register
from mechfourier.results.plain import NOT_READ, plain, put_back, rebuild
from mechfourier.results.provenance import provenance, weights_of_name

if TYPE_CHECKING:
    import pandas as pd

NOTEBOOK = "mechfourier.figures.notebook:notebook_html"


def _with_origin(text: Callable[[Any], str]) -> Callable[[Any], str]:
    """``__str__`` of a result that also says, once, what its model's weights are and which fields of its file
    are not known here."""

    @functools.wraps(text)
    def said(result: "Result") -> str:
        shown, line = text(result), f"weights: {result.weights}"
        if result.weights is not None and line not in shown and "weights" not in type(result).__annotations__:
            first, end, rest = shown.partition("\n")
            shown = f"{first}\n{line}{end}{rest}"
        return f"{shown}\nnote: {note}" if (note := result.unknown_note()) and note not in shown else shown

    return said


@dataclasses.dataclass(frozen=True)
class Result:
    """Base of every result. Fields hold plain values and tuples, so that ``from_json(to_json())`` is the
    same.

    A class says its kind, its schema and who draws it where it is defined, and needs no other entry anywhere
    (:class:`Kind`)::

        class MyResult(Result, kind=…, schema=2, figure="package.module:function", renamed={"old_name":
        "new_name"})

    ``weights``: what the weights of the model went through before it was loaded ("Q4_K_M, dequantised to
    float32"), filled in for every result that names its ``model``; None where they are as published.
    ``unknown``: what a file held that this version has no field for, by field (nested as in the file); it is
    written back on saving.
    """

    about: ClassVar[Kind] = Kind("")
    weights: str | None = dataclasses.field(default=None, kw_only=True)
    unknown: dict[str, Any] = dataclasses.field(default_factory=dict, kw_only=True, repr=False, hash=False)

    def __init_subclass__(cls, kind: str = "", **about: Any) -> None:
        super().__init_subclass__()
        if kind:
            about = {"schema": 1, "command": kind, "renamed": {}} | about | {"name": kind}
        cls.about = dataclasses.replace(cls.about, **about)  # who draws it is inherited
        if kind:
            register(cls.about, cls)
        if "__str__" in cls.__dict__:
            setattr(cls, "__str__", _with_origin(cls.__dict__["__str__"]))  # noqa: B010

    def __post_init__(self) -> None:
        if self.weights is None:
            object.__setattr__(self, "weights", weights_of_name(getattr(self, "model", None)))

    def to_dict(self) -> dict[str, Any]:
        """Plain values: ``kind`` and ``schema`` first, then the fields; NaN is None."""
        values = {f.name: plain(getattr(self, f.name)) for f in dataclasses.fields(self)}
        head = {"kind": self.about.name, "schema": self.about.schema} if self.about.name else {}
        weights, unknown = values.pop("weights"), values.pop("unknown")
        return put_back({**head, **values, "weights": weights}, unknown)

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), allow_nan=False, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Rebuild a result from ``to_json`` text, of this or an older version; raises ``BadCheckpoint`` when
        it is no such text."""
        try:
            return cls.from_dict(json.loads(text))
        except NOT_READ as error:
            raise BadCheckpoint(f"this is no {cls.__name__}: {error}") from error

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """As :meth:`from_json` for parsed JSON; raises ``BadCheckpoint`` as well."""
        unknown: dict[str, Any] = {}
        try:
            found = rebuild(cls, {key: item for key, item in values.items() if key != "provenance"}, unknown)
        except NOT_READ as error:
            raise BadCheckpoint(f"this is no {cls.__name__}: {error}{cls._newer(values)}") from error
        object.__setattr__(found, "unknown", unknown)
        return found

    @classmethod
    def _newer(cls, values: Any) -> str:
        schema = values.get("schema") if isinstance(values, dict) else None
        if not isinstance(schema, int) or schema <= cls.about.schema:
            return ""
        return (
            f" (a newer version wrote it: schema {schema}, and this one knows {cls.about.schema}; upgrade "
            f"mechfourier)"
        )

    @classmethod
    def __from_plain__(cls, values: dict[str, Any]) -> dict[str, Any]:
        """The fields of a file, of today's names: what :func:`rebuild` reads. Files of version 0.1 say
        neither kind nor schema."""
        if "schema" not in values:
            return cls.migrate(dict(values), 1)
        fields = {key: item for key, item in values.items() if key not in ("kind", "schema")}
        if values.get("kind") != cls.about.name or not isinstance(values["schema"], int):
            raise TypeError(f"its kind is {values.get('kind')!r}")
        return cls.migrate(fields, values["schema"])

    @classmethod
    def migrate(cls, values: dict[str, Any], schema: int) -> dict[str, Any]:
        """``values`` of a file of ``schema`` with the names that the fields have now; a class whose fields
        changed more extends this."""
        if schema >= cls.about.schema:
            return values
        return {cls.about.renamed.get(key, key): item for key, item in values.items()}

    def unknown_note(self) -> str:
        """One sentence on the fields that this version does not know; empty where there are none."""
        names = ", ".join(self.unknown)
        return (
            f"the file also holds {names}, which this version does not know (kept when it is saved)"
            if names
            else ""
        )

    def save(self, path: str | Path) -> Path:
        """Write the result as JSON, atomically, with where it comes from under ``provenance``."""
        return write_json(path, {**self.to_dict(), "provenance": provenance()})

    def found_in(self, path: Path) -> Self:
        """This result as it was read from the file ``path``; one that names other files checks here that they
        are its own."""
        return self

    def frame(self) -> "pd.DataFrame":
        """The result as a table, one row per measurement."""
        raise NotImplementedError(type(self).__name__)

    def plot(self) -> Any:
        """A Plotly figure that draws only what ``frame()`` holds; raises ``NotImplementedError`` where there
        is none."""
        if not self.about.figure:
            raise NotImplementedError(f"there is no figure of a {type(self).__name__}; its table is .frame()")
        return load(self.about.figure)(self)

    def _repr_html_(self) -> str:
        """What a notebook shows: the verdict, a small drawing where there is one, the table."""
        return load(NOTEBOOK)(self)

    def part(self) -> Any:
        """The chapter of a page that shows it (``drawing.html.Part``)."""
        return load(self.about.part)(self)
