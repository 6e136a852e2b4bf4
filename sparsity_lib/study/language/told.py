"""What came out of language models: one row a run, values of q against dropout, and that in words.

`table` is that of `outcomes`, of runs in one setting.
"""

import json
from collections.abc import Sequence

import numpy as np
import pandas as pd
import xarray as xr

from sparsity_lib.study.analysis.comparison import Description, against_published, describe, paired
from sparsity_lib.study.errors import StudyError
from sparsity_lib.study.language.experiment import DROPOUT, NO_NOISE, LanguageExperiment
from sparsity_lib.study.sentences import agreement, difference, direction, number
from sparsity_lib.study.text import unbroken

BITS = {"lowest_bits": "lowest bits per character", "last_bits": "last bits per character"}
OF_ANSWERS = {
    "hoyer": "Hoyer's sparsity",
    "mean_abs": "mean |h|",
    "noise_to_signal": "noise over signal",
}


def alike(published: xr.Dataset | None, experiments: Sequence[LanguageExperiment]) -> xr.Dataset | None:
    """The published runs in the settings of the experiments; None if there are none."""
    if published is None:
        return None
    mine = published.isel(run=published["setting"].isin([each.setting for each in experiments]).to_numpy())
    return mine if mine.sizes["run"] else None


def in_order(curves: xr.Dataset) -> list[str]:
    """The labels: no noise first, then by q."""
    found = pd.DataFrame({name: curves[name].to_numpy() for name in ("label", "q")}).drop_duplicates()
    return [str(label) for label in found.sort_values("q", na_position="first", kind="stable")["label"]]


def outcomes(curves: xr.Dataset) -> pd.DataFrame:
    """One row per run: what it is, its bits per character, and its answers after the last epoch, by layer.

    `lowest_bits` is that of the best epoch, chosen on the text that it is told of, and so optimistic. A
    layer's columns are `<quantity>:<layer>`, of the quantities OF_ANSWERS. Raises `StudyError` for runs of
    several settings.
    """
    if len(settings := set(curves["setting"].to_numpy())) > 1:
        raise StudyError(f"{len(settings)} settings, where one is needed: {'; '.join(sorted(settings))}")
    order = {label: at for at, label in enumerate(in_order(curves))}
    trained = curves.sel(epoch=slice(0, None))
    last = curves.sel(epoch=curves["epochs"] - 1)
    columns = {name: curves[name] for name in ("run", "label", "q", "seed", "text", "epochs", "data_digest")}
    columns |= {"last_bits": last["val_bits"], "lowest_bits": trained["val_bits"].min("epoch")}
    columns |= {"lowest_epoch": trained["val_bits"].idxmin("epoch"), "unigram_bits": curves["unigram_bits"]}
    columns |= {
        f"{name}:{layer}": last[name].sel(layer=layer)
        for name in OF_ANSWERS
        for layer in curves["layer"].to_numpy()
    }
    table = pd.DataFrame({name: column.to_numpy() for name, column in columns.items()})
    return table.sort_values("label", key=lambda labels: labels.map(order), kind="stable", ignore_index=True)


def layers_of(table: pd.DataFrame) -> list[int]:
    """The layers that the table has columns of."""
    return [int(name.removeprefix("hoyer:")) for name in table if name.startswith("hoyer:")]


def differences(table: pd.DataFrame, quantity: str) -> dict[str, Description]:
    """Each label's runs less dropout's (q = 2) of the same seed; `missing` are incomplete pairs.

    Raises `StudyError` if there are no runs with q = 2, or no others.
    """
    labels = list(dict.fromkeys(table["label"]))
    if DROPOUT not in labels or len(labels) < 2:
        raise StudyError(f"there are runs of {', '.join(labels)}: nothing to hold against {DROPOUT}")
    found = {}
    for label in (each for each in labels if each != DROPOUT):
        row = paired(table, label, DROPOUT, quantity, missing="drop").iloc[0]
        mean, sd, low, high = (float(row[name]) for name in ("mean", "sd", "low", "high"))
        found[label] = Description(int(row["n"]), mean, sd, low, high, int(row["dropped"]))
    return found


def slopes(table: pd.DataFrame, quantity: str) -> Description:
    """By how much the quantity changes with each unit of q, the least-squares slope of each seed's runs.

    Seeds with fewer than three values of q are missing.
    """
    noisy = table[table["label"] != NO_NOISE].dropna(subset=[quantity])
    if noisy.empty:
        raise StudyError("there are no runs with noise")
    return describe(
        [
            np.polyfit(runs["q"], runs[quantity], 1)[0] if runs["q"].nunique() > 2 else np.nan
            for _, runs in noisy.groupby("seed")
        ]
    )


def bits_table(table: pd.DataFrame, fresh: pd.DataFrame | None = None) -> pd.DataFrame:
    """Both bits per character of each label: n, mean ± SD, and less dropout's with the 95 % interval.

    With `fresh`, those runs are a row of their own.
    """
    sources = {"published": table, "these": fresh} if fresh is not None else {"these": table}
    labels = dict.fromkeys(label for runs in sources.values() for label in runs["label"])
    rows = []
    for quantity, words in BITS.items():
        for label in labels:
            for source, runs in sources.items():
                told = describe(mine) if len(mine := runs[runs["label"] == label][quantity]) else None
                if told:
                    sd = f" ± {told.sd:.3f}" if told.n > 1 else ""
                    cells = {"bits": words.split()[0], "noise": label, "runs": source, "n": str(told.n)}
                    cells |= {"mean": f"{told.mean:.3f}{sd}", "less dropout's": _less(runs, label, quantity)}
                    # Broken before an interval alone, however narrow the column is.
                    rows.append({k: " (".join(map(unbroken, v.split(" ("))) for k, v in cells.items()})
    return pd.DataFrame(rows).set_index(["bits", "noise", "runs"])


def _less(runs: pd.DataFrame, label: str, quantity: str) -> str:
    if label == DROPOUT or DROPOUT not in set(runs["label"]):
        return ""
    told = differences(runs, quantity)[label]
    if told.n < 2:
        return number(told.mean, 3, sign=True) if told.n else ""
    low, high = number(told.low, 3, sign=True), number(told.high, 3, sign=True)
    return f"{number(told.mean, 3, sign=True)} ({low} to {high})"


def seen(curves: xr.Dataset) -> str:
    """What the runs are: network, text by name, noise and seeds."""
    described = [json.loads(str(each)) for each in curves["experiment"].to_numpy()]
    first, noises = described[0], sorted({each["p"] for each in described if each["p"]})
    counts = np.unique(curves["label"].to_numpy(), return_counts=True)[1]
    fewest, most = counts.min(), counts.max()
    length = "all" if first["limit"] is None else f"the first {first['limit']:,} characters"
    noise = f"p = {', '.join(f'{p:g}' for p in noises)}" if noises else "no noise"
    seeds = f"{most} seed{'' if most == 1 else 's'}" if fewest == most else f"{fewest} to {most} seeds"
    return (
        f"{first['layers']} LSTM layers of {first['hidden']} units on {length} of {first['text']}, "
        f"{first['epochs']} epoch{'' if first['epochs'] == 1 else 's'}; {noise}; {len(counts)} "
        f"kind{'' if len(counts) == 1 else 's'} of noise, {seeds} of each"
    )


def learned(table: pd.DataFrame) -> str:
    """That the models learned: their lowest bits per character beside those of characters' frequencies."""
    means = table.groupby("label", sort=False)["lowest_bits"].mean()
    low, high = number(means.min()), number(means.max())
    told = f"from {low} ({means.idxmin()}) to {high} ({means.idxmax()})" if len(means) > 1 else low
    return (
        f"Who knows nothing but how frequent each character is in training needs "
        f"{number(table['unigram_bits'].mean())} bits for a held-out one; the models' lowest are {told}."
    )


def unfinished(table: pd.DataFrame) -> str:
    """In how many runs the last epoch is the best: those that more epochs might still improve."""
    last = table["lowest_epoch"] == table["epochs"] - 1
    quiet = table["label"] == NO_NOISE
    parts = [
        f"{int(last[group].sum())} of {int(group.sum())} runs {words}"
        for group, words in ((~quiet, "with noise"), (quiet, "without"))
        if group.any()
    ]
    return f"The last epoch has the lowest held-out bits in {' and in '.join(parts)}."


def against_dropout(table: pd.DataFrame, quantities: Sequence[str] = tuple(BITS)) -> list[str]:
    """One sentence per quantity: each kind of noise less dropout, paired by seed."""
    return [
        f"{_words(quantity)} against those of dropout ({DROPOUT}): "
        + "; ".join(
            f"{label}, {difference(told)}{_left_out(told)}"
            for label, told in differences(table, quantity).items()
        )
        + "."
        for quantity in quantities
    ]


def by_q(table: pd.DataFrame) -> list[str]:
    """One sentence per quantity of the answers: what a unit of q changes in each layer, by seed."""
    return [
        f"{_words(quantity)}, for each unit of q: "
        + "; ".join(
            f"layer {layer}, {_slope(slopes(table, f'{quantity}:{layer}'))}" for layer in layers_of(table)
        )
        + "."
        for quantity in OF_ANSWERS
    ]


def _slope(told: Description) -> str:
    if not told.n:
        return "no seed has three values of q"
    mean, low, high = (number(value, 3, sign=True) for value in (told.mean, told.low, told.high))
    if told.n == 1:
        return f"{mean}, one seed"
    verb = {1: "rises", -1: "falls", 0: "no clear change"}[direction(told)]
    return f"{verb}, {mean}, 95 % interval {low} to {high}, n = {told.n}"


def repeated(fresh: pd.DataFrame, table: pd.DataFrame) -> str:
    """Whether fresh runs fall where the published ones say, and whether both read the same text."""
    told = agreement(against_published(fresh, table, quantities=tuple(BITS)))
    if set(fresh["data_digest"]) - set(table["data_digest"]):
        told += " They read another edition of the text than the published runs, as another Python has it."
    return told


def _words(quantity: str) -> str:
    words = BITS.get(quantity) or OF_ANSWERS[quantity]
    return words[0].upper() + words[1:]


def _left_out(told: Description) -> str:
    return (
        f"; {told.missing} incomplete pair{'s' if told.missing > 1 else ''} left out" if told.missing else ""
    )
