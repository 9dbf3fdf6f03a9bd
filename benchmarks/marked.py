"""Tables of the documents that scripts write, each between two marks."""


def between(text: str, first: str, last: str, made: str) -> str:
    """``text`` with ``made`` in place of what stands between the marks ``first`` and ``last``, which are lines of their
    own. Raises ``SystemExit`` where ``first`` is missing."""
    head, mark, rest = text.partition(f"{first}\n")
    if not mark:
        raise SystemExit(f"the page has no line {first}")
    return f"{head}{first}\n{made}\n{last}{rest.partition(last)[2]}"
