"""Finding a causal subspace: search by gradient for the plane whose exchange between prompts moves the
answer.

A probe finds where a value is *represented*; this finds what the model *uses*, without looking at harmonics
at all, and says how far the two agree. A copy that nobody reads may be carried along, since exchanging it
does no harm: a large angle says that the probe's plane is not what the model uses; a small one does not say
that it uses all of it. Distributed alignment search: Geiger et al. 2023, arXiv 2303.02536.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from mechfourier._renamed import renamed
from mechfourier.causal.edits import EditedRows
from mechfourier.causal.experiment import Experiment, SiteActivations
from mechfourier.causal.subspaces import harmonic_subspace, key_harmonics
from mechfourier.causal.task import AnswerTask
from mechfourier.domains.definition import Domain
from mechfourier.domains.design import Design
from mechfourier.domains.reads import TokensRead
from mechfourier.domains.task_spec import NATIVE
from mechfourier.errors import OutOfRange, UsageError
from mechfourier.hooks.edit import Edit, Where
from mechfourier.hooks.interventions import edit_patch
from mechfourier.hooks.site import Site, model_name
from mechfourier.models.interface import Model
from mechfourier.progress import tracked
from mechfourier.results.base import Result
from mechfourier.stats.paired import bootstrap_mean
from mechfourier.stats.permutation import permutation_p
from mechfourier.stats.planes import matched_planes, overlap, principal_angles

if TYPE_CHECKING:
    import pandas as pd

STEPS = 200
BATCH = 64
RATE = 0.03
TRAIN_SHARE = 0.6
MOST_TESTED = 512  # held-out pairs
NULL_PLANES = 300
RANDOM_PLANES = 20
CARRIES = 0.1  # share of answers that the whole activation must move for a part of it to mean anything
DEGENERATE = 0.8  # mean overlap of random subspaces with the probe's beyond which they are no comparison


@dataclass(frozen=True)
class CausalPlane(
    Result, kind="causal-plane", command="find-plane", figure="mechfourier.figures.sweep:plane_figure"
):
    """A subspace found by gradient, and how it lies to the probe's.

    ``basis`` [d][rank], orthonormal columns. Interchange accuracy: share of held-out pairs whose answer
    becomes the donor's when the donor's coordinates are put in (``accuracy`` with a 95 % bootstrap interval
    over pairs): beside it ``train_accuracy``, that of the whole activation, of the probe's planes (harmonics
    ``ks``, of the same rank) and of random subspaces of like variance. ``angles``: principal angles in
    degrees between the found subspace and the probe's; ``overlap``: mean squared cosine, with its mean and 95
    % bound over random subspaces of like variance, and ``overlap_p``. ``variance``: share of the activations'
    variance in the found and in the probe's subspace. ``losses``: cross-entropy per step, nats.
    """

    model: str
    domain: str
    n: int
    site: str
    position: str
    rank: int
    basis: tuple[tuple[float, ...], ...]
    model_accuracy: float
    accuracy: float
    accuracy_ci: tuple[float, float]
    train_accuracy: float
    whole_accuracy: float
    probe_accuracy: float
    random_accuracy: float
    random_max: float
    ks: tuple[int, ...]
    angles: tuple[float, ...]
    overlap: float
    null_overlap: float
    null_upper: float
    overlap_p: float
    variance: tuple[float, float]
    n_train: int
    n_test: int
    losses: tuple[float, ...]
    notes: tuple[str, ...]
    seed: int
    task: str = NATIVE
    tokens: TokensRead | None = None

    @property
    def plane(self) -> Float[np.ndarray, "d r"]:
        """The basis as an array, as ``ablate(plane=…)`` and ``rotate(plane=…)`` take it."""
        return np.asarray(self.basis)

    def frame(self) -> "pd.DataFrame":
        """One row per subspace that was exchanged."""
        import pandas as pd

        rows = [
            ("found", self.accuracy, self.variance[0]),
            ("found, on the pairs it was fitted to", self.train_accuracy, self.variance[0]),
            (f"probe, k = {', '.join(map(str, self.ks))}", self.probe_accuracy, self.variance[1]),
            ("random, mean", self.random_accuracy, None),
            ("random, best", self.random_max, None),
            ("whole activation", self.whole_accuracy, 1.0),
        ]
        return pd.DataFrame(rows, columns=["subspace", "interchange_accuracy", "variance"])

    def __str__(self) -> str:
        low, high = self.accuracy_ci
        angles = ", ".join(f"{angle:.0f}°" for angle in self.angles)
        lines = [
            f"{self.model}, {self.domain}, task {self.task}: exchanging {self.rank} dimensions found at "
            f"{self.site} ({self.position} token) "
            f"gives the donor's answer in {self.accuracy:.1%} of {self.n_test} held-out pairs (95 % "
            f"{low:.1%} "
            f"to {high:.1%}); the "
            f"probe's planes {self.probe_accuracy:.1%}, the whole activation {self.whole_accuracy:.1%}, "
            f"random ones {self.random_accuracy:.1%}",
            f"angles to the probe's planes (k = {', '.join(map(str, self.ks))}): {angles}; overlap "
            f"{self.overlap:.2f} (random "
            f"subspaces of like variance {self.null_overlap:.2f}, 95 % below {self.null_upper:.2f}; p = "
            f"{self.overlap_p:.2g})",
        ]
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])


@renamed()
def find_plane(
    model: Model | Experiment,
    domain: Domain | str | None = None,
    site: Site | str = "resid_post",
    *,
    rank: int = 2,
    position: str = "last",
    task: str | None = None,
    steps: int = STEPS,
    batch: int = BATCH,
    cycles: int = 1,
    seed: int = 0,
) -> CausalPlane:
    """Search for the ``rank`` dimensions at ``site`` whose exchange between prompts (a, o) and (a′, o) moves
    the answer.

    ``position``: ``"last"`` (the prompt's last token) or ``"value"`` (that of the value asked about). Each of
    ``steps`` steps of Adam draws ``batch`` pairs, puts the donor's coordinates in and raises the
    log-probability of the donor's answer among the candidates; the basis is made orthonormal by QR. Three
    fifths of the cells of every offset are fitted; donors and recipients of the test are the others. The
    start is random, so that nothing draws the subspace towards the probe's. ``task``: one of the domain's
    tasks by name (None: the best one that the model answers).

    Raises ``OutOfRange`` (rank, steps, fewer than 4 values), ``UnknownSite``, ``UsageError`` (a model without
    logits), ``NotExpressible``, ``InterventionChangedNothing``.
    """
    if steps < 1 or batch < 1:
        raise OutOfRange(f"steps is {steps} and batch {batch}; both must be 1 or more")
    asked = Experiment.of(model, domain, task=task, cycles=cycles, seed=seed)
    if asked.design.n < 4:
        name = asked.design.domain.name
        raise OutOfRange(
            f"{name} has {asked.design.n} values; a split into fitted and held-out needs 4 or more"
        )
    if not isinstance(asked.task, AnswerTask):
        raise UsageError(
            f"{model_name(asked.model)} gives no answers (it has no logits), so none can be moved"
        )
    place = asked.at(site, position)
    if rank % 2 or not 2 <= rank <= len(place.centre) // 2:
        raise OutOfRange(
            f"rank is {rank}; {place.site} takes even ranks from 2 to {len(place.centre) // 2} (2 for one "
            "plane)"
        )
    search = _Search(asked, place)
    basis, losses = search.fit(rank, steps, batch)
    return _result(search, basis, losses)


class _Search:
    """Pairs of prompts, and what exchanging a subspace between them does to the answer."""

    def __init__(self, asked: Experiment, place: SiteActivations) -> None:
        self.asked, self.place = asked, place
        self.generator = torch.Generator().manual_seed(asked.seed)
        self.vectors = asked.vectors(place)
        self.train, self.test = split_cells(asked.design, self.generator)
        self.test_pairs = self.pairs(self.test, MOST_TESTED)

    def pairs(self, members: Int[Tensor, "m offset"], most: int) -> tuple[Tensor, Tensor]:
        """Recipients and donors: other cells of the same offset and the same part of the split."""
        m, offsets = members.shape
        chosen = torch.randperm(m * offsets, generator=self.generator)[:most]
        row, column = chosen // offsets, chosen % offsets
        step = torch.randint(1, m, (len(chosen),), generator=self.generator)
        return members[row, column], members[(row + step) % m, column]

    def fit(self, rank: int, steps: int, batch: int) -> tuple[Float[Tensor, "d r"], list[float]]:
        d = len(self.place.centre)
        raw = torch.nn.Parameter(torch.randn(d, rank, generator=self.generator) / d**0.5)
        optimiser, losses = torch.optim.Adam([raw], lr=RATE / d**0.5 * 4), []
        for _ in tracked(range(steps), "steps", steps):
            with torch.enable_grad():
                loss = self._loss(torch.linalg.qr(raw).Q, *self.pairs(self.train, batch))
                (raw.grad,) = torch.autograd.grad(loss, [raw])
            optimiser.step()
            losses.append(float(loss.detach()))
        return torch.linalg.qr(raw.detach()).Q, losses

    def _loss(self, basis: Float[Tensor, "d r"], recipient: Tensor, donor: Tensor) -> Float[Tensor, ""]:
        donors, at = self.vectors[donor], self.place.at[recipient]

        def edit_of(rows: Int[Tensor, " row"]) -> Edit:
            return _exchange(self.place.site, donors[rows], basis, at[rows])

        rows = EditedRows(self.place.site, recipient, edit_of, at, width=basis.numel())
        scores = self.asked.engine.scores(rows, "pairs", grad=True)
        return F.cross_entropy(scores, self.asked.task.label[donor])

    def hits(self, basis: Tensor | None, recipient: Tensor, donor: Tensor) -> Float[Tensor, " pair"]:
        """1 where exchanging the subspace (``[d, r]``, one per pair, or None for everything) gives the
        donor's answer."""
        at = self.place.at[recipient]

        def edit_of(rows: Int[Tensor, " row"]) -> Edit:
            own = basis[rows] if basis is not None and basis.ndim == 3 else basis
            return edit_patch(self.place.site, self.vectors[donor[rows]], subspace=own, positions=at[rows])

        width = 1 if basis is None else basis.shape[-1] * basis.shape[-2]
        scores = self.asked.engine.scores(
            EditedRows(self.place.site, recipient, edit_of, at, width=width), "pairs"
        )
        return (scores.argmax(dim=1) == self.asked.task.label[donor]).double()


def _exchange(
    site: Site, donors: Float[Tensor, "row d"], basis: Float[Tensor, "d r"], at: Int[Tensor, " row"]
) -> Edit:
    """``edit_patch`` that lets the gradient reach the basis, and takes its columns for orthonormal."""

    def change(old: Float[Tensor, "row pos d"], rows: Int[Tensor, " row"]) -> Float[Tensor, "row pos d"]:
        own = basis.to(old)
        return old + (donors.to(old)[rows.to(old.device)][:, None] - old) @ own @ own.T

    return Edit("exchange", Where(site, positions=at), change)


def split_cells(
    design: Design, generator: torch.Generator
) -> tuple[Int[Tensor, "m offset"], Int[Tensor, "rest offset"]]:
    """Cells to fit and cells held out: ``TRAIN_SHARE`` of every offset's, at least two of each."""
    n, offsets = design.shape
    order = torch.rand(n, offsets, generator=generator).argsort(dim=0) * offsets + torch.arange(offsets)
    kept = min(max(round(TRAIN_SHARE * n), 2), n - 2)
    return order[:kept], order[kept:]


def _probe_basis(place: SiteActivations, rank: int) -> tuple[Float[Tensor, "d r"], tuple[int, ...]]:
    """The planes of the strongest harmonics of the class means, as many as the rank holds."""
    n = len(place.means)
    strongest = (place.shares[: (n - 1) // 2].argsort(descending=True) + 1).tolist()
    keys = key_harmonics(place.means)
    ks = tuple(dict.fromkeys([*keys, *strongest]))[: rank // 2]
    return harmonic_subspace(place.means, ks).basis, ks


def _result(search: _Search, basis: Tensor, losses: list[float]) -> CausalPlane:
    place, rank = search.place, basis.shape[1]
    probe, ks = _probe_basis(place, rank)
    root = _root(place.moments.covariance)
    shares = [_share(root, b) for b in (basis, probe)]
    random = matched_planes(
        root, root, shares[0], NULL_PLANES, np.random.default_rng(search.asked.seed), rank=rank
    )
    found, given = basis.double().numpy(), probe.double().numpy()
    null = overlap(random, np.broadcast_to(given, (len(random), *given.shape)))
    observed = float(overlap(found, given))
    hits, whole = (search.hits(b, *search.test_pairs) for b in (basis, None))
    train_pairs = search.pairs(search.train, MOST_TESTED)
    by_chance = _random_accuracies(search, random)
    return CausalPlane(
        **search.asked.about(place.position),
        site=str(place.site),
        position=place.position,
        rank=rank,
        basis=tuple(tuple(row) for row in found.tolist()),
        model_accuracy=search.asked.baseline.accuracy,
        accuracy=float(hits.mean()),
        accuracy_ci=bootstrap_mean(hits, seed=search.asked.seed),
        train_accuracy=float(search.hits(basis, *train_pairs).mean()),
        whole_accuracy=float(whole.mean()),
        probe_accuracy=float(search.hits(probe, *search.test_pairs).mean()),
        random_accuracy=float(by_chance.mean()),
        random_max=float(by_chance.max()),
        ks=ks,
        angles=tuple(principal_angles(found, given).tolist()),
        overlap=observed,
        null_overlap=float(null.mean()),
        null_upper=float(np.quantile(null, 0.95)),
        overlap_p=permutation_p(observed, null),
        variance=(shares[0], shares[1]),
        n_train=search.train.numel(),
        n_test=len(hits),
        losses=tuple(losses),
        notes=tuple(_notes(search, float(null.mean()), float(whole.mean()))),
    )


def _root(covariance: Float[Tensor, "d d"]) -> Float[np.ndarray, "d d"]:
    """Rows whose Gram matrix is the covariance."""
    values, vectors = torch.linalg.eigh(covariance.double())
    return (values.clamp(min=0.0).sqrt()[:, None] * vectors.T).numpy()


def _share(root: Float[np.ndarray, "d d"], basis: Float[Tensor, "d r"]) -> float:
    return float(((root @ basis.double().numpy()) ** 2).sum() / max((root**2).sum(), 1e-300))


def _random_accuracies(search: _Search, random: Float[np.ndarray, "draw d r"]) -> Float[Tensor, " plane"]:
    """Interchange accuracy of ``RANDOM_PLANES`` of them, on the test pairs."""
    planes = torch.as_tensor(random[:RANDOM_PLANES]).float()
    recipient, donor = (side[: MOST_TESTED // 4] for side in search.test_pairs)
    every, count = planes.repeat_interleave(len(recipient), dim=0), len(planes)
    hits = search.hits(every, recipient.repeat(count), donor.repeat(count))
    return hits.reshape(count, -1).mean(dim=1)


def _notes(search: _Search, null_overlap: float, whole: float) -> list[str]:
    notes = search.asked.notes()
    if whole < CARRIES:
        notes.append(
            f"even exchanging the whole activation gives the donor's answer in {whole:.0%} of pairs: the "
            "answer does not pass through "
            f"this token at {search.place.site}; choose a later layer, or the other position"
        )
    if null_overlap > DEGENERATE:
        notes.append(
            "little else varies here than the probe's planes, so that random subspaces of like variance are "
            "those too and "
            "the comparison with them says nothing"
        )
    return notes
