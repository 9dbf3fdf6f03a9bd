"""Writing files so that a reader never sees half of one."""

import contextlib
import contextvars
import errno
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from mechfourier.errors import DiskFull, FolderInUse, MechFourierError, UsageError

LOCK = ".lock"
SAFETENSORS_PART = (
    ".tmp??????"  # safetensors writes to a temporary file of its own beside the one it is given
)
LONGEST_NAME = (
    70  # bytes: three names, the words between them and a temporary file's own fit into a file system's 255
)
LONGEST_STEM = 200  # bytes of a whole name: an ending and a temporary file's own must still fit
# safetensors writes Rust's words for an error of the system, PyTorch only that its archive came out too short
_RUST_ERROR = re.compile(r"(?:\(os error |IoError\(Os \{ code: )(\d+)")  # from 0.6 on; in safetensors 0.5
_TORCH_ERROR = re.compile(r"unexpected pos|PytorchStreamWriter")


def default_folder() -> Path:
    """The cache: ``$MECHFOURIER_CACHE``, or ``mechfourier`` in the user's cache folder (``$XDG_CACHE_HOME``,
    ``~/.cache``)."""
    own = os.environ.get("MECHFOURIER_CACHE")
    shared = os.environ.get("XDG_CACHE_HOME")
    return Path(own).expanduser() if own else Path(shared or Path.home() / ".cache") / "mechfourier"


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success it replaces ``path`` in one step, on error it is
    removed.

    Raises ``MechFourierError`` in one sentence when the disk is full or the folder cannot be written.
    """
    path = Path(path)
    temporary = None
    with explained(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
            os.close(handle)
            temporary = Path(name)
            yield temporary
            with temporary.open("rb") as written:
                os.fsync(written.fileno())
            temporary.chmod(0o644)
            temporary.replace(path)
        finally:
            if temporary is not None:
                temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """Errors of the system that come up while ``path`` is written, as one sentence each, whoever writes."""
    try:
        yield
    except OSError as error:
        raise _explained(path, error) from error
    except Exception as error:
        if (system := _system_error(error)) is None:
            raise
        system.__cause__ = error
        raise _explained(path, system) from system


def _system_error(error: Exception) -> OSError | None:
    """The error of the system behind a writer's own exception, where there is one."""
    if found := _RUST_ERROR.search(str(error)):
        return OSError(int(found[1]), os.strerror(int(found[1])))
    if _TORCH_ERROR.search(str(error)):
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return None


def _explained(path: Path, error: OSError) -> MechFourierError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFull(
            f"no space left on the disk that holds {path.parent}; free some or choose another --out"
        )
    if error.errno == errno.EFBIG:
        return MechFourierError(
            f"{path} would be larger than the system allows (ulimit -f, or the file system's limit); raise "
            f"it or choose another --out"
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return MechFourierError(f"cannot write to {path.parent} ({error.strerror}); choose another --out")
    return MechFourierError(f"cannot write {path}: {error.strerror or error}")


def check_writable(path: str | Path, *, folder: bool = False) -> None:
    """Raise ``MechFourierError`` where ``path``, a file or a folder that need not be there yet, cannot be written:
    asked before work begins that would be lost. ``folder``: it has to be one."""
    path = regular(own_path(path))
    if folder and path.is_file():
        raise UsageError(f"{path} is a file, and a folder is written here; choose another --out")
    with explained(path):
        at = path
        while not at.exists() and at != at.parent:
            at = at.parent
        place = at if at.is_dir() or at != path else path.parent
        if not place.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        with tempfile.TemporaryFile(dir=place):  # what permissions alone do not say: /proc, a read-only disk
            pass


def write_with(path: str | Path, write: Callable[[Path], Any]) -> Path:
    """Call ``write`` on a temporary path and move the outcome to ``path``."""
    with atomic_path(path) as temporary:
        write(temporary)
    return Path(path)


def write_text(path: str | Path, text: str) -> Path:
    """Write ``text`` (UTF-8) atomically."""
    return write_with(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def write_json(path: str | Path, value: Any) -> Path:
    """Write ``value`` as indented JSON, atomically; NaN is refused, as it is no JSON."""
    return write_text(path, json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def write_files_with(folder: str | Path, write: Callable[[str], Any]) -> None:
    """Call ``write`` on an empty scratch folder and move what it wrote there to ``folder``, file by file,
    each whole.

    For writers of other libraries, which open files by name: a link of that name in ``folder`` is replaced,
    not followed.
    """
    with tempfile.TemporaryDirectory() as scratch:
        with explained(Path(scratch) / "files"):
            write(scratch)
        for file in sorted(Path(scratch).iterdir()):
            write_with(Path(folder) / file.name, partial(shutil.copyfile, file))


def slug(name: Any) -> str:
    """A file name from any name (of a model, a domain, a dictionary; the last part of a path): letters,
    digits, ``-`` and ``.``."""
    text = str(name).rstrip("/").rsplit("/", 1)[-1]
    kept = "".join(c if c.isalnum() or c in "-." else "-" for c in text).strip("-.").lower() or "unnamed"
    return (
        kept
        if len(kept.encode()) <= LONGEST_NAME
        else f"{beginning(kept, LONGEST_NAME - 9)}-{name_hash(text)}"
    )


_OPTIONS: contextvars.ContextVar[Mapping[str, Any] | None] = contextvars.ContextVar("options", default=None)


@contextlib.contextmanager
def named_with(options: Mapping[str, Any]) -> Iterator[None]:
    """Results that are written inside also carry ``options`` in their names: those of a command that differ
    from its defaults."""
    token = _OPTIONS.set(dict(options))
    try:
        yield
    finally:
        _OPTIONS.reset(token)


def result_name(kind: str, *subjects: Any, without: tuple[str, ...] = ()) -> str:
    """The name, without its ending, of a result's file: its kind, its subjects (model, domain) and the
    options of ``named_with``.

    Other options give another name, the same ones the same. A model or domain given by its path carries four
    digits of that path's hash, since the last part of a path names many folders. ``without``: options that a
    subject already says.
    """
    parts = [kind, *(_subject(subject) for subject in subjects)]
    parts += [_option(key, value) for key, value in (_OPTIONS.get() or {}).items() if key not in without]
    name = "-".join(parts)
    if len(name.encode()) <= LONGEST_STEM:
        return name
    return f"{beginning(name, LONGEST_STEM - 9)}-{name_hash(name)}"


def _subject(subject: Any) -> str:
    text = str(subject)
    return (
        f"{slug(text)}-{name_hash(text)[:4]}"
        if "/" in text.strip("/") or text.startswith("/")
        else slug(text)
    )


def _option(key: str, value: Any) -> str:
    """``layers-0-3+7``, ``no-controls``: commas become ``+``, so that 0,3 and 0-3 differ."""
    name = key.strip("_").replace("_", "-")
    if isinstance(value, bool):
        return name if value else f"no-{name}"
    text = str(value)
    kept = "".join(
        c if c.isalnum() or c in "-._+" else "-" for c in text.rsplit("/", 1)[-1].replace(",", "+")
    )
    lost = "/" in text or kept.replace("+", ",") != text
    return f"{name}-{beginning(kept, 40)}" + (
        f"-{name_hash(text)[:4]}" if lost or len(kept.encode()) > 40 else ""
    )


def beginning(text: str, most: int) -> str:
    """As much of ``text`` as fits into ``most`` bytes: file systems count those, not letters."""
    return text.encode()[:most].decode(errors="ignore")


def name_hash(text: str) -> str:
    """Eight digits that tell shortened names apart."""
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:8]


def own_path(path: str | Path) -> Path:
    """A path as the user wrote it, with ``~`` as a home folder; raises ``UsageError`` for one that cannot exist."""
    text = str(path)
    if isinstance(path, str) and not text.strip():
        raise UsageError("the path is empty; give the path of a file or folder")
    try:
        found = Path(path).expanduser()
        found.exists()
        text.encode()  # names go into results, which are UTF-8
    except (RuntimeError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError(
            f"{text[:60] + '…' * (len(text) > 60)!r} is no path ({reason}); check its spelling"
        ) from error
    return found


def regular(path: str | Path) -> Path:
    """``path``, to be read; raises ``UsageError`` for a pipe, a socket or a device, whose reader would wait."""
    path = Path(path)
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise UsageError(f"{path} is a pipe or a device, no file; give a regular file")
    return path


def read_text(path: str | Path) -> str:
    """The text of a file (UTF-8, with or without a byte-order mark); raises ``UsageError`` for a pipe or a device, and Python's own
    errors for what is not there or no text."""
    return regular(path).read_text(encoding="utf-8-sig")


def keep_inside(folder: str | Path, *names: str | Path) -> None:
    """Raise ``MechFourierError`` where a link leads one of ``names`` (parts of ``folder`` that will be
    written to) out of it."""
    root = Path(folder).resolve()
    for name in names:
        if not (path := Path(folder) / name).resolve().is_relative_to(root):
            raise MechFourierError(
                f"{path} leads out of {folder} ({path.resolve()}), and nothing is written there; remove the "
                f"link, or choose another --out"
            )


@contextlib.contextmanager
def locked(folder: str | Path) -> Iterator[None]:
    """Keep other processes that also ask for it out of ``folder``, by a ``.lock`` file in it that goes when
    the block ends.

    The lock is the system's and dies with the process, so that a killed one never stands in the way. Raises
    ``FolderInUse`` at once where another holds it.
    """
    path = Path(folder) / LOCK
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path, blocking=False)
        try:
            lock.acquire()
        except Timeout:
            raise FolderInUse(
                f"another process is working in {path.parent}; wait until it has ended, or choose another "
                f"--out"
            ) from None
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # Windows removes no file that is open
            path.unlink()  # while it is held: who waits for it finds that it guards no name, and tries again
        lock.release()


def remove_leftovers(*paths: Path) -> None:
    """Remove what killed processes left of ``atomic_path`` for these files (names may hold ``*``); only under
    a lock."""
    for path in paths:
        for temporary in (*path.parent.glob(f".{path.name}.*.part"), *path.parent.glob(SAFETENSORS_PART)):
            temporary.unlink(missing_ok=True)
