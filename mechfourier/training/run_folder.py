"""The files of a training run: what is written, in which order, and how a broken one is passed over.

``state.pt`` is replaced in one step and the one before it is kept as ``state.previous.pt``. A torch file is a
zip archive with a CRC-32 of every record, so a truncated or altered one is noticed before it is used.
"""

import contextlib
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mechfourier.errors import BadCheckpoint, UsageError
from mechfourier.files import (
    atomic_path,
    keep_inside,
    locked,
    regular,
    remove_leftovers,
    write_json,
    write_with,
)
from mechfourier.models.folder import brief, read_json_object
from mechfourier.results.base import plain
from mechfourier.results.provenance import provenance_of_start

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

STATE, PREVIOUS_STATE = "state.pt", "state.previous.pt"
CONFIG, METRICS, WEIGHTS = "config.json", "metrics.parquet", "model.safetensors"
CHECKPOINTS = "checkpoints"
PROVENANCE = "provenance.json"  # of the start: the command, the versions, the machine


class RunFolder:
    """A run's folder. Nothing is created before the first write."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    @property
    def started(self) -> bool:
        return (self.path / CONFIG).exists() or (self.path / STATE).exists()

    @contextlib.contextmanager
    def owned(self) -> Iterator[None]:
        """Nobody else writes here meanwhile, and what a killed process left half-written is gone. Raises
        ``FolderInUse``."""
        with locked(self.path):
            keep_inside(self.path, CHECKPOINTS)
            names = (STATE, METRICS, WEIGHTS, CONFIG, PROVENANCE, f"{CHECKPOINTS}/*")
            remove_leftovers(*(self.path / name for name in names))
            yield

    # configuration

    def write_config(self, config: dict[str, Any]) -> None:
        write_json(self.path / CONFIG, plain(config))
        write_json(self.path / PROVENANCE, provenance_of_start())

    def check_config(self, config: dict[str, Any]) -> None:
        """Raise ``UsageError`` with every difference between the folder's configuration and ``config``."""
        path = self.path / CONFIG
        if not path.exists():
            return
        saved = read_json_object(path)
        unlike = differences(saved, json.loads(json.dumps(plain(config))))
        if unlike:
            raise UsageError(
                f"the run in {self.path} was started with another configuration: {'; '.join(unlike)}. "
                "Resume it with the same options, or start a new run with another --out"
            )

    # state

    def write_state(self, state: dict[str, Any]) -> None:
        """Replace ``state.pt`` once the new one is whole, keeping the one before it."""
        import torch

        current = self.path / STATE
        with atomic_path(current) as temporary:
            torch.save(state, temporary)
            if current.exists():
                current.replace(self.path / PREVIOUS_STATE)

    def read_state(self) -> dict[str, Any] | None:
        """The newest whole state, or None where the folder holds none; raises ``BadCheckpoint`` if all are
        broken.

        A broken ``state.pt`` is removed once the one before it is read: the next state must not move it over
        that one.
        """
        broken = []
        for name in (STATE, PREVIOUS_STATE):
            path = self.path / name
            if not path.exists():
                continue
            try:
                state = _load_state(path)
            except BadCheckpoint as error:
                broken.append(str(error))
                continue
            if broken:
                (self.path / STATE).unlink()
            return state
        if broken:
            raise BadCheckpoint(f"{'; '.join(broken)}. Start again with another folder (--out)")
        return None

    # metrics and weights

    def write_metrics(self, rows: list[dict[str, float | int]]) -> None:
        import pandas as pd

        frame = pd.DataFrame(rows)
        write_with(self.path / METRICS, lambda temporary: frame.to_parquet(temporary, index=False))

    def read_metrics(self, *, until: int | None = None) -> "pd.DataFrame":
        """The rows with ``step <= until`` (all by default); empty where there are none yet. Raises
        ``BadCheckpoint`` for a damaged file."""
        import pandas as pd

        path = self.path / METRICS
        if not path.exists():
            return pd.DataFrame({"step": []})
        try:
            # without the memory map, so that a file cut short is an error and not a signal
            frame = pd.read_parquet(regular(path), memory_map=False)
            frame["step"].to_numpy()
        except UsageError:
            raise
        except Exception as error:  # pyarrow raises OSError, ArrowInvalid, KeyError … for a damaged file
            raise BadCheckpoint(
                f"{path} is damaged ({brief(error)}); the run's state holds the metrics too: go on with "
                f"--resume, which writes the file again"
            ) from error
        return frame if until is None else frame.query("step <= @until")

    def write_weights(self, weights: "dict[str, Tensor]", name: str = WEIGHTS) -> Path:
        from mechfourier.models.checkpoint import write_tensors

        tensors = {key: value.detach().cpu().contiguous() for key, value in weights.items()}
        return write_tensors(self.path / name, tensors)

    def write_checkpoint(self, weights: "dict[str, Tensor]", step: int) -> Path:
        return self.write_weights(weights, f"{CHECKPOINTS}/step-{step:06d}.safetensors")


def _load_state(path: Path) -> dict[str, Any]:
    """A state file after its checksums were verified; only tensors and plain values are ever unpickled."""
    import torch

    path = regular(path)
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged is not None:
            raise BadCheckpoint(f"{path} is damaged (record {damaged})")
        return torch.load(path, weights_only=True, map_location="cpu")
    except BadCheckpoint:
        raise
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise BadCheckpoint(f"{path} cannot be read ({reason})") from error


def differences(saved: Any, now: Any, key: str = "") -> list[str]:
    """ "optimiser.lr is 0.001 in the folder and 0.003 now", for every leaf that differs."""
    if isinstance(saved, dict) and isinstance(now, dict):
        names = [*saved, *(name for name in now if name not in saved)]
        return [
            text
            for name in names
            for text in differences(
                saved.get(name, "absent"), now.get(name, "absent"), f"{key}.{name}" if key else name
            )
        ]
    return [] if saved == now else [f"{key} is {saved!r} in the folder and {now!r} now"]
