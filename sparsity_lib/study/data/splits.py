"""Splits of a data set: seeded, stratified choices of indices, so that no image is in two splits."""

import numpy as np

from sparsity_lib.study.errors import StudyError

Indices = np.ndarray  # int64, one dimension

MONITOR_SHARE = 4  # T8: a quarter of the held-out images is monitored,
MONITOR_MOST = 1000  # and at most as many as in TSR, section 4.1

# One stream of random numbers per choice: changing `limit` must not change the held-out images.
_POOL, _LIMIT, _HELD_OUT, _TRAIN_MONITOR, _NOISE = range(5)


def stratified_order(labels: np.ndarray, seed: tuple[int, int]) -> Indices:
    """A random order of (N,) labels in which each prefix has the classes in proportion.

    The r-th image of a class of n comes at (r + 1/2)/n (Sainte-Laguë), ties at random: so a larger
    prefix only adds to a smaller one.
    """
    random = np.random.default_rng(seed)
    shuffled = random.permutation(len(labels))
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    counts = np.bincount(labels)
    within = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)
    place = np.empty(len(labels))
    place[by_class] = (within + 0.5) / np.repeat(counts, counts)
    return shuffled[np.argsort(place[shuffled], kind="stable")]


def split_indices(
    labels: np.ndarray,
    train_count: int,
    *,
    has_own_split: bool,
    limit: int | None,
    data_seed: int,
    held_out_limit: int | None = None,
) -> dict[str, Indices]:
    """Divide (N,) labelled images into those trained on and those held out (T8), by the names of `Data`.

    `train_count` images are for training: the first ones where the data set has a split of its own, a
    stratified draw where it has not. `limit` keeps a stratified part of them, `held_out_limit` of the others.
    Raises `StudyError` if either exceeds what there is.
    """
    if limit is not None and not 1 <= limit <= train_count:
        raise StudyError(f"limit={limit}: there are {train_count:,} training images; take 1 to {train_count}")
    order = np.arange(len(labels)) if has_own_split else stratified_order(labels, (data_seed, _POOL))
    pool, held_out = np.sort(order[:train_count]), order[train_count:]
    if limit is None:
        train = pool
    else:
        train = pool[np.sort(stratified_order(labels[pool], (data_seed, _LIMIT))[:limit])]
    if held_out_limit is not None and not 2 <= held_out_limit <= len(held_out):
        raise StudyError(
            f"held_out={held_out_limit}: there are {len(held_out):,} held-out images; "
            f"take 2 to {len(held_out)}"
        )
    held_out = held_out[stratified_order(labels[held_out], (data_seed, _HELD_OUT))][:held_out_limit]
    if len(held_out) < 2:
        raise StudyError(f"{len(held_out)} held-out image: two or more are needed to monitor and to validate")
    monitored = min(max(len(held_out) // MONITOR_SHARE, 1), MONITOR_MOST)
    seen = stratified_order(labels[train], (data_seed, _TRAIN_MONITOR))[:monitored]
    return {
        "train": train,
        "train_monitor": train[seen],
        "monitor": held_out[:monitored],
        "validation": np.sort(held_out[monitored:]),
    }


def with_label_noise(labels: np.ndarray, classes: int, share: float, data_seed: int) -> np.ndarray:
    """Labels with uniform label noise: a copy of (N,) labels, a `share` redrawn over all classes.

    A redrawn label can be its own class again. A larger share redraws the same labels to the same classes,
    and further labels. Raises `StudyError` for a share outside [0, 1].
    """
    if not 0 <= share <= 1:
        raise StudyError(f"label_noise={share}: it is a share of the training labels, from 0 to 1")
    random = np.random.default_rng((data_seed, _NOISE))
    changed = random.permutation(len(labels))
    drawn = random.integers(classes, size=len(labels))
    count = round(share * len(labels))
    noisy = labels.copy()
    noisy[changed[:count]] = drawn[:count]
    return noisy
