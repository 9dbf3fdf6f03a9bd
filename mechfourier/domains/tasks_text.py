"""``TasksResult`` as a table of at most 80 columns."""

import textwrap
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mechfourier.domains.tasks import Accuracy, TaskRow, TasksResult

WIDTH = 80
ALIKE, LONGEST = 30, 160  # characters of a reason that make it the same as another, and that are shown
_HEAD = f"{'task':<12}{'kind':<12}{'right, 95 % exact':<22}{'of':>4}{'greedy':>8}{'wrap':>6}{'no wrap':>8}{'p':>8}"


def table_of(result: "TasksResult") -> str:
    """The tasks by domain, with what their columns mean; templates below their task where there are
    several."""
    lines = [f"{result.model}: accuracy by task (best of the candidates)"]
    for domain in dict.fromkeys(row.domain for row in result.rows):
        rows = [row for row in result.rows if row.domain == domain]
        chance = sorted({f"{row.chance:.1%}" for row in rows if row.template is None})
        lines += ["", f"{domain} (chance {' to '.join((chance[0], chance[-1])[: len(chance)])})", _HEAD]
        for row in rows:
            lines += _lines(row)
        lines.append(_best(result, domain))
    if result.rows:
        lines += [
            "",
            *_wrapped(
                "greedy: by greedy decoding over the whole vocabulary; wrap: the answer lies beyond the "
                "last value; "
                "p: exact binomial against chance, Holm over the tasks"
            ),
        ]
    if result.unasked:
        lines += ["", "not asked:"] if result.rows else ["no task can be asked of this model:"]
        for reason in _grouped(result.unasked):
            lines += _wrapped(f"- {reason}", indent="  ")
    for note in result.notes:
        lines += _wrapped(f"note: {note}", indent="  ")
    return "\n".join(lines)


def _grouped(unasked: "tuple[str, ...]") -> list[str]:
    """The tasks of a domain that have nearly the same reason (the same beginning) in one line, with the first
    one's."""
    found: dict[tuple[str, str], list[str]] = {}
    reasons: dict[tuple[str, str], str] = {}
    for each in unasked:
        where, _, reason = each.partition(": ")
        domain, _, task = where.partition(", ")
        key = (domain, reason[:ALIKE])
        found.setdefault(key, []).append(task)
        reasons.setdefault(key, textwrap.shorten(reason, LONGEST, placeholder=" …"))
    return [
        f"{domain}{' ' if tasks[0] else ''}{', '.join(tasks)}{': ' if reasons[domain, key] else ''}{reasons[domain, key]}"
        for (domain, key), tasks in found.items()
    ]


def _wrapped(text: str, indent: str = "") -> list[str]:
    return textwrap.wrap(text, WIDTH, subsequent_indent=indent, break_long_words=False)


def _lines(row: "TaskRow") -> list[str]:
    a = row.accuracy
    share = f"{a.share:7.1%} [{100 * a.low:.1f}, {100 * a.high:.1f}]"
    p = "" if row.p_holm is None else "<1e-9" if row.p_holm < 1e-9 else f"{row.p_holm:.2g}"
    numbers = f"{share:<22}{a.prompts:>4}{_percent(row.greedy):>8}{_percent(row.wrap):>6}{_percent(row.no_wrap):>8}{p:>8}"
    if row.template is None:
        return [f"{row.task[:11]:<12}{row.kind:<12}{numbers}".rstrip()]
    shown = textwrap.shorten(row.template.replace("\n", "⏎"), WIDTH - 2, placeholder=" …")
    return [f"  {shown}", f"{'':<24}{numbers}".rstrip()]


def _percent(value: "Accuracy | None") -> str:
    return "–" if value is None else f"{value.share:.0%}"


def _best(result: "TasksResult", domain: str) -> str:
    best = result.best(domain)
    if best is None:
        return "none is answered above chance"
    return f"best: {best.task}"
