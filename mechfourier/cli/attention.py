"""``mechfourier attention``: where the reading position looks."""

from typing import TYPE_CHECKING, Annotated

import typer

from mechfourier.cli.common import domain_of, emit_json, note, quiet_libraries
from mechfourier.cli.options import AskedDomain, Cycles, DrawSeed, Json, JsonFolder, Layers, Model, NullDraws
from mechfourier.files import result_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from mechfourier.probes.attention_result import AttentionResult
    from mechfourier.probes.head_content import HeadFourier


def attention(
    model: Model,
    domain: AskedDomain = None,
    task: Annotated[
        str,
        typer.Option(help="An arithmetic task of the domain: what is read is a grid of value and offset."),
    ] = "arithmetic",
    layers: Layers = None,
    cycles: Cycles = 1,
    permutations: NullDraws = 500,
    seed: DrawSeed = 0,
    show_tokens: Annotated[
        bool,
        typer.Option("--show-tokens", help="Print the tokens of one prompt, the reading position marked."),
    ] = False,
    json_: Json = False,
    out: JsonFolder = None,
) -> None:
    """Attention from the reading position to each role of the prompt, per layer and head, with the heads'
    Fourier content."""
    quiet_libraries()
    from mechfourier.models.registry import load
    from mechfourier.probes.attention import attention as run

    wanted = domain_of(domain, model, task=task)
    result = run(
        load(model), wanted, layers=layers, task=task, cycles=cycles, n_permutations=permutations, seed=seed
    )
    if out is not None:
        path = out / f"{result_name('attention', result.model, wanted.name)}.json"
        note(f"wrote {result.save(path)}")
    if json_:
        return emit_json(result.to_dict())
    show(result, tokens=show_tokens)
    return None


def show(result: "AttentionResult", *, tokens: bool = False) -> None:
    """The roles in words, then the heads that look at words, then those that carry the answer."""
    from mechfourier.cli.tables import print_frame, say
    from mechfourier.probes.roles import SINKS

    for line in str(result).splitlines():
        say(line)
    if tokens and result.tokens is not None:
        for row in result.tokens.templates:
            say(f"  tokens: {row}")
    for text in result.notes:
        say(f"note: {text}")
    frame = result.frame()
    words = frame.loc[~frame["role"].isin(list(SINKS))].nlargest(15, "attention")
    words = words.rename(columns={"null_mean": "shuffled", "p_value": "p"})
    print_frame(words, title="strongest 15 of all heads and words (the attention sink aside)")
    if carriers := result.carriers():
        content = pd_frame(carriers[:10])
        print_frame(
            content, title=f"heads that carry (a + offset) mod {result.n}: shares of their output's variance"
        )


def pd_frame(rows: "Sequence[HeadFourier]") -> "pd.DataFrame":
    """Heads with the share on the sum, what permuted offsets and an even spread give, and the best
    harmonic."""
    import pandas as pd

    columns = (
        "layer",
        "head",
        "sum_line",
        "chance",
        "even",
        "p_value",
        "a_only",
        "offset_only",
        "best_k",
        "best_share",
    )
    frame = pd.DataFrame([{name: getattr(row, name) for name in columns} for row in rows])
    return frame.rename(
        columns={
            "sum_line": "sum",
            "p_value": "p",
            "a_only": "a",
            "offset_only": "offset",
            "best_k": "k",
            "best_share": "at k",
        }
    )


def register(app: typer.Typer) -> None:
    app.command(name="attention")(attention)
