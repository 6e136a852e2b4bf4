"""Small data sets in both layouts of CIFAR-10 and CIFAR-100, with the same images."""

import dataclasses
import hashlib
import io
import pickle
import struct
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sparsity_lib.study.data import cifar

CLASSES = ("ant", "bee", "cow")
PER_CLASS = (5, 4)


def tar_gz(files: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for file, content in files.items():
            member = tarfile.TarInfo(file)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return packed.getvalue()


@dataclasses.dataclass(frozen=True)
class SmallCifar:
    """A data set of three classes: the images (split, class, file name, pixels) in the order to be read."""

    spec: cifar.Cifar
    archive: bytes
    images: list[tuple[str, str, str, np.ndarray]]

    def put_archive(self, root: Path) -> Path:
        root.mkdir(parents=True, exist_ok=True)
        (root / self.spec.archive.file).write_bytes(self.archive)
        return root

    def put_folder(self, root: Path) -> Path:
        for split, name, file, pixels in self.images:
            path = root / self.spec.name / split / name / file
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.transpose(1, 2, 0)).save(path)
        return root


def small_cifar(name: str, monkeypatch: pytest.MonkeyPatch, server: str | None = None) -> SmallCifar:
    """A small data set in place of the published one, with its archive on `server` (a URL).

    Its batches are in another order than its files, and one file name occurs in two classes.
    """
    original = {"cifar10": cifar.CIFAR10, "cifar100": cifar.CIFAR100}[name]
    random = np.random.default_rng(0)
    files, images, digest = {}, [], hashlib.sha256()
    for split, batches, count in zip(("train", "test"), original.batches, PER_CLASS, strict=True):
        rows = [
            (label, f"{class_name if index else 'shared'}_s_{index:06d}.png", random.bytes(3072))
            for label, class_name in enumerate(CLASSES)
            for index in range(count)
        ]
        for part, batch in zip(
            np.array_split(random.permutation(len(rows)), len(batches)), batches, strict=True
        ):
            labels, names, pixels = zip(*(rows[index] for index in part), strict=True)
            content = {
                "data": np.frombuffer(b"".join(pixels), np.uint8).reshape(-1, 3072),
                original.labels_key: list(labels),
                "filenames": list(names),
            }
            files[f"{original.archive.folder}/{batch}"] = pickle.dumps(content, protocol=2)
        for label, file, pixels in sorted(rows):
            images.append((split, CLASSES[label], file, np.frombuffer(pixels, np.uint8).reshape(3, 32, 32)))
    for *_, pixels in images:
        digest.update(pixels.tobytes())
    for _, class_name, *_ in images:
        digest.update(struct.pack("<q", CLASSES.index(class_name)))
    archive = tar_gz(files)
    url = f"{server or 'http://127.0.0.1:9'}/{original.archive.file}"
    spec = dataclasses.replace(
        original,
        archive=dataclasses.replace(original.archive, url=url, md5=hashlib.md5(archive).hexdigest()),
        classes=CLASSES,
        images_per_class=PER_CLASS,
        digest=digest.hexdigest(),
    )
    monkeypatch.setattr(cifar, name.upper(), spec)
    return SmallCifar(spec, archive, images)
