"""What was seen of rises and warnings, in words built from the numbers.

As in `sentences`, a direction is only said where the 95 % interval lies on one side of zero. One of no width,
where all runs agree to the last, says nothing either, but of pairs that are AGREEING.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import xarray as xr

from sparsity_lib.study.analysis.comparison import Description
from sparsity_lib.study.analysis.warning import detection
from sparsity_lib.study.analysis.warning.rise import SHORTLY, SIGNALS, rise_table
from sparsity_lib.study.analysis.warning.rules import RULES, lacking
from sparsity_lib.study.analysis.warning.transfer import Transfer
from sparsity_lib.study.errors import StudyError
from sparsity_lib.study.recipes import PLAIN
from sparsity_lib.study.sentences import direction, listed, number

RULE = "entropy"  # that of EntropyDropDetector, on the mean of its layers
AGREEING = 6  # pairs that all differ alike: by a sign test, p = 0.03
RIVALS = {
    "right": ("more often right", "less often", 100.0, " % of runs", 0),
    "excess_loss": ("a higher loss at the stop", "a lower one", 1.0, " nats", 2),
}


def stored(of: Mapping[str, xr.Dataset]) -> str:
    """How many runs there are to judge a warning on, by profile, and in how many the weight norm is known."""
    counts = listed(f"{curves.sizes['run']} of the profile {name}" for name, curves in of.items())
    total = sum(curves.sizes["run"] for curves in of.values())
    weighed = total - sum(len(lacking(curves, RULES["weight norm"])) for curves in of.values())
    return f"Judged on all published runs: {counts}. The norm of the weights is known in {weighed} of them."


def rise(risen: pd.DataFrame) -> list[str]:
    """Of `rises`, by network over all settings: where each signal rises shortly before overfitting."""
    sentences = []
    for label, mine in risen.groupby("label", sort=False):
        rows = rise_table(mine, ["label"]).set_index("signal")
        for name in SIGNALS:
            row = rows.loc[name]
            counts = f"{label}, {name}: of {row['overfit']} runs that overfit it has risen before that in "
            counts += f"{row['before']}, and at most {SHORTLY} epochs before in {row['shortly']}"
            if row["others"]:
                counts += f"; it rises too in {row['false']} of {row['others']} that do not overfit"
            sentences.append(f"{counts}. {_chance(row)}" if row["overfit"] else f"{counts}.")
    return sentences


def _chance(row: pd.Series) -> str:
    against = {"others": "had another run's rise been taken", "constant": "at one constant epoch"}
    parts = [
        f"{_way(_description(row, f'over_{name}'), ' often')} than {words} "
        f"({_with_interval(_description(row, f'over_{name}'), 100, 0, ' points')})"
        for name, words in against.items()
        if row[f"over_{name}_n"]
    ]
    return f"Shortly before it rises {listed(parts)}." if parts else "There is no other run to compare with."


def _description(row: pd.Series, name: str) -> Description:
    return Description(int(row[f"{name}_n"]), row[name], np.nan, row[f"{name}_low"], row[f"{name}_high"], 0)


def _way(told: Description, adverb: str = "") -> str:
    return {1: "more", -1: "less", 0: "not clearly more or less"}[_side(told)] + adverb


def _side(told: Description) -> int:
    return direction(told) if told.low != told.high else 0


def _with_interval(told: Description, factor: float = 1, decimals: int = 2, unit: str = "") -> str:
    mean, low, high = (
        number(factor * value, decimals, sign=True) for value in (told.mean, told.low, told.high)
    )
    interval = f", 95 % interval {low} to {high}" if told.low < told.high else ""
    return f"{mean}{unit}{interval}, n = {told.n}"


def speeds(found: pd.DataFrame, accelerations: pd.DataFrame) -> list[str]:
    """Of `speeds` and `acceleration`: does sparsity rise faster just before overfitting than else?"""
    sentences = []
    last = found[found["start"] == -SHORTLY]
    for (title, label), rows in accelerations.groupby(["setting", "label"], sort=False):
        mean = last[(last["setting"] == title) & (last["label"] == label)]["rise"].mean()
        told = {
            row["against"]: Description(*(row[name] for name in Description._fields))
            for _, row in rows.iterrows()
        }
        parts = [
            f"{_way(told[name])} than {words} ({_with_interval(told[name], decimals=3)})"
            for name, words in (
                ("earlier", f"in the {SHORTLY} before these"),
                ("elsewhere", "around the moments of its other runs"),
            )
            if told[name].n
        ]
        if parts:
            sentences.append(
                f"{label}: in the {SHORTLY} epochs before the moment of overfitting perplexity sparsity "
                f"changes by {number(mean, 3, sign=True)}, {listed(parts)}."
            )
    return sentences


def outcomes(judged: pd.DataFrame) -> list[str]:
    """Of each rule, over all runs: hits, other warnings, misses, false alarms, and leads."""
    sentences = []
    for _, row in detection.table(judged).iterrows():
        told = f"{row['rule']}, with {number(row['parameter'])} as its margin: of {row['overfit']} runs that "
        told += f"overfit {row['hit']} are warned of within {detection.WITHIN} epochs of the moment, "
        told += f"{row['early']} earlier, {row['late']} later, {row['missed']} not at all"
        if quiet := row["false alarm"] + row["quiet"]:
            told += f"; of {quiet} that do not overfit {row['false alarm']} are warned of"
        if row["lead_n"]:
            lead = f"the lead is {number(row['lead'], 1, sign=True)} ± {number(row['lead_sd'], 1)} epochs"
            told += f"; {lead} (mean ± SD of {row['lead_n']})"
        sentences.append(f"{told}.")
    return sentences


def against_chance(transfer: Transfer) -> str:
    """Whether the entropy's warning is right more often than that of another run of the network."""
    (row,) = detection.table(transfer.judged[transfer.judged["rule"] == RULE]).itertuples()
    n = row.over_chance_n
    told = Description(n, row.over_chance, np.nan, row.over_chance_low, row.over_chance_high, 0)
    start = (
        f"{transfer.name} ({row.runs} runs, of which {row.overfit} overfit): the entropy's warning is right "
    )
    start += f"in {number(100 * row.right, 0)} % of runs"
    if 0 < n < row.runs:
        start += f"; in the {n} with another run of their network"
    if np.isnan(told.low):
        return (
            f"{start}; there are too few runs of a network to say how often another run's warning would be."
        )
    if told.low == told.high == 0:
        return f"{start}, as often as another run's warning."
    difference = _with_interval(told, 100, 0, " points")
    return f"{start}, {_way(told, ' often')} than another run's warning ({difference})."


def rivals(transfer: Transfer, quantity: str = "right") -> str:
    """Which rules do better or worse than the entropy's, run by run, in `right` or `excess_loss`."""
    more, less, factor, unit, decimals = RIVALS[quantity]
    table = detection.against(transfer.judged, RULE, quantity)
    sides: dict[int, list[str]] = {1: [], -1: [], 0: []}
    for _, row in table.iterrows():
        told = Description(row["n"], row["mean"], row["sd"], row["low"], row["high"], 0)
        mean = f" ({number(factor * row['mean'], decimals, sign=True)})" if _side(told) else ""
        sides[_side(told)].append(f"{row['rule']}{mean}")
    start = f"{transfer.name}, in{unit}"
    if not table["low"].lt(table["high"]).any():
        return f"{start}: there is no interval for any difference; the runs are of one seed, or all agree."
    words = {1: more, -1: less, 0: "no clear difference"}
    parts = [f"{words[side]}: {', '.join(sides[side])}" for side in (1, -1, 0) if sides[side]]
    return f"{start}, against the entropy's warning: {'; '.join(parts)}."


def blinded(table: pd.DataFrame) -> list[str]:
    """Of `blinded`: each network's runs that are warned of in time, against vanillaNet's of those seeds."""
    rows = list(table.itertuples())
    (plain,) = (row for row in rows if row.label == PLAIN)
    counted = f"{plain.warned} of {plain.overfit} runs of {PLAIN} that overfit are warned of in time"
    sentences = [f"{counted}, which is within {detection.WITHIN} epochs after the moment or earlier."]
    for row in rows:
        if row.label != PLAIN:
            told = Description(*(getattr(row, name) for name in Description._fields))
            counts = f"{row.label}: {row.warned} of {row.overfit}"
            difference = _with_interval(told, 100, 0, " points")
            sentences.append(f"{counts}, {_in_pairs(told)} ({difference})." if told.n else f"{counts}.")
    return sentences


def blind(table: pd.DataFrame) -> str:
    """Of `blinded`: in which networks the warning clearly misses more of overfitting than in vanillaNet."""
    others = [row for row in table.itertuples() if row.label != PLAIN and row.high < 0]
    found = [row.label for row in others if row.low < row.high or row.n >= AGREEING]
    if not found:
        return f"In no network is the warning clearly less often in time than in {PLAIN}."
    return f"The warning is clearly less often in time than in {PLAIN} in {listed(found)}."


def _in_pairs(told: Description) -> str:
    if told.low < told.high:
        return _way(told, " often")
    return "the same in every pair of seeds" if told.mean == 0 else "the opposite in every pair of seeds"


def summary(transfers: Sequence[Transfer]) -> list[str]:
    """Over all ways to choose and judge: how often the entropy's warning is clearly better, or a rival."""
    if not transfers:
        raise StudyError("nothing was judged")
    own = [_compared(detection.table(transfer.judged), "over_chance").loc[RULE] for transfer in transfers]
    sentences = [
        f"Of {len(transfers)} ways to choose and judge, the entropy's warning is clearly more often right "
        f"than another run's in {own.count(1)}, and clearly less often in {own.count(-1)}."
    ]
    for quantity, (more, less, *_) in RIVALS.items():
        tables = [detection.against(transfer.judged, RULE, quantity) for transfer in transfers]
        sides = pd.concat([_compared(table) for table in tables], axis=1)
        counts = [
            f"{rule} {(row == 1).sum()} ({(row == -1).sum()}){_of_fewer(row)}"
            for rule, row in sides.iterrows()
            if row.abs().any()
        ]
        sentences.append(
            f"Against the entropy's warning, clearly {more} in so many of these "
            f"(in brackets: clearly {less}): {'; '.join(counts)}."
            if counts
            else f"No other rule is clearly {more}, or clearly {less}, in any of these."
        )
    return sentences


def _of_fewer(row: pd.Series) -> str:
    # a rule that was not judged in every way
    return f" of {row.notna().sum()}" if row.isna().any() else ""


def _compared(table: pd.DataFrame, name: str = "") -> pd.Series:
    """By rule: on which side of zero the interval is, 1, -1 or 0."""
    low, high = (table[f"{name}_{end}" if name else end] for end in ("low", "high"))
    side = (low > 0).astype(int) - (high < 0).astype(int)
    return side.where(low < high, 0).set_axis(table["rule"])
