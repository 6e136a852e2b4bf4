"""The archives of CIFAR and Tiny ImageNet as their authors publish them: downloaded and checked.

Archives already in the data folder are used as they are, so a machine without a network can be given them.
"""

import os
import shutil
import sys
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError, URLError

import torch.hub

from sparsity_lib.study import files
from sparsity_lib.study.errors import StudyError


@dataclass(frozen=True)
class Archive:
    """A published archive that unpacks to one folder."""

    url: str
    md5: str
    folder: str

    @property
    def file(self) -> str:
        return self.url.rsplit("/", 1)[-1]


TINY = Archive(
    "https://cs231n.stanford.edu/tiny-imagenet-200.zip",
    "90528d7ca1a48142e341f4ef8d21d0de",  # as published with many loaders; the authors give none
    "tiny-imagenet-200",
)


def downloaded(archive: Archive, root: Path) -> Path:
    """The archive's file in `root`, downloaded if it is not there, with the published MD5 digest.

    A file with another digest is set aside, with a warning, and downloaded again. Raises `StudyError` if it
    cannot be had.
    """
    path = root / archive.file
    with files.lock(path, "downloaded"):
        if os.path.lexists(path):
            wrong = _md5_fault(archive.md5, path)
            if wrong is None:
                return path
            files.set_aside(path, f"it is {wrong}")
        with files.atomic_write(path) as partial:
            try:
                torch.hub.download_url_to_file(archive.url, str(partial), progress=sys.stderr.isatty())
            except (URLError, HTTPException, ConnectionError, TimeoutError) as error:
                if isinstance(error, HTTPError):
                    error.close()
                raise StudyError(
                    f"cannot download {archive.url} ({error}); try again, or put the file at {path}"
                ) from error
            if wrong := _md5_fault(archive.md5, partial):
                raise StudyError(f"{archive.url} is {wrong}; try again")
    return path


def unpacked(archive: Archive, root: Path) -> Path:
    """The folder of a `.zip` below `root`; downloaded and unpacked if it is not there, whole or not at all.

    Raises `StudyError` if the archive cannot be had or unpacked.
    """
    folder, partial = root / archive.folder, root / f".{archive.file}.unpacking"
    with files.lock(folder, "unpacked"):
        if folder.exists():
            return folder
        path = downloaded(archive, root)
        shutil.rmtree(partial, ignore_errors=True)  # left by a killed process: this one holds the lock
        try:
            shutil.unpack_archive(path, partial, "zip")
            os.replace(partial / archive.folder, folder)
        except OSError as error:
            raise StudyError(f"cannot unpack {path}: {error}; nothing was changed") from error
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return folder


def _md5_fault(md5: str, path: Path) -> str | None:
    """A description of the fault if the file has another MD5 digest; else None. Raises `Unreadable`."""
    found = files.digest(path, "md5")
    return None if found == md5 else f"damaged or cut off: its MD5 digest is {found}, not {md5}"
