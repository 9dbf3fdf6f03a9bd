"""Steering: turn the value that a prompt names to another one, and read what the model then writes.

The displacement of every prompt is worked out from its activation and added at one token, while the prompt is
scored and at every step of a generation. What it is compared with: the same model reading the prompt that
really names the target, and displacements of the same length in random planes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechfourier._arguments import checked
from mechfourier.causal.controls import N_CONTROLS, check_count, matched_controls
from mechfourier.causal.cost import bounded
from mechfourier.causal.experiment import Experiment, SiteActivations
from mechfourier.causal.steering import (
    NamedPrompt,
    Steering,
    class_columns,
    displaced_scores,
    named,
    room,
    steering_at,
    steps_to,
    target_of,
)
from mechfourier.causal.task import AnswerTask
from mechfourier.domains.answers import plan_answers, score_plan
from mechfourier.domains.definition import Domain
from mechfourier.domains.reads import TokensRead
from mechfourier.domains.sampling import balanced_sample
from mechfourier.domains.task_spec import NATIVE
from mechfourier.errors import OutOfRange, UsageError
from mechfourier.hooks.capture import capture
from mechfourier.hooks.edit import Edit
from mechfourier.hooks.generate import generate
from mechfourier.hooks.interventions import edit_add, intervene
from mechfourier.hooks.run import serving
from mechfourier.hooks.site import Site, model_name
from mechfourier.models.interface import Model, encode
from mechfourier.results.base import Result
from mechfourier.stats.intervals import wilson
from mechfourier.stats.permutation import permutation_p

if TYPE_CHECKING:
    import pandas as pd

SHOWN = 6  # prompts of the task that are generated from where none are given
NEW_TOKENS = 12


@dataclass(frozen=True)
class SteeredText:
    """One prompt. ``value`` is the value that it names, turned by ``steps``. ``before`` and ``after``: what the
    model writes; ``reference``: what it writes after the same prompt with the target in place of the value.
    ``p_before``, ``p_after``, ``p_reference``: probability of every candidate answer among the candidates."""

    prompt: str
    value: str
    steps: int
    before: str
    after: str
    reference: str
    p_before: tuple[float, ...]
    p_after: tuple[float, ...]
    p_reference: tuple[float, ...]


@dataclass(frozen=True)
class SteerResult(Result, kind="steer", figure="mechfourier.figures.steer:steer_figure"):
    """What steering did. ``to``: the target. ``success``: the share of the task's ``n_prompts`` held-out
    prompts whose best answer becomes the one that the model gives to the prompt that names the target (at
    the last token: the target itself), with its 95 % interval (Wilson); ``success_before``: the same without
    an edit. ``acts_on[w]`` and ``acts_on_before[w]``: mean probability of the answer that is right for value
    w, counted from the target (0). ``random_share``, ``random_max``: the success of displacements of the same
    length in ``n_controls`` random planes (with ``whole``: directions) on ``n_control_prompts`` prompts, on
    which the edit itself has ``paired_share``; ``p_value``: how many of them reach ``paired_share``.
    ``edit_norm``: mean length of the displacement over that of the activation."""

    model: str
    domain: str
    n: int
    unit: str
    to: str
    site: str
    position: str
    ks: tuple[int, ...]
    whole: bool
    power_share: float
    answers: tuple[str, ...]
    texts: tuple[SteeredText, ...]
    n_prompts: int
    success: float
    success_ci: tuple[float, float]
    success_before: float
    acts_on: tuple[float, ...]
    acts_on_before: tuple[float, ...]
    edit_norm: float
    paired_share: float
    random_share: float | None
    random_max: float | None
    p_value: float | None
    n_controls: int
    n_control_prompts: int
    control_shares: tuple[float, ...]
    notes: tuple[str, ...]
    seed: int
    task: str = NATIVE
    tokens: TokensRead | None = None

    @property
    def what(self) -> str:
        """What was turned, in words."""
        return "the whole class mean" if self.whole else f"the planes k = {', '.join(map(str, self.ks))}"

    def frame(self) -> "pd.DataFrame":
        """One row per prompt that was generated from."""
        import pandas as pd

        best = [
            (max(range(len(p)), key=p.__getitem__) for p in (t.p_before, t.p_after, t.p_reference))
            for t in self.texts
        ]
        rows = [
            (t.prompt, t.steps, t.before, t.after, t.reference, *(self.answers[i].strip() for i in top))
            for t, top in zip(self.texts, best, strict=True)
        ]
        columns = ["prompt", "steps", "before", "after", "reference"]
        return pd.DataFrame(rows, columns=[*columns, "answer_before", "answer_after", "answer_reference"])

    def __str__(self) -> str:
        low, high = self.success_ci
        lines = [
            f"turning {self.what} at {self.site} ({self.position} token) of {self.model} to {self.to}, "
            f"{self.domain}, task {self.task}: {self.success:.1%} of {self.n_prompts} prompts are answered as "
            f"if they named {self.to} (95 % {low:.1%} to {high:.1%}; before {self.success_before:.1%})"
        ]
        if self.random_share is not None:
            lines.append(
                f"displacements of the same length in {self.n_controls} random "
                f"{'directions' if self.whole else 'planes'}, on {self.n_control_prompts} of these prompts: "
                f"{self.random_share:.1%} on average, {self.random_max:.1%} at most (p = {self.p_value:.2g}; "
                f"the edit itself: {self.paired_share:.1%})"
            )
        for text in self.texts:
            lines += [
                f"{text.prompt!r} ({text.steps:+d} {self.unit})",
                f"  before:    {text.before!r}  {self._most(text.p_before)}",
                f"  after:     {text.after!r}  {self._most(text.p_after)}",
                f"  reference: {text.reference!r}  {self._most(text.p_reference)}",
            ]
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])

    def _most(self, p: Sequence[float]) -> str:
        """The three likeliest answers."""
        best = sorted(range(len(p)), key=lambda i: -p[i])[:3]
        return ", ".join(f"{self.answers[i].strip()} {p[i]:.0%}" for i in best)


@checked
def steer(
    model: Model | Experiment,
    domain: Domain | str | None = None,
    *,
    to: str,
    prompts: Sequence[str] | None = None,
    site: Site | str | None = None,
    k: int | Sequence[int] | None = None,
    whole: bool = False,
    position: str = "value",
    task: str | None = None,
    n_prompts: int | None = None,
    cycles: int = 1,
    max_new_tokens: int = NEW_TOKENS,
    n_controls: int = N_CONTROLS,
    seed: int = 0,
) -> SteerResult:
    """Generate with the value turned to ``to`` (a value, or a number of steps like ``"+2"``).

    ``prompts``: your own (None: some of the task's). Each names one value of the domain; where it names
    several, put the one to turn in braces: ``"From {Monday} to Friday"``. What turns is the component in the
    planes of harmonics ``k`` at ``site`` (None: the place that moves the answer best, as ``study`` finds it),
    or, with ``whole``, the whole class mean. ``position``: ``"value"`` (the value's last token) or ``"last"``
    (the prompt's last token, where ``to`` is the answer). ``n_prompts``, ``cycles`` and ``task`` as in
    ``rotate``.

    Raises what ``rotate`` raises; ``UsageError`` for a target or a prompt without a value of the domain.
    """
    check_count(n_controls)
    asked = Experiment.of(model, domain, task=task, cycles=cycles, n_prompts=n_prompts, seed=seed)
    if not isinstance(asked.task, AnswerTask):
        raise UsageError(
            f"{model_name(asked.model)} has no logits, so it writes no text; choose a language model"
        )
    target_of(asked.design.domain, to)
    rest, steering, said = steering_at(asked, site, position, k, whole)
    measured = _measured(rest, steering, to, n_controls)
    texts = _texts(rest, steering, to, prompts, max_new_tokens)
    place = steering.place
    return SteerResult(
        **rest.about(place.position) | {"n": steering.n},
        unit=rest.design.domain.unit,
        to=to,
        site=str(place.site),
        position=place.position,
        ks=() if steering.turn is None else steering.turn.ks,
        whole=whole,
        power_share=1.0 if steering.turn is None else place.power(steering.turn.ks),
        answers=rest.design.candidates,
        texts=tuple(texts),
        notes=tuple(dict.fromkeys([*said, *rest.notes()])),
        **measured,
    )


def _measured(asked: Experiment, steering: Steering, to: str, n_controls: int) -> dict[str, Any]:
    """Success on the task's prompts, beside that of random displacements."""
    place = steering.place
    value = place.label
    steps = steps_to(asked.design.domain, to, value, steering.n)
    prompts = (steps != 0).nonzero()[:, 0]
    if not len(prompts):
        raise OutOfRange(f"every prompt names {to} already; give more prompts, or another target")
    vectors, wanted = asked.vectors(place)[prompts], _wanted(asked, steering, prompts, steps)
    added = steering.displacement(vectors, value[prompts], steps[prompts])
    scores = displaced_scores(asked, place, prompts, added, "steered prompts")
    before = asked.baseline.scores[prompts]
    right = scores.argmax(1) == wanted
    aligned = _counted_from(asked, steering, prompts, steps[prompts])
    return dict(
        n_prompts=len(prompts),
        success=float(right.double().mean()),
        success_ci=wilson(int(right.sum()), len(right)),
        success_before=float((before.argmax(1) == wanted).double().mean()),
        acts_on=tuple(scores.double().softmax(1).gather(1, aligned).mean(0).tolist()),
        acts_on_before=tuple(before.double().softmax(1).gather(1, aligned).mean(0).tolist()),
        edit_norm=float((added.norm(dim=1) / vectors.norm(dim=1)).mean()),
        **_controls(asked, steering, prompts, steps[prompts], (added, vectors, wanted, right), n_controls),
    )


def _wanted(
    asked: Experiment, steering: Steering, prompts: Int[Tensor, " row"], steps: Int[Tensor, " prompt"]
) -> Int[Tensor, " row"]:
    """The answer that steering should give: what the model says where the prompt names the target."""
    place = steering.place
    target = (place.label + steps)[prompts] % steering.n
    if place.position != "value":
        return target
    columns = asked.design.shape[1]
    cells = target * columns + asked.task.rows[prompts] % columns
    return asked.measured.donor_scores(asked.task, cells).argmax(1)


def _counted_from(
    asked: Experiment, steering: Steering, prompts: Int[Tensor, " row"], steps: Int[Tensor, " row"]
) -> Int[Tensor, "row n"]:
    """``class_columns`` with the classes counted from the target."""
    place, n = steering.place, steering.n
    columns = class_columns(asked, place.position, asked.task.rows[prompts])
    order = (place.label[prompts] + steps)[:, None] + torch.arange(n)[None]
    return columns.gather(1, order % n)


def _controls(
    asked: Experiment,
    steering: Steering,
    prompts: Int[Tensor, " row"],
    steps: Int[Tensor, " row"],
    edit: tuple[Tensor, Tensor, Tensor, Tensor],
    count: int,
) -> dict[str, Any]:
    """The same lengths in random planes or directions, on as many of the prompts as can be afforded."""
    added, vectors, wanted, right = edit
    few = min(len(prompts), bounded(asked.model, asked.task, max(count, 1)))
    picked = balanced_sample(wanted, few, seed=asked.seed)
    own = float(right[picked].double().mean())
    if count == 0:
        none = dict.fromkeys(["random_share", "random_max", "p_value"])
        return dict(paired_share=own, n_controls=0, n_control_prompts=0, control_shares=(), **none)
    if steering.turn is None:
        random = random_directions(steering.place, added[picked], count, asked.seed)
    else:
        bases = matched_controls(
            steering.turn.basis, steering.place.moments, dims=False, count=count, seed=asked.seed
        ).bases
        seen = steering.coordinates(vectors[picked], steps[picked])
        random = torch.einsum("cdr,pr->cpd", bases, seen)
    prompt = prompts[picked].repeat(count)
    scores = displaced_scores(asked, steering.place, prompt, random.flatten(0, 1), "random planes")
    hit = scores.argmax(1).reshape(count, -1) == wanted[picked]
    shares = hit.double().mean(1)
    return dict(
        paired_share=own,
        random_share=float(shares.mean()),
        random_max=float(shares.max()),
        p_value=permutation_p(own, shares),
        n_controls=count,
        n_control_prompts=len(picked),
        control_shares=tuple(shares.tolist()),
    )


def random_directions(
    place: SiteActivations, added: Float[Tensor, "row d"], count: int, seed: int
) -> Float[Tensor, "control row d"]:
    """One random direction per control, with the activations' own covariance, at the lengths of ``added``."""
    generator = torch.Generator().manual_seed(seed)
    values, axes = torch.linalg.eigh(place.moments.covariance.double())
    draws = torch.randn(count, len(values), generator=generator, dtype=torch.float64)
    directions = (draws * values.clamp(min=0).sqrt()) @ axes.T
    unit = (directions / directions.norm(dim=1, keepdim=True)).float()
    return unit[:, None] * added.norm(dim=1)[None, :, None]


def _texts(
    asked: Experiment, steering: Steering, to: str, prompts: Sequence[str] | None, new_tokens: int
) -> list[SteeredText]:
    """Text and answers before, after, and for the target itself, for every prompt to generate from."""
    model, place, n = asked.model, steering.place, steering.n
    if prompts is None:
        chosen = _task_prompts(asked, steering, to)
    else:
        chosen = [named(asked.design.domain, text, place.position) for text in prompts]
    texts = [each.text for each in chosen]
    encodings = encode(model, texts)
    before = _answers(asked, texts, ())
    if place.position == "value":
        value = torch.tensor([each.value for each in chosen])
        at = torch.tensor([e.last_token_of(*c.span) for e, c in zip(encodings, chosen, strict=True)])
    else:  # what is turned is the answer that the model is about to give
        value, at = before.argmax(1), torch.tensor([e.last for e in encodings])
    steps = steps_to(asked.design.domain, to, value, n)
    if not bool((steps != 0).any()):
        raise UsageError(f"every prompt given stands at {to} already; give one that names another value")
    vectors = capture(model, encodings, [place.site], at)[place.site].flatten(1)
    edits = (edit_add(place.site, steering.displacement(vectors, value, steps), positions=at),)
    most = room(model, max(len(e.ids) for e in encodings), new_tokens)
    written = [generate(model, texts, edits=e, max_new_tokens=most).texts for e in ((), edits)]
    answers = [before, _answers(asked, texts, edits)]
    target = ((value + steps) % n).tolist()
    reference, p_reference = _reference(asked, place.position, chosen, target, most)
    names = asked.design.domain.values if place.position == "value" else asked.design.candidates
    rows = zip(texts, value.tolist(), steps.tolist(), *written, reference, strict=True)
    p = [tuple(map(tuple, each.tolist())) for each in (*answers, p_reference)]
    return [
        SteeredText(text, names[v].strip(), s, old, new, other, p[0][i], p[1][i], p[2][i])
        for i, (text, v, s, old, new, other) in enumerate(rows)
    ]


def _reference(
    asked: Experiment, position: str, chosen: Sequence[NamedPrompt], target: Sequence[int], new_tokens: int
) -> tuple[Sequence[str], Float[Tensor, "prompt candidate"]]:
    """What the model writes and answers where the prompt names the target; at the last token the target is the
    answer itself."""
    if position != "value":
        one = torch.nn.functional.one_hot(torch.tensor(target), asked.design.n_answers).double()
        return [asked.design.candidates[i] for i in target], one
    values = asked.design.domain.values
    texts = [each.naming(values[i]) for each, i in zip(chosen, target, strict=True)]
    most = room(asked.model, max(len(e.ids) for e in encode(asked.model, texts)), new_tokens)
    return generate(asked.model, texts, max_new_tokens=most).texts, _answers(asked, texts, ())


def _task_prompts(asked: Experiment, steering: Steering, to: str) -> list[NamedPrompt]:
    """Some of the task's prompts, spread over the values, none of which names the target."""
    design, rows = asked.design, asked.task.rows
    usable = (steps_to(design.domain, to, steering.place.label, steering.n) != 0).nonzero()[:, 0]
    picked = usable[balanced_sample(design.value[rows][usable], min(SHOWN, len(usable)), seed=asked.seed)]
    assert design.operand is not None
    return [
        NamedPrompt(design.prompts[row], design.operand[row], int(design.value[row]))
        for row in rows[picked].tolist()
    ]


def _answers(
    asked: Experiment, prompts: Sequence[str], edits: Sequence[Edit]
) -> Float[Tensor, "prompt candidate"]:
    """The probability of every candidate among the candidates, with these edits."""
    plan = plan_answers(asked.model, list(prompts), asked.design.candidates)
    with intervene(asked.model, list(edits)), serving(torch.arange(len(prompts))):
        return score_plan(asked.model, plan)[0].double().softmax(1)
