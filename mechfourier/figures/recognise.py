"""Which result a JSON file holds: by its fields, since a result is nothing but its fields."""

import contextlib
import dataclasses
import importlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mechfourier.errors import BadCheckpoint, UsageError
from mechfourier.models.architectures import built_in, with_part
from mechfourier.results.base import Result

# "module:Class" of every result that a command saves; a new one is one line
KINDS: tuple[str, ...] = (
    "mechfourier.probes.result:ProbeResult",
    "mechfourier.causal.study:StudyResult",
    "mechfourier.causal.result:AblationResult",
    "mechfourier.causal.rotate:RotationResult",
    "mechfourier.causal.patch:PatchResult",
    "mechfourier.causal.arms:ArmsResult",
    "mechfourier.causal.sweep:SweepResult",
    "mechfourier.causal.attribution:AttributionResult",
    "mechfourier.causal.find_plane:CausalPlane",
    "mechfourier.probes.lens:LensResult",
    "mechfourier.domains.tasks:TasksResult",
    "mechfourier.probes.attention:AttentionResult",
    "mechfourier.probes.scan:ScanResult",
    "mechfourier.probes.numbers:NumberLine",
    "mechfourier.stats.helix:HelixFit",
    "mechfourier.stats.analogies:AnalogyResult",
    "mechfourier.stats.reducibility:Reducibility",
    "mechfourier.stats.planes:SharedPlane",
    "mechfourier.stats.validate:Validation",
    "mechfourier.sae.scoring:SAEScore",
    "mechfourier.sae.evaluation:SAEEvaluation",
    "mechfourier.sae.training:SAERun",
    "mechfourier.sweep.run:Sweep",
    "mechfourier.sweep.phase:PhaseDiagram",
    "mechfourier.reproduce.result:Reproduction",
)
MAX_BYTES = 200 * 2**20
HALF_CHARACTER = re.compile(
    r"\\u[dD][89a-fA-F]"
)  # an escaped surrogate: the text of a page can be written with pairs only


@dataclass(frozen=True)
class Opened:
    """A result read from ``path``, and where it came from ({} where the file does not say). ``result`` is a plain mapping where the file
    holds a summary for machines (``--json`` of a command that prints less than it saves)."""

    path: Path
    result: Result | dict[str, Any]
    provenance: dict[str, Any]


def open_result(path: str | Path) -> Opened:
    """Read a saved result. Raises ``UsageError`` for a file that holds no result of ours, ``BadCheckpoint`` for a broken one."""
    path = Path(path)
    if path.stat().st_size > MAX_BYTES:
        raise UsageError(f"{path} is larger than {MAX_BYTES >> 20} MiB; no result of ours is")
    try:
        text = path.read_text(encoding="utf-8")
        values = json.loads(text)
        if HALF_CHARACTER.search(text):
            json.dumps(values, ensure_ascii=False).encode()  # raises where the other half is missing
    except (ValueError, RecursionError) as error:
        raise BadCheckpoint(
            f"{path} is no JSON ({error}); give a result saved by a command's --out or --json"
        ) from error
    if not isinstance(values, dict):
        raise UsageError(
            f"{path} holds a JSON {type(values).__name__}, no result; give what a command saved with --out or --json"
        )
    origin = values.pop("provenance", None)
    found = kind_of(values)
    if found is not None:
        result = found.from_json(json.dumps(values)).found_in(path)
        return Opened(path, result, origin if isinstance(origin, dict) else {})
    if _is_summary(values):
        return Opened(path, values, origin if isinstance(origin, dict) else {})
    raise UsageError(
        f"{path} holds none of the results known here (its keys: {', '.join(list(values)[:6])}…); give what a command "
        "saved with --out or --json, or the folder of a run"
    )


def _kinds() -> Iterator[type[Result]]:
    """Every result class that a file may hold, those of the networks' records last."""
    for name in KINDS:
        module, _, kind = name.partition(":")
        yield getattr(importlib.import_module(module), kind)
    for record in with_part("results"):
        for name in record.results:
            with contextlib.nullcontext() if record in built_in() else contextlib.suppress(UsageError):
                yield record.part("results", name)


def kind_of(values: dict[str, Any]) -> type[Result] | None:
    """The result class with these fields: all that have no default are there, and no others."""
    keys = set(values)
    for kind in _kinds():
        fields = [f for f in dataclasses.fields(kind) if f.init]
        required = {
            f.name
            for f in fields
            if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
        }
        if required <= keys <= {f.name for f in fields}:
            return kind
    return None


def _is_summary(values: dict[str, Any]) -> bool:
    """What ``analyze --json`` and ``train --json`` print."""
    return {"accuracy", "key_freqs"} <= set(values) or {"test_accuracy", "checkpoint"} <= set(values)
