"""The neurons that write a period, taken out together: what becomes of the answers, of that period and of the rest."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy import ndarray
from torch import Tensor

from mechfourier.causal.last_token import LastToken
from mechfourier.causal.neurons import Neurons
from mechfourier.causal.number_questions import NumberQuestions
from mechfourier.domains.sampling import balanced_sample
from mechfourier.hooks.edit import Edit
from mechfourier.hooks.interventions import edit_mean
from mechfourier.hooks.site import Site
from mechfourier.models.interface import Model
from mechfourier.stats.intervals import wilson
from mechfourier.stats.permutation import permutation_p

NEAR = 30  # neurons of the most similar size, from which a random one is drawn
PROMPTS = 150  # at most, or five of every answer


@dataclass(frozen=True)
class NeuronsAblated:
    """Neurons of one period set to their mean at the last token (``n_neurons`` of them, on ``n_prompts`` prompts),
    beside as many random neurons of the same layers, of the most similar size: how much they move the choices against each
    other between answers (``size_ratio``: the mean size of random ones over that of these). ``right``: share of prompts still answered rightly
    (``intact`` before), with its 95 % interval (Wilson); ``lead_kept``: what is left of the period's part of the lead,
    ``rest_kept``: of the rest of the lead (both as shares; None where there was none). ``random_…``: means over the
    ``n_controls`` draws; ``p_…``: how many of them change it as much. ``residue``: share of the ``n_wrong`` wrong
    answers that are the right one modulo the period, with its interval; ``residue_guess``: the same of wrong answers
    drawn at random; None where no two answers differ by the period."""

    n_neurons: int
    n_prompts: int
    intact: float
    right: float
    right_low: float
    right_high: float
    random_right: float | None
    p_right: float | None
    lead_kept: float | None
    random_lead_kept: float | None
    p_lead: float | None
    rest_kept: float | None
    random_rest_kept: float | None
    n_wrong: int
    residue: float | None
    residue_low: float | None
    residue_high: float | None
    residue_guess: float | None
    random_residue: float | None
    n_controls: int
    size_ratio: float | None


class Ablating:
    """Ablations of sets of neurons on some prompts."""

    def __init__(self, model: Model, asked: NumberQuestions, neurons: Neurons, seed: int) -> None:
        few = min(len(asked), max(PROMPTS, 5 * len(asked.numbers)))
        self.asked = asked.subset(balanced_sample(asked.asked.right, few, seed=seed))
        self.neurons, self.seed = neurons, seed
        self.passes = LastToken(model, self.asked.asked)
        self.intact = self.passes.logits()

    def ablated(
        self, units: Sequence[int], period: float, plane: Float[ndarray, "n r"], n_controls: int
    ) -> NeuronsAblated:
        """Set these neurons to their mean, and as many random ones ``n_controls`` times."""
        after = self.passes.logits(self._edits(units))
        others = [self._random(units, i) for i in range(n_controls)]
        random = [self.passes.logits(self._edits(each)) for each in others]
        sizes = [float(self.neurons.size[each].mean()) for each in others if each]
        hits, drawn = self._right(after), [self._right(each) for each in random]
        right = float(hits.double().mean())
        low, high = wilson(int(hits.sum()), len(hits))
        kept, rest = self._kept(after, plane)
        both = [self._kept(each, plane) for each in random]
        kepts, rests = [[pair[i] for pair in both if pair[i] is not None] for i in range(2)]
        shares = [float(each.double().mean()) for each in drawn]
        return NeuronsAblated(
            n_neurons=len(units),
            n_prompts=len(hits),
            intact=float(self._right(self.intact).double().mean()),
            right=right,
            right_low=low,
            right_high=high,
            random_right=_mean(shares),
            p_right=permutation_p(-right, -np.array(shares)) if shares else None,
            lead_kept=kept,
            random_lead_kept=_mean(kepts),
            p_lead=permutation_p(-kept, -np.array(kepts)) if kepts and kept is not None else None,
            rest_kept=rest,
            random_rest_kept=_mean(rests),
            n_wrong=int((~hits).sum()),
            **self._residues(after, random, period),
            n_controls=n_controls,
            size_ratio=float(np.mean(sizes) / self.neurons.size[list(units)].mean()) if sizes else None,
        )

    def _edits(self, units: Sequence[int]) -> list[Edit]:
        at, neurons, edits = np.asarray(units, dtype=int), self.neurons, []
        for layer in np.unique(neurons.layer[at]).tolist():
            dims = torch.from_numpy(neurons.index[at][neurons.layer[at] == layer])
            mean = torch.from_numpy(neurons.mean[neurons.layer == layer])
            edits.append(edit_mean(Site("mlp_post", layer), mean, dims=dims, positions=-1))
        return edits

    def _random(self, units: Sequence[int], draw: int) -> list[int]:
        """For every neuron another one of its layer, at random among the ``NEAR`` of the most similar size."""
        rng, size = np.random.default_rng([self.seed, draw]), self.neurons.size
        left = np.ones(len(self.neurons), dtype=bool)
        left[list(units)] = False
        chosen: list[int] = []
        for unit in units:
            others = np.flatnonzero(left & (self.neurons.layer == self.neurons.layer[unit]))
            if not len(others):
                continue
            near = others[np.argsort(np.abs(size[others] - size[unit]))[:NEAR]]
            chosen.append(int(rng.choice(near)))
            left[chosen[-1]] = False
        return chosen

    def _right(self, logits: Float[Tensor, "prompt choice"]) -> Bool[Tensor, " prompt"]:
        return logits.argmax(dim=1) == self.asked.asked.right

    def _kept(
        self, logits: Float[Tensor, "prompt choice"], plane: Float[ndarray, "n r"]
    ) -> tuple[float | None, float | None]:
        """What is left of the period's part of the lead, and of the rest of it."""
        before, after = (period_lead(self.asked, z, plane) for z in (self.intact, logits))
        whole, all_after = (whole_lead(self.asked, z) for z in (self.intact, logits))
        own = float(after.mean() / before.mean()) if float(before.mean()) > 0 else None
        rest = float((whole - before).mean())
        return own, float((all_after - after).mean()) / rest if rest > 0 else None

    def _residues(
        self, after: Float[Tensor, "prompt choice"], random: Sequence[Tensor], period: float
    ) -> dict[str, float | None]:
        found = self._residue(after, period)
        wrong = (~self._right(after)).nonzero()[:, 0]
        none: dict[str, float | None] = dict.fromkeys(
            ("residue", "residue_low", "residue_high", "residue_guess", "random_residue")
        )
        if found is None or not len(found):
            return none
        low, high = wilson(int(found.sum()), len(found))
        numbers = torch.from_numpy(self.asked.numbers)
        alike = (numbers[:, None] - numbers) % period == 0
        guess = (alike.double().sum(1) - 1) / (len(numbers) - 1)
        drawn = [part for each in random if (part := self._residue(each, period)) is not None]
        return {
            "residue": float(found.double().mean()),
            "residue_low": low,
            "residue_high": high,
            "residue_guess": float(guess[self.asked.asked.right[wrong]].mean()),
            "random_residue": _mean([float(part.double().mean()) for part in drawn if len(part)]),
        }

    def _residue(
        self, logits: Float[Tensor, "prompt choice"], period: float
    ) -> Bool[Tensor, " wrong"] | None:
        """Of every wrong answer whether it is the right one modulo the period; None where that cannot be."""
        numbers, cycle = torch.from_numpy(self.asked.numbers), self.asked.asked.design.wraps_at
        if period != int(period) or period > np.ptp(self.asked.numbers) or (cycle or period) % period:
            return None
        apart = numbers[logits.argmax(dim=1)] - numbers[self.asked.asked.right]
        return apart[apart != 0] % period == 0


def whole_lead(asked: NumberQuestions, logits: Float[Tensor, "prompt choice"]) -> Float[Tensor, " prompt"]:
    """What every prompt adds to the lead of the right answer; the mean over the prompts is that lead (nats)."""
    return asked.weights * (logits.gather(1, asked.asked.right[:, None])[:, 0] - logits.mean(dim=1))


def period_lead(
    asked: NumberQuestions, logits: Float[Tensor, "prompt choice"], plane: Float[ndarray, "n r"]
) -> Float[Tensor, " prompt"]:
    """The same of the period's part of the lead."""
    return in_plane(asked, logits @ torch.from_numpy(plane), plane)


def in_plane(
    asked: NumberQuestions, waves: Float[Tensor, "prompt r"], plane: Float[ndarray, "n r"]
) -> Float[Tensor, " prompt"]:
    """What every prompt adds to the period's part of the lead, from its logits' coordinates in the plane."""
    return asked.weights * (waves * torch.from_numpy(plane)[asked.asked.right]).sum(dim=1)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
