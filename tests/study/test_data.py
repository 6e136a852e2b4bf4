"""Data sets: their splits by `data_seed`, `limit` and `label_noise`."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from image_folders import contents, splits_of
from refusals import refused

from sparsity_lib.study import data
from sparsity_lib.study.data import splits


def test_digits_are_split_in_the_shares_of_t8() -> None:
    loaded = data.load("digits")
    assert [len(split.images) for split in splits_of(loaded)] == [1000, 199, 598]
    assert loaded.classes == tuple("0123456789")
    assert loaded.train.images.shape == (1000, 1, 8, 8)
    assert loaded.train.images.dtype == torch.uint8
    assert loaded.train.labels.dtype == torch.int64
    assert set(loaded.train.images.unique().tolist()) == {round(255 * value / 16) for value in range(17)}
    everything = sum(split.labels.bincount() for split in splits_of(loaded))
    assert len(set.union(*map(contents, splits_of(loaded)))) == 1797  # all differ from each other
    for split in splits_of(loaded):
        proportional = everything * len(split.labels) / 1797
        assert (split.labels.bincount() - proportional).abs().max() < 1


@given(
    labels=st.lists(st.integers(0, 4), min_size=8, max_size=60).map(np.array),
    train_share=st.floats(0.2, 0.7),
    has_own_split=st.booleans(),
    limit_share=st.one_of(st.none(), st.floats(0.1, 1)),
    data_seed=st.integers(0, 3),
)
def test_splits_are_disjoint(
    labels: np.ndarray, train_share: float, has_own_split: bool, limit_share: float | None, data_seed: int
) -> None:
    train_count = int(train_share * len(labels))
    limit = None if limit_share is None else max(1, int(limit_share * train_count))
    parts = splits.split_indices(
        labels, train_count, has_own_split=has_own_split, limit=limit, data_seed=data_seed
    )
    used = np.concatenate([parts["train"], parts["monitor"], parts["validation"]])
    assert len(set(used)) == len(used)
    assert len(parts["train"]) == (limit or train_count)
    assert len(parts["monitor"]) + len(parts["validation"]) == len(labels) - train_count
    assert len(set(parts["train_monitor"])) == min(len(parts["monitor"]), len(parts["train"]))
    assert set(parts["train_monitor"]) <= set(parts["train"])
    if has_own_split:
        assert parts["train"].max() < train_count <= min(parts["monitor"].min(), parts["validation"].min())


@given(count=st.integers(1, 40), seed=st.integers(0, 9))
def test_any_prefix_of_a_stratified_order_is_balanced(count: int, seed: int) -> None:
    labels = np.tile(np.arange(4), 10)
    order = splits.stratified_order(labels, (seed, 0))
    assert sorted(order) == list(range(40))
    assert np.ptp(np.bincount(labels[order[:count]], minlength=4)) <= 1


def test_image_size_scales() -> None:
    assert data.load("digits", image_size=16).train.images.shape == (1000, 1, 16, 16)


def test_splits_depend_on_the_data_seed_alone() -> None:
    first, again, other = (data.load("digits", data_seed=seed, label_noise=0.3) for seed in (4, 4, 5))
    for one, two in zip(splits_of(first), splits_of(again), strict=True):
        assert torch.equal(one.images, two.images)
        assert torch.equal(one.labels, two.labels)
    assert contents(first.validation) != contents(other.validation)
    assert first.digest == other.digest


def test_limit_reduces_training_images_alone() -> None:
    whole, half, tenth = (data.load("digits", limit=limit) for limit in (None, 500, 100))
    assert contents(tenth.train) < contents(half.train) < contents(whole.train)
    assert torch.equal(whole.validation.images, tenth.validation.images)
    assert torch.equal(whole.monitor.images, tenth.monitor.images)
    assert tenth.train.labels.bincount().tolist() == pytest.approx([10] * 10, abs=1)
    assert len(tenth.train_monitor.images) == 100
    assert len(half.train_monitor.images) == 199


def test_fewer_validation_images_are_a_subset() -> None:
    every, fewer = data.load("digits"), data.load("digits", held_out=100)
    torch.testing.assert_close(every.train.images, fewer.train.images)
    assert (len(fewer.monitor.labels), len(fewer.validation.labels)) == (25, 75)
    kept = {bytes(image.numpy()) for split in (every.monitor, every.validation) for image in split.images}
    assert {bytes(i.numpy()) for split in (fewer.monitor, fewer.validation) for i in split.images} <= kept
    with refused("held_out=798", 797, 2):
        data.load("digits", held_out=798)


def test_label_noise_redraws_its_share_of_training_labels() -> None:
    clean, some, more = (data.load("digits", label_noise=share) for share in (0, 0.3, 1))
    for split in ("monitor", "validation"):
        assert torch.equal(getattr(clean, split).labels, getattr(some, split).labels)
    assert torch.equal(clean.train.images, some.train.images)
    wrong = clean.train.labels != some.train.labels
    assert 230 <= wrong.sum() <= 300  # of 300 redrawn, one in ten keeps its label
    assert torch.equal(some.train.labels[wrong], more.train.labels[wrong])
    assert 850 <= (clean.train.labels != more.train.labels).sum() <= 950


def test_monitored_training_images_have_the_labels_trained_on() -> None:
    loaded = data.load("digits", label_noise=0.5)
    trained = dict(zip(map(bytes, loaded.train.images.numpy()), loaded.train.labels.tolist(), strict=True))
    watched = map(bytes, loaded.train_monitor.images.numpy())
    assert [trained[image] for image in watched] == loaded.train_monitor.labels.tolist()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dataset": "mnist"}, "'mnist'.*digits, cifar10, cifar100, .*folder:PATH"),
        ({"limit": 0}, "limit=0"),
        ({"limit": 1001}, "limit=1001.*1,000"),
        ({"label_noise": 1.1}, "label_noise=1.1"),
        ({"label_noise": float("nan")}, "label_noise=nan"),
    ],
)
def test_bad_arguments_are_refused_in_one_line(arguments: dict, message: str) -> None:
    with refused(match=message):
        data.load(**{"dataset": "digits"} | arguments)
