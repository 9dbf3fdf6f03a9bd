"""What steering is made of: a target, the place where it is steered, displacements, and prompts that name a
value."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechfourier.causal.edits import EditedRows
from mechfourier.causal.experiment import Experiment, SiteActivations
from mechfourier.causal.plane import find_place, maps_at
from mechfourier.causal.subspaces import HarmonicSubspace, chosen_subspace, harmonics
from mechfourier.domains.quantity import Quantity
from mechfourier.errors import OutOfRange, UsageError, nearest
from mechfourier.hooks.edit import Edit
from mechfourier.hooks.interventions import edit_add
from mechfourier.hooks.site import Site
from mechfourier.models.interface import Model


@dataclass(frozen=True, eq=False)
class Steering:
    """How a place is steered: its planes, or (``turn`` None) the whole class mean."""

    place: SiteActivations
    turn: HarmonicSubspace | None

    @property
    def n(self) -> int:
        return len(self.place.means)

    def displacement(
        self,
        vectors: Float[Tensor, "row d"],
        value: Int[Tensor, " row"],
        steps: Int[Tensor, " row"],
    ) -> Float[Tensor, "row d"]:
        """What is added to the activations ``vectors`` of prompts that name ``value`` to turn them."""
        if self.turn is None:
            return self.place.means[(value + steps) % self.n] - self.place.means[value]
        return self.coordinates(vectors, steps) @ self.turn.basis.T

    def coordinates(
        self, vectors: Float[Tensor, "row d"], steps: Int[Tensor, " row"]
    ) -> Float[Tensor, "row r"]:
        """The same in the coordinates of the planes."""
        assert self.turn is not None
        seen = (vectors - self.place.centre) @ self.turn.basis
        return torch.einsum("rij,rj->ri", maps_at(self.turn, self.n, steps.double()), seen) - seen


def steering_at(
    asked: Experiment, site: Site | str | None, position: str, k: int | Sequence[int] | None, whole: bool
) -> tuple[Experiment, Steering, tuple[str, ...]]:
    """The experiment to measure on, what is steered there, and what is to be said of how it was found."""
    if whole and k is not None:
        raise UsageError("the whole class mean has every harmonic: give k or whole, not both")
    ks, rest, said = harmonics(k), asked, ()
    if site is None:
        best, rest, said = find_place(asked, position, ks)
        site, ks = best.site, best.ks
    place = rest.at(site, position)
    return rest, Steering(place, None if whole else chosen_subspace(place.means, place.site, ks)), said


def target_of(domain: Quantity, to: str) -> tuple[int | None, int]:
    """A target as (value, 0), or as (None, steps) where it is a signed number; raises ``UsageError``."""
    if to in domain.values:
        return domain.values.index(to), 0
    if re.fullmatch(r"[+-]\d{1,6}", to.strip()):
        steps = int(to)
        if steps % domain.n == 0:
            raise OutOfRange(
                f"{to} steps of {domain.n} are a whole turn and change nothing; give +1 to +{domain.n - 1}"
            )
        return None, steps
    raise UsageError(
        f"{domain.name} has no value {to!r}; closest: {nearest(to, domain.values)} (or a number of steps, like +2)"
    )


def steps_to(domain: Quantity, to: str, value: Int[Tensor, " row"], n: int) -> Int[Tensor, " row"]:
    """Steps from each of ``n`` classes to the target, the short way round."""
    target, steps = target_of(domain, to)
    if target is None:
        return torch.full_like(value, steps)
    half = (n - 1) // 2
    return (target - value + half) % n - half


def class_columns(asked: Experiment, position: str, rows: Int[Tensor, " row"]) -> Int[Tensor, "row n"]:
    """The candidate that is the answer for each class w of the place in these rows of the design: at the value's
    token, what is right where the value is w; at the last token, w itself."""
    n, columns = asked.design.shape
    if position != "value":
        return torch.arange(asked.design.n_answers).expand(len(rows), -1)
    cells = torch.arange(n)[None] * columns + (rows % columns)[:, None]
    return asked.design.label[cells]


def displaced_scores(
    asked: Experiment,
    place: SiteActivations,
    prompt: Int[Tensor, " row"],
    added: Float[Tensor, "row d"],
    what: str,
) -> Float[Tensor, "row candidate"]:
    """Scores of the prompts ``prompt[row]`` with ``added[row]`` at the place's token."""
    at = place.at[prompt]

    def edit_of(rows: Int[Tensor, " row"]) -> Edit:
        return edit_add(place.site, added[rows], positions=at[rows])

    rows = EditedRows(place.site, prompt, edit_of, at, width=added.shape[1])
    return asked.engine.scores(rows, what)


@dataclass(frozen=True)
class NamedPrompt:
    """A prompt to generate from: its text, the characters of its value, the value's number."""

    text: str
    span: tuple[int, int]
    value: int

    def naming(self, value: str) -> str:
        """The same prompt with another value."""
        return self.text[: self.span[0]] + value + self.text[self.span[1] :]


def named_value(domain: Quantity, prompt: str) -> NamedPrompt:
    """The one value that a prompt names, or the one in braces; raises ``UsageError``."""
    inside = re.search(r"\{([^{}]*)\}", prompt)
    if inside is not None:
        if inside[1] not in domain.values:
            close = nearest(inside[1], domain.values)
            raise UsageError(f"{inside[1]!r} in braces is no value of {domain.name}; closest: {close}")
        text = prompt[: inside.start()] + inside[1] + prompt[inside.end() :]
        return NamedPrompt(
            text, (inside.start(), inside.start() + len(inside[1])), domain.values.index(inside[1])
        )
    longest = sorted(domain.values, key=len, reverse=True)
    pattern = r"(?<![\w#])(?:" + "|".join(map(re.escape, longest)) + r")(?![\w#])"
    found = list(re.finditer(pattern, prompt))
    if len(found) == 1:
        return NamedPrompt(prompt, found[0].span(), domain.values.index(found[0][0]))
    if not found:
        raise UsageError(
            f"the prompt {prompt!r} names no value of {domain.name}; name one of {', '.join(domain.values[:4])}, …"
        )
    marked = prompt[: found[0].start()] + "{" + found[0][0] + "}" + prompt[found[0].end() :]
    names = ", ".join(dict.fromkeys(match[0] for match in found))
    raise UsageError(f"the prompt {prompt!r} names several values ({names}); put one in braces: {marked!r}")


def named(domain: Quantity, prompt: str, position: str) -> NamedPrompt:
    """A prompt of one's own; only where the value's token is turned must it name one."""
    return named_value(domain, prompt) if position == "value" else NamedPrompt(prompt, (0, 0), 0)


def room(model: Model, longest: int, wanted: int) -> int:
    """How many new tokens a model can write after its longest prompt: the last one is read by nothing."""
    context = getattr(model.cfg, "n_ctx", None)
    return max(1, min(wanted, context - longest + 1)) if context else wanted
