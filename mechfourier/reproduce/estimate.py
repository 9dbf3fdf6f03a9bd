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
from mechfourier.reproduce.grid import control_cycles, cycles_of
from mechfourier.reproduce.inside import ATTENTION, BLANKS, MODULUS
from mechfourier.reproduce.session import Session
from mechfourier.reproduce.sums import CALENDAR, COMPOSITES, POLYNOMIAL, PRIMES
from mechfourier.sae.settings import Dictionary
from mechfourier.stats.operation import analyse_operation

TIMED_PROMPTS, TIMED_N, TIMED_CYCLES = 48, 12, 2
LARGER = 1.3  # statistics per cell of the large grids, relative to the timed one
LIBRARIES = 700 * 2**20  # bytes of Python with all that is imported
COPIES = 5  # of a grid at once: as captured, and in double precision while it is analysed
ABLATION_PASSES = (
    5  # of every prompt of an ablation: activations, before, after, each with the answers' further tokens
)
CONTROL_PASSES = 1.5  # of every prompt of a control, likewise
WHOLE_PASS = 2  # what a prompt costs that shares no beginning with others, as where attention is read
DICTIONARY = (
    3 * 2 * 2
)  # products of an activation: forth and back, of coder and decoder, of network and control
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
    """Of the experiments on the language model; grids that several of them share are counted once, and the
    controls of an ablation as if the model answered above chance (they are not run where it does not)."""
    asked = [each for each in experiments if each.needs == LANGUAGE]
    per_prompt, per_cell = _timings(session)
    layers, width = len(session.sites), int(session.model.cfg.d_model)
    seen: set[str] = set()
    seconds, prompts, largest = {}, 0, 0
    for each in asked:
        fresh = [name for name in _grids(session, each.name) if name not in seen]
        seen |= set(fresh)
        cells = [_cells(session, find_domain(name).n) for name in fresh]
        passes = sum(cells) + _others(session, each.name)
        seconds[each.name] = passes * per_prompt + sum(cells) * layers * per_cell
        prompts, largest = prompts + passes, max([largest, *cells])
    if any(each.name == "sae-layer7" for each in asked):
        seconds["sae-layer7"] += _dictionary_seconds(session, width)
    weights = 2 * sum(p.numel() * p.element_size() for p in session.model.parameters())
    return Estimate(seconds, LIBRARIES + weights + COPIES * largest * layers * width * 4, prompts)


def _cells(session: Session, n: int) -> int:
    """Cells of a grid of the network and of the untrained one together."""
    settings = session.settings
    return n * n * (cycles_of(settings, n) + control_cycles(settings, n))


def _timings(session: Session) -> tuple[float, float]:
    """Seconds per prompt of a pass over all layers, and per cell and layer of the statistics."""
    domain = find_domain(f"mod-{TIMED_N}")
    possible = max_cycles(domain, session.model, 1)
    prompts = domain.operation_design(1, template=possible.template).prompts[:TIMED_PROMPTS]
    capture(session.model, prompts[:2], session.sites)  # what is set up once is not the price of a prompt
    per_prompt, acts = _timed(lambda: capture(session.model, prompts, session.sites).stack())
    offsets = TIMED_CYCLES * TIMED_N
    grid = torch.randn(1, TIMED_N, offsets, acts.shape[-1], generator=torch.Generator().manual_seed(0))
    draws = session.settings.permutations
    statistics, _ = _timed(lambda: analyse_operation(grid, n=TIMED_N, permutations=draws))
    return per_prompt / len(prompts), LARGER * statistics / (TIMED_N * offsets)


def _dictionary_seconds(session: Session, width: int) -> float:
    """Of training the dictionary and its control, from the time of one product of its size."""
    settings = session.settings
    features = Dictionary("", width=settings.sae_width).features(width)
    rows, coder = torch.randn(256, width), torch.randn(width, features)
    rows @ coder
    product, _ = _timed(lambda: rows @ coder)
    return product / len(rows) * DICTIONARY * settings.sae_tokens


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
        primes = session.some(tuple(ATTENTION))
        return (1 + BLANKS) * WHOLE_PASS * sum(min(p * p, settings.attended) for p in primes)
    if name == "logit-lens":
        return 2 * (settings.samples or find_domain(MODULUS).n ** 2)
    return 2 * settings.sae_rows if name == "sae-layer7" else 0


def _ablated(session: Session) -> int:
    """Prompts of one ablation with its controls."""
    settings = session.settings
    task = task_of(session.model, find_domain(MODULUS), n_prompts=settings.samples, seed=settings.seed)
    each = settings.control_samples or affordable(session.model, task, settings.controls)
    controls = CONTROL_PASSES * settings.controls * min(each, len(task.rows))
    return SENTENCES + ABLATION_PASSES * len(task.rows) + int(controls)
