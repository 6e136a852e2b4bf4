"""CIFAR and Tiny ImageNet as their authors publish them: one archive, downloaded, checked, unpacked.

Archives already in the data folder are used as they are, so a machine without a network can be given them.
"""

import hashlib
import os
import tarfile
import tempfile
import zipfile
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from urllib.error import URLError

import numpy as np
import torch

from sparsity_lib.study import files
from sparsity_lib.study.data.cache import Content, Source
from sparsity_lib.study.data.pictures import scaled
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


def fetched(archive: Archive, root: Path) -> Path:
    """The archive's folder below `root`; downloaded and unpacked if it is not there, whole or not at all.

    Raises `StudyError` if the archive cannot be had or has another MD5 digest than the published one.
    """
    from torchvision.datasets.utils import extract_archive

    folder, path = root / archive.folder, root / archive.file
    with files.lock(path, "downloaded"):
        if folder.exists():
            return folder
        if not path.exists():
            _download(archive, path)
        check_md5(path, archive.md5)
        try:
            with tempfile.TemporaryDirectory(prefix=".unpacking-", dir=root) as partial:
                extract_archive(path, partial)
                os.replace(Path(partial) / archive.folder, folder)
        except (OSError, tarfile.TarError, zipfile.BadZipFile) as error:
            raise StudyError(f"cannot unpack {path}: {error}; nothing was changed") from error
    return folder


def _download(archive: Archive, path: Path) -> None:
    from torchvision.datasets.utils import download_url

    with files.written_whole(path) as partial:
        try:
            download_url(archive.url, partial.parent, partial.name)
        except (URLError, HTTPException, ConnectionError, TimeoutError) as error:
            raise StudyError(
                f"cannot download {archive.url} ({error}); try again, or put the file at {path}"
            ) from error
        check_md5(partial, archive.md5, name=archive.url)


def check_md5(path: Path, expected: str, name: object = None) -> None:
    """Raise `StudyError`, calling the file `name`, if its MD5 digest is not the published one."""
    with path.open("rb") as file:
        found = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if found != expected:
        raise StudyError(
            f"{name or path} is damaged or cut off: its MD5 digest is {found}, not {expected}; "
            f"{'try again' if name else 'remove it to have it replaced'}"
        )


def cifar(name: str, root: Path) -> Source:
    """CIFAR-10 or CIFAR-100 in the official python format: 50,000 + 10,000 images of 32 x 32."""
    from torchvision import datasets

    kind = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}[name]
    folder = fetched(Archive(kind.url, kind.tgz_md5, kind.base_folder), root)
    parts = [*kind.train_list, *kind.test_list, (kind.meta["filename"], kind.meta["md5"])]

    def decode(image_size: int | None) -> Content:
        for file, md5 in parts:  # they are pickles: only the published ones are opened
            check_md5(folder / file, md5)
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
)
