"""Data sets that are folders of images: read as they are, decoded once, and never from a damaged cache."""

import errno
import os
import re
import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from image_folders import (
    TINY_WNIDS,
    contents,
    make_folder,
    make_tiny,
    noise_image,
    png_without_pixels,
    splits_of,
)
from PIL import Image
from refusals import refused

from sparsity_lib.study import StudyError, data, files
from sparsity_lib.study.data import folders, pictures


@pytest.mark.parametrize("held_out", ["val", "test"])
def test_a_folder_is_a_data_set(tmp_path: Path, held_out: str) -> None:
    folder = make_folder(tmp_path / "insects", held_out=held_out)
    loaded = data.load(f"folder:{folder}", root=tmp_path / "data")
    assert loaded.name == "folder:insects"
    assert loaded.classes == ("ant", "bee")
    assert [len(split.images) for split in splits_of(loaded)] == [12, 2, 6]
    assert len(set.union(*map(contents, splits_of(loaded)))) == 20
    for label, name in enumerate(loaded.classes):
        expected = np.stack([np.array(Image.open(p)) for p in sorted((folder / "train" / name).iterdir())])
        found = loaded.train.images[loaded.train.labels == label].movedim(1, -1)
        assert np.array_equal(found, expected)


def test_provenance_of_a_folder_is_not_its_path(tmp_path: Path) -> None:
    here, there = (make_folder(tmp_path / parent / "insects") for parent in ("here", "there"))
    first, second = (data.load(f"folder:{folder}", root=tmp_path) for folder in (here, there))
    assert first.digest == second.digest
    assert str(tmp_path) not in repr((first.name, first.classes, first.digest))
    noise_image(99).save(there / "train" / "ant" / "0.png")
    assert data.load(f"folder:{there}", root=tmp_path).digest != first.digest


@pytest.mark.parametrize("name", ["Shot 3.00\u202fPM.png", "\u3000.png", "a\u200db.png", "naïve.png"])
def test_file_names_may_have_any_character(tmp_path: Path, name: str) -> None:
    folder = make_folder(tmp_path / "insects")
    noise_image(99).save(folder / "train/ant" / name)
    assert len(data.load(f"folder:{folder}", root=tmp_path).train.images) == 13


def test_paths_that_are_not_utf8_are_refused_in_one_line(tmp_path: Path) -> None:
    folder = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9")
    make_folder(tmp_path / "insects").rename(folder)
    with pytest.raises(StudyError, match="UTF-8") as error:
        data.load(f"folder:{folder}", root=tmp_path)
    assert str(error.value).isprintable()


def test_grey_folders_have_one_channel_and_mixed_ones_three(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "insects", mode="L")
    assert data.load(f"folder:{folder}", root=tmp_path).train.images.shape[1] == 1
    noise_image(0).save(folder / "train" / "ant" / "0.png")
    assert data.load(f"folder:{folder}", root=tmp_path).train.images.shape[1] == 3


def test_images_of_several_sizes_are_scaled_to_one(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "insects")
    noise_image(0, 9, 7).save(folder / "train" / "bee" / "3.png")
    assert data.load(f"folder:{folder}", root=tmp_path, image_size=6).train.images.shape == (12, 3, 6, 6)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:60])


IMAGE = "train/ant/2.png"


COMPOSED, DECOMPOSED = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
IN_TWO_FORMS = re.escape(f"{DECOMPOSED!a}, {COMPOSED!a}")


def rename_classes(folder: Path, train: dict[str, str], val: dict[str, str] | None = None) -> None:
    for part, names in (("train", train), ("val", train if val is None else val)):
        for old, new in names.items():
            (folder / part / old).rename(folder / part / new)


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 6 6\n%%EndComments\n"  # which Pillow gives to Ghostscript


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (lambda folder: (folder / "val").rename(folder / "valid"), "test"),
        (lambda folder: (folder / "val/ant").rename(folder / "val/wasp"), "ant, wasp"),
        (lambda folder: [path.unlink() for path in (folder / "val/ant").iterdir()], "val/ant"),
        (lambda folder: cut(folder / IMAGE), rf"{IMAGE} .*[0-9a-f]{{64}}"),
        (lambda folder: (folder / IMAGE).write_bytes(EPS), IMAGE),
        (
            lambda folder: (folder / IMAGE).write_bytes(png_without_pixels(12_000, 10_000)),
            rf"{IMAGE}.*pixels",
        ),
        (
            lambda folder: (folder / IMAGE).write_bytes(png_without_pixels(65_000, 65_000)),
            rf"{IMAGE}.*pixels",
        ),
        (lambda folder: Image.new("I;16", (8, 8)).save(folder / IMAGE), rf"{IMAGE}.*8 bits"),
        (lambda folder: noise_image(0, 9, 7).save(folder / IMAGE), rf"9 x 7 in .*{IMAGE}.*image_size="),
        (lambda folder: os.rename(folder / IMAGE, os.fsencode(folder) + b"/train/ant/caf\xe9.png"), "UTF-8"),
        (lambda folder: rename_classes(folder, {"ant": COMPOSED, "bee": DECOMPOSED}), IN_TWO_FORMS),
        (lambda folder: rename_classes(folder, {"ant": COMPOSED}, {"ant": DECOMPOSED}), IN_TWO_FORMS),
        (lambda folder: (folder / "train/ant/l.png").symlink_to(folder / "train/ant/l.png"), r"ant/l\.png"),
        (lambda folder: (folder / "train/l").symlink_to(folder / "train/l"), "train/l"),
        (lambda folder: (folder / "val/bee/x.png").symlink_to(folder / "nowhere.png"), r"bee/x\.png"),
        (lambda folder: (folder / "val/bee/x.png").mkdir(), r"bee/x\.png"),
        (lambda folder: os.mkfifo(folder / "val/bee/x.png"), r"bee/x\.png"),
        (lambda folder: folder.rename(folder.with_name("elsewhere")), "insects"),
    ],
)
def test_unusable_folders_are_refused_in_one_line(
    tmp_path: Path, spoil: Callable[[Path], object], named: str
) -> None:
    folder = make_folder(tmp_path / "insects")
    spoil(folder)
    with refused(match=named):
        data.load(f"folder:{folder}", root=tmp_path)
    assert not list(tmp_path.glob("cache/folder-*"))


def test_folders_without_permission_are_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_folder(tmp_path / "insects")
    scan = os.scandir

    def scandir(path: Path) -> object:  # root, as whom tests may run, can read all folders
        if Path(path) == folder / "val/bee":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with refused(folder / "val/bee", os.strerror(errno.EACCES)):
        data.load(f"folder:{folder}", root=tmp_path)


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_images_are_upright(tmp_path: Path, suffix: str) -> None:
    """Each EXIF orientation, and the way in which a camera that was so turned stores an image."""
    stored_as = Image.Transpose
    ways = {
        1: None,
        2: stored_as.FLIP_LEFT_RIGHT,
        3: stored_as.ROTATE_180,
        4: stored_as.FLIP_TOP_BOTTOM,
        5: stored_as.TRANSPOSE,
        6: stored_as.ROTATE_90,
        7: stored_as.TRANSVERSE,
        8: stored_as.ROTATE_270,
    }
    upright = np.zeros((16, 32, 3), np.uint8)
    upright[:8, :16] = 255
    paths = []
    for orientation, way in ways.items():
        image, exif = Image.fromarray(upright), Image.Exif()
        exif[0x0112] = orientation
        paths.append(tmp_path / f"{orientation}{suffix}")
        (image if way is None else image.transpose(way)).save(paths[-1], exif=exif)
    images = pictures.read_all(paths, None).numpy().astype(int)
    assert np.abs(images - upright.transpose(2, 0, 1)).max() <= 8  # JPEG and WebP lose a little


def test_damaged_exif_data_are_left_out(tmp_path: Path) -> None:
    picture = noise_image(0)
    picture.save(tmp_path / "a.png", exif=b"Exif\0\0MM\0*damaged")
    images = pictures.read_all([tmp_path / "a.png"], None)
    assert np.array_equal(images[0].movedim(0, -1), np.array(picture))


def test_a_second_load_neither_hashes_nor_decodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_folder(tmp_path / "insects")
    first = data.load(f"folder:{folder}", root=tmp_path)
    monkeypatch.setattr(pictures, "_open", None)
    really = files.content_of
    monkeypatch.setattr(files, "content_of", lambda path: None if path.suffix == ".png" else really(path))
    second = data.load(f"folder:{folder}", root=tmp_path)
    assert first.digest == second.digest
    for one, two in zip(splits_of(first), splits_of(second), strict=True):
        assert torch.equal(one.images, two.images)
        assert torch.equal(one.labels, two.labels)


def test_a_changed_file_is_noticed(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "insects")
    before = data.load(f"folder:{folder}", root=tmp_path)
    changed = folder / "train" / "ant" / "0.png"
    times = changed.stat()
    noise_image(99).save(changed)
    os.utime(changed, ns=(times.st_atime_ns, times.st_mtime_ns))
    after = data.load(f"folder:{folder}", root=tmp_path)
    assert before.digest != after.digest
    assert contents(before.train) != contents(after.train)


@pytest.mark.parametrize(
    ("name", "folder"), [("cifar10-jpeg", "cifar10-jpeg"), ("tiny32-100", "tiny-imagenet-200")]
)
def test_a_missing_stand_in_is_refused_with_its_folder(tmp_path: Path, name: str, folder: str) -> None:
    with refused(name, tmp_path / folder):
        data.load(name, root=tmp_path)


def test_cifar10_jpeg_has_a_known_number_of_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_folder(tmp_path / "cifar10-jpeg", held_out="test")
    with refused(12, 8, "50,000", "10,000"):
        data.load("cifar10-jpeg", root=tmp_path)
    monkeypatch.setattr(folders, "CIFAR10_IMAGES", (12, 8))
    assert data.load("cifar10-jpeg", root=tmp_path).name == "cifar10-jpeg"


def test_tiny32_100_is_the_first_100_classes_at_32_pixels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folders, "TINY_IMAGES_PER_CLASS", (1, 1))
    folder = make_tiny(tmp_path / "tiny-imagenet-200")
    loaded = data.load("tiny32-100", root=tmp_path)
    assert loaded.train.images.shape == (100, 3, 32, 32)
    assert len(loaded.monitor.images) + len(loaded.validation.images) == 100
    assert loaded.classes == tuple(f"word {wnid}" for wnid in TINY_WNIDS[:100])
    assert loaded.train.labels.tolist() == list(range(100))
    original = Image.open(folder / "train" / TINY_WNIDS[7] / "images" / f"{TINY_WNIDS[7]}_0.JPEG")
    expected = np.array(original.resize((32, 32), Image.Resampling.BILINEAR)).astype(int)
    assert np.abs(loaded.train.images[7].movedim(0, -1).numpy() - expected).max() <= 1
