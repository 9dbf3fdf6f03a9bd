"""``atlas()``: models in; what is known of every domain out, and a page."""

import contextlib
import dataclasses
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, as_completed
from functools import partial
from pathlib import Path
from typing import Any

from mechfourier._arguments import checked, refuse_repeated, that_model
from mechfourier.atlas.capture import Asked, asked_of, capture_together, split
from mechfourier.atlas.circles import LayerCircle, layer_circles
from mechfourier.atlas.result import NOT_ASKED, AtlasResult, DomainAtlas
from mechfourier.atlas.work import Work
from mechfourier.causal.study import StudyResult, study
from mechfourier.domains.definition import Domain, list_domains
from mechfourier.domains.definition import domain as find_domain
from mechfourier.domains.task_choice import PROMPTS
from mechfourier.domains.tasks import TaskRow, TasksResult, best_of, corrected, tasks
from mechfourier.errors import MechFourierError, OutOfRange, UsageError
from mechfourier.hooks.site import Site, model_name, select_sites
from mechfourier.models.interface import Model
from mechfourier.models.weights import weights_hash
from mechfourier.probes.probe import Captured, analysed
from mechfourier.probes.result import ProbeResult
from mechfourier.progress import progress
from mechfourier.results.kinds import load as load_function
from mechfourier.stats.threads import one_thread
from mechfourier.workers import end_with

PAGE = "mechfourier.figures.atlas:write_atlas"
Domains = str | Domain | Sequence[str | Domain]


@dataclasses.dataclass(frozen=True)
class Settings:
    """What numbers depend on, besides the model and the domains."""

    sites: tuple[str, ...]
    n_permutations: int
    seed: int


@dataclasses.dataclass(frozen=True)
class Measured:
    """A domain's probe and its circles, as they are kept until the atlas is complete."""

    probe: ProbeResult
    circles: tuple[LayerCircle, ...]


@checked
def atlas(
    models: Model | str | Iterable[Model | str],
    domains: Domains = "all",
    *,
    layers: str | None = None,
    quick: bool = False,
    n_permutations: int = 1000,
    seed: int = 0,
    out: str | Path | None = None,
    n_jobs: int | None = None,
) -> AtlasResult | tuple[AtlasResult, ...]:
    """Every cyclic domain of a model: which are circles, at which layers, which are used, and by how much.

    Args: models: one, or several (any iterable), each loaded or by name; of several a tuple comes back, in their
    order. domains: ``"all"`` packaged ones, names joined by commas, or a sequence of names and ``Domain``s. layers:
    ``"0-3,7"``; None for all. quick: leave the study out (does the model use its circles?). n_permutations,
    seed: as in ``probe``. out: a folder for the page and the results; finished parts are kept there until the
    atlas is complete, so that the same call goes on with one that was interrupted. n_jobs: processes of the
    statistics (None: one per core).

    All prompts of all domains run in one capture, the untrained control likewise; the statistics are those of
    ``probe``. Raises what ``probe`` raises for a wrong call; a domain that a model cannot express is a row
    that says why.
    """
    if n_permutations < 99:
        raise OutOfRange(f"n_permutations is {n_permutations}; fewer than 99 cannot give a p below .01")
    wanted = chosen_domains(domains)
    several = isinstance(models, Iterable) and not (isinstance(models, str) or hasattr(models, "hook_dict"))
    listed: Iterable[Any] = models if several else [models]  # type: ignore[assignment]
    hashes: list[str] = []
    found, folder = [], None if out is None else Path(out)
    with contextlib.ExitStack() as open_work:
        kept: list[Work] = []
        for each in listed:
            model = _loaded(each)
            if several:
                hashes.append(f"{model_name(model)} ({weights_hash(model)})")
                refuse_repeated("models", hashes)
            sites = tuple(map(str, select_sites(model, "resid_post", layers)))
            settings = Settings(sites, n_permutations, seed)
            kept.append(open_work.enter_context(Work.of(folder, model, wanted, settings)))
            found.append(_atlas(model, wanted, settings, quick, kept[-1], n_jobs))
            del model  # before the next is loaded
        if not found:
            raise UsageError("an atlas was asked of no model; give one")
        if folder is not None:
            load_function(PAGE)(found, folder)
        for work in kept:  # only now: until the page is written, a killed atlas needs its parts
            work.finish()
    return tuple(found) if several else found[0]


def chosen_domains(domains: Domains) -> tuple[Domain, ...]:
    """The domains asked for, each once; raises ``UnknownDomain``, and ``UsageError`` for none."""
    if isinstance(domains, str):
        names: Sequence[str | Domain] = [name.strip() for name in domains.split(",") if name.strip()]
        names = list_domains() if list(names) == ["all"] else names
    else:
        names = [domains] if isinstance(domains, Domain) else list(domains)
    found = {each.name: each for each in map(find_domain, names)}
    if not found:
        raise UsageError("no domains were named; give names joined by commas, or all")
    return tuple(found.values())


def _loaded(model: Any) -> Model:
    from mechfourier.models.registry import load

    return load(model) if isinstance(model, (str, Path)) else that_model("models", model)


def _atlas(
    model: Model,
    domains: tuple[Domain, ...],
    settings: Settings,
    quick: bool,
    work: Work,
    n_jobs: int | None,
) -> AtlasResult:
    asked = [asked_of(model, domain) for domain in domains]
    with _started(model, asked, settings, work, n_jobs) as statistics:
        table = _tasks(model, domains, settings.seed, work, statistics)
        measured = dict(statistics)
    studies = {} if quick else _studies(model, domains, measured, table, settings, work)
    notes = [
        note
        for each in asked
        if (part := measured.get(each.domain.name))
        for note in part.probe.notes
        if _of_all(note)
    ]
    return AtlasResult(
        model=model_name(model),
        domains=tuple(_row(each, measured, table, studies) for each in asked),
        studied=not quick,
        n_permutations=settings.n_permutations,
        seed=settings.seed,
        notes=tuple(dict.fromkeys(notes)),
    )


def _of_all(note: str) -> bool:
    """Notes on passes belong to the model, not to one of its domains."""
    return note.startswith("passes ")


def _started(
    model: Model, asked: Sequence[Asked], settings: Settings, work: Work, n_jobs: int | None
) -> "Together":
    """The probe of every domain that can be asked: one capture now, and statistics that run beside whatever
    the model does next; to be drained."""
    wanted = [each.domain.name for each in asked if each.design is not None]
    kept = {name: part for name in wanted if (part := work.read(f"probe-{name}", Measured)) is not None}
    jobs: dict[str, Callable[[], Measured]] = {}
    if len(kept) < len(wanted):
        sites = [Site.parse(name) for name in settings.sites]
        acts, control = work.tensors(
            "activations", sites, lambda: capture_together(model, asked, sites, settings.seed)
        )
        for name, read in split(model, asked, sites, acts, control).items():
            if name not in kept:
                jobs[name] = partial(measure, read, settings, work)
    return Together(jobs, n_jobs, kept)


def measure(read: Captured, settings: Settings, work: Work) -> Measured:
    """The statistics of one domain, on one thread (with more, sums come in another order); kept as soon as
    they are there."""
    with one_thread():
        result = analysed(read, n_permutations=settings.n_permutations, seed=settings.seed)
        return work.keep(f"probe-{read.domain.name}", Measured(result, layer_circles(read, result)))


class Together:
    """The jobs' results as they are finished, after those of ``kept``. With more than one core they begin at
    once, in a process for each; the model leaves them its other threads while they are ``busy``."""

    def __init__(
        self, jobs: dict[str, Callable[[], Measured]], n_jobs: int | None, kept: dict[str, Measured]
    ) -> None:
        import joblib

        self.jobs, self.kept, self.names = jobs, kept, dict[Future[Measured], str]()
        cores = joblib.cpu_count()
        if jobs and n_jobs != 1 and (n_jobs is not None or cores > 1):
            self._start(min(len(jobs), n_jobs or cores))

    def _start(self, workers: int) -> None:
        from joblib.externals.loky import get_reusable_executor

        alone = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
        own = dict(initializer=end_with, initargs=(os.getpid(),))
        self.pool = get_reusable_executor(workers, reuse=False, kill_workers=True, env=alone, **own)  # type: ignore[arg-type]
        self.names = {self.pool.submit(job): name for name, job in self.jobs.items()}

    @property
    def busy(self) -> bool:
        return not all(future.done() for future in self.names)

    def __iter__(self) -> Iterator[tuple[str, Measured]]:
        yield from self.kept.items()
        with progress("atlas: statistics", len(self.jobs)) as bar:
            for pair in (
                self._finished() if self.names else ((name, job()) for name, job in self.jobs.items())
            ):
                bar.advance()
                yield pair

    def _finished(self) -> Iterator[tuple[str, Measured]]:
        from concurrent.futures.process import BrokenProcessPool

        try:
            for future in as_completed(self.names):
                yield self.names[future], future.result()
        except BrokenProcessPool as error:
            raise MechFourierError(
                f"a process of the statistics was killed ({type(error).__name__}), most often for want of "
                f"memory; the same command goes on with what is finished; take --jobs 1"
            ) from error

    def __enter__(self) -> "Together":
        return self

    def __exit__(self, *error: object) -> None:
        if self.names:
            self.pool.shutdown(wait=True, kill_workers=True)


def _tasks(
    model: Model, domains: tuple[Domain, ...], seed: int, work: Work, statistics: Together
) -> dict[str, TasksResult]:
    """What the model answers, p-values corrected over the tasks of all domains."""
    found: dict[str, TasksResult] = {}
    with progress("atlas: tasks", len(domains)) as bar:
        for domain in domains:
            make = partial(_tasks_of, model, domain, seed)
            with one_thread() if statistics.busy else contextlib.nullcontext():
                found[domain.name] = work.kept(f"tasks-{domain.name}", TasksResult, make)
            bar.advance()
    rows = iter(corrected([row for each in found.values() for row in each.rows]))
    return {
        name: dataclasses.replace(each, rows=tuple(next(rows) for _ in each.rows))
        for name, each in found.items()
    }


def _tasks_of(model: Model, domain: Domain, seed: int) -> TasksResult:
    try:
        return tasks(model, domain, seed=seed, most_prompts=PROMPTS)
    except UsageError as error:  # a model without logits answers nothing
        return TasksResult(model_name(model), (), (str(error),), (), seed)


def _studies(
    model: Model,
    domains: tuple[Domain, ...],
    measured: dict[str, Measured],
    table: dict[str, TasksResult],
    settings: Settings,
    work: Work,
) -> dict[str, StudyResult]:
    """The study of every domain of which the model answers a task above chance."""
    answered = {d: row.task for d in domains if (row := best_of(_whole(table[d.name]))) is not None}
    found = {}
    with progress("atlas: study", len(answered)) as bar:
        for domain, task in answered.items():
            part = measured.get(domain.name)
            options: dict[str, Any] = dict(task=task, folder=work.folder, seed=settings.seed)
            options["probed"] = None if part is None else part.probe
            make = partial(study, model, domain, n_permutations=settings.n_permutations, **options)
            try:
                found[domain.name] = work.kept(f"study-{domain.name}", StudyResult, make)
            except MechFourierError as error:
                table[domain.name] = dataclasses.replace(
                    table[domain.name],
                    unasked=(*table[domain.name].unasked, f"{domain.name} was not studied: {error}"),
                )
            bar.advance()
    return found


def _whole(table: TasksResult) -> list[TaskRow]:
    return list(table.tasks)


def _row(
    asked: Asked,
    measured: dict[str, Measured],
    table: dict[str, TasksResult],
    studies: dict[str, StudyResult],
) -> DomainAtlas:
    domain = asked.domain
    answered, studied = table[domain.name], studies.get(domain.name)
    best, part = best_of(_whole(answered)), measured.get(domain.name)
    share = None if studied is None or studied.share is None else studied.share.value
    return DomainAtlas(
        domain=domain.name,
        n=domain.n,
        word=NOT_ASKED if part is None else part.probe.verdict,
        layers=None if part is None else part.probe.layers,
        task=None if best is None else best.task,
        used="not tested" if studied is None else studied.used,
        share=share,
        title=domain.title,
        reason=asked.reason,
        probe=None if part is None else part.probe,
        circles=() if part is None else part.circles,
        tasks=answered.rows,
        unasked=answered.unasked,
        study=studied,
    )
