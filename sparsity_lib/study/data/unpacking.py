"""Archives of strangers: plain files and folders, inside one folder, so many and so large; no others.

Sizes are counted while files are written, so that it does not matter what an archive says of itself.
"""

import gzip
import io
import stat
import tarfile
import zipfile
from collections.abc import Generator, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import NamedTuple

from sparsity_lib.study.errors import StudyError

_CHUNK = 2**20  # bytes in memory at once
_HEADER = 2**13  # bytes of a tar's headers for one member: the standard library reads them whole


class _Member(NamedTuple):
    """What an archive holds under a name: a folder, or a file of which `content` gives the bytes."""

    name: str
    content: Iterator[bytes] | None


def unpack(archive: Path, folder: Path, *, most_bytes: int, most_members: int) -> None:
    """Unpack a `.zip` or `.tar.gz` into a folder that exists, with the permissions of new files.

    Raises `StudyError` naming the first member that would lie outside the folder, is no plain file or folder,
    or is there twice, or at which there are more members or bytes than allowed; and for what is no archive.
    Members before that one are left in `folder`.
    """
    members = _zip if archive.suffix == ".zip" else _tar
    try:
        with closing(members(archive, most_bytes)) as found:
            left = most_bytes
            for count, member in enumerate(found, 1):
                if count > most_members:
                    raise StudyError(f"member '{member.name}' is one more than the {most_members:,} allowed")
                left -= _write(member, folder, left, most_bytes)
    except StudyError as error:
        raise StudyError(f"cannot unpack {archive}: {error}; nothing was changed") from None
    except Exception as error:  # whatever a damaged archive makes the readers raise
        told = (str(error) or type(error).__name__).splitlines()[0]
        raise StudyError(f"cannot unpack {archive}: {told}; nothing was changed") from error


def _write(member: _Member, folder: Path, left: int, most_bytes: int) -> int:
    """Write a member of at most `left` bytes; return how many it has."""
    for kind in (PurePosixPath, PureWindowsPath):
        path = kind(member.name)
        if path.anchor or ".." in path.parts:
            raise StudyError(f"member '{member.name}' would lie outside its folder")
    target = folder / member.name
    if member.content is None:
        target.mkdir(parents=True, exist_ok=True)
        return 0
    target.parent.mkdir(parents=True, exist_ok=True)
    written = 0
    try:
        with target.open("xb") as file:
            for chunk in member.content:
                written += len(chunk)
                if written > left:
                    raise _too_large(member.name, most_bytes)
                file.write(chunk)
    except FileExistsError:
        raise StudyError(f"member '{member.name}' is there twice") from None
    return written


def _zip(archive: Path, most_bytes: int) -> Generator[_Member, None, None]:
    with zipfile.ZipFile(archive) as zipped:
        for member in zipped.infolist():
            kind = stat.S_IFMT(member.external_attr >> 16)  # 0 where it was not made on Unix
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise _special(member.filename)
            if member.is_dir():
                yield _Member(member.filename, None)
            else:
                with zipped.open(member) as file:
                    yield _Member(member.filename, iter(partial(file.read, _CHUNK), b""))


def _tar(archive: Path, most_bytes: int) -> Generator[_Member, None, None]:
    with gzip.open(archive) as unzipped:
        headers = _Headers(unzipped)
        with tarfile.open(fileobj=headers, mode="r:") as tar:
            while member := tar.next():
                if not (member.isdir() or (member.isfile() and not member.issparse())):
                    raise _special(member.name)
                if not 0 <= member.size <= most_bytes:  # the next header is sought behind it
                    raise _too_large(member.name, most_bytes)
                yield _Member(member.name, None if member.isdir() else _bytes_of(member, unzipped))
                headers.left = _HEADER


class _Headers(io.BufferedIOBase):
    """What tarfile reads of a tar in a gzip file; no more than `left` bytes."""

    def __init__(self, file: gzip.GzipFile) -> None:
        self.left = _HEADER
        self._file = file

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or not 0 <= size <= self.left:
            raise tarfile.ReadError("the header of a member is too large")
        self.left -= size
        return self._file.read(size)

    def seek(self, offset: int, whence: int = 0, /) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()


def _bytes_of(member: tarfile.TarInfo, file: gzip.GzipFile) -> Iterator[bytes]:
    file.seek(member.offset_data)
    left = member.size
    while left:
        chunk = file.read(min(left, _CHUNK))
        if not chunk:
            raise tarfile.ReadError(f"member '{member.name}' is cut off")
        left -= len(chunk)
        yield chunk


def _special(name: str) -> StudyError:
    return StudyError(f"member '{name}' is neither a plain file nor a folder")


def _too_large(name: str, most_bytes: int) -> StudyError:
    return StudyError(f"with member '{name}' it is larger than the {most_bytes:,} bytes allowed")
