"""What a change does: always a difference between runs of the same seed, with n, a spread and an interval.

Functions take the table that `outcomes` makes of runs.
"""

import numpy as np
import pandas as pd

from sparsity_lib.study.analysis.comparison import describe
from sparsity_lib.study.analysis.readings.outcomes import WITHOUT_FC1, measured
from sparsity_lib.study.errors import StudyError
from sparsity_lib.study.recipes import TARGETED

# What each network is set against, to say what its penalty or layers do.
REFERENCE = {"sr2Net": "vanillaNet", "normNet": "vanillaNet", "dropNet": "vanillaNet", "sr3Net": "sr2Net"}
QUANTITIES = {
    "chosen_accuracy": "accuracy at the chosen epoch",
    "entropy_drop": "drop of entropy from the best epoch to the end, in shares of ln D",
}
CONTENDER = "SparsityReg"
PAPERS_LAMBDA = 1e-3


def contrast(table: pd.DataFrame, network: str, change: str, quantity: str) -> pd.Series:
    """By seed: the network less its reference, which is changed alike where it was trained so.

    vanillaNet has no reference: its own values.
    """
    mine = measured(table, network, change, quantity)
    if network not in REFERENCE:
        return mine
    reference = table[table["network"] == REFERENCE[network]]
    alike = change if change in set(reference["change"]) else ""
    return (mine - measured(table, REFERENCE[network], alike, quantity)).dropna()


def _readings(table: pd.DataFrame) -> list[tuple[str, str]]:
    """The (network, change) of each cell that is another reading, in the order of T1 to T7."""
    cells = table[["network", "change"]].drop_duplicates()
    found = [(str(network), str(change)) for network, change in cells.itertuples(index=False)]
    found = sorted((c for c in found if c[1].startswith("T")), key=lambda cell: (cell[1][:2], cell[0]))
    if not found:
        raise StudyError("there are no runs of other readings")
    return found


def effects(table: pd.DataFrame) -> pd.DataFrame:
    """One row per reading, network and quantity, and `difference`, the `Description` of what it changes.

    That is the change of the network, or, where its reference was trained in the same reading, the change of
    the difference between the two.
    """
    rows = []
    for network, change in _readings(table):
        for quantity in QUANTITIES:
            changed, usual = (contrast(table, network, each, quantity) for each in (change, ""))
            row = {"reading": change, "network": network, "quantity": quantity}
            rows.append(row | {"difference": describe((changed - usual).dropna())})
    return pd.DataFrame(rows)


def statements(table: pd.DataFrame) -> pd.DataFrame:
    """One row per reading, network and quantity: the network against its reference, usually and changed.

    **Returns:** `usual` and `changed`, the `Description`s over the same seeds, and `direction_usual` and
    `direction_changed`: 1 higher, -1 lower, 0 if the 95 % interval holds zero. Of one seed nothing can be
    stated: such readings are left out; `StudyError` if that leaves none.
    """
    rows = []
    for network, change in _readings(table):
        if network not in REFERENCE:
            continue
        for quantity in QUANTITIES:
            changed, usual = (contrast(table, network, each, quantity) for each in (change, ""))
            both = changed.index.intersection(usual.index)
            told = {"usual": describe(usual[both]), "changed": describe(changed[both])}
            if told["usual"].n < 2:
                continue
            rows.append(
                {"reading": change, "network": network, "quantity": quantity}
                | told
                | {f"direction_{name}": each.direction for name, each in told.items()}
            )
    if not rows:
        raise StudyError("a statement needs two seeds of a reading")
    return pd.DataFrame(rows)


def strengths(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of sr2Net by lambda, of the seeds that all have; `StudyError` if there is one strength."""
    mine = table[(table["family"] == CONTENDER) & (table["change"] != WITHOUT_FC1)]
    if mine["strength"].nunique() < 2:
        raise StudyError("there are no runs of several strengths of SparsityReg")
    return mine[mine["seed"].isin(_common_seeds(mine))].sort_values(["strength", "seed"])


def _common_seeds(runs: pd.DataFrame) -> set[int]:
    return set.intersection(*(set(same["seed"]) for _, same in runs.groupby("strength")))


def tuned(table: pd.DataFrame, quantity: str = "chosen_accuracy", tries: int = 3) -> pd.DataFrame:
    """Each family's strengths, as many tries for each, against vanillaNet.

    SparsityReg takes those next to the paper's. Of a family, that strength is `chosen` whose mean accuracy on
    the monitor images is highest: the validation images, by which it is judged, have no part in it.

    **Returns:** one row per family and strength: network, change, `chosen`, and `difference`, the
    `Description` of the difference to vanillaNet by seed.
    """
    mine = table[table["family"] != ""]
    if mine["family"].nunique() < 2:
        raise StudyError("there are no runs of several families of regularisers")
    plain = measured(table, "vanillaNet", "", quantity)
    rows = []
    for family, group in mine.dropna(subset="strength").groupby("family", sort=False):
        seeds = _common_seeds(group)
        of_strength = group[group["seed"].isin(seeds)].groupby("strength")["monitor_accuracy"].mean()
        near = np.abs(np.log(of_strength.index / PAPERS_LAMBDA)) if family == CONTENDER else of_strength.index
        tried = of_strength.iloc[np.argsort(near, kind="stable")[:tries]].sort_index()
        for strength in tried.index:
            network, change = group[group["strength"] == strength][["network", "change"]].iloc[0]
            mine_less_plain = measured(table, network, change, quantity) - plain
            rows.append(
                {"family": family, "strength": strength, "network": network, "change": change}
                | {"chosen": strength == tried.idxmax()}
                | {"difference": describe(mine_less_plain[mine_less_plain.index.isin(seeds)])}
            )
    return pd.DataFrame(rows)


def unit_variance(table: pd.DataFrame, since: str = "best") -> pd.DataFrame:
    """One row per unchanged network and targeted layer: how entropy changes, and how at unit variance.

    **Returns:** `entropy` and `scale_free_entropy`, the `Description`s of the change in nats from `since`
    ("start" or "best") to the end, and `share`, the second's mean in shares of the first's: NaN unless
    entropy's interval lies below zero.
    """
    unchanged = table[table["change"] == ""]
    if unchanged.empty:
        raise StudyError("there are no runs of unchanged networks")
    rows = []
    for label, mine in unchanged.groupby("label", sort=False):
        for layer in TARGETED:
            told = {
                name: describe(mine[f"{name}_end:{layer}"] - mine[f"{name}_{since}:{layer}"])
                for name in ("entropy", "scale_free_entropy")
            }
            falls = told["entropy"].direction < 0
            share = told["scale_free_entropy"].mean / told["entropy"].mean if falls else np.nan
            rows.append({"label": label, "layer": layer} | told | {"share": share})
    return pd.DataFrame(rows)
