"""What was seen, in words built from the numbers, and in tables whose cells are words."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import xarray as xr

from sparsity_lib.study.analysis.coherent.outcomes import (
    ALWAYS,
    DECAY,
    GATED,
    NONE,
    QUANTITIES,
    TERMS,
    WAYS,
    cell,
    cells,
    difference_from,
    tolerance,
)
from sparsity_lib.study.analysis.comparison import Description, describe
from sparsity_lib.study.analysis.summary import LAST, trained
from sparsity_lib.study.errors import StudyError
from sparsity_lib.study.sentences import difference, direction, listed, number
from sparsity_lib.study.text import unbroken

_SIDES = {1: "above zero", -1: "below zero", 0: "not clearly on either side of zero"}
_MORE = {1: "clearly higher", -1: "clearly lower", 0: "not clearly different"}
_BOTH = "both guess"


def coherence(curves: xr.Dataset) -> list[str]:
    """Of `gathered` curves: the coherence of plain training, and how often gates are open, at both ends."""
    sentences = []
    for (term, strength, way), runs in cells(curves).items():
        if way == NONE:
            first, last = _ends(runs, "coherence")
            sentences.append(
                f"Without a regulariser, coherence is {_side(first)} in the first epoch, and {_side(last)} "
                f"in the last {LAST} epochs."
            )
        elif way == GATED:
            first, last = _ends(runs, "coherence_gate")
            sentences.append(
                f"{term} {strength:g}, gated: the gate is open in {100 * first.mean:.0f} % of the steps of "
                f"the first epoch, and in {100 * last.mean:.0f} % of those of the last {LAST} epochs."
            )
    if not sentences:
        raise StudyError("there are no plain or gated runs in which gradients were watched")
    return sentences


def _ends(curves: xr.Dataset, quantity: str) -> tuple[Description, Description]:
    # over runs: in the first epoch, and the mean of the last
    values = trained(curves)[quantity]
    late = values["epoch"] >= curves["epochs"] - LAST
    return describe(values.sel(epoch=0)), describe(values.where(late).mean("epoch"))


def _side(told: Description) -> str:
    mean = number(told.mean, sign=True)
    if told.n < 2:
        return f"{mean} (one run)"
    low, high = (number(end, sign=True) for end in (told.low, told.high))
    return f"{_SIDES[direction(told)]} ({mean}, 95 % interval {low} to {high}, n = {told.n})"


def levels(table: pd.DataFrame) -> list[str]:
    """For each term, the strength at which it fails always on, and the pulls at weights there and below."""
    sentences = []
    for term in TERMS:
        always = table[(table["term"] == term) & (table["way"] == ALWAYS)]
        if always.empty:
            continue
        level, tried = tolerance(table, term), np.unique(always["strength"])
        if np.isnan(level):
            counts = listed(f"{_guessing(always, strength)} at {strength:g}" for strength in tried)
            sentences.append(f"{term}: no tolerance level was reached; of the runs always on guess {counts}.")
            continue
        told = (
            f"{term}: the tolerance level is {level:g}, where {_guessing(always, level)} runs always on "
            f"guess. After the first epoch the regulariser pulls at the weights with {_pulls(always, level)}"
        )
        below = tried[tried < level]
        told += f"; at {below[-1]:g}, with {_pulls(always, below[-1])}" if len(below) else ""
        sentences.append(f"{told}.")
    if not sentences:
        raise StudyError("there are no runs with L1 or L2 always on")
    return sentences


def _guessing(runs: pd.DataFrame, strength: float) -> str:
    guesses = runs[runs["strength"] == strength]["guesses"]
    return f"{int(guesses.sum())} of {len(guesses)}"


def _pulls(runs: pd.DataFrame, strength: float) -> str:
    mine = runs[runs["strength"] == strength]
    term, loss = mine["term_pull"].mean(), mine["loss_pull"].mean()
    return f"a norm of {number(term)}, {number(term / loss, 1)} times that of the loss's gradient"


def rescues(table: pd.DataFrame) -> list[str]:
    """One sentence for each strength at which a run always on guesses: how many runs do, way by way."""
    failing = table[(table["way"] == ALWAYS) & table["guesses"]]
    sentences = []
    for term, strength in sorted(set(zip(failing["term"], failing["strength"], strict=True))):
        counts = [
            f"{_guessing(mine, strength)} {way}"
            for way in WAYS
            if len(mine := cell(table, term, strength, way))
        ]
        sentences.append(f"{term} {strength:g}: {listed(counts)} runs guess.")
    if not sentences:
        raise StudyError("no run always on guesses at any strength tried, so there is nothing to rescue")
    return sentences


def directions(
    table: pd.DataFrame, pairs: Sequence[tuple[str, str]], quantity: str = "accuracy"
) -> list[str]:
    """One sentence for each pair of ways: where the first is higher, lower or neither, in pairs of a seed.

    Where most runs of both guess, there is nothing to compare; where some of either do, that is said.
    """
    sentences = []
    for way, against in pairs:
        found: dict[str, list[str]] = {words: [] for words in (*_MORE.values(), _BOTH)}
        for (term, strength), mine in table[table["way"] == way].groupby(["term", "strength"]):
            other = _others(table, term, strength, against)
            told = difference_from(mine, other, quantity)
            if term in TERMS and told.n > 1:
                both = min(mine["guesses"].mean(), other["guesses"].mean()) > 0.5
                name = f"{term} {strength:g}"
                found[_BOTH if both else _MORE[direction(told)]].append(
                    name if both else name + _some(mine, other)
                )
        parts = [f"{words} at {listed(names)}" for words, names in found.items() if names]
        if parts:
            start = f"{way.capitalize()} against {_named(against)}, {QUANTITIES[quantity]}"
            sentences.append(f"{start}: {'; '.join(parts)}.")
    if not sentences:
        raise StudyError("there are no pairs of runs to compare")
    return sentences


def _some(mine: pd.DataFrame, other: pd.DataFrame) -> str:
    # how many of two cells' runs guess, where any do
    counts = [(int(runs["guesses"].sum()), len(runs)) for runs in (mine, other)]
    if not any(guess for guess, _ in counts):
        return ""
    return " ({} of {} runs guess, against {} of {})".format(*counts[0], *counts[1])


def _others(table: pd.DataFrame, term: str, strength: float, way: str) -> pd.DataFrame:
    return table[table["way"] == NONE] if way == NONE else cell(table, term, strength, way)


def _named(way: str) -> str:
    return "no regulariser" if way == NONE else way


def most_compressed(table: pd.DataFrame) -> list[str]:
    """One sentence for each way: its most compressed cell that is not clearly less accurate than none.

    Cells of which a run guesses do not count. Compression is a geometric mean.
    """
    plain, sentences = table[table["way"] == NONE], []
    for way in WAYS:
        allowed, tried = [], 0
        for (term, strength), mine in table[table["way"] == way].groupby(["term", "strength"]):
            accuracy, compression = (
                difference_from(mine, plain, "accuracy"),
                describe(mine["log_compression"]),
            )
            if accuracy.n > 1 and (compression.n > 1 or mine["guesses"].any()):
                tried += 1
                if direction(accuracy) >= 0 and not mine["guesses"].any():
                    allowed.append((compression, f"{term} {strength:g}", accuracy))
        if allowed:
            told, name, accuracy = max(allowed, key=lambda each: each[0].mean)
            mean, low, high = (number(float(np.exp(value))) for value in (told.mean, told.low, told.high))
            sentences.append(
                f"{way.capitalize()}: compression is highest at {name}, {mean} (95 % interval {low} to "
                f"{high}, n = {told.n}); accuracy at the end, against no regulariser: {difference(accuracy)}."
            )
        elif tried:
            sentences.append(
                f"{way.capitalize()}: at every strength clearly less accurate than no regulariser, or some "
                "runs guess."
            )
    if not sentences:
        raise StudyError("there are no pairs of runs with and without a regulariser")
    return sentences


def decay(table: pd.DataFrame) -> list[str]:
    """One sentence per strength of weight decay: against none, and against as strong an L2 always on."""
    sentences = []
    for strength, mine in table[table["term"] == DECAY].groupby("strength"):
        parts = [
            f"against {name}: {difference(told)}"
            for name, other in (
                ("no regulariser", table[table["way"] == NONE]),
                (f"L2 {strength:g} always on", cell(table, "L2", strength, ALWAYS)),
            )
            if (told := difference_from(mine, other, "accuracy")).n
        ]
        if parts:
            sentences.append(f"Weight decay {strength:g}, accuracy at the end, {'; '.join(parts)}.")
    if not sentences:
        raise StudyError("there are no runs with weight decay to pair with those above")
    return sentences


def compared(found: pd.DataFrame, against: str) -> pd.DataFrame:
    """`coherent.comparisons` against one way as a table of words: mean ± SD (95 % interval) over the pairs.

    Of compression, the mean factor and the factor of its spread. Pairs are counted if fewer than the runs.
    """
    mine = found[found["against"] == against]
    if mine.empty:
        raise StudyError(f"there are no runs to set against {_named(against)}")
    rows = []
    for (term, strength, way), quantities in mine.groupby(["term", "strength", "way"]):
        guess, runs = quantities.iloc[0][["guess", "runs"]]
        told = quantities.set_index("quantity")["difference"]
        rows.append(
            {"regulariser": f"{term} {strength:g}", "way": way, "guess": f"{guess} of {runs}"}
            | {
                words: _in_words(told[name], runs, name == "log_compression")
                for name, words in QUANTITIES.items()
            }
        )
    return pd.DataFrame(rows).set_index(["regulariser", "way"])


def _in_words(told: Description, runs: int, factor: bool) -> str:
    # logarithms of a factor, if it is one
    if not told.n:
        return ""
    mean, low, high = (
        f"{np.exp(value):.2f}" if factor else number(value, 3, sign=True)
        for value in (told.mean, told.low, told.high)
    )
    fewer = f", n = {told.n}" if told.n < runs else ""
    if told.n == 1:
        return mean + fewer
    spread = f"×/÷ {np.exp(told.sd):.2f}" if factor else f"± {told.sd:.3f}"
    return " ".join(map(unbroken, (f"{mean} {spread}", f"({low} to {high}){fewer}")))
