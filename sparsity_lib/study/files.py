"""Files that are written whole or not at all, and that two processes do not write at once."""

import contextlib
import hashlib
import itertools
import os
import warnings
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock

from sparsity_lib.study.errors import StudyError

# The checkout this package is installed from, or the current folder where it is installed as a wheel.
_CHECKOUT = Path(__file__).resolve().parents[2]
PROJECT = _CHECKOUT if (_CHECKOUT / "pyproject.toml").exists() else Path.cwd()


def folder(name: str, variable: str) -> Path:
    """The project's folder `name`, or the one that the environment variable names."""
    return Path(os.environ.get(variable) or PROJECT / name)


@contextlib.contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A path beside `path` to write to; moved into place at the end, removed if anything fails.

    Raises `StudyError` when there is no room or no permission.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        os.replace(partial, path)
    except (OSError, RuntimeError) as error:  # torch.save reports a full disk as a RuntimeError
        reason = (
            error.strerror if isinstance(error, OSError) and error.strerror else str(error).splitlines()[0]
        )
        raise StudyError(f"cannot write {path}: {reason}; nothing was changed") from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


@contextlib.contextmanager
def lock(path: Path) -> Iterator[None]:
    """Hold the right to write `path`; a second process waits. The system frees it when the process dies."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        holder = FileLock(path.with_name(f".{path.stem}.lock"))
        holder.acquire()
    except OSError as error:
        raise StudyError(f"cannot write in {path.parent}: {error.strerror}") from None
    try:
        yield
    finally:
        holder.release()


def set_aside(path: Path, reason: object) -> Path:
    """Rename a file that cannot be used, so that nothing is lost, and say so in a warning."""
    names = (path.with_name(f"{path.name}.set-aside{number or ''}") for number in itertools.count())
    aside = next(name for name in names if not name.exists())
    os.replace(path, aside)
    warnings.warn(f"{path.name} was set aside as {aside.name}: {str(reason).splitlines()[0]}", stacklevel=2)
    return aside


def sha256(path: Path) -> str:
    """The file's SHA-256 digest, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
