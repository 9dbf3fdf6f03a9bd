"""An experiment: a model and a task, with what all interventions on them share, each computed once.

The scores of the intact model, the activations at a site and token with their class means, the donors of
patches and the moments that controls are matched to. Every verb takes an `Experiment` in place of a model and
a domain; `study` makes one for all its parts.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from einops import rearrange, repeat
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mechfourier.causal.controls import Moments, moments
from mechfourier.causal.edits import Ablations, position_of
from mechfourier.causal.engine import Engine, whole_pass_notes
from mechfourier.causal.subspaces import class_means
from mechfourier.causal.task import Task, task_of
from mechfourier.domains.answers import AnswerScores
from mechfourier.domains.definition import Domain
from mechfourier.domains.definition import domain as find_domain
from mechfourier.domains.design import Design
from mechfourier.domains.reads import TokensRead, templates_of, tokens_of
from mechfourier.domains.sampling import balanced_sample
from mechfourier.domains.task_choice import Choice
from mechfourier.errors import NotExpressible, OutOfRange, UsageError
from mechfourier.fourier.key_freqs import matrix_share
from mechfourier.hooks.capture import capture
from mechfourier.hooks.site import Site, find_site, model_name
from mechfourier.models.interface import Encoding, Model, encode
from mechfourier.stats.paired import chance_note

if TYPE_CHECKING:
    from mechfourier.hooks.store import ActivationStore

Position = Literal["value", "last"]
POSITIONS: tuple[str, ...] = get_args(Position)
VALUE = "{value}"
LATER = re.compile(r"value\+([1-9][0-9]*)")  # a token after the value: "value+1"
FIT_PROMPTS = 2048  # prompts whose activations give the class means


@dataclass(frozen=True, eq=False)
class SiteActivations:
    """The activations of a site at one token of every prompt. ``position``: ``"value"`` (the last token of
    the value asked about; classes are the values), ``"value+1"`` … (tokens after it; the same classes) or
    ``"last"`` (the prompt's last token; classes are the answers).

    ``at``: that token in each of the task's prompts. ``label``: their classes. ``means``: the mean activation
    of every class over the prompts of the fit; ``moments``: the mean of the class means, and the covariance
    over those prompts.
    """

    site: Site
    position: str
    at: Int[Tensor, " prompt"]
    label: Int[Tensor, " prompt"]
    means: Float[Tensor, "n d"]
    moments: Moments

    @property
    def centre(self) -> Float[Tensor, " d"]:
        """What planes turn about."""
        return self.moments.mean

    @property
    def shares(self) -> Float[Tensor, " freq"]:
        """Share of the power between classes at k = 1..⌊n/2⌋."""
        return matrix_share(self.means)

    def power(self, ks: Sequence[int]) -> float:
        """Share of the power between classes at these harmonics."""
        return float(self.shares[[k - 1 for k in ks]].sum())


@dataclass(frozen=True, eq=False)
class Pairs:
    """Every prompt of a task with a donor that differs in the value asked about: its activation and its right
    answer."""

    donors: Float[Tensor, "prompt d"]
    answer: Int[Tensor, " prompt"]
    before: AnswerScores
    donor_scores: Float[Tensor, "prompt candidate"]

    def difference(self, scores: Float[Tensor, "prompt candidate"]) -> Float[Tensor, " prompt"]:
        """Score of the donor's answer minus that of the recipient's."""
        own = scores.gather(1, self.before.label[:, None])[:, 0]
        return scores.gather(1, self.answer[:, None])[:, 0] - own

    def success(self, scores: Float[Tensor, "prompt candidate"]) -> Bool[Tensor, " prompt"]:
        """Whether the donor's answer is the best candidate."""
        return scores.argmax(dim=1) == self.answer


class Measured:
    """What is known of a design's prompts in the intact model: their scores, and activations by site and
    position."""

    def __init__(self, model: Model, design: Design, store: "ActivationStore | None") -> None:
        self.model, self.design, self.store = model, design, store
        self._vectors: dict[tuple[Site, str], dict[int, Tensor]] = {}
        self._encodings: dict[int, Encoding] = {}
        self._scores: dict[int, tuple[Tensor, Tensor]] = {}
        self.fits: dict[tuple[Site, str], tuple[Tensor, Moments]] = {}
        self.certificates: dict[Any, Any] = {}

    def scores(self, task: Task) -> AnswerScores:
        """The task's scores; prompts that were scored before are not run again."""
        rows = task.rows.tolist()
        new = torch.tensor([i for i, row in enumerate(rows) if row not in self._scores], dtype=torch.long)
        outcome: Any = "log-probability" if task.name != "similarity" else "similarity"
        if len(new):
            found = (task if len(new) == len(rows) else task.subset(new)).score(self.model)
            for i, scores, greedy in zip(new.tolist(), found.scores, found.greedy, strict=True):
                self._scores[rows[i]] = (scores, greedy)
        columns = [torch.stack([self._scores[row][i] for row in rows]) for i in range(2)]
        return AnswerScores(columns[0], columns[1], task.label, outcome)

    def donor_scores(self, task: Task, rows: Int[Tensor, " prompt"]) -> Float[Tensor, "prompt candidate"]:
        """What the model answers to other prompts of the design."""
        new = [row for row in dict.fromkeys(rows.tolist()) if row not in self._scores]
        if new:
            self.scores(task.on(self.model, torch.tensor(new)))
        return torch.stack([self._scores[row][0] for row in rows.tolist()])

    def encodings(self, rows: Sequence[int]) -> list[Encoding]:
        """Prompts of the design as tokens."""
        if new := [row for row in dict.fromkeys(rows) if row not in self._encodings]:
            self._encodings.update(
                zip(new, encode(self.model, [self.design.prompts[r] for r in new]), strict=True)
            )
        return [self._encodings[row] for row in rows]

    def vectors(
        self, sites: Sequence[Site], positions: Sequence[str], rows: Int[Tensor, " row"]
    ) -> Mapping[tuple[Site, str], Float[Tensor, "row d"]]:
        """The activations of these prompts, heads side by side, captured in one pass where they are not
        known."""
        wanted = [(site, position) for site in sites for position in positions]
        listed = rows.tolist()
        new = [
            row
            for row in dict.fromkeys(listed)
            if any(row not in self._vectors.get(key, ()) for key in wanted)
        ]
        if new:
            encodings = self.encodings(new)
            at = torch.stack([places(self.design, encodings, torch.tensor(new), p) for p in positions], dim=1)
            found = capture(self.model, encodings, list(dict.fromkeys(sites)), at, store=self.store)
            for site in sites:
                values = found[site]
                if values.ndim < 3:  # a site without positions
                    values = repeat(values, "row d -> row pos d", pos=len(positions))
                flat = rearrange(values, "row pos ... -> pos row (...)")
                for position, vectors in zip(positions, flat, strict=True):
                    self._vectors.setdefault((site, position), {}).update(zip(new, vectors, strict=True))
        return {key: torch.stack([self._vectors[key][row] for row in listed]) for key in wanted}

    def fit(self, sites: Sequence[Site], positions: Sequence[str]) -> None:
        """Class means and moments at these sites and positions, over a balanced part of a large design."""
        for position in positions:
            missing = [site for site in sites if (site, position) not in self.fits]
            if not missing:
                continue
            classes = self.design.label if position == "last" else self.design.value
            rows = balanced_sample(classes, min(FIT_PROMPTS, len(self.design)), seed=0)
            both = positions if len(rows) == len(self.design) else [position]
            found = self.vectors(missing, both, rows)
            for site in missing:
                vectors = found[site, position]
                means = class_means(vectors, classes[rows], n_classes(self.design, position))
                around = Moments(means.mean(0), torch.cov(vectors.T.double(), correction=0).float())
                self.fits[site, position] = (means, around)


class Experiment:
    """A task of a model and what interventions on it share; see the module."""

    def __init__(
        self,
        model: Model,
        task: Task,
        *,
        seed: int = 0,
        store: "ActivationStore | None" = None,
        part_of: "Experiment | None" = None,
    ) -> None:
        self.model, self.task, self.seed = model, task, seed
        self.measured = part_of.measured if part_of else Measured(model, task.design, store)
        self.engine = Engine(model, task, part_of.engine if part_of else None)

    @classmethod
    def of(
        cls,
        model: "Model | Experiment",
        domain: Domain | str | None = None,
        *,
        task: str | Choice | None = None,
        cycles: int = 1,
        n_prompts: int | None = None,
        seed: int = 0,
        store: "ActivationStore | None" = None,
    ) -> "Experiment":
        """The experiment that a call of a verb is about: ``model`` itself where it is one, else a new one.

        ``task``: one of the domain's tasks by name (None: the best one that the model answers);
        ``n_prompts``: as many prompts, balanced over the answers (None: all); ``cycles`` of offsets in
        arithmetic. Raises ``NotExpressible``, ``OutOfRange`` and ``UsageError``.
        """
        if isinstance(model, Experiment):
            return model
        if domain is None:
            raise UsageError("name a domain: experiment(model, 'months')")
        wanted = domain if isinstance(domain, Domain) else find_domain(domain)
        asked = task_of(model, wanted, task=task, cycles=cycles, n_prompts=n_prompts, seed=seed)
        return cls(model, asked, seed=seed, store=store)

    def __len__(self) -> int:
        return len(self.task.rows)

    @property
    def design(self) -> Design:
        """The prompts that the task is a part of."""
        return self.task.design

    @cached_property
    def baseline(self) -> AnswerScores:
        """The scores of the intact model, run once."""
        return self.measured.scores(self.task)

    def subset(self, prompts: Int[Tensor, " chosen"]) -> "Experiment":
        """The same on some of the prompts; nothing that is known is run again."""
        if len(prompts) == len(self):
            return self
        _ = self.baseline
        return Experiment(self.model, self.task.subset(prompts), seed=self.seed, part_of=self)

    def at(self, site: Site | str, position: str) -> SiteActivations:
        """The activations at ``site`` and ``position``; raises ``UnknownSite``, ``OutOfRange``,
        ``UsageError`` and ``HookNeverFired``."""
        return self.at_all([find_site(self.model, site)], [position])[0]

    def at_all(self, sites: Sequence[Site], positions: Sequence[str]) -> list[SiteActivations]:
        """``at`` of several sites and positions, site by site, from one captured pass."""
        positions = [
            position if LATER.fullmatch(position) else position_of(position, POSITIONS)
            for position in positions
        ]
        self.measured.fit(sites, positions)
        found = []
        for site in sites:
            for position in positions:
                means, around = self.measured.fits[site, position]
                found.append(
                    SiteActivations(
                        site, position, self.places(position), self.classes(position), means, around
                    )
                )
        return found

    def classes(self, position: str) -> Int[Tensor, " prompt"]:
        """The class of every prompt at ``position``."""
        return (self.design.label if position == "last" else self.design.value)[self.task.rows]

    def places(self, position: str) -> Int[Tensor, " prompt"]:
        """The token read in every prompt."""
        return places(self.design, self.task.encodings, self.task.rows, position)

    @cached_property
    def positions(self) -> tuple[str, ...]:
        """The tokens that every prompt of the design has: ``"value"``, those between it and the last
        (``"value+1"`` …), and ``"last"`` where that is another in some prompt."""
        if not shows_value(self.design):
            return ("last",)
        rows = torch.arange(len(self.design))
        encodings = self.measured.encodings(rows.tolist())
        value, last = (places(self.design, encodings, rows, position) for position in POSITIONS)
        gap = last - value
        between = [f"value+{j}" for j in range(1, int(gap.min()))]
        return ("value", *between, *(["last"] if int(gap.max()) else []))

    def vectors(
        self, place: SiteActivations, rows: Int[Tensor, " row"] | None = None
    ) -> Float[Tensor, "row d"]:
        """The activations of the task's prompts, or of these rows of its design."""
        wanted = self.task.rows if rows is None else rows
        return self.measured.vectors([place.site], [place.position], wanted)[place.site, place.position]

    def pairs(self, place: SiteActivations) -> Pairs:
        """A donor for every prompt, with its activation at ``place`` and its own answer."""
        rows = donor_rows(self.design, self.task.rows, seed=self.seed)
        before = self.baseline
        scores = self.measured.donor_scores(self.task, rows)
        return Pairs(self.vectors(place, rows), self.design.label[rows], before, scores)

    def moments(self, site: Site, *, last_only: bool = False) -> Moments:
        """Mean and covariance of a site over the task's prompts at all positions, or at their last one."""
        return moments(self.model, self.task.encodings, site, last_only=last_only)

    def ablated(
        self, ablations: Ablations, what: str, at: Int[Tensor, " prompt"] | None = None
    ) -> Float[Tensor, "control prompt candidate"]:
        """Scores under every ablation, at all positions or at one of each prompt."""
        scores = self.engine.scores(ablations.rows(len(self), at), what, must_change=False)
        return scores.unflatten(0, (len(ablations), len(self)))

    def notes(self) -> list[str]:
        """What every result must say: of the task, of a model at chance, of passes that had to run whole."""
        said = [
            *self.task.notes,
            chance_note(self.baseline.right, self.design.n_answers),
            *whole_pass_notes(self.model),
        ]
        return [note for note in said if note]

    def about(self, position: str = "last") -> dict[str, Any]:
        """The fields that every result of a verb has."""
        return {
            "model": model_name(self.model),
            "domain": self.design.domain.name,
            "n": self.design.n,
            "seed": self.seed,
            "task": self.task.name,
            "tokens": self.tokens(position),
        }

    def tokens(self, position: str) -> TokensRead:
        """What is read where: the tokens of one prompt per template, with that of ``position``."""
        rows = self.task.rows.tolist()
        columns = [0] * len(self.design) if self.design.template is None else self.design.template.tolist()
        first: dict[int, int] = {}
        for i, row in enumerate(rows):
            first.setdefault(columns[row], i)
        names, order = templates_of(self.design), sorted(first)
        chosen = [first[template] for template in order]
        encodings = [self.task.encodings[i] for i in chosen]
        read = places(self.design, encodings, self.task.rows[chosen], position)
        prompts = [self.design.prompts[rows[i]] for i in chosen]
        return tokens_of(self.model, prompts, encodings, read.tolist(), [names[t] for t in order])


def donor_rows(design: Design, rows: Int[Tensor, " prompt"], *, seed: int) -> Int[Tensor, " prompt"]:
    """The design's cell with another value (uniform among the n − 1) and the same offset or template."""
    n, columns = design.shape
    step = torch.randint(1, n, (len(rows),), generator=torch.Generator().manual_seed(seed))
    return (rows + step * columns) % (n * columns)


def places(
    design: Design, encodings: Sequence[Encoding], rows: Int[Tensor, " row"], position: str
) -> Int[Tensor, " row"]:
    """The token to read in each of these prompts of a design; raises ``OutOfRange`` for a place after the
    value that some of them lack."""
    last = torch.tensor([encoding.last for encoding in encodings])
    if position == "last":
        return last
    spans = [value_span(design, row) for row in rows.tolist()]
    at = torch.tensor([e.last_token_of(*span) for e, span in zip(encodings, spans, strict=True)])
    if later := LATER.fullmatch(position):
        at = at + int(later[1])
        if missing := int((at > last).sum()):
            raise OutOfRange(
                f"position {position!r}: {missing} of {len(at)} prompts end before it (at most "
                f"'value+{int((last - at).min()) + int(later[1])}' is in all of them)"
            )
    return at


def value_span(design: Design, row: int) -> tuple[int, int]:
    """The characters of the value that a prompt asks about (in the question, not in the examples before
    it)."""
    if design.operand is not None:
        return design.operand[row]
    domain, value = design.domain, design.domain.values[int(design.value[row])]
    template = domain.templates[0 if design.template is None else int(design.template[row])]
    if VALUE not in template:
        raise NotExpressible(
            f"the prompts of {domain.name} ({template!r}) do not show the value by itself; read them at the last "
            f"token (position 'last')"
        )
    start = template.index(VALUE)
    return start, start + len(value)


def shows_value(design: Design) -> bool:
    """Whether the prompts of a design have a place where the value stands."""
    return design.operand is not None or all(VALUE in template for template in design.domain.templates)


def n_classes(design: Design, position: str) -> int:
    """How many classes are turned: the values at the value's token, the answers at the last one."""
    return design.n if position != "last" or design.answers is None else design.n_answers
