"""Data sets that are folders of images: read as they are, decoded once, and never from a damaged cache."""

import errno
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from image_folders import TINY_WNIDS, contents, make_folder, make_tiny, noise_image, splits_of
from PIL import Image

from sparsity_lib.study import StudyError, data
from sparsity_lib.study.data import cache, folders, pictures


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


def test_grey_folders_have_one_channel_and_mixed_ones_three(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "insects", mode="L")
    assert data.load(f"folder:{folder}", root=tmp_path).train.images.shape[1] == 1
    noise_image(0).save(folder / "train" / "ant" / "0.png")
    assert data.load(f"folder:{folder}", root=tmp_path).train.images.shape[1] == 3


def test_images_of_several_sizes_need_image_size(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "insects")
    noise_image(0, 9, 7).save(folder / "train" / "bee" / "3.png")
    with pytest.raises(StudyError, match=r"8 x 8 in .* 9 x 7 in .*3\.png.*image_size="):
        data.load(f"folder:{folder}", root=tmp_path)
    assert data.load(f"folder:{folder}", root=tmp_path, image_size=6).train.images.shape == (12, 3, 6, 6)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:60])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "val").rename(folder / "valid"), "test"),
        (lambda folder: (folder / "val" / "ant").rename(folder / "val" / "wasp"), "ant, wasp"),
        (lambda folder: [p.unlink() for p in (folder / "val" / "ant").iterdir()], "no image in .*ant"),
        (lambda folder: cut(folder / "train" / "ant" / "2.png"), r"2\.png \(SHA-256 [0-9a-f]{64}\)"),
        (lambda folder: (folder / "train" / "ant" / "2.png").write_text("x"), r"2\.png \(SHA-256"),
        (
            lambda folder: Image.new("I;16", (8, 8)).save(folder / "train" / "ant" / "2.png"),
            r"2\.png.*8 bits",
        ),
    ],
)
def test_a_damaged_folder_is_one_clear_line(
    tmp_path: Path, damage: Callable[[Path], object], message: str
) -> None:
    folder = make_folder(tmp_path / "insects")
    damage(folder)
    with pytest.raises(StudyError, match=message) as error:
        data.load(f"folder:{folder}", root=tmp_path)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.glob("cache/folder-*"))


def to_latin1(folder: Path) -> None:
    os.rename(folder / "train/ant/0.png", os.fsencode(folder / "train/ant") + b"/caf\xe9.png")


def to_two_forms(folder: Path) -> None:
    (folder / "train/ant").rename(folder / "train/caf\u00e9")
    (folder / "val/ant").rename(folder / "val/cafe\u0301")


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (to_latin1, r"train/ant/caf\\udce9\.png.*UTF-8"),
        (to_two_forms, "cafe\u0301.*NFC.*NFD"),
        (lambda folder: (folder / "train/ant/l.png").symlink_to(folder / "train/ant/l.png"), r"ant/l\.png"),
        (lambda folder: (folder / "train/l").symlink_to(folder / "train/l"), "train/l"),
        (lambda folder: (folder / "val/bee/x.png").symlink_to(folder / "nowhere.png"), r"bee/x\.png"),
        (lambda folder: (folder / "val/bee/x.png").mkdir(), r"bee/x\.png"),
        (lambda folder: os.mkfifo(folder / "val/bee/x.png"), r"bee/x\.png"),
    ],
)
def test_a_name_or_link_that_cannot_be_used_is_one_clear_line(
    tmp_path: Path, spoil: Callable[[Path], object], named: str
) -> None:
    folder = make_folder(tmp_path / "insects")
    spoil(folder)
    with pytest.raises(StudyError, match=named) as error:
        data.load(f"folder:{folder}", root=tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("unreadable", [".", "train", "val", "val/bee"])
def test_a_folder_without_permission_is_one_clear_line(
    tmp_path: Path, unreadable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_folder(tmp_path / "insects")
    scan = os.scandir

    def scandir(path: Path) -> object:  # root, as whom tests may run, can read all folders
        if Path(path) == folder / unreadable:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(StudyError, match=f"{folder / unreadable}: {os.strerror(errno.EACCES)}"):
        data.load(f"folder:{folder}", root=tmp_path)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp"])
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


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="no such folder"):
        data.load(f"folder:{tmp_path / 'nowhere'}", root=tmp_path)


def test_a_second_load_neither_hashes_nor_decodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_folder(tmp_path / "insects")
    first = data.load(f"folder:{folder}", root=tmp_path)
    monkeypatch.setattr(pictures, "_open", None)
    monkeypatch.setattr(cache, "_bytes", None)
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


def flip_last_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("pattern", "damage"),
    [
        ("folder-*.npy", flip_last_bit),
        ("folder-*.npy", cut),
        ("folder-*.npy", Path.unlink),
        ("folder-*.json", cut),
        ("folder-*.json", lambda path: path.write_text(path.read_text().replace("bee", "cow"))),
    ],
)
@pytest.mark.filterwarnings("always:.*was set aside")
def test_a_damaged_cache_is_made_again(
    tmp_path: Path, pattern: str, damage: Callable[[Path], object]
) -> None:
    folder = make_folder(tmp_path / "insects")
    before = data.load(f"folder:{folder}", root=tmp_path)
    whole = contents(before.train)
    (damaged,) = (tmp_path / "cache").glob(pattern)
    damage(damaged)
    with pytest.warns(UserWarning, match="was set aside"):
        after = data.load(f"folder:{folder}", root=tmp_path)
    assert contents(after.train) == whole
    assert after.classes == before.classes


def test_a_damaged_manifest_is_made_again(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "insects")
    before = data.load(f"folder:{folder}", root=tmp_path)
    for manifest in (tmp_path / "cache").glob("manifest-*"):
        cut(manifest)
        manifest.write_text("{")
    assert data.load(f"folder:{folder}", root=tmp_path).digest == before.digest


@pytest.mark.parametrize(
    ("name", "folder"), [("cifar10-jpeg", "cifar10-jpeg"), ("tiny32-100", "tiny-imagenet-200")]
)
def test_a_missing_stand_in_says_what_to_put_where(tmp_path: Path, name: str, folder: str) -> None:
    with pytest.raises(StudyError, match=f"{name} .*{tmp_path / folder}: "):
        data.load(name, root=tmp_path)


def test_cifar10_jpeg_is_a_folder_of_known_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_folder(tmp_path / "cifar10-jpeg", held_out="test")
    with pytest.raises(StudyError, match="12 training and 8 held-out images instead of 50,000 and 10,000"):
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


def claiming(pixels: tuple[int, int], kind: str) -> bytes:
    """An image file that says it has so many pixels, width and height, and holds none of them."""
    width, height = pixels
    if kind == "PPM":
        return f"P6 {width} {height} 255\n".encode()
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", head), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")]
    parts = [struct.pack(">I", len(c)) + n + c + struct.pack(">I", zlib.crc32(n + c)) for n, c in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize("kind", ["PNG", "PPM"])
@pytest.mark.parametrize(
    ("pixels", "said"),
    [
        ((8001, 8000), r"8,001 x 8,000 pixels"),
        ((64_000_001, 1), r"64,000,001 x 1 pixels"),
        ((12_000, 10_000), r"12,000 x 10,000 pixels"),  # of which Pillow would warn
        ((65_000, 65_000), r"more than 179 million pixels"),  # and which it would refuse
    ],
)
def test_an_image_of_too_many_pixels_is_not_decoded(
    pixels: tuple[int, int], said: str, kind: str, tmp_path: Path
) -> None:
    folder = make_folder(tmp_path / "insects")
    (folder / "val" / "bee" / "3.png").write_bytes(claiming(pixels, kind))
    with pytest.raises(
        StudyError, match=rf"val/bee/3\.png has {said}; an image may have at most 64 million$"
    ):
        data.load(f"folder:{folder}", root=tmp_path / "data")


def test_a_picture_that_is_a_program_is_not_run(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 6 6\n%%EndComments\n")
    with Image.open(tmp_path / "a.png") as image:
        assert image.format == "EPS"  # which Pillow would give to Ghostscript
    with pytest.raises(StudyError, match=r"a\.png .*cannot be read as an image"):
        pictures.read_all([tmp_path / "a.png"], None)
