"""Which words of an operation prompt play which part: first operand, operator, second operand, modulus, unit, "="."""

import re
from collections.abc import Sequence

from mechfourier.errors import UsageError
from mechfourier.models.interface import Encoding
from mechfourier.probes.design import Design

ROLES = ("first operand", "operator", "second operand", "modulus", "unit", "equals")
_PLACEHOLDER = re.compile(r"\{(value|offset)\}")
_MODULUS = re.compile(r"\b(?:mod|modulo)\s+(\d+)")

Span = tuple[int, int]


def role_spans(design: Design) -> tuple[dict[str, Span], ...]:
    """The characters of every role in every prompt of an operation design; a role that the template lacks is absent.

    ``unit`` is what stands between the second operand and "=" and is no modulus ("days").
    Raises ``UsageError`` for a value design.
    """
    if design.offset is None or design.domain.operation is None:
        raise UsageError("roles are those of an operation design; use domain.operation_design()")
    template = design.wordings[0] if design.wordings else design.domain.operation.templates[0]
    return tuple(
        _spans(template, {"value": design.domain.values[a], "offset": str(o)})
        for a, o in zip(design.value.tolist(), design.offset.tolist(), strict=True)
    )


def _spans(template: str, words: dict[str, str]) -> dict[str, Span]:
    """Roles of one prompt: the placeholders where they land, and the literal text between them."""
    spans: dict[str, Span] = {}
    text, end = "", 0
    names = {"value": "first operand", "offset": "second operand"}
    for match in _PLACEHOLDER.finditer(template):
        text += template[end : match.start()]
        spans[names[match[1]]] = (len(text), len(text) + len(words[match[1]]))
        text += words[match[1]]
        end = match.end()
    text += template[end:]
    spans |= _literal(
        "operator", text, spans["first operand"][1], spans["second operand"][0], r"[+\-−]|plus|minus"
    )
    after = spans["second operand"][1]
    spans |= _literal("equals", text, after, len(text), r"=|is|equals")
    stop = spans.get("equals", (len(text), 0))[0]
    if (modulus := _MODULUS.search(text, after, stop)) is not None:
        spans["modulus"] = modulus.span(1)
    else:
        spans |= _literal("unit", text, after, stop, r"\w+")
    return {role: spans[role] for role in ROLES if role in spans}


def _literal(role: str, text: str, start: int, stop: int, pattern: str) -> dict[str, Span]:
    found = re.compile(pattern).search(text, start, stop)
    return {role: found.span()} if found else {}


def role_tokens(spans: dict[str, Span], encoding: Encoding) -> dict[str, tuple[int, ...]]:
    """Token indices of every role: all tokens that overlap its characters."""
    return {
        role: tuple(i for i, (a, b) in enumerate(encoding.spans) if a < stop and b > start and b > a)
        for role, (start, stop) in spans.items()
    }


def all_role_tokens(design: Design, encodings: Sequence[Encoding]) -> list[dict[str, tuple[int, ...]]]:
    """``role_tokens`` for every prompt of the design."""
    return [role_tokens(s, e) for s, e in zip(role_spans(design), encodings, strict=True)]
