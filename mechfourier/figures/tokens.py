"""What is read where, as a section of a page: the tokens of one prompt per template, the one read marked."""

from typing import TYPE_CHECKING, Any

from mechfourier.drawing.html import Markup, Section, escape

if TYPE_CHECKING:
    from mechfourier.domains.reads import TemplateTokens, TokensRead


def tokens_section(reads: Any) -> list[Section]:
    """The section of a result that keeps what it read; none of one that does not (others count tokens under that name)."""
    from mechfourier.domains.reads import TokensRead

    if not isinstance(reads, TokensRead) or not reads.templates:
        return []
    lead = f"One prompt per template as the model reads it; {reads.beginning()}. The marked token is the one whose activation is used."
    return [Section("What is read where", tokens_markup(reads), lead)]


def tokens_markup(reads: "TokensRead") -> Markup:
    """One line per template."""
    return Markup('<ol class="tokens">' + "".join(_line(row) for row in reads.templates) + "</ol>")


def _line(row: "TemplateTokens") -> str:
    shown = "".join(_token(token, i == row.read) for i, token in enumerate(row.tokens))
    counts = sorted(set(row.value_tokens))
    many = (
        f' <span class="count">values of {counts[0] if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"} tokens</span>'
        if counts and counts != [1]
        else ""
    )
    return f"<li>{shown}{many}</li>"


def _token(text: str, read: bool) -> str:
    """A token with its blanks and line breaks visible; the one read says so to a screen reader as well."""
    visible = escape(text.replace("\n", "⏎").replace(" ", "␣") or "∅")
    return f'<mark title="read">{visible}</mark>' if read else f"<span>{visible}</span>"
