"""CIFAR and Tiny ImageNet as their authors publish them: one archive, downloaded, checked, unpacked.

Archives already in the data folder are used as they are, so a machine without a network can be given them.
"""

import hashlib
import os
import shutil
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

import numpy as np
import torch
from tqdm import tqdm

from sparsity_lib.study import files
from sparsity_lib.study.data.cache import Content, Source
from sparsity_lib.study.data.pictures import scaled
from sparsity_lib.study.data.unpacking import unpack
from sparsity_lib.study.errors import StudyError


@dataclass(frozen=True)
class Archive:
    """A published archive that unpacks to one folder, of so many bytes, files and folders at most."""

    url: str
    md5: str
    folder: str
    most_bytes: int
    most_members: int

    @property
    def file(self) -> str:
        return self.url.rsplit("/", 1)[-1]


def fetched(archive: Archive, root: Path) -> Path:
    """The archive's folder below `root`; downloaded and unpacked if it is not there, whole or not at all.

    An archive that lies in `root` with another MD5 digest than the published one is set aside, with a
    warning, and downloaded anew. Raises `StudyError` if it cannot be had, or cannot be unpacked.
    """
    folder, path = root / archive.folder, root / archive.file
    with files.lock(path, "downloaded"):
        if folder.exists():
            return folder
        if path.exists() and (wrong := _other_than(archive.md5, path)):
            files.set_aside(path, f"it is {wrong}")
        if not path.exists():
            _download(archive, path)
        _unpack(archive, path, folder)
    return folder


def _download(archive: Archive, path: Path) -> None:
    with files.written_whole(path) as partial:
        request = Request(archive.url, headers={"User-Agent": "sparsity_lib"})
        try:
            with build_opener(_SameScheme).open(request) as response, partial.open("wb") as file:
                shown = {"total": response.length, "unit": "B", "unit_scale": True, "disable": None}
                with tqdm.wrapattr(response, "read", desc=archive.file, leave=False, **shown) as content:
                    shutil.copyfileobj(content, file)
        except (URLError, HTTPException, ConnectionError, TimeoutError) as error:
            if isinstance(error, HTTPError):
                error.close()
            raise StudyError(
                f"cannot download {archive.url} ({error}); try again, or put the file at {path}"
            ) from error
        if wrong := _other_than(archive.md5, partial):
            raise StudyError(f"{archive.url} is {wrong}; try again")


class _SameScheme(HTTPRedirectHandler):
    """Follows nobody from https to http."""

    def redirect_request(self, req: Request, fp: Any, *told: Any) -> Request | None:
        if urlsplit(told[-1]).scheme != req.type:
            fp.close()
            raise URLError(f"it leads to {told[-1]}")
        return super().redirect_request(req, fp, *told)


def _unpack(archive: Archive, path: Path, folder: Path) -> None:
    partial = path.with_name(f".{path.name}.unpacking")
    shutil.rmtree(partial, ignore_errors=True)  # of a process that was killed: the lock is ours
    try:
        partial.mkdir()
        unpack(path, partial, most_bytes=archive.most_bytes, most_members=archive.most_members)
        os.replace(partial / archive.folder, folder)
    except OSError as error:
        raise StudyError(f"cannot unpack {path}: {error}; nothing was changed") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _other_than(md5: str, path: Path) -> str | None:
    """What is wrong with a file: another MD5 digest, or that it cannot be read; None if nothing is."""
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    except OSError as error:
        return f"unreadable: {error.strerror}"
    return None if found == md5 else f"damaged or cut off: its MD5 digest is {found}, not {md5}"


_CIFAR_MOST = (250_000_000, 50)  # 186 MB in 9 or fewer


def cifar(name: str, root: Path) -> Source:
    """CIFAR-10 or CIFAR-100 in the official python format: 50,000 + 10,000 images of 32 x 32."""
    from torchvision import datasets

    kind = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}[name]
    folder = fetched(Archive(kind.url, kind.tgz_md5, kind.base_folder, *_CIFAR_MOST), root)
    parts = [*kind.train_list, *kind.test_list, (kind.meta["filename"], kind.meta["md5"])]

    def decode(image_size: int | None) -> Content:
        for file, md5 in parts:  # they are pickles: only the published ones are opened
            if wrong := _other_than(md5, folder / file):
                raise StudyError(f"{folder / file} is {wrong}; remove {folder} to have it unpacked again")
        train, test = kind(root, train=True), kind(root, train=False)
        images = torch.from_numpy(np.concatenate([train.data, test.data])).permute(0, 3, 1, 2)
        return Content(
            images=scaled(images.contiguous(), image_size),
            labels=np.array(train.targets + test.targets, dtype=np.int64),
            classes=tuple(train.classes),
            train_count=len(train),
        )

    return Source(name, folder, [file for file, _ in parts], decode)


TINY = Archive(
    "https://cs231n.stanford.edu/tiny-imagenet-200.zip",
    "90528d7ca1a48142e341f4ef8d21d0de",  # as published with many loaders; the authors give none
    "tiny-imagenet-200",
    most_bytes=1_000_000_000,  # a few kB each of 120,000 images
    most_members=150_000,
)
