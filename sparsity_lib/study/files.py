"""Atomic writes, checksums that show damage, and locks against two processes that write one file."""

import contextlib
import fcntl
import hashlib
import io
import itertools
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from sparsity_lib.study.errors import Stopped, StudyError, Unreadable, Unusable

# The checkout this package is installed from, or the current folder where it is installed as a wheel.
_CHECKOUT = Path(__file__).resolve().parents[2]
PROJECT = _CHECKOUT if (_CHECKOUT / "pyproject.toml").exists() else Path.cwd()


def folder(name: str, variable: str) -> Path:
    """The project's folder `name`, or the one that the environment variable names."""
    return Path(os.environ.get(variable) or PROJECT / name)


def note_read(path: Path) -> None:
    """Append the path to the file that SPARSITY_READS names, from which a page knows what it was made of."""
    if notes := os.environ.get("SPARSITY_READS"):
        with Path(notes).open("a", encoding="utf-8") as file:
            file.write(f"{path.resolve()}\n")


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """A path next to `path` to write to; moved into place at the end, removed if anything fails.

    Raises `StudyError` when there is no room or no permission.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        os.replace(partial, path)
    except OSError as error:
        reason = error.strerror or str(error).splitlines()[0]
        raise StudyError(f"cannot write {path}: {reason}; nothing was changed") from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


def require_writable(folder: Path) -> None:
    """Make the folder if it is not there; `StudyError` where it cannot be made or written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StudyError(f"cannot make {folder}: {error.strerror}") from None
    if not os.access(folder, os.W_OK):
        raise StudyError(f"cannot write in {folder}; nothing was started")


def write_with_checksum(path: Path, content: bytes | memoryview) -> None:
    """Write the content whole, and its SHA-256 after it, where readers of netCDF and of zips do not look."""
    with atomic_write(path) as partial, partial.open("wb") as file:
        file.write(content)
        file.write(_seal(content))


def read_with_checksum(path: Path) -> memoryview:
    """The content that `write_with_checksum` wrote.

    Raises `Unusable` where the file is missing, damaged or of another origin, and else as `content_of`.
    """
    whole = memoryview(content_of(path))
    content = whole[: -len(_seal(b""))]
    if whole[len(content) :] != _seal(content):
        raise Unusable(f"{path} is damaged: it does not end with the SHA-256 of its content")
    return content


def _seal(content: bytes | memoryview) -> bytes:
    return b"\nSHA-256 " + hashlib.sha256(content).hexdigest().encode()


@contextlib.contextmanager
def reading(path: Path, reader: str) -> Iterator[None]:
    """Have `reader`, a library with its version, read a sealed file.

    Raises as `read_with_checksum`, and `Unreadable`, one line, for whatever the reader raises: the content is
    as it was written, so the reader is too old for it.
    """
    read_with_checksum(path)
    try:
        yield
    except Exception as error:
        raise Unreadable(
            f"{path} is not damaged, but {reader} cannot read it; it may have been written by a newer "
            f"version ({_first_line(error)}); nothing was changed"
        ) from None


def content_of(path: Path) -> bytes:
    """The file's bytes.

    Raises `Unreadable` where the system does not give them or another program holds the file to write it;
    `Unusable` where there is none.
    """
    with _opened(path) as file:
        return file.read()


def digest(path: Path, kind: str = "sha256") -> str:
    """The file's digest, in hex. Raises as `content_of`."""
    with _opened(path) as file:
        return hashlib.file_digest(file, lambda: hashlib.new(kind, usedforsecurity=False)).hexdigest()


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[io.BufferedReader]:
    try:
        with path.open("rb") as file:
            try:
                fcntl.flock(
                    file, fcntl.LOCK_SH | fcntl.LOCK_NB
                )  # until it is closed; HDF5 locks what it writes
            except BlockingIOError:
                raise
            except OSError:  # a file system without locks
                pass
            yield file
    except OSError as error:
        raise unreadable(path, error) from None


def unreadable(path: Path, error: OSError) -> Unreadable | Unusable:
    """Return the system's reason for not opening a file or folder; `Unusable` where there is none."""
    if isinstance(error, FileNotFoundError) and not path.is_symlink():
        return Unusable(f"there is no {path}")
    reason = "it is in use by another program" if isinstance(error, BlockingIOError) else error.strerror
    return Unreadable(f"cannot read {path}: {reason}; nothing was changed")


def save_tensors(path: Path, state: dict[str, Any]) -> None:
    """Write what `torch.save` takes, sealed."""
    import torch

    content = io.BytesIO()
    torch.save(state, content)
    write_with_checksum(path, content.getbuffer())


def load_tensors(path: Path) -> dict[str, Any]:
    """The tensors that `save_tensors` wrote, on the CPU. Raises as `reading` does."""
    import torch

    with reading(path, f"torch {torch.__version__}"):
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return state


@contextlib.contextmanager
def lock(path: Path, doing: str = "trained", stop: Callable[[], bool] | None = None) -> Iterator[None]:
    """Hold the right to write `path`; a second process prints the reason, and waits.

    The system frees it when the process dies. Raises `Stopped` if `stop` becomes true while it waits.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # One holder a thread: a module that trains as it is imported by a training does not wait for itself.
        holder = FileLock(path.with_name(f".{path.stem}.lock"), is_singleton=True)
        try:
            holder.acquire(blocking=False)
        except Timeout:
            print(f"{path.stem} is being {doing} by another process; waiting for it", file=sys.stderr)
            while not holder.is_locked:
                if stop is not None and stop():
                    raise Stopped(f"{path.stem}: stopped, while another process was at it") from None
                with contextlib.suppress(Timeout):
                    holder.acquire(timeout=0.5)
    except OSError as error:
        raise StudyError(f"cannot write in {path.parent}: {error.strerror}") from None
    try:
        yield
    finally:
        holder.release()


def set_aside(path: Path, reason: object) -> Path:
    """Rename a file that cannot be used, so that nothing is lost, with a warning.

    Raises `StudyError` where it cannot be renamed.
    """
    names = (path.with_name(f"{path.name}.set-aside{number or ''}") for number in itertools.count())
    aside = next(name for name in names if not name.exists())
    try:
        os.replace(path, aside)
    except OSError as error:
        raise StudyError(f"cannot set {path} aside ({_first_line(reason)}): {error.strerror}") from None
    warnings.warn(f"{path.name} was set aside as {aside.name}: {_first_line(reason)}", stacklevel=2)
    return aside


def _first_line(reason: object) -> str:
    return (str(reason) or type(reason).__name__).splitlines()[0]
