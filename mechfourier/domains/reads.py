"""What is read where: the tokens of one prompt per template, the position that is read, and how values are
cut."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mechfourier.domains.design import Design, read_positions
from mechfourier.models.interface import Encoding, Readable

if TYPE_CHECKING:
    from mechfourier.domains.prepare import Questions

MOST_NAMED = 4
"""Values, neighbours or templates named in one note; the rest are counted."""


@dataclass(frozen=True)
class TemplateTokens:
    """One prompt of a template as the model reads it: ``tokens[read]`` is the one whose activation is used.

    ``value_tokens[v]``: the number of tokens that value v has in this template (empty where it holds no
    value).
    """

    template: str
    tokens: tuple[str, ...]
    read: int
    value_tokens: tuple[int, ...]

    def __str__(self) -> str:
        shown = [f"«{token}»" if i == self.read else token for i, token in enumerate(self.tokens)]
        return "|".join(shown).replace("\n", "\\n")


@dataclass(frozen=True)
class TokensRead:
    """The tokens of one prompt per template.

    ``bos``: the special token that every prompt begins with, None where there is none. ``first_read[t]``: the
    share of template t's prompts that are read at their first token. ``pieces[v]``: the tokens of value v in
    the first template.
    """

    bos: str | None
    values: tuple[str, ...]
    pieces: tuple[tuple[str, ...], ...]
    templates: tuple[TemplateTokens, ...]
    first_read: tuple[float, ...]

    def __str__(self) -> str:
        lines = [self.beginning(), *(f"  {row}" for row in self.templates)]
        return "\n".join(lines)

    def rows(self) -> tuple[dict[str, str], ...]:
        """One row per template, for a table: the token read between « and », and how many tokens the values
        have."""
        return tuple(
            {"template": row.template, "tokens": str(row), "tokens per value": _counted(row.value_tokens)}
            for row in self.templates
        )

    def beginning(self) -> str:
        """What every prompt begins with, as one sentence."""
        if self.bos is None:
            return "prompts begin with their first word (no beginning-of-sequence token)"
        return f"prompts begin with {self.bos}"

    def notes(self) -> tuple[str, ...]:
        """Sentences on values of several tokens, on values that end alike, and on prompts read at their first
        token."""
        found = [self._split(), self._alike(), self._first()]
        return tuple(sentence for sentence in found if sentence)

    def reason(self) -> str | None:
        """The sentence that a verdict must carry: every prompt is read at its first token, without anything
        before it."""
        if self.bos is not None or not self.first_read or min(self.first_read) < 1:
            return None
        return (
            "every prompt is read at its first token, where a model without a beginning-of-sequence token "
            "has its "
            "attention sink; put words before {value}"
        )

    def split(self) -> tuple[int, ...]:
        """The values that are more than one token in some template."""
        counts = [row.value_tokens for row in self.templates if row.value_tokens]
        return tuple(v for v in range(len(self.values)) if any(row[v] > 1 for row in counts))

    def neighbours_alike(self) -> tuple[tuple[str, str, str], ...]:
        """Neighbouring values that end in the same token, with that token: (January, February, "uary")."""
        ends, found = [p[-1].strip() if p else "" for p in self.pieces], []
        for v in range(len(ends)):
            after = (v + 1) % len(ends)
            if len(ends) > 2 and ends[v] and ends[v] == ends[after]:
                found.append((self.values[v], self.values[after], ends[v]))
        return tuple(found)

    def _split(self) -> str:
        if not (split := self.split()):
            return ""
        numbers = all(self.values[v].isdecimal() for v in split)
        shown = [f"{self.values[v]} = {'|'.join(p.strip() for p in self.pieces[v])}" for v in split]
        return (
            f"{len(split)} of {len(self.values)} values are more than one token ({some(shown)}): the last "
            f"one is "
            f"read{', which is a number’s last digit' if numbers else ''}"
        )

    def _alike(self) -> str:
        if not self.split():
            return ""
        if pairs := self.neighbours_alike():
            shown = [f"{a} and {b} in “{token}”" for a, b, token in pairs]
            return (
                f"{len(pairs)} pairs of neighbouring values end in the same token ({some(shown)}): what is "
                f"read there "
                "is alike in any network, so that untrained weights show order too"
            )
        ends = {p[-1].strip() for p in self.pieces if p}
        if len(ends) < len(self.values):
            return (
                f"the {len(self.values)} values end in {len(ends)} different tokens: values that end alike "
                f"are read "
                "at the same token, whatever the model knows"
            )
        return ""

    def _first(self) -> str:
        if self.bos is not None:
            return ""
        first = [
            row.template for row, share in zip(self.templates, self.first_read, strict=True) if share > 0
        ]
        if not first:
            return ""
        which = (
            "every template"
            if len(first) == len(self.templates)
            else f"{len(first)} of {len(self.templates)} templates"
        )
        return (
            f"{which} ({some([repr(t) for t in first], 2)}) is read at the first token: in a model without a "
            "beginning-of-sequence token that is the attention sink, which hardly depends on the value; put "
            "words "
            "before {value}"
        )


def tokens_read(model: Readable, design: Design, encodings: Sequence[Encoding]) -> TokensRead:
    """What a design reads in ``encodings`` of its prompts; raises ``NotExpressible`` where no token covers a
    span."""
    read = read_positions(design, encodings).tolist()
    spans = value_spans(design)
    columns = [0] * len(design) if design.template is None else design.template.tolist()
    texts = templates_of(design)
    rows, shares = [], []
    for t, template in enumerate(texts):
        cells = [i for i, column in enumerate(columns) if column == t]
        first = {}
        for i in cells:
            first.setdefault(int(design.value[i]), i)
        counts = (
            tuple(len(_inside(encodings[first[v]], spans[first[v]])) for v in sorted(first)) if spans else ()
        )
        at = cells[0]
        texts_at = token_texts(model, design.prompts[at], encodings[at])
        rows.append(TemplateTokens(template, texts_at, read[at], counts))
        # a prompt of one token has no other token to attend to
        shares.append(sum(read[i] == 0 and len(encodings[i].ids) > 1 for i in cells) / len(cells))
    pieces = _pieces(design, encodings, spans) if spans else ()
    return TokensRead(
        bos_of(model, encodings), tuple(design.domain.values), pieces, tuple(rows), tuple(shares)
    )


def tokens_of(
    model: Readable,
    prompts: Sequence[str],
    encodings: Sequence[Encoding],
    read: Sequence[int],
    templates: Sequence[str] | None = None,
) -> TokensRead:
    """What is read in single prompts, one per template, where no design says which words are the value."""
    rows = tuple(
        TemplateTokens(template, token_texts(model, prompt, encoding), at, ())
        for template, prompt, encoding, at in zip(templates or prompts, prompts, encodings, read, strict=True)
    )
    first = tuple(
        float(at == 0 and len(encoding.ids) > 1) for at, encoding in zip(read, encodings, strict=True)
    )
    return TokensRead(bos_of(model, encodings), (), (), rows, first)


def tokens_asked(model: Readable, asked: "Questions") -> TokensRead:
    """What questions read: one prompt per template, at its last token."""
    rows, names = asked.rows.tolist(), templates_of(asked.design)
    columns = [0] * len(asked.design) if asked.design.template is None else asked.design.template.tolist()
    first: dict[int, int] = {}
    for i, row in enumerate(rows):
        first.setdefault(columns[row], i)
    chosen = [first[t] for t in sorted(first)]
    encodings = [asked.encodings[i] for i in chosen]
    return tokens_of(
        model,
        [asked.design.prompts[rows[i]] for i in chosen],
        encodings,
        [len(e.ids) - 1 for e in encodings],
        [names[t] for t in sorted(first)],
    )


def templates_of(design: Design) -> tuple[str, ...]:
    """The templates of a design, one per column of a value design; an operation has one."""
    if wordings := getattr(design, "wordings", ()):
        return tuple(wordings)
    if design.template is not None:
        return tuple(design.domain.templates)
    operation = design.domain.operation
    return tuple(operation.templates[:1]) if operation is not None else (design.prompts[0],)


def value_spans(design: Design) -> tuple[tuple[int, int], ...]:
    """The characters of the value in every prompt; empty where the prompts are not made of templates."""
    if operand := getattr(design, "operand", None):
        return tuple(operand)
    texts, found = templates_of(design), []
    columns = [0] * len(design) if design.template is None else design.template.tolist()
    for i, prompt in enumerate(design.prompts):
        value, template = design.domain.values[int(design.value[i])], texts[columns[i]]
        if design.offset is not None:
            template = template.replace("{offset}", str(int(design.offset[i])))
        start = template.find("{value}")
        if start < 0 or prompt[start : start + len(value)] != value:
            return ()
        found.append((start, start + len(value)))
    return tuple(found)


def _inside(encoding: Encoding, span: tuple[int, int]) -> list[int]:
    return [i for i, (a, b) in enumerate(encoding.spans) if a < span[1] and b > span[0]]


def _pieces(
    design: Design, encodings: Sequence[Encoding], spans: Sequence[tuple[int, int]]
) -> tuple[tuple[str, ...], ...]:
    """The tokens of every value in the first template."""
    found: dict[int, tuple[str, ...]] = {}
    for i, value in enumerate(design.value.tolist()):
        if value not in found:
            prompt, encoding = design.prompts[i], encodings[i]
            found[value] = tuple(prompt[slice(*encoding.spans[j])] for j in _inside(encoding, spans[i]))
    return tuple(found[v] for v in sorted(found))


def token_texts(model: Readable, prompt: str, encoding: Encoding) -> tuple[str, ...]:
    """The tokens of a prompt as text; one that stands for no character by its name."""
    return tuple(
        prompt[a:b] if b > a else token_name(model, token)
        for token, (a, b) in zip(encoding.ids, encoding.spans, strict=True)
    )


def token_name(model: Readable, token: int) -> str:
    """A token as its tokenizer writes it, blanks as blanks; its number where there is no tokenizer."""
    tokenizer = getattr(model, "tokenizer", None)
    name = tokenizer.convert_ids_to_tokens(token) if tokenizer is not None else None
    return f"token {token}" if name is None else str(name).replace("Ġ", " ").replace("▁", " ")


def bos_of(model: Readable, encodings: Sequence[Encoding]) -> str | None:
    """The token without text that every prompt begins with, or None."""
    first = {e.ids[0] for e in encodings if len(e.ids) > 1 and e.spans[0][0] == e.spans[0][1]}
    if len(first) != 1 or not all(e.ids and e.ids[0] in first for e in encodings):
        return None
    return token_name(model, next(iter(first)))


def _counted(counts: Sequence[int]) -> str:
    """ "1", or "1–3"."""
    if not counts:
        return "–"
    low, high = min(counts), max(counts)
    return str(low) if low == high else f"{low}–{high}"


def some(items: Sequence[str], most: int = MOST_NAMED) -> str:
    """The first few of ``items`` as text."""
    return ", ".join(items[:most]) + (", …" if len(items) > most else "")
