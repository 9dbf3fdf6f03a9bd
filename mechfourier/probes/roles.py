"""Which tokens of an operation prompt play which part: beginning of sequence, first token, operands,
operator, modulus, unit, "="."""

import dataclasses
import re
from collections.abc import Sequence

from mechfourier.domains.definition import Domain
from mechfourier.domains.design import Design
from mechfourier.errors import UsageError
from mechfourier.models.interface import Encoding

SINKS = ("beginning of sequence", "first token")
"""Where attention goes that has nothing to look for: the special token that prompts begin with, or else their first token."""
WORDS = ("first operand", "operator", "second operand", "modulus", "unit", "equals")
ROLES = (*SINKS, *WORDS)
LEAD = "Take "
"""Put before a template that begins with its operand, where the first token would be operand and sink at once."""
_PLACEHOLDER = re.compile(r"\{(value|offset)\}")
_MODULUS = re.compile(r"\b(?:mod|modulo)\s+(\d+)")

Span = tuple[int, int]


def role_spans(design: Design) -> tuple[dict[str, Span], ...]:
    """The characters of every role in every prompt of an operation design; a role that the template lacks is
    absent.

    ``unit`` is what stands between the second operand and "=" and is no modulus ("days"). Raises
    ``UsageError`` for a value design.
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
    return {role: spans[role] for role in WORDS if role in spans}


def _literal(role: str, text: str, start: int, stop: int, pattern: str) -> dict[str, Span]:
    found = re.compile(pattern).search(text, start, stop)
    return {role: found.span()} if found else {}


def role_tokens(spans: dict[str, Span], encoding: Encoding) -> dict[str, tuple[int, ...]]:
    """Token indices of every role: all tokens that overlap its characters."""
    return {
        role: tuple(i for i, (a, b) in enumerate(encoding.spans) if a < stop and b > start and b > a)
        for role, (start, stop) in spans.items()
    }


def with_sink(tokens: dict[str, tuple[int, ...]], encoding: Encoding) -> dict[str, tuple[int, ...]]:
    """The roles of a prompt with that of its first position: ``beginning of sequence`` where it stands for no
    text, ``first token`` where it is a word of no other role."""
    if not encoding.ids or any(0 in taken for taken in tokens.values()):
        return tokens
    start, stop = encoding.spans[0]
    return {SINKS[0] if start == stop else SINKS[1]: (0,), **tokens}


def operand_is_first(tokens: Sequence[dict[str, tuple[int, ...]]]) -> bool:
    """Whether the first operand is the first token of every prompt."""
    return all(0 in by_role.get("first operand", ()) for by_role in tokens)


def behind_a_word(domain: Domain, template: str) -> Domain:
    """The domain with ``LEAD`` before the operation ``template``, so that the operand is not the first
    token."""
    operation = domain.operation
    if operation is None:
        raise UsageError(f"domain {domain.name!r} has no operation")
    return dataclasses.replace(domain, operation=dataclasses.replace(operation, templates=(LEAD + template,)))
