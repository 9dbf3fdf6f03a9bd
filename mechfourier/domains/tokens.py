"""What a tokenizer makes of a domain: pieces of every prompt, of every answer, and what to beware of."""

from dataclasses import dataclass
from pathlib import Path

from mechfourier._arguments import checked
from mechfourier.domains.answers import answer_tokens
from mechfourier.domains.definition import Domain
from mechfourier.domains.definition import domain as find_domain
from mechfourier.domains.design import MIN_TESTABLE, Cycles, Design, max_cycles, read_positions, value_design
from mechfourier.domains.reads import TokensRead, some, token_texts, tokens_read
from mechfourier.errors import NotExpressible
from mechfourier.models.interface import Encoding, Readable, encode
from mechfourier.results.base import Result


@dataclass(frozen=True)
class PromptTokens:
    """One prompt as the model reads it. ``tokens[read]`` is the token whose activation is probed."""

    prompt: str
    tokens: tuple[str, ...]
    read: int
    answer: str | None = None


@dataclass(frozen=True)
class TokenReport(Result, kind="token-report"):
    """``values`` and ``operation`` prompts with their tokens (empty where the model cannot express them),
    ``answers`` with the number of their tokens, the number of ``cycles`` of offsets it can express, warnings.
    """

    domain: str
    model: str
    n: int
    values: tuple[PromptTokens, ...]
    operation: tuple[PromptTokens, ...]
    answers: dict[str, int]
    cycles: int
    warnings: tuple[str, ...]
    reads: TokensRead | None = None

    @property
    def beginning(self) -> str:
        """What every prompt begins with."""
        return "" if self.reads is None else self.reads.beginning()


@checked
def token_report(domain: Domain | str | Path, model: Readable, *, cycles: int = 4) -> TokenReport:
    """Prompts of ``domain`` with the tokens of ``model``, which needs a tokenizer (or ``encode``) and no
    weights."""
    domain = find_domain(domain)
    warnings: list[str] = []
    if domain.n < MIN_TESTABLE:
        warnings.append(
            f"{domain.name} has {domain.n} values: fewer than {MIN_TESTABLE} fit any circle (not testable)"
        )
    values, reads = _value_side(domain, model, warnings)
    operation, answers, found, asked = _operation_side(domain, model, cycles, warnings)
    if not values and not operation:
        raise NotExpressible(f"the model cannot express {domain.name}: {warnings[-1]}")
    name = str(getattr(model, "mechfourier_name", type(model).__name__))
    return TokenReport(
        domain.name, name, domain.n, values, operation, answers, found.cycles, tuple(warnings), reads or asked
    )


def _value_side(
    domain: Domain, model: Readable, warnings: list[str]
) -> tuple[tuple[PromptTokens, ...], TokensRead | None]:
    design = value_design(domain)
    try:
        encodings = encode(model, design.prompts)
    except NotExpressible as error:
        warnings.append(f"no value prompts: {error}")
        return (), None
    reads = tokens_read(model, design, encodings)
    warnings += reads.notes()
    return _rows(model, design, encodings), reads


def _operation_side(
    domain: Domain, model: Readable, cycles: int, warnings: list[str]
) -> tuple[tuple[PromptTokens, ...], dict[str, int], Cycles, TokensRead | None]:
    none = (), {}, Cycles(0, cycles), None
    if domain.operation is None:
        return none
    try:
        found = max_cycles(domain, model, cycles)
        design = domain.operation_design(found.cycles, template=found.template)
        encodings = encode(model, design.prompts)
        tokens = answer_tokens(model, design.prompts[:1], design.candidates)
    except NotExpressible as error:
        warnings.append(f"no operation prompts: {error}")
        return none
    if found.note:
        warnings.append(found.note)
    answers = {text: len(ids) for text, ids in zip(design.candidates, tokens, strict=True)}
    if split := [text.strip() for text, count in answers.items() if count > 1]:
        digits = all(text[-1].isdecimal() for text in split)
        warnings.append(
            f"{len(split)} of {domain.n} answers are split into {'digits' if digits else 'pieces'} "
            f"({some(split)}): they are scored over all their tokens"
        )
    lengths = {len(encoding.ids) for encoding in encodings}
    if len(lengths) > 1:
        warnings.append(
            f"operation prompts have {min(lengths)} to {max(lengths)} tokens: token length is a confound "
            f"(taken out by the probe)"
        )
    reads = tokens_read(model, design, encodings)
    return _rows(model, design, encodings), answers, found, reads


def _rows(model: Readable, design: Design, encodings: list[Encoding]) -> tuple[PromptTokens, ...]:
    read = read_positions(design, encodings).tolist()
    answers = design.answers or (None,) * len(design)
    return tuple(
        PromptTokens(p, token_texts(model, p, e), r, answer)
        for p, e, r, answer in zip(design.prompts, encodings, read, answers, strict=True)
    )
