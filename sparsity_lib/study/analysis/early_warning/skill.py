"""Permutation tests of whether a change-point warns of its own run's overfitting; counts of warnings.

A lead that is above 0 on average may come from one fixed pair of epochs that all runs share. A warning
depends on its run only if runs that change earlier also overfit earlier.
"""

import itertools
import math

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

PERMUTATIONS = 10_000  # drawn where there are more; else each is counted once


def p_of_runs(onset: ArrayLike, changed: ArrayLike, network: ArrayLike) -> tuple[float, float]:
    """Two p values of whether lead times scatter less about their median than by chance.

    Runs with both an onset and a change-point count. The first test permutes change-points over all these
    runs; the second within each network, with lead times measured from the median of their network, so that
    differences between networks do not help. Up to 10,000 permutations are enumerated; else as many are drawn
    with a fixed seed.

    **Arguments:** `onset`, `changed`: `(runs,)`, epochs, NaN for none; `network`: `(runs,)`, labels.

    **Returns:** p over all runs and p within networks: the share of permutations, the observed order among
    them, with a mean |lead - median lead| as small or smaller; NaN where no two runs can be exchanged.
    """
    onsets, changes, networks = _arrays(onset, changed, network)
    both = np.isfinite(onsets) & np.isfinite(changes)
    onsets, changes, networks = onsets[both], changes[both], networks[both]
    groups = [np.flatnonzero(networks == label) for label in dict.fromkeys(networks.tolist())]
    return _coupling(onsets, changes, [np.arange(len(onsets))]), _coupling(onsets, changes, groups)


def p_of_seeds(onset: ArrayLike, changed: ArrayLike, network: ArrayLike, seed: ArrayLike) -> float:
    """p of the coupling within networks, under permutations that keep runs of one seed together.

    Runs of one seed begin from the same weights and see the same batches, so those of similar networks are
    near copies. `p_of_runs` permutes them independently, as registered, and its p within networks is then
    too small. Here a permutation of the seeds moves the change-points of all networks alike. Since it can
    pair an onset with a missing change-point, distances from the networks' medians are summed over n - 1
    lead times per network.

    **Arguments:** as for `p_of_runs`; `seed`: `(runs,)`, at most one run per network and seed.

    **Returns:** share of permutations, the observed order among them, whose distance is as small or smaller;
    NaN where no network has two lead times.
    """
    onsets, changes, networks = _arrays(onset, changed, network)
    rows, columns = (np.unique(each, return_inverse=True)[1] for each in (networks, np.asarray(seed)))
    wide = np.full((2, rows.max() + 1, columns.max() + 1), np.nan)
    wide[:, rows, columns] = onsets, changes
    seeds = [np.arange(wide.shape[2])]
    orders = _every(seeds) if math.factorial(wide.shape[2]) <= PERMUTATIONS else _drawn(seeds)
    distances = _distances(wide[0] - np.moveaxis(wide[1][:, orders], 1, 0))
    known = np.isfinite(distances)
    return float((distances[known] <= distances[0] + 1e-9).mean()) if known[0] else np.nan


def _distances(leads: np.ndarray) -> np.ndarray:
    """Distance of lead times `(..., networks, seeds)` from the network's median, over n - 1 per network."""
    leads = np.sort(leads, axis=-1)  # NaN last
    n = np.isfinite(leads).sum(-1, keepdims=True)
    middle = [np.take_along_axis(leads, np.maximum(n + shift, 0) // 2, -1) for shift in (-1, 0)]
    distance = np.nansum(np.abs(leads - (middle[0] + middle[1]) / 2), axis=(-2, -1))
    freedom = np.maximum(n - 1, 0).sum((-2, -1))
    return np.divide(distance, freedom, out=np.full(distance.shape, np.nan), where=freedom > 0)


def warning_counts(onset: ArrayLike, changed: ArrayLike, network: ArrayLike) -> pd.DataFrame:
    """One row per network, in order of appearance, and one for `all`.

    Columns: `runs`; `hits`, runs whose change-point comes before their onset; `misses`, runs with an onset
    and no change-point before it; `false_alarms`, runs with a change-point and no onset; `true_negatives`,
    runs with neither. Arguments as for `p_of_runs`.
    """
    onsets, changes, networks = _arrays(onset, changed, network)
    overfits, hits = np.isfinite(onsets), changes < onsets
    found = {
        "runs": np.ones(len(onsets), dtype=bool),
        "hits": hits,
        "misses": overfits & ~hits,
        "false_alarms": ~overfits & np.isfinite(changes),
        "true_negatives": ~overfits & ~np.isfinite(changes),
    }
    counts = pd.DataFrame(found).groupby(networks, sort=False).sum()
    return pd.concat([counts, counts.sum().to_frame("all").T]).rename_axis("network")


def _arrays(onset: ArrayLike, changed: ArrayLike, network: ArrayLike) -> tuple[np.ndarray, ...]:
    return np.asarray(onset, float), np.asarray(changed, float), np.asarray(network)


def _coupling(onsets: np.ndarray, changes: np.ndarray, groups: list[np.ndarray]) -> float:
    number = math.prod(math.factorial(len(group)) for group in groups)
    if number < 2:
        return np.nan
    orders = _every(groups) if number <= PERMUTATIONS else _drawn(groups)
    leads = onsets - changes[orders]
    distances = np.zeros(len(leads))
    for group in groups:
        of_group = leads[:, group]
        distances += np.abs(of_group - np.median(of_group, axis=1, keepdims=True)).sum(1) / len(onsets)
    return float((distances <= distances[0] + 1e-9).mean())  # ties are exact but for rounding


def _every(groups: list[np.ndarray]) -> np.ndarray:
    """Each permutation within the groups, the observed order first."""
    orders = []
    for parts in itertools.product(*(itertools.permutations(group) for group in groups)):
        order = np.empty(sum(map(len, groups)), dtype=int)
        order[np.concatenate(groups)] = np.concatenate(parts)
        orders.append(order)
    return np.array(orders)


def _drawn(groups: list[np.ndarray]) -> np.ndarray:
    """The observed order, and random permutations within the groups."""
    random = np.random.RandomState(0)  # its stream is the same in all versions of NumPy
    orders = np.tile(np.arange(sum(map(len, groups))), (PERMUTATIONS + 1, 1))
    shuffled = [np.tile(group, (PERMUTATIONS, 1)) for group in groups]
    for rows in zip(*shuffled, strict=True):
        for row in rows:
            random.shuffle(row)
    for group, places in zip(groups, shuffled, strict=True):
        orders[1:, group] = places
    return orders
