"""Permutation tests of whether a change-point warns of the overfitting of its own run.

A mean lead above 0 may come from one fixed pair of epochs that all runs share. A warning depends on its run
only if runs that change earlier also overfit earlier.
"""

import itertools
import math

import numpy as np
from numpy.typing import ArrayLike

PERMUTATIONS = 10_000  # most that are enumerated; number drawn where there are more


def p_of_runs(onset: ArrayLike, changed: ArrayLike, network: ArrayLike) -> tuple[float, float]:
    """Two p values of whether lead times scatter less about their median than by chance.

    Only runs with an onset and a change-point count. The first test permutes change-points over all these
    runs. The second permutes them within each network and measures lead times from the median of the network,
    so that differences between networks do not help. Up to 10,000 permutations are enumerated; otherwise
    10,000 are drawn with a fixed seed.

    **Arguments:** `onset`, `changed`: `(runs,)`, epochs, NaN for none; `network`: `(runs,)`, labels.

    **Returns:** p over all runs and p within networks: the share of permutations, including the observed
    order, with a mean |lead - median lead| as small or smaller; NaN where no two runs can be exchanged.
    """
    onsets, changes, networks = np.asarray(onset, float), np.asarray(changed, float), np.asarray(network)
    both = np.isfinite(onsets) & np.isfinite(changes)
    onsets, changes, networks = onsets[both], changes[both], networks[both]
    if not len(onsets):
        return np.nan, np.nan

    def p_within(groups: list[np.ndarray]) -> float:
        orders = _permutations(groups)
        leads = np.full((len(orders), len(groups), max(map(len, groups))), np.nan)
        for place, group in enumerate(groups):
            leads[:, place, : len(group)] = onsets[group] - changes[orders[:, group]]
        return _share_as_close(leads)

    by_network = [np.flatnonzero(networks == label) for label in dict.fromkeys(networks.tolist())]
    return p_within([np.arange(len(onsets))]), p_within(by_network)


def p_of_seeds(onset: ArrayLike, changed: ArrayLike, network: ArrayLike, seed: ArrayLike) -> float:
    """p of the test within networks, under permutations that keep runs of one seed together.

    Runs of one seed start from the same weights and see the same batches, so that runs of similar networks
    are near copies. `p_of_runs` permutes them independently, as registered; its p within networks is then too
    small. Here a permutation of the seeds moves the change-points of all networks alike. It can pair an onset
    with a missing change-point, so that the number of lead times varies.

    **Arguments:** as for `p_of_runs`; `seed`: `(runs,)`, at most one run per network and seed.

    **Returns:** share of permutations, including the observed order, with a distance as small or smaller;
    NaN where no network has two lead times.
    """
    rows, columns = (np.unique(each, return_inverse=True)[1] for each in (network, seed))
    by_seed = np.full((2, rows.max() + 1, columns.max() + 1), np.nan)
    by_seed[:, rows, columns] = onset, changed
    orders = _permutations([np.arange(by_seed.shape[2])])
    return _share_as_close(by_seed[0] - np.moveaxis(by_seed[1][:, orders], 1, 0))


def _share_as_close(leads: np.ndarray) -> float:
    """Share of permutations with lead times as close to the median of their network as in the first one.

    `leads`: `(permutations, networks, runs)`, NaN for none. The distance of a permutation is the sum of
    |lead - median lead| over n - 1 lead times of each network; permutations without a distance do not count.
    """
    leads = np.sort(leads, axis=-1)  # NaN last
    n = np.isfinite(leads).sum(-1, keepdims=True)
    middle = [np.take_along_axis(leads, np.maximum(n + shift, 0) // 2, -1) for shift in (-1, 0)]
    distance = np.nansum(np.abs(leads - (middle[0] + middle[1]) / 2), axis=(-2, -1))
    freedom = np.maximum(n - 1, 0).sum((-2, -1))
    if not freedom[0]:
        return np.nan
    distance = distance[freedom > 0] / freedom[freedom > 0]
    return float((distance <= distance[0] + 1e-9).mean())  # ties are exact but for rounding


def _permutations(groups: list[np.ndarray]) -> np.ndarray:
    """`(permutations, runs)`: orders within the groups, all or random ones, the observed order first."""
    runs = np.concatenate(groups)
    if math.prod(math.factorial(len(group)) for group in groups) <= PERMUTATIONS:
        parts = itertools.product(*(itertools.permutations(group) for group in groups))
        permuted = np.array([np.concatenate(part) for part in parts])
        orders = np.empty_like(permuted)
        orders[:, runs] = permuted
        return orders
    random = np.random.RandomState(0)  # its stream is the same in all versions of NumPy
    orders = np.tile(np.arange(len(runs)), (PERMUTATIONS + 1, 1))
    shuffled = [np.tile(group, (PERMUTATIONS, 1)) for group in groups]
    for rows in zip(*shuffled, strict=True):
        for row in rows:
            random.shuffle(row)
    for group, places in zip(groups, shuffled, strict=True):
        orders[1:, group] = places
    return orders
