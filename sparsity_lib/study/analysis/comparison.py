"""Comparisons of networks, and of new runs with published ones, each with n, SD and interval.

Functions of several runs take `study.curves(runs)` or the table that `analysis.summary` makes of it.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import ArrayLike
from scipy.stats import t

from sparsity_lib.study.analysis.significance import interval
from sparsity_lib.study.analysis.summary import SETTING, labels, settings, summary
from sparsity_lib.study.errors import StudyError
from sparsity_lib.study.text import formatted

# Columns of `summary` that a run is judged by, in words.
QUANTITIES = {
    "best_accuracy": "best accuracy",
    "chosen_accuracy": "accuracy at the chosen epoch",
    "last_five_accuracy": "accuracy of the last five epochs",
    "min_val_loss": "lowest validation loss (nats)",
    "last_val_loss": "last validation loss (nats)",
}


class Description(NamedTuple):
    """Description of several values: number, mean, SD, and the mean's 95 % t interval.

    NaN where values are too few: SD and interval of one value, everything but the number of none.
    """

    n: int
    mean: float
    sd: float
    low: float
    high: float

    @property
    def direction(self) -> int:
        """Side of zero on which the interval lies: 1, -1, or 0 if it holds zero or there is none."""
        return int(self.low > 0) - int(self.high < 0)

    def __format__(self, spec: str) -> str:
        """Mean and interval in the format of a number, as `f"{gain:+.3f}"`: `+0.018 (+0.010 to +0.027)`."""
        mean, low, high = (formatted(value, spec) for value in (self.mean, self.low, self.high))
        return mean if self.n == 1 else f"{mean} ({low} to {high})"


def describe(values: ArrayLike) -> Description:
    """n, mean, SD and 95 % t interval; NaN (censored or absent) values are left out."""
    array = np.asarray(values, dtype=float).ravel()
    known = array[np.isfinite(array)]
    mean = float(known.mean()) if len(known) else np.nan
    sd = float(known.std(ddof=1)) if len(known) > 1 else np.nan
    return Description(len(known), mean, sd, *interval(known, 0.95))


def prediction_interval(values: ArrayLike, pooled: tuple[float, int] | None = None) -> tuple[float, float]:
    """Interval in which the value of one new run falls with 95 % probability, by these runs' values.

    Normal values are assumed. `pooled` is an SD and its degrees of freedom, in place of the values' own.
    (NaN, NaN) for fewer than two values, or no degree of freedom.
    """
    n, mean, own, _, _ = describe(values)
    sd, freedom = pooled or (own, n - 1)
    known = n > 1 and freedom > 0
    half = float(t.ppf(0.975, freedom)) * sd * np.sqrt(1 + 1 / n) if known else np.nan
    return mean - half, mean + half


def compare(runs: xr.Dataset | pd.DataFrame, a: str, b: str, quantity: str) -> Description:
    """Network `a` minus network `b` in one setting, paired by seed: n, mean, SD and 95 % t interval.

    **Arguments:** labels such as `"sr2Net ×16"`; `quantity`, a column of `analysis.summary`. Pairs of which a
    run is missing or has no value (censored) are left out.

    **Raises:** `StudyError` for an unknown name, more than one setting, and two runs that differ in nothing
    in the table.
    """
    table = _table(runs)
    _known("quantity", quantity, list(table.columns))
    for label in (a, b):
        _known("network", label, sorted(table["label"].unique()))
    both = table[table["label"].isin([a, b])]
    if several := [name for name in SETTING if name in both and both[name].nunique() > 1]:
        raise StudyError(f"there are {a} and {b} in several settings; choose one by {', '.join(several)}")
    if (twice := both.duplicated(["label", "seed"])).any():
        raise StudyError(
            f"more than one run of {both[twice].iloc[0]['label']} with the same seed and setting"
        )
    pairs = both.pivot(index="seed", columns="label", values=quantity)
    return describe(pairs[a] - pairs[b])


def comparison_table(
    runs: xr.Dataset | pd.DataFrame,
    pairs: Sequence[tuple[str, str]],
    quantities: Sequence[str],
) -> pd.DataFrame:
    """Networks compared in each setting, paired by seed.

    **Arguments:** `runs`, curves, or a table of one row per run with the title of its setting as `setting`;
    `pairs` of labels (a, b), of which those that a setting lacks are left out; `quantities`, columns of
    `analysis.summary`, or of the table.

    **Returns:** one row per setting, quantity and pair: `setting`, `quantity`, `networks` (a minus b), `n`
    pairs, `mean`, `sd` and 95 % t interval, `low` to `high`, of the differences.
    """
    if isinstance(runs, xr.Dataset):
        tables = [(title, summary(group)) for title, group in settings(runs)]
    else:
        tables = [(str(title), group) for title, group in runs.groupby("setting", sort=False)]
    rows = []
    for title, table in tables:
        present = set(table["label"])
        for quantity in quantities:
            for a, b in ((a, b) for a, b in pairs if {a, b} <= present):
                row = {"setting": title, "quantity": quantity, "networks": f"{a} minus {b}"}
                rows.append(row | compare(table, a, b, quantity)._asdict())
    return pd.DataFrame(rows, columns=["setting", "quantity", "networks", *Description._fields])


def optimism(curves: xr.Dataset) -> pd.DataFrame:
    """Accuracy of the best epoch minus that of the epoch chosen on other images, within each run.

    **Returns:** one row per setting and network: n runs, mean, SD and 95 % t interval of the difference in
    percentage points; `rank by best` and `rank by chosen` of the network's mean accuracies, 1 the highest.
    """
    rows = []
    for title, group in settings(curves):
        table = summary(group)
        means = table.groupby("label")[["best_accuracy", "chosen_accuracy"]].mean()
        ranks = means.rank(ascending=False, method="min").astype(int)
        for label in labels(group):
            runs = table[table["label"] == label]
            found = describe(100 * (runs["best_accuracy"] - runs["chosen_accuracy"]))
            placed = {f"rank by {name.split('_')[0]}": ranks.loc[label, name] for name in ranks}
            rows.append({"setting": title, "network": label} | found._asdict() | placed)
    return pd.DataFrame(rows)


def repeatability(
    fresh: xr.Dataset | pd.DataFrame, published: xr.Dataset | pd.DataFrame | None
) -> pd.DataFrame:
    """Counts of fresh values outside the 95 % prediction intervals of the published runs of their cell.

    Intervals of losses are computed on the log scale. A fresh run that has the id of a published one is not
    judged: `verify --again` repeats it.

    **Returns:** one row per accuracy or loss: `judged`, fresh values whose cell has at least two published
    runs; `outside`, those of them outside the interval; `outside by chance`, the number expected if nothing
    differs. Nothing is judged where `published` is None.
    """
    new = _table(fresh)
    old = new if published is None else _table(published)
    new = new[~new["run"].isin(old["run"])]
    cell = [name for name in (*SETTING, "label") if name in new and name in old]
    counts = pd.DataFrame(0, pd.Index(list(QUANTITIES), name="quantity"), ["judged", "outside"])
    for key, runs in new.groupby(cell):
        peers = old[(old[cell] == list(key)).all(axis=1)]
        for quantity in QUANTITIES if len(peers) else ():
            scale = np.log if quantity.endswith("loss") else np.asarray
            low, high = prediction_interval(scale(peers[quantity]))
            if np.isfinite(low):
                values = scale(runs[quantity].dropna())
                counts.loc[quantity] += [len(values), ((values < low) | (values > high)).sum()]
    return counts.assign(**{"outside by chance": 0.05 * counts["judged"]}).rename(index=QUANTITIES)


def _table(runs: xr.Dataset | pd.DataFrame) -> pd.DataFrame:
    table = summary(runs) if isinstance(runs, xr.Dataset) else runs
    if table.empty:
        raise StudyError("there are no runs to compare; choose at least one finished run")
    return table


def _known(what: str, name: str, known: list[str]) -> None:
    if name not in known:
        shown = [each for each in known if ":" not in each]  # not every layer's
        raise StudyError(f"unknown {what} '{name}'; known: {', '.join(shown)}")
