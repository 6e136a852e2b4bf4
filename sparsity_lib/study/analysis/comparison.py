"""Comparisons of networks, and of new runs with published ones, with n, SD and interval.

`runs` are curves, from `study.curves(runs)`, or the table of `analysis.summary`.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import ArrayLike
from scipy.stats import t

from sparsity_lib.study.analysis import SETTING, labels, settings, summary
from sparsity_lib.study.analysis.significance import interval
from sparsity_lib.study.errors import StudyError
from sparsity_lib.study.text import formatted

# Accuracies and losses in the table of `analysis.summary`, with their names in figures and tables.
QUANTITY_NAMES = {
    "best_accuracy": "best accuracy",
    "chosen_accuracy": "accuracy at the chosen epoch",
    "last_five_accuracy": "accuracy of the last five epochs",
    "min_val_loss": "lowest validation loss (nats)",
    "last_val_loss": "last validation loss (nats)",
}


class Description(NamedTuple):
    """Number, mean and SD of values, and the 95 % t interval of the mean.

    SD and interval need two values, the mean needs one; otherwise NaN.
    """

    n: int
    mean: float
    sd: float
    low: float
    high: float

    @property
    def direction(self) -> int:
        """Sign of the values in the interval; 0 if it contains zero or is missing."""
        return int(self.low > 0) - int(self.high < 0)

    def __format__(self, spec: str) -> str:
        """Mean and interval in a number format: `f"{gain:+.3f}"` is `+0.018 (+0.010 to +0.027)`."""
        mean, low, high = (formatted(value, spec) for value in (self.mean, self.low, self.high))
        return mean if self.n == 1 else f"{mean} ({low} to {high})"


def describe(values: ArrayLike) -> Description:
    """Description of values; NaN (censored or absent) and infinite values are left out."""
    array = np.asarray(values, dtype=float).ravel()
    known = array[np.isfinite(array)]
    mean = float(known.mean()) if len(known) else np.nan
    sd = float(known.std(ddof=1)) if len(known) > 1 else np.nan
    return Description(len(known), mean, sd, *interval(known, 0.95))


def prediction_interval(values: ArrayLike, pooled: tuple[float, int] | None = None) -> tuple[float, float]:
    """95 % prediction interval of the value of one new run, assuming a normal distribution.

    `pooled`: an SD and its degrees of freedom, to use instead of the SD of `values`. (NaN, NaN) for fewer
    than two values, or no degree of freedom.
    """
    n, mean, own, _, _ = describe(values)
    sd, freedom = pooled or (own, n - 1)
    known = n > 1 and freedom > 0
    half = float(t.ppf(0.975, freedom)) * sd * np.sqrt(1 + 1 / n) if known else np.nan
    return mean - half, mean + half


def compare(runs: xr.Dataset | pd.DataFrame, a: str, b: str, quantity: str) -> Description:
    """Difference of network `a` minus network `b` in one setting, paired by seed.

    Pairs in which a run is missing or has no value (censored) are left out.

    **Arguments:** `a`, `b`: labels such as `"sr2Net ×16"`; `quantity`: a column of `analysis.summary`.

    **Raises:** `StudyError` for an unknown name, several settings, and two runs with the same fields.
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
    return describe(seed_differences(both, a, b, quantity))


def seed_differences(table: pd.DataFrame, a: str, b: str, quantity: str) -> pd.Series:
    """Differences of label `a` minus label `b` in a table of runs, by the seeds that both have."""
    first, second = (table[table["label"] == label].set_index("seed")[quantity] for label in (a, b))
    return (first - second).dropna()


def comparison_table(
    runs: xr.Dataset | pd.DataFrame,
    pairs: Sequence[tuple[str, str]],
    quantities: Sequence[str],
) -> pd.DataFrame:
    """Differences between networks in each setting, paired by seed.

    **Arguments:** `runs`: curves, or a table with one row per run and a column `setting`; `pairs`: labels
    (a, b), skipped in a setting that lacks one; `quantities`: columns of `analysis.summary`, or of the table.

    **Returns:** one row per setting, quantity and pair: `setting`, `quantity`, `networks` ("a minus b"), and
    the fields of `Description` for the differences.
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
    """Difference within each run: accuracy of the best epoch minus accuracy of the chosen epoch.

    **Returns:** one row per setting and network: the fields of `Description` in percentage points; `rank by
    best` and `rank by chosen` of the mean accuracies of the networks, 1 for the highest.
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
    """Number of new values outside the 95 % prediction intervals of published runs in the same cell.

    Intervals of losses are computed on the log scale. New runs with the id of a published run are left out:
    `verify --again` repeats these.

    **Returns:** one row per accuracy or loss: `judged`, new values in cells with two or more published runs;
    `outside`, values outside the interval; `outside by chance`, the number expected without any difference.
    All are 0 if `published` is None.
    """
    new = _table(fresh)
    old = new if published is None else _table(published)
    new = new[~new["run"].isin(old["run"])]
    cell = [name for name in (*SETTING, "label") if name in new and name in old]
    counts = pd.DataFrame(0, pd.Index(list(QUANTITY_NAMES), name="quantity"), ["judged", "outside"])
    for key, runs in new.groupby(cell):
        peers = old[(old[cell] == list(key)).all(axis=1)]
        for quantity in QUANTITY_NAMES if len(peers) else ():
            scale = np.log if quantity.endswith("loss") else np.asarray
            low, high = prediction_interval(scale(peers[quantity]))
            if np.isfinite(low):
                values = scale(runs[quantity].dropna())
                counts.loc[quantity] += [len(values), ((values < low) | (values > high)).sum()]
    return counts.assign(**{"outside by chance": 0.05 * counts["judged"]}).rename(index=QUANTITY_NAMES)


def _table(runs: xr.Dataset | pd.DataFrame) -> pd.DataFrame:
    table = summary(runs) if isinstance(runs, xr.Dataset) else runs
    if table.empty:
        raise StudyError("there are no runs to compare; choose at least one finished run")
    return table


def _known(what: str, name: str, known: list[str]) -> None:
    if name not in known:
        shown = [each for each in known if ":" not in each]  # not every layer's
        raise StudyError(f"unknown {what} '{name}'; known: {', '.join(shown)}")
