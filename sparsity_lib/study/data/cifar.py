"""CIFAR-10 and CIFAR-100, from the official archive or from a folder of the same images.

Both give the same tensors: training images, then test images, each sorted by (class, file name).
"""

import hashlib
import pickle
import tarfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sparsity_lib.study.data.cache import Content, Source
from sparsity_lib.study.data.folders import class_folders, image_files
from sparsity_lib.study.data.official import Archive, downloaded
from sparsity_lib.study.data.pictures import decoded, scaled
from sparsity_lib.study.errors import StudyError, Unreadable

_SPLITS = ("train", "test")
_SIZE = 32  # pixels, of all images
_LAYOUT = "the original images as PNG files, {train,test}/<class>/<file>.png"
_CLASSES_10 = "airplane automobile bird cat deer dog frog horse ship truck"
_CLASSES_100 = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can
castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin
elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard
lobster man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear
pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark
shrew skunk skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone
television tiger tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm
"""


@dataclass(frozen=True)
class Cifar:
    """One of the two data sets: its archive, and the content that an archive or a folder must have.

    `batches` are the pickled files of each split, with the labels under the key `labels_key`. `classes` are
    in the order of the official labels, which is alphabetical. `digest` is the SHA-256 of the images,
    uint8 (N, 3, 32, 32), and the labels, int64 (N,), little-endian.
    """

    name: str
    archive: Archive
    batches: tuple[tuple[str, ...], tuple[str, ...]]
    labels_key: str
    classes: tuple[str, ...]
    images_per_class: tuple[int, int]
    digest: str


CIFAR10 = Cifar(
    "cifar10",
    Archive(
        "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
        "c58f30108f718f92721af3b95e74349a",
        "cifar-10-batches-py",
    ),
    (tuple(f"data_batch_{number}" for number in range(1, 6)), ("test_batch",)),
    "labels",
    tuple(_CLASSES_10.split()),
    (5000, 1000),
    "800b1943f9c2ff0172de8df372e757a6dbf4fb0dbb7396ffd1699cc04801a5d3",
)
CIFAR100 = Cifar(
    "cifar100",
    Archive(
        "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
        "eb9058c3a382ffc7106e4002c42a8d85",
        "cifar-100-python",
    ),
    (("train",), ("test",)),
    "fine_labels",
    tuple(_CLASSES_100.split()),
    (500, 100),
    "b2bb989e415d701f33211c18d449321bbffface8e98c2ad8d1da073a5d012327",
)


def source(cifar: Cifar, root: Path) -> Source:
    """The data set read from the folder `root/<name>` if that is there, else from the archive in `root`.

    An intact cached copy is used without reading them. Other images are refused.
    """

    def decode(image_size: int | None) -> Content:
        folder = root / cifar.name
        from_folder = folder.is_dir()
        place = folder if from_folder else downloaded(cifar.archive, root)
        try:
            images, labels = (_from_folder if from_folder else _from_archive)(cifar, place)
            digest = hashlib.sha256(images.numpy().data)
            digest.update(labels.astype("<i8").tobytes())
            if digest.hexdigest() != cifar.digest:
                raise StudyError(f"its images have the SHA-256 {digest.hexdigest()}, not {cifar.digest}")
        except Unreadable:
            raise
        except StudyError as error:
            remedy = f"replace it by {_LAYOUT}, or remove it" if from_folder else "remove it"
            raise StudyError(
                f"{cifar.name} in {place}: {error}; {remedy} to have {cifar.archive.url} downloaded"
            ) from None
        train_count = cifar.images_per_class[0] * len(cifar.classes)
        return Content(scaled(images, image_size), labels, cifar.classes, train_count)

    return Source(cifar.name, root, [], decode, cifar.digest)


def _from_folder(cifar: Cifar, folder: Path) -> tuple[Tensor, np.ndarray]:
    paths, labels = [], []
    for split, expected in zip(_SPLITS, cifar.images_per_class, strict=True):
        found = class_folders(folder / split)
        if found != list(cifar.classes):
            missing = sorted(set(cifar.classes) - set(found))
            unknown = sorted(set(found) - set(cifar.classes))
            raise StudyError(f"{split}/ lacks the classes {missing[:5]} and has the unknown {unknown[:5]}")
        for label, name in enumerate(cifar.classes):
            files = image_files(folder / split / name)
            if len(files) != expected:
                raise StudyError(f"{split}/{name} holds {len(files):,} images instead of {expected:,}")
            paths += [folder / split / name / file for file in files]
            labels += [label] * len(files)
    images = torch.empty(len(paths), 3, _SIZE, _SIZE, dtype=torch.uint8)
    for index, image in enumerate(decoded(paths, "RGB")):
        if image.shape[-2:] != (_SIZE, _SIZE):
            height, width = image.shape[-2:]
            raise StudyError(f"{paths[index]} has {height} x {width} pixels instead of {_SIZE} x {_SIZE}")
        images[index] = image[0]
    return images, np.array(labels, dtype=np.int64)


def _from_archive(cifar: Cifar, archive: Path) -> tuple[Tensor, np.ndarray]:
    """The images of an archive whose MD5 digest matches: its batches are pickles."""
    names = {f"{cifar.archive.folder}/{name}" for split in cifar.batches for name in split}
    batches = {}
    with tarfile.open(archive) as tar:
        for member in tar:
            if member.name in names and (file := tar.extractfile(member)):
                batches[Path(member.name).name] = pickle.load(file, encoding="latin1")  # noqa: S301
    pixels, labels = [], []
    for split in cifar.batches:
        rows = [
            (label, name, row)
            for batch in (batches[name] for name in split)
            for label, name, row in zip(
                batch[cifar.labels_key], batch["filenames"], batch["data"], strict=True
            )
        ]
        rows.sort(key=lambda row: row[:2])
        labels += [label for label, _, _ in rows]
        pixels += [row for _, _, row in rows]
    images = np.stack(pixels).reshape(-1, 3, _SIZE, _SIZE)
    return torch.from_numpy(images), np.array(labels, dtype=np.int64)
