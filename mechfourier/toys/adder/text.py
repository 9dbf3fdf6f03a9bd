"""Prompts of the adders: ``12+345=`` and the answer so far, as tokens with the characters they stand for."""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mechfourier.errors import NotExpressible
from mechfourier.models.interface import Encoding
from mechfourier.toys.adder.task import EQUALS, PLUS

if TYPE_CHECKING:
    from mechfourier.toys.adder.config import AdderConfig

PROBLEM = re.compile(
    r"\s*(?P<a>[0-9]+)\s*(?P<plus>\+)\s*(?P<b>[0-9]+)\s*(?P<equals>=)\s*(?P<answer>[0-9]*)\s*"
)


def encode_prompt(cfg: "AdderConfig", prompt: str) -> Encoding:
    """The tokens of ``a+b=`` and of the answer's characters after it, in the order in which the model writes
    them.

    The zeros that a padding model puts before the shorter operand stand for no character. Raises
    ``NotExpressible`` for anything else: letters, an empty operand, a minus sign, more digits than the model
    has positions for.
    """
    found = PROBLEM.fullmatch(prompt)
    if found is None:
        raise NotExpressible(
            f"{cfg.model_name} reads only additions like '12+345=', not {prompt!r}: {_fault(prompt)}"
        )
    longest = max(len(found["a"]), len(found["b"]))
    check_digits(cfg, longest, prompt)
    answer = len(found["answer"])
    if cfg.max_digits is not None and answer + 1 > cfg.target_positions:
        raise NotExpressible(
            f"the answer in {prompt!r} has {answer} digits, and the decoder of {cfg.model_name} has "
            f"positions for "
            f"{cfg.target_positions - 1}; give a shorter answer"
        )
    ids: list[int] = []
    spans: list[tuple[int, int]] = []
    for operand, sign, token in (("a", "plus", PLUS), ("b", "equals", EQUALS)):
        start, stop = found.span(operand)
        zeros = longest - (stop - start) if cfg.padded else 0
        ids += [0] * zeros + [int(c) for c in found[operand]] + [token]
        spans += [(start, start)] * zeros + [(i, i + 1) for i in range(start, stop)] + [found.span(sign)]
    start = found.start("answer")
    ids += [int(c) for c in found["answer"]]
    spans += [(i, i + 1) for i in range(start, start + answer)]
    return Encoding(tuple(ids), tuple(spans))


def check_digits(cfg: "AdderConfig", digits: int, prompt: str) -> None:
    """Raise ``NotExpressible`` where a model with learned positions has none for so many digits."""
    if cfg.max_digits is not None and digits > cfg.max_digits:
        raise NotExpressible(
            f"{cfg.model_name} has positions for operands of up to {cfg.max_digits} digits, and {prompt!r} "
            f"has one of "
            f"{digits}; the packaged model adder has no such limit"
        )


def _fault(prompt: str) -> str:
    """What is wrong with a prompt that is no addition."""
    if "-" in prompt or "\u2212" in prompt:
        return "it adds natural numbers, so no number may be negative"
    if strange := sorted(set(re.findall(r"[^0-9+=\s]", prompt))):
        return f"{strange[0]!r} is no digit, + or ="
    if "=" not in prompt:
        return "the '=' at the end is missing"
    if re.search(r"(^|\+)\s*(\+|=)", prompt):
        return "an operand is empty"
    if prompt.count("+") != 1:
        return "it needs exactly one +"
    return "write two numbers with one + between them and one = at the end"


def answer_ids(cfg: "AdderConfig", answers: Sequence[str]) -> tuple[int, ...]:
    """The token of each answer character; raises ``NotExpressible`` for anything but one digit."""
    for answer in answers:
        if len(answer.strip()) != 1 or answer.strip() not in "0123456789":
            raise NotExpressible(
                f"{cfg.model_name} writes its answers digit by digit; {answer!r} is not one digit"
            )
    return tuple(int(answer) for answer in answers)
