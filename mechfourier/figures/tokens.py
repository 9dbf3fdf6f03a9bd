"""What is read where, as a section of a page: the tokens of one prompt per template, the one read marked."""

from typing import TYPE_CHECKING, Any

from mechfourier.drawing.html import Section, block

if TYPE_CHECKING:
    from mechfourier.domains.reads import TemplateTokens


def tokens_section(reads: Any) -> list[Section]:
    """The section of a result that keeps what it read; none of one that does not (others count tokens under
    that name)."""
    from mechfourier.domains.reads import TokensRead

    if not isinstance(reads, TokensRead) or not reads.templates:
        return []
    lead = (
        f"One prompt per template as the model reads it; {reads.beginning()}. The marked token is the one "
        f"whose activation is used."
    )
    return [Section("What is read where", block("tokens", [_line(row) for row in reads.templates]), lead)]


def _line(row: "TemplateTokens") -> dict[str, Any]:
    """Tokens with their blanks and line breaks visible, and how many tokens the values have where that is not
    one."""
    tokens = [
        (t.replace("\n", "⏎").replace(" ", "␣") or "∅", i == row.read) for i, t in enumerate(row.tokens)
    ]
    counts = sorted(set(row.value_tokens))
    many = f"{counts[0]} to {counts[-1]}" if len(counts) > 1 else str(*counts)
    return {"tokens": tokens, "count": f"values of {many} tokens" if counts and counts != [1] else ""}
