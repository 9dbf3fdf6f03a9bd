"""Training dictionaries on a model: capture, shuffle, train, save in SAELens's format."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxtyping import Float
from torch import Tensor

from mechfourier._version import __version__
from mechfourier.errors import MechFourierError, UsageError
from mechfourier.files import keep_inside, locked, read_text, remove_leftovers, write_files_with, write_json
from mechfourier.hooks.run import device_of
from mechfourier.hooks.site import model_name
from mechfourier.models.folder import read_json_object
from mechfourier.models.interface import Model
from mechfourier.models.untrained import untrained
from mechfourier.models.weights import weights_hash
from mechfourier.results.base import Result
from mechfourier.sae.rows import Reading, Row
from mechfourier.sae.settings import Dictionary, Schedule
from mechfourier.sae.shards import DISK_BYTES, MANIFEST, Shards, Stream, capture_rows, check_site
from mechfourier.sae.text import Source, held_out_rows, training_rows
from mechfourier.sae.trainee import DictionariesTrainee
from mechfourier.training.loop import TrainingInterrupted, run_training
from mechfourier.training.run_folder import WEIGHTS, RunFolder

if TYPE_CHECKING:
    import pandas as pd

METADATA = "mechfourier.json"
RUN, SHARDS, CONTROL = "training", "activations", "control"
RESULT = "result.json"
HELD_OUT_ROWS = 4096
EVALUATIONS = 40


@dataclass(frozen=True)
class TrainedDictionary:
    """One finished dictionary: its folder, and what it reaches on held-out activations."""

    name: str
    folder: str
    site: str
    architecture: str
    d_in: int
    features: int
    l0: float
    explained_variance: float
    dead: float


@dataclass(frozen=True)
class SAERun(Result, kind="sae-run"):
    """What ``train`` made. ``rows``: distinct activations; ``passes``: how often each was seen; ``seconds``
    of training."""

    model: str
    folder: str
    rows: int
    tokens: int
    passes: float
    seconds: float
    dictionaries: tuple[TrainedDictionary, ...]
    control: str | None
    notes: tuple[str, ...]

    def frame(self) -> "pd.DataFrame":
        import pandas as pd

        return pd.DataFrame([asdict(each) for each in self.dictionaries])

    def plot(self) -> Any:
        """Held-out explained variance against L0, one point per dictionary."""
        import plotly.express as px

        return px.scatter(self.frame(), x="l0", y="explained_variance", text="name")

    def __str__(self) -> str:
        lines = [
            f"{each.folder}: {each.features} features at {each.site} ({each.architecture}), L0 "
            f"{each.l0:.1f}, "
            f"explained variance {each.explained_variance:.3f}, dead {each.dead:.1%} (held-out activations)"
            for each in self.dictionaries
        ]
        head = (
            f"{self.tokens} activations seen ({self.rows} different ones, {self.passes:.1f} passes) in "
            f"{self.seconds:.0f} s"
        )
        return "\n".join([head, *lines, *(f"note: {note}" for note in self.notes)])


def train(
    model: Model,
    dictionaries: Sequence[Dictionary],
    folder: str | Path,
    *,
    sources: Sequence[Source] = (Source(),),
    reading: Reading | None = None,
    schedule: Schedule | None = None,
    rows: int | None = None,
    control: bool = True,
    keep_activations: bool = False,
    resume: bool = False,
) -> SAERun:
    """Train sparse autoencoders on ``model``, several sites and settings in one pass over it.

    Args: model: anything with hook points (`mechfourier.load`). dictionaries: what to train; one is saved in
    ``folder`` itself, several in folders of their names below it. sources: text, mixed by weight;
    ``Source()`` is the model's own task. reading: positions, context and held-out share. schedule:
    activations to see, batch size, learning rate, seed. rows: different activations to keep on disk (None: as
    many as are seen, at most 16 GiB); more passes make up the rest. control: train the same dictionaries on
    the model with re-initialised weights too (``folder/control``). keep_activations: leave the shards on disk
    at the end. resume: go on with what is in ``folder``.

    Raises ``UnknownSite``, ``OutOfRange`` and ``UsageError`` for a wrong call, ``MechFourierError`` for NaN
    activations, ``TrainingInterrupted`` after Ctrl-C (go on with ``resume``), ``BadCheckpoint`` for damaged
    shards.
    """
    if not dictionaries:
        raise UsageError("there is no dictionary to train; name a site: --site blocks.0.hook_resid_post")
    job = _Job(
        model,
        tuple(dictionaries),
        Path(folder),
        tuple(sources),
        reading or Reading(),
        schedule or Schedule(),
        rows,
    )
    result = job.run(resume=resume, keep=keep_activations)
    if not control:
        return result
    with untrained(model, job.schedule.seed) as chance:
        other = _Job(
            chance, job.dictionaries, job.folder / CONTROL, job.sources, job.reading, job.schedule, rows
        )
        other.run(resume=resume, keep=keep_activations)
    return replace(result, control=str(other.folder))


class _Job:
    """One model, its shards and its dictionaries."""

    def __init__(
        self,
        model: Model,
        dictionaries: tuple[Dictionary, ...],
        folder: Path,
        sources: tuple[Source, ...],
        reading: Reading,
        schedule: Schedule,
        rows: int | None,
    ) -> None:
        self.model, self.folder, self.sources = model, folder, sources
        self.reading, self.schedule = reading, schedule
        self.sites = tuple(sorted({check_site(model, d.site) for d in dictionaries}))
        self.dictionaries = tuple(
            Dictionary(**{**asdict(d), "site": str(check_site(model, d.site))}) for d in dictionaries
        )
        self.held_out = self._held_out()
        self.widths = {site: acts.shape[1] for site, acts in self.held_out.items()}
        self.named = {d.name(self.widths[d.site]): d for d in self.dictionaries}
        if len(self.named) < len(self.dictionaries):
            raise UsageError(
                "two of the dictionaries are the same; change the site, width or sparsity of one"
            )
        row_bytes = 4 * sum(self.widths.values())
        self.rows = rows or min(schedule.tokens, DISK_BYTES // row_bytes)
        if self.rows < 1:
            raise UsageError(f"{rows} rows are too few; keep at least one activation")

    def _held_out(self) -> dict[str, Float[Tensor, "row d"]]:
        chosen = first_positions(held_out_rows(self.model, self.sources, self.reading), HELD_OUT_ROWS)
        if not chosen:
            raise UsageError("nothing is held out of this text; give more text, or a larger held-out share")
        return capture_rows(self.model, chosen, self.sites)

    def run(self, *, resume: bool, keep: bool) -> SAERun:
        with locked(self.folder):
            shards = self.folder / SHARDS
            keep_inside(self.folder, SHARDS, RUN, CONTROL, *(self.named if len(self.named) > 1 else ()))
            remove_leftovers(shards / "shard-*", shards / MANIFEST, self.folder / RUN / "*")
            return self._run(resume=resume, keep=keep)

    def _run(self, *, resume: bool, keep: bool) -> SAERun:
        run = RunFolder(self.folder / RUN)
        if run.started and not resume:
            raise UsageError(
                f"{self.folder} already holds dictionaries; go on with --resume, or choose another --out"
            )
        plan = self.plan()
        run.check_config(plan)
        run.write_config(plan)
        finished = run.path / RESULT
        if finished.exists():
            if not keep:
                self._shards().clear()
            return SAERun.from_json(read_text(finished))
        shards = self._collect()
        self._check_shards(shards)
        stream = Stream(shards, self.schedule.batch, seed=self.schedule.seed)
        trainee = DictionariesTrainee(
            self.named,
            stream,
            self.schedule,
            self.held_out,
            plan=plan,
            metadata=self._metadata(),
            device=str(device_of(self.model)),
        )
        every = max(1, trainee.blocks // EVALUATIONS)
        trained = run_training(
            trainee,
            run.path,
            steps=trainee.blocks,
            evaluate_at=every,
            checkpoint_at=(),
            resume=True,
            label="train dictionaries",
        )
        saved = self._save(trainee, trained.metrics, shards)
        (run.path / WEIGHTS).unlink(missing_ok=True)  # the dictionaries themselves are beside it
        result = SAERun(
            model=model_name(self.model),
            folder=str(self.folder),
            rows=shards.rows,
            tokens=self.schedule.steps * self.schedule.batch,
            passes=self.schedule.steps * self.schedule.batch / shards.rows,
            seconds=trained.seconds,
            dictionaries=saved,
            control=None,
            notes=(),
        )
        result.save(finished)
        if not keep:  # last: a process killed before has all that it needs to go on
            shards.clear()
        return result

    def _shards(self) -> Shards:
        return Shards(
            self.folder / SHARDS, tuple(self.widths), tuple(self.widths.values()), self.schedule.seed
        )

    def _collect(self) -> Shards:
        shards = self._shards()
        try:
            return shards.collect(
                self.model, training_rows(self.model, self.sources, self.reading), self.rows
            )
        except KeyboardInterrupt:
            raise TrainingInterrupted(
                f"stopped while activations were captured ({len(shards.infos)} shards are kept in "
                f"{shards.folder}); "
                f"go on with --resume --out {self.folder}"
            ) from None

    def _check_shards(self, shards: Shards) -> None:
        """A resumed run must see the same activations; the number of rows decides the order of all
        batches."""
        path = self.folder / RUN / "rows.json"
        if path.exists() and read_json_object(path).get("rows") != shards.rows:
            raise MechFourierError(
                f"the text now gives {shards.rows} activations, and gave another number when the run in "
                f"{self.folder} was "
                "started; restore the text, or start again with another --out"
            )
        write_json(path, {"rows": shards.rows})

    def plan(self) -> dict[str, Any]:
        """All that decides the outcome: a resumed run must have the same."""
        return {
            "model": model_name(self.model),
            "weights": weights_hash(self.model),
            "dictionaries": {name: asdict(d) for name, d in self.named.items()},
            "sources": [asdict(source) for source in self.sources],
            "reading": asdict(self.reading),
            "schedule": self.schedule.to_dict(),
            "rows": self.rows,
        }

    def _metadata(self) -> dict[str, Any]:
        """What SAELens keeps in its own configuration."""
        return {
            "model_name": model_name(self.model),
            "context_size": self.reading.context,
            "prepend_bos": False,
            "dataset_path": ", ".join(source.name for source in self.sources),
        }

    def _save(
        self, trainee: DictionariesTrainee, metrics: dict[str, float], shards: Shards
    ) -> tuple[TrainedDictionary, ...]:
        found = []
        sparsity = {name: trainer.log_feature_sparsity for name, trainer in trainee.trainers.items()}
        for name, sae in trainee.finished().items():
            dictionary = self.named[name]
            folder = self.folder if len(self.named) == 1 else self.folder / name
            write_dictionary(sae, sparsity[name], folder)
            prefix = "" if len(self.named) == 1 else f"{name}/"
            trained = TrainedDictionary(
                name,
                str(folder),
                dictionary.site,
                dictionary.architecture,
                sae.cfg.d_in,
                sae.cfg.d_sae,
                *(
                    metrics[f"{prefix}{key}"]
                    for key in ("held_out_l0", "held_out_explained_variance", "held_out_dead")
                ),
            )
            plan = self.plan()
            write_json(
                folder / METADATA,
                {
                    "format": 1,
                    "mechfourier": __version__,
                    "name": name,
                    "model": plan["model"],
                    "weights": plan["weights"],
                    "site": dictionary.site,
                    "dictionary": asdict(dictionary),
                    "sources": plan["sources"],
                    "reading": plan["reading"],
                    "schedule": plan["schedule"],
                    "rows": shards.rows,
                    "sequences": shards.infos[-1].stop,
                    "held_out_templates": True,
                    "held_out": asdict(trained),
                },
            )
            found.append(trained)
        return tuple(found)


def write_dictionary(sae: Any, sparsity: Float[Tensor, " feature"], folder: Path) -> None:
    """SAELens's files of a dictionary, each of which appears whole."""
    from safetensors.torch import save_file

    def write(scratch: str) -> None:
        sae.save_inference_model(scratch)
        save_file({"sparsity": sparsity.contiguous()}, Path(scratch) / "sparsity.safetensors")

    write_files_with(folder, write)


def first_positions(rows: Any, count: int) -> list[Row]:
    """Sequences of the stream until they hold ``count`` activations."""
    chosen: list[Row] = []
    total = 0
    for row in islice(rows, count):
        chosen.append(row)
        total += len(row.keep)
        if total >= count:
            break
    return chosen
