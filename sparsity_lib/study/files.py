"""Atomic writes, checksums against damage, and locks against two writers of one file."""

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

# Checkout that contains this package, or the current folder if the package is installed as a wheel.
_CHECKOUT = Path(__file__).resolve().parents[2]
PROJECT = _CHECKOUT if (_CHECKOUT / "pyproject.toml").exists() else Path.cwd()


def folder(name: str, variable: str) -> Path:
    """Folder given by the environment variable, by default the folder `name` of the project."""
    return Path(os.environ.get(variable) or PROJECT / name)


def note_read(path: Path) -> None:
    """Append the path to the file named by SPARSITY_READS, which lists the inputs of a page."""
    if notes := os.environ.get("SPARSITY_READS"):
        with Path(notes).open("a", encoding="utf-8") as file:
            file.write(f"{path.resolve()}\n")


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Temporary path next to `path`; moved to `path` at the end, removed on failure.

    Raises `StudyError` without disk space or permission.
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
    """Make the folder if it is missing; `StudyError` if it cannot be made or written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StudyError(f"cannot make {folder}: {error.strerror}") from None
    if not os.access(folder, os.W_OK):
        raise StudyError(f"cannot write in {folder}; nothing was started")


def write_with_checksum(path: Path, content: bytes | memoryview) -> None:
    """Write the content followed by its SHA-256, which readers of netCDF and zip files ignore."""
    with atomic_write(path) as partial, partial.open("wb") as file:
        file.write(content)
        file.write(_seal(content))


def read_with_checksum(path: Path) -> memoryview:
    """Content of a file that `write_with_checksum` wrote.

    Raises `Unusable` for a file that is missing, damaged or of another origin; otherwise as `content_of`.
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
    """Context in which `reader`, a library with its version, reads a file with a checksum.

    Raises as `read_with_checksum`, and `Unreadable` for any error of the reader: since the content is intact,
    the reader is too old for it.
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
    """Bytes of a file.

    Raises `Unreadable` if the system refuses access or another program writes the file; `Unusable` if it is
    missing.
    """
    with _opened(path) as file:
        return file.read()


def digest(path: Path, kind: str = "sha256") -> str:
    """Digest of a file, in hex. Raises as `content_of`."""
    with _opened(path) as file:
        return hashlib.file_digest(file, lambda: hashlib.new(kind, usedforsecurity=False)).hexdigest()


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[io.BufferedReader]:
    try:
        with path.open("rb") as file:
            try:
                # Shared until the file is closed; HDF5 locks files that it writes.
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                raise
            except OSError:  # a file system without locks
                pass
            yield file
    except OSError as error:
        raise unreadable(path, error) from None


def unreadable(path: Path, error: OSError) -> Unreadable | Unusable:
    """Error for a file or folder that cannot be opened; `Unusable` if it does not exist."""
    if isinstance(error, FileNotFoundError) and not path.is_symlink():
        return Unusable(f"there is no {path}")
    reason = "it is in use by another program" if isinstance(error, BlockingIOError) else error.strerror
    return Unreadable(f"cannot read {path}: {reason}; nothing was changed")


def save_tensors(path: Path, state: dict[str, Any]) -> None:
    """Write a state with `torch.save` and a checksum."""
    import torch

    content = io.BytesIO()
    torch.save(state, content)
    write_with_checksum(path, content.getbuffer())


def load_tensors(path: Path) -> dict[str, Any]:
    """State that `save_tensors` wrote, on the CPU. Raises as `reading`."""
    import torch

    with reading(path, f"torch {torch.__version__}"):
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return state


@contextlib.contextmanager
def lock(path: Path, doing: str = "trained", stop: Callable[[], bool] | None = None) -> Iterator[None]:
    """Exclusive right to write `path`; a second process prints a message and waits.

    The lock ends with the process. Raises `Stopped` if `stop` returns true while it waits.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # One lock per thread: a training that starts within another one does not wait for itself.
        holder = FileLock(path.with_name(f".{path.stem}.lock"), is_singleton=True)
        try:
            holder.acquire(blocking=False)
        except Timeout:
            print(f"{path.stem} is being {doing} by another process; waiting for it", file=sys.stderr)
            while not holder.is_locked:
                if stop is not None and stop():
                    raise Stopped(f"{path.stem}: stopped while another process worked on it") from None
                with contextlib.suppress(Timeout):
                    holder.acquire(timeout=0.5)
    except OSError as error:
        raise StudyError(f"cannot write in {path.parent}: {error.strerror}") from None
    try:
        yield
    finally:
        holder.release()


def set_aside(path: Path, reason: object) -> Path:
    """Rename an unusable file instead of deleting it, with a warning.

    Raises `StudyError` if it cannot be renamed.
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
