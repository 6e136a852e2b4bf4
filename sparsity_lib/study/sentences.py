"""What was seen, in words built from the numbers: the notebooks' closing sentences, and captions.

A direction ("falls", "higher") is only said where the 95 % interval over seeds lies on one side of zero; of a
single run the difference is given, and that it is one run.
"""

from collections.abc import Iterable

import numpy as np
import pandas as pd
import xarray as xr

from sparsity_lib.study.analysis.comparison import Description, paired
from sparsity_lib.study.analysis.summary import (
    alike,
    labels,
    settings,
    summary,
)
from sparsity_lib.study.errors import StudyError
from sparsity_lib.study.runs.provenance import is_current
from sparsity_lib.study.text import number

NAMES = {
    "best_accuracy": "best accuracy",
    "chosen_accuracy": "accuracy at the chosen epoch",
    "last_five_accuracy": "accuracy of the last five epochs",
    "min_val_loss": "lowest validation loss",
    "last_val_loss": "last validation loss",
}


def bullets(sentences: Iterable[str]) -> str:
    """The sentences as a Markdown list."""
    return "\n".join(f"- {sentence}" for sentence in sentences)


def listed(words: Iterable[str]) -> str:
    """The words as `a, b and c`."""
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last


def caption(curves: xr.Dataset, published: xr.Dataset | None = None) -> str:
    """What curves are drawn from: the data by name, the seeds behind a line, and what the bands are."""
    published = alike(published, curves)
    data = "; ".join(title for title, _ in settings(curves))
    lines, banded = _seeds(curves), _seeds(curves if published is None else published)
    told = "Lines: one run each" if lines == "1" else f"Lines: means over {lines} seeds"
    if banded != "1":
        seeds = "seeds" if published is None else "published seeds"
        told += f"; bands: from the lowest to the highest of {banded} {seeds}"
    return f"{data}. {told}."


def _seeds(curves: xr.Dataset) -> str:
    counts = np.unique([len(table) for _, table in _tables(curves)])
    return str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"


def _tables(curves: xr.Dataset) -> list[tuple[str, pd.DataFrame]]:
    # the summary of every network in every setting, named; the setting is told where there are several
    found = [(title, summary(group), labels(group)) for title, group in settings(curves)]
    return [
        (f"{title}: {label}" if len(found) > 1 else label, table[table["label"] == label])
        for title, table, names in found
        for label in names
    ]


def onsets(curves: xr.Dataset) -> list[str]:
    """One sentence per network: when validation loss and accuracy are best, and how much worse the end is.

    Only what gets worse for good counts (T10); the runs in which nothing does are counted, not averaged in.
    """
    sentences = []
    for name, table in _tables(curves):
        loss = _onset(table["onset_loss"], table["val_loss_rise"], "lowest", "nats higher")
        accuracy = _onset(table["onset_accuracy"], table["val_accuracy_drop"], "highest", "lower")
        sentences.append(f"{name}: validation loss {loss}; validation accuracy {accuracy}.")
    return sentences


def _onset(epochs: pd.Series, worse: pd.Series, best: str, end: str) -> str:
    n, moments = len(epochs), epochs.dropna()
    if moments.empty:
        return f"does not get worse for good in {'the one run' if n == 1 else f'any of {n} runs'}"
    by = number(float(worse[moments.index].mean()))
    told = f"is {best} near epoch {moments.mean():.0f}"
    if len(moments) > 1:
        told += f" (n = {len(moments)}, range {moments.min():.0f}–{moments.max():.0f})"
    told += f" and {by} {end} at the end"
    if len(moments) < n:
        rest = f"does not get worse for good in the other {n - len(moments)}"
        return f"{told} in {len(moments)} of {n} runs, and {rest}"
    return told if n > 1 else f"{told} (one run)"


def differences(curves: xr.Dataset, a: str, b: str, quantity: str = "chosen_accuracy") -> list[str]:
    """One sentence per setting: network `a` minus network `b` in pairs of the same seed, with the interval.

    Seeds that only one of them has are left out, and counted. Raises `StudyError` where no setting has both.
    """
    found = settings(curves)
    both = [(title, group) for title, group in found if {a, b} <= set(labels(group))]
    if not both:
        there = ", ".join(labels(curves))
        raise StudyError(f"no setting has both '{a}' and '{b}'; there are runs of {there}")
    sentences = []
    for title, group in both:
        row = paired(group, a, b, quantity, missing="drop").iloc[0]
        told = Description(*(row[name] for name in ("n", "mean", "sd", "low", "high", "dropped")))
        sentences.append(
            f"{f'{title}: ' if len(found) > 1 else ''}{NAMES.get(quantity, quantity)}, {a} against {b}: "
            f"{difference(told)}{_left_out(told.missing)}."
        )
    return sentences


def difference(told: Description) -> str:
    """Whether a difference is higher or lower, where its interval says so; its mean, interval and n."""
    if not told.n:
        return "no pair of runs to compare"
    verdict = {1: "higher", -1: "lower", 0: "no clear difference"}[told.direction]
    return f"{verdict}, {_interval(told, 3)}" if told.n > 1 else _interval(told, 3)


def _left_out(pairs: int) -> str:
    return f"; {pairs} incomplete pair{'s' if pairs > 1 else ''} left out" if pairs else ""


def agreement(comparison: pd.DataFrame) -> str:
    """How many values of `comparison.against_published` lie inside, and how many would not by chance."""
    judged = comparison[comparison["inside"].notna()]
    alone = len(comparison) - len(judged)
    if judged.empty:
        return f"None of the {len(comparison)} fresh values has published runs to be held against."
    level, expected = 1 - judged["by_chance"].mean(), float(judged["by_chance"].sum())
    told = (
        f"{int(judged['inside'].sum())} of {len(judged)} fresh values lie inside the published "
        f"{level:.0%} prediction intervals; about {number(expected, 0 if expected >= 10 else 1)} "
        "would fall outside by chance."
    ).replace("%", " %")
    return f"{told} {alone} more have no published runs to be held against." if alone else told


def provenance(published: xr.Dataset) -> str:
    """How many of the published runs were made by another version of the numerics."""
    made_by = published["numerics"].to_numpy().tolist()
    older = sum(not is_current(each) for each in made_by)
    versions = ", ".join(sorted(set(made_by)))
    if older:
        return f"{older} of {len(made_by)} published runs were made by older numerical code ({versions})."
    return f"All {len(made_by)} published runs were made by the numerical code as it is now ({versions})."


def _interval(told: Description, decimals: int = 2) -> str:
    mean = number(told.mean, decimals, sign=True)
    if told.n == 1:
        return f"{mean}, one run"
    low, high = number(told.low, decimals, sign=True), number(told.high, decimals, sign=True)
    return f"{mean}, 95 % interval {low} to {high}, n = {told.n}"


def direction(told: Description) -> int:
    """The side of zero of an interval."""
    return told.direction
