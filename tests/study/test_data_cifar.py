"""CIFAR-10 and CIFAR-100: the archive and the folder give the same data, and other images are refused."""

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from image_folders import contents, noise_image, splits_of
from refusals import refused
from small_cifar import CLASSES, SmallCifar, small_cifar

from sparsity_lib.study import data
from sparsity_lib.study.data import cifar, sources


@pytest.fixture(params=["cifar10", "cifar100"])
def small(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> SmallCifar:
    return small_cifar(request.param, monkeypatch)


@pytest.mark.parametrize("layout", ["put_archive", "put_folder"])
def test_images_are_in_the_order_of_class_and_file_name(
    layout: str, small: SmallCifar, tmp_path: Path
) -> None:
    getattr(small, layout)(tmp_path)
    _, _, content = sources.read(small.spec.name, None, tmp_path)
    assert np.array_equal(content.images, np.stack([pixels for *_, pixels in small.images]))
    assert content.labels.tolist() == [CLASSES.index(name) for _, name, *_ in small.images]
    assert content.labels.dtype == np.int64
    assert content.train_count == 15
    assert len({file for split, _, file, _ in small.images if split == "train"}) == 13  # one in three classes
    loaded = data.load(small.spec.name, root=tmp_path)
    assert (loaded.name, loaded.classes, loaded.digest) == (small.spec.name, CLASSES, small.spec.digest)
    assert set.union(*map(contents, splits_of(loaded))) == {pixels.tobytes() for *_, pixels in small.images}


def test_the_folder_comes_before_the_archive(small: SmallCifar, tmp_path: Path) -> None:
    small.put_archive(small.put_folder(tmp_path))
    (tmp_path / small.spec.archive.file).write_bytes(b"damaged")
    assert data.load(small.spec.name, root=tmp_path).digest == small.spec.digest


def test_scaled_images_have_the_same_digest(small: SmallCifar, tmp_path: Path) -> None:
    small.put_folder(tmp_path)
    loaded = data.load(small.spec.name, root=tmp_path, image_size=16)
    assert loaded.train.images.shape == (15, 3, 16, 16)
    assert loaded.digest == small.spec.digest


def test_a_second_load_reads_the_cache_alone(
    small: SmallCifar, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small.put_folder(tmp_path)
    first = data.load(small.spec.name, root=tmp_path)
    for reader in ("_from_folder", "_from_archive", "downloaded"):
        monkeypatch.setattr(cifar, reader, None)
    assert torch.equal(data.load(small.spec.name, root=tmp_path).train.images, first.train.images)


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (lambda folder: (folder / "train/bee/bee_s_000002.png").unlink(), "train/bee.* 4 .* 5"),
        (lambda folder: noise_image(0, 32, 32).save(folder / "test/cow/more.png"), "test/cow.* 5 .* 4"),
        (
            lambda folder: noise_image(0, 32, 30).save(folder / "test/ant/ant_s_000001.png"),
            r"ant_s_000001\.png.*32 x 30",
        ),
        (lambda folder: noise_image(0, 16, 16).save(folder / "train/ant/ant_s_000001.png"), "16 x 16"),
        (
            lambda folder: noise_image(0, 32, 32).save(folder / "test/ant/ant_s_000001.png"),
            "SHA-256 [0-9a-f]{64}",
        ),
        (
            lambda folder: (folder / "test/ant/ant_s_000001.png").rename(folder / "test/ant/z.png"),
            "SHA-256 [0-9a-f]{64}",
        ),
        (lambda folder: (folder / "test/ant/ant_s_000001.png").write_bytes(b"x"), r"ant_s_000001\.png"),
        (lambda folder: (folder / "train/ant").rename(folder / "train/Ameise"), "train.*'ant'.*'Ameise'"),
        (lambda folder: (folder / "test").rename(folder / "val"), "test"),
    ],
)
def test_changed_folders_are_refused_in_one_line(
    spoil: Callable[[Path], object], named: str, small: SmallCifar, tmp_path: Path
) -> None:
    small.put_folder(tmp_path)
    spoil(tmp_path / small.spec.name)
    with refused(small.spec.name, small.spec.archive.url, "{train,test}/<class>/<file>.png", match=named):
        data.load(small.spec.name, root=tmp_path)
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [f".{small.spec.name}.lock"]


def test_changed_archives_are_set_aside_before_unpickling(
    small: SmallCifar, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(cifar.pickle, "load", None)
    small.put_archive(tmp_path)
    path = tmp_path / small.spec.archive.file
    path.write_bytes(path.read_bytes() + b"x")
    with (
        pytest.warns(UserWarning, match="MD5"),
        refused(small.spec.archive.url, path),
    ):
        data.load(small.spec.name, root=tmp_path)
    assert {file.name for file in tmp_path.rglob("*") if file.suffix != ".lock"} == {
        "cache",
        f"{path.name}.set-aside",
    }


def test_an_archive_of_other_content_is_refused(
    small: SmallCifar, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = dataclasses.replace(small.spec, digest="0" * 64)
    monkeypatch.setattr(cifar, small.spec.name.upper(), other)
    with refused(small.spec.digest, other.digest, other.archive.url):
        data.load(other.name, root=small.put_archive(tmp_path))
    assert not list((tmp_path / "cache").glob("cifar*"))


@pytest.mark.parametrize(("spec", "classes"), [(cifar.CIFAR10, 10), (cifar.CIFAR100, 100)])
def test_published_data_sets_have_their_sizes(spec: cifar.Cifar, classes: int) -> None:
    assert re.fullmatch("[0-9a-f]{64}", spec.digest)
    assert sorted(set(spec.classes)) == list(spec.classes)
    assert [len(spec.classes), *(count * classes for count in spec.images_per_class)] == [
        classes,
        50_000,
        10_000,
    ]
