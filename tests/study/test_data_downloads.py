"""The archives of CIFAR and Tiny ImageNet, from a server on this machine."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from browser import Handler
from image_folders import contents, make_tiny, splits_of
from PIL import Image
from refusals import refused
from small_cifar import small_cifar
from test_damage import damages

from sparsity_lib.study import data, files
from sparsity_lib.study.data import cifar, folders, official


@pytest.fixture
def online(
    served: Callable[[Path], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Path, str]:
    """A folder, and the address at which its files are served."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    folder = tmp_path / "served"
    folder.mkdir()
    return folder, served(folder)


def zipped(online: tuple[Path, str], name: str, made: Path) -> official.Archive:
    """Serve a zip of the folder `made`, named `name`."""
    folder, address = online
    path = Path(shutil.make_archive(str(folder / name), "zip", made.parent, made.name))
    return official.Archive(f"{address}/{path.name}", files.digest(path, "md5"), name)


@pytest.fixture(params=["cifar10", "cifar100", "tiny-imagenet"])
def published(
    request: pytest.FixtureRequest,
    online: tuple[Path, str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> tuple[str, Path]:
    """Each data set's name, and the archive that is served as the published one: a small one."""
    folder, address = online
    if request.param.startswith("cifar"):
        small = small_cifar(request.param, monkeypatch, address)
        small.put_archive(folder)
        return request.param, folder / small.spec.archive.file
    made = make_tiny(tmp_path / "made" / "tiny-imagenet-200")
    archive = zipped(online, made.name, made)
    monkeypatch.setattr(official, "TINY", archive)
    monkeypatch.setattr(folders, "TINY_IMAGES_PER_CLASS", (1, 1))
    return "tiny-imagenet", folder / archive.file


tiny = pytest.mark.parametrize("published", ["tiny-imagenet"], indirect=True)


def visible(folder: Path) -> list[str]:
    """The names of all files and folders, without locks and the folder for decoded images."""
    return [path.name for path in folder.rglob("*") if path.suffix != ".lock" and path.name != "cache"]


def test_an_archive_is_downloaded_once(published: tuple[str, Path], tmp_path: Path) -> None:
    for size in (None, 16, None):
        assert data.load(published[0], root=tmp_path / "root", image_size=size).name == published[0]
    assert Handler.requests == 1


@tiny
def test_an_archive_in_the_folder_is_used(published: tuple[str, Path], tmp_path: Path) -> None:
    name, archive = published
    (tmp_path / "root").mkdir()
    shutil.copy(archive, tmp_path / "root")
    loaded = data.load(name, root=tmp_path / "root")
    assert Handler.requests == 0
    assert loaded.train.images.shape == (102, 3, 64, 64)
    assert [len(split.images) for split in splits_of(loaded)] == [102, 25, 77]
    grey = loaded.train.images[0]
    assert torch.equal(grey[0], grey[2])
    assert len(set.union(*map(contents, splits_of(loaded)))) == 204
    made = tmp_path / "made" / "tiny-imagenet-200" / "val" / "images"
    pixels = {np.array(Image.open(made / f"val_{n}.JPEG")).tobytes(): n for n in range(102)}
    for split in (loaded.monitor, loaded.validation):
        numbers = [pixels[image.movedim(0, -1).contiguous().numpy().tobytes()] for image in split.images]
        assert numbers == split.labels.tolist()


def test_a_download_that_is_not_whole_leaves_nothing_and_can_be_tried_again(
    published: tuple[str, Path], tmp_path: Path
) -> None:
    name, archive = published
    whole = archive.read_bytes()
    archive.write_bytes(whole[: len(whole) // 2])
    with refused(archive.name, files.digest(archive, "md5")):
        data.load(name, root=tmp_path / "root")
    assert visible(tmp_path / "root") == []
    archive.write_bytes(whole)
    assert data.load(name, root=tmp_path / "root").name == name


@pytest.mark.fault("damaged", "an archive")
def test_a_damaged_archive_is_set_aside_and_downloaded(published: tuple[str, Path], tmp_path: Path) -> None:
    name, archive = published
    for trial, damaged in enumerate((b"", *damages(archive.read_bytes(), 3, 2))):
        root = tmp_path / f"root{trial}"
        root.mkdir()
        (root / archive.name).write_bytes(damaged)
        with pytest.warns(UserWarning, match=archive.name):
            assert data.load(name, root=root).name == name
        assert (root / f"{archive.name}.set-aside").read_bytes() == damaged
        assert (root / archive.name).read_bytes() == archive.read_bytes()
    assert Handler.requests == trial + 1


@pytest.mark.fault("damaged", "an archive")
@tiny
def test_a_damaged_archive_that_cannot_be_downloaded_is_one_line(
    published: tuple[str, Path], tmp_path: Path
) -> None:
    name, archive = published
    root = tmp_path / "root"
    root.mkdir()
    (root / archive.name).write_bytes(archive.read_bytes()[:-5])
    archive.unlink()
    with pytest.warns(UserWarning, match="set aside"), refused(404, root / archive.name):
        data.load(name, root=root)
    assert visible(root) == [f"{archive.name}.set-aside"]


def test_unpacking_is_whole_or_not_at_all(online: tuple[Path, str], tmp_path: Path) -> None:
    made = tmp_path / "made" / "good"
    made.mkdir(parents=True)
    (made / "inside.txt").write_bytes(b"x")
    left = tmp_path / "root" / ".good.zip.unpacking" / "good" / "half.txt"  # by a process that was killed
    left.parent.mkdir(parents=True)
    left.write_bytes(b"ha")
    archive = zipped(online, "good", made)
    assert [file.name for file in official.unpacked(archive, tmp_path / "root").iterdir()] == ["inside.txt"]
    with refused("other.zip"):
        official.unpacked(zipped(online, "other", made), tmp_path / "root")
    assert sorted(visible(tmp_path / "root")) == ["good", "good.zip", "inside.txt", "other.zip"]


@pytest.mark.parametrize("archive", [official.TINY, cifar.CIFAR10.archive, cifar.CIFAR100.archive])
def test_published_archives_have_a_digest_and_come_by_https(archive: official.Archive) -> None:
    assert archive.url.startswith("https://")
    assert re.fullmatch("[0-9a-f]{32}", archive.md5)
