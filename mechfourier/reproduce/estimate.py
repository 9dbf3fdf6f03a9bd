"""How long, and how much memory, before anything long is started: from the shape of the model and a short
timing."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from mechfourier.causal.cost import affordable
from mechfourier.causal.task import task_of
from mechfourier.domains.definition import domain as find_domain
from mechfourier.domains.design import max_cycles
from mechfourier.hooks.capture import capture
from mechfourier.reproduce.experiment import LANGUAGE, Experiment
from mechfourier.reproduce.inside import ATTENTION, BLANKS, MODULUS
from mechfourier.reproduce.session import Session
from mechfourier.reproduce.sums import CALENDAR, COMPOSITES, POLYNOMIAL, PRIMES
from mechfourier.stats.operation import analyse_operation

TIMED_PROMPTS, TIMED_N = 32, 7
LIBRARIES = 700 * 2**20  # bytes of Python with all that is imported
COPIES = (
    6  # of a grid at once: network and control, each as captured and in double precision while it is analysed
)
ABLATION_PASSES = (
    5  # of every prompt of an ablation: activations, before, after, each with the answers' further tokens
)
CONTROL_PASSES = 1.5  # of every prompt of a control, likewise
SENTENCES = 120  # passes of plain text, before and after


@dataclass(frozen=True)
class Estimate:
    """``seconds`` per experiment (of those on the language model), ``bytes`` of memory at most, ``prompts``
    gone through."""

    seconds: dict[str, float]
    bytes: int
    prompts: int

    def __str__(self) -> str:
        total = sum(self.seconds.values())
        return (
            f"about {_minutes(total)} for {len(self.seconds)} experiments on the language model "
            f"({self.prompts:,} prompts) and {self.bytes / 2**30:.1f} GiB of memory; what is finished is kept"
        )


def _minutes(seconds: float) -> str:
    return (
        f"{seconds:.0f} s"
        if seconds < 90
        else f"{seconds / 60:.0f} minutes"
        if seconds < 5400
        else f"{seconds / 3600:.1f} hours"
    )


def estimate(session: Session, experiments: Sequence[Experiment]) -> Estimate:
    """Of the experiments on the language model; grids that several of them share are counted once."""
    per_prompt, per_cell = _timings(session)
    layers, width = len(session.sites), int(session.model.cfg.d_model)
    seen: set[int | str] = set()
    seconds, prompts, largest = {}, 0, 0
    for each in (e for e in experiments if e.needs == LANGUAGE):
        fresh = [name for name in _grids(session, each.name) if name not in seen]
        seen |= set(fresh)
        cells = [session.settings.cycles * find_domain(name).n ** 2 for name in fresh]
        passes = 2 * sum(cells) + _others(session, each.name)
        seconds[each.name] = passes * per_prompt + 2 * sum(cells) * layers * per_cell
        prompts, largest = prompts + passes, max([largest, *cells])
    weights = 2 * sum(p.numel() * p.element_size() for p in session.model.parameters())
    return Estimate(seconds, LIBRARIES + weights + COPIES * largest * layers * width * 4, prompts)


def _timings(session: Session) -> tuple[float, float]:
    """Seconds per prompt of a pass over all layers, and per cell and layer of the statistics."""
    domain = find_domain(f"mod-{TIMED_N}")
    possible = max_cycles(domain, session.model, 1)
    prompts = domain.operation_design(1, template=possible.template).prompts[:TIMED_PROMPTS]
    capture(session.model, prompts[:2], session.sites)  # what is set up once is not the price of a prompt
    per_prompt, acts = _timed(lambda: capture(session.model, prompts, session.sites).stack())
    offsets = session.settings.cycles * TIMED_N
    grid = torch.randn(1, TIMED_N, offsets, acts.shape[-1], generator=torch.Generator().manual_seed(0))
    draws = session.settings.permutations
    statistics, _ = _timed(lambda: analyse_operation(grid, n=TIMED_N, permutations=draws))
    return per_prompt / len(prompts), statistics / (TIMED_N * offsets)


def _timed(work: Any) -> tuple[float, Any]:
    start = time.perf_counter()
    outcome = work()
    return time.perf_counter() - start, outcome


def _grids(session: Session, name: str) -> list[str]:
    """The domains whose grids an experiment measures."""
    known: dict[str, Sequence[int | str]] = {
        "qwen3-layer-scan": (23,),
        "calendar-domains": tuple(CALENDAR),
        "polynomial-against-fourier": tuple(POLYNOMIAL),
        "primes": session.some(tuple(PRIMES)),
        "range-detector": session.some(COMPOSITES),
        "calendar-against-arithmetic": ("months", "hours-12", 12),
    }
    return [f"mod-{each}" if isinstance(each, int) else each for each in known.get(name, ())]


def _others(session: Session, name: str) -> int:
    """Prompts that an experiment reads beside grids."""
    settings = session.settings
    if name.startswith("ablation"):
        return _ablated(session)
    if name == "attention-routing":
        return (1 + BLANKS) * sum(p * p for p in session.some(tuple(ATTENTION)))
    return 2 * settings.sae_rows if name == "sae-layer7" else 529


def _ablated(session: Session) -> int:
    """Prompts of one ablation with its controls."""
    settings = session.settings
    task = task_of(session.model, find_domain(MODULUS), n_prompts=settings.samples, seed=settings.seed)
    each = settings.control_samples or affordable(session.model, task, settings.controls)
    controls = CONTROL_PASSES * settings.controls * min(each, len(task.rows))
    return SENTENCES + ABLATION_PASSES * len(task.rows) + int(controls)
