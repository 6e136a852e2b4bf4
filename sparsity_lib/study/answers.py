"""The answers to `questions` in words: for each a list of sentences, built from the numbers.

As in `sentences`, a direction is only said where the 95 % interval lies on one side of zero.
"""

import itertools
from collections.abc import Sequence

import numpy as np
import pandas as pd
import xarray as xr

from sparsity_lib.study.analysis import gap, questions
from sparsity_lib.study.analysis.comparison import Description
from sparsity_lib.study.analysis.questions import PLAIN
from sparsity_lib.study.analysis.summary import labels, settings
from sparsity_lib.study.errors import StudyError
from sparsity_lib.study.experiment import Experiment
from sparsity_lib.study.sentences import difference, differences, direction, listed, number


def _told(row: pd.Series) -> Description:
    found = Description(*(row[name] for name in Description._fields))
    return found._replace(n=int(found.n))  # a row of a table holds floats alone


def _of(curves: xr.Dataset, networks: Sequence[str]) -> list[str]:
    # the labels of these networks, at every strength
    return [name for name in labels(curves) if name.split()[0] in networks]


def scale(curves: xr.Dataset) -> list[str]:
    """1. How far entropy and its scale-free twin move in the layers that TSR names; sr2Net against varNet."""
    table = questions.growth(curves)
    sentences = []
    for label in _of(curves, (PLAIN, "sr2Net", "varNet")):
        mine = table[table["label"] == label]
        by = {name: mine[mine["quantity"] == name] for name in mine["quantity"].unique()}
        moves = {
            name: listed(number(value, sign=True) for value in by[name]["mean"])
            for name in ("entropy", "scale_free_entropy")
        }
        n = int(by["apart"]["n"].min())
        twin = f". The scale-free entropy {_twin(by)}; n = {n}" if n > 1 else "; one run"
        factors = listed(number(float(np.exp(value)), 1) for value in by["log_sd"]["mean"])
        sentences.append(
            f"{label}, from the lowest validation loss to the end, in {listed(by['apart']['layer'])}: "
            f"entropy {moves['entropy']} nats, scale-free entropy {moves['scale_free_entropy']} nats, "
            f"SD times {factors}{twin}."
        )
    for a in _of(curves, ("sr2Net",)):
        for b in _of(curves, ("varNet",)):
            if a.split()[1:] == b.split()[1:]:  # at the same strength
                sentences += differences(curves, a, b) + differences(curves, a, b, "last_val_loss")
    return sentences


def _twin(by: dict[str, pd.DataFrame]) -> str:
    # how the scale-free entropy moves beside entropy, in which layers (of `questions.growth`, by quantity)
    ways: dict[str, list[str]] = {}
    shares = []
    for (_, full), (_, free), (_, apart) in zip(
        *(by[name].iterrows() for name in ("entropy", "scale_free_entropy", "apart")), strict=True
    ):
        moves = direction(_told(free))
        along = direction(_told(full)) * moves
        further = direction(_told(apart))
        far = {1: "clearly less far", -1: "clearly further", 0: "not clearly less far"}[further]
        way = f"moves {far}" if further else "does not move clearly less far"
        if along < 0:
            way = f"moves the other way ({far})"
        elif further > 0 and not moves:
            way = "does not clearly move"
        elif further > 0 and along:
            shares.append(free["mean"] / full["mean"])
        ways.setdefault(way, []).append(str(apart["layer"]))
    told = "; ".join(f"{way} in {listed(layers)}" for way, layers in ways.items())
    same = f" (of what moves the same way, at most {100 * max(shares):.0f} % as far)" if shares else ""
    return told + same


def overfitting(table: pd.DataFrame) -> list[str]:
    """2. Of each setting: sr2Net's validation loss at vanillaNet's training loss; how many overfit."""
    sentences = []
    for title, rows in table.groupby("setting", sort=False):
        counts = {row["label"]: f"{row['overfit']} of {row['runs']}" for _, row in rows.iterrows()}
        if PLAIN not in counts:
            continue
        for _, row in rows[rows["label"].str.startswith("sr2Net")].iterrows():
            sentences.append(
                f"{title}: validation loss at the same training loss, {row['label']} against {PLAIN}: "
                f"{difference(_told(row))}. It gets worse for good in {counts[row['label']]} runs, "
                f"{PLAIN}'s in {counts[PLAIN]}."
            )
    if not sentences:
        raise StudyError(f"no setting has both sr2Net and {PLAIN}")
    return sentences


def strengths(table: pd.DataFrame) -> list[str]:
    """3. How far apart the strengths of one lambda are (`questions.strengths`)."""
    first, last = (table["conv1"].idxmin(), table["conv1"].idxmax())
    low, high = table.loc[first, "conv1"], table.loc[last, "conv1"]
    within = (table["conv1"] / table["fc1"]).max()
    return [
        f"In conv1 the term is at most {number(low)} nats on {', '.join(first)}, and {number(high)} nats on "
        f"{', '.join(last)}: {high / low:.0f} times as much.",
        f"Within one network, conv1's is up to {within:,.0f} times that of fc1.",
    ]


def optimism(curves: xr.Dataset) -> list[str]:
    """5. Of each setting: by how many points best accuracy is higher; how many networks change places."""
    sentences = []
    names = {
        "chosen_accuracy": "accuracy at the chosen epoch",
        "last_five_accuracy": "that of the last five (by optimism, overfitting, or breakdowns of training)",
    }
    for title, group in settings(curves):
        table = questions.optimism(group)
        pairs = len(labels(group)) * (len(labels(group)) - 1) // 2
        for measure, words in names.items():
            means = table[table["measure"] == measure].set_index("label")["mean"]
            least, most = means.idxmin(), means.idxmax()
            swapped = questions.swapped(group, measure)
            sentences.append(
                f"{title}: best accuracy exceeds {words} by {number(means[least])} ({least}) to "
                f"{number(means[most])} points ({most}); {len(swapped)} of {pairs} pairs of networks change "
                f"places, {int(swapped['clear'].sum())} of them with intervals on different sides of zero "
                f"(not corrected for {pairs} pair{'s' if pairs > 1 else ''})."
            )
    return sentences


def random_filters(size: str = "xxl") -> str:
    """6. What random filters have at one of the paper's sizes, on colour images: geometry alone."""
    sizes = questions.layer_sizes(Experiment(network=PLAIN, size=size, dataset="cifar100"))
    first, second = (sizes.loc[name] for name in ("conv1", "conv2"))
    means = [
        number(questions.random_correlation(row["channels"], row["fan_in"]), 3) for row in (first, second)
    ]
    bound = number(questions.welch_bound(first["channels"], first["fan_in"]))
    return (
        f"At the paper's size {size}, random filters have a mean |c| of {means[0]} in conv1 "
        f"({first['fan_in']} weights) and {means[1]} in conv2 ({second['fan_in']:,} weights); conv1's "
        f"{first['channels']} filters cannot have a root mean square below {bound}."
    )


def likeness(curves: xr.Dataset) -> list[str]:
    """6. How much more alike than random filters those of each layer are, and conv1 against the others."""
    table = questions.likeness(curves)
    table["factor"] = table["mean"] / table["expected"]
    sentences = []
    for label in _of(curves, (PLAIN, "sr2Net", "sr3Net")):
        mine = table[table["label"] == label].set_index(["moment", "layer"])["factor"]
        layers = listed(mine["end"].index)
        start, end = (listed(number(value, 1) for value in mine[moment]) for moment in ("start", "end"))
        compared = questions.conv1_against(curves, label)
        ways = {1: "more", -1: "less", 0: "not clearly more or less"}
        found = {
            way: [r["layer"] for _, r in compared.iterrows() if direction(_told(r)) == way] for way in ways
        }
        told = listed(f"{ways[way]} than in {listed(layers)}" for way, layers in found.items() if layers)
        n = int(compared["n"].min())
        conv1 = f"conv1's factor is then {told} (n = {n})" if n > 1 else "one run"
        sentences.append(
            f"{label}: in {layers}, mean |c| is that of random filters times {start} before training, times "
            f"{end} at the end; {conv1}."
        )
    return sentences


def capacity(curves: xr.Dataset) -> list[str]:
    """7. Effective rank, and what is left of accuracy when channels are silenced, against vanillaNet."""
    measures = {
        "effective rank as a share of the channels": questions.rank_share(curves),
        "share of accuracy kept as channels are silenced": questions.knockout_area(curves),
    }
    ways = {1: "higher", -1: "lower", 0: "not clearly different"}
    sentences = []
    for label, words in itertools.product(labels(curves), measures):
        if label == PLAIN:
            continue
        rows = [row for _, row in questions.against_plain(measures[words], label).iterrows()]
        found = {
            way: [
                f"{row['layer']} ({number(row['mean'], sign=True)})"
                for row in rows
                if direction(_told(row)) == side
            ]
            for side, way in ways.items()
        }
        n = min(int(row["n"]) for row in rows)
        if n > 1:
            told = "; ".join(f"{way} in {listed(layers)}" for way, layers in found.items() if layers)
        else:
            told = listed(f"{row['layer']} {number(row['mean'], sign=True)}" for row in rows)
        sentences.append(f"{label} against {PLAIN}, {words}: {told} ({f'n = {n}' if n > 1 else 'one run'}).")
    if not sentences:
        raise StudyError(f"there is no network to be held against {PLAIN}")
    return sentences


def largest_gap(curves: xr.Dataset) -> str:
    """8. Where the gap is largest at the end, and how far the level has moved there."""
    signs = gap.gap_and_level(curves)
    ends = signs.sel(epoch=curves["epochs"] - 1)
    ends["level"] = ends["level"] - signs["level"].sel(epoch=-1)
    means = {
        (label, layer): ends.sel(layer=layer).isel(run=(curves["label"] == label).to_numpy()).mean("run")
        for label, layer in itertools.product(labels(curves), questions.watched(curves))
    }
    (label, layer), most = max(means.items(), key=lambda item: abs(float(item[1]["gap"])))
    gap_there, level_there = (number(float(most[name]), sign=True) for name in ("gap", "level"))
    return (
        f"Of all layers and networks the mean gap at the end is largest in {layer} of {label}: {gap_there} "
        f"nats; the level there has moved by {level_there} nats since before training."
    )


def gap_or_level(told: dict[str, float]) -> str:
    """8. Whether the gap says more than the level about how much a run overfits (`gap.decisive`)."""
    verdict = "Yes" if told["low"] > 0 else "No" if told["high"] < 0 else "Undecided"
    sizes = [number(told[sign]) for sign in gap.SIGNS]
    change, low, high = (number(told[name], sign=True) for name in ("difference", "low", "high"))
    return (
        f"**Does the gap say more than the level? {verdict}:** within networks, over "
        f"{listed(questions.TARGETED)}, the rank correlation with the rise of validation loss has a mean "
        f"size of {sizes[0]} for the gap and {sizes[1]} for the level; the difference is {change}, 95 % "
        f"bootstrap interval {low} to {high}, from {told['seeds']} seeds of {told['networks']} networks."
    )


def timing(table: pd.DataFrame) -> list[str]:
    """8. Whether the gap moves before the validation loss rises, or the level does (`gap.timing`)."""
    sentences = []
    for (margin, sign), rows in table.groupby(["margin", "sign"], sort=False):
        told = f"The {sign} departs by more than {100 * margin:g} % of ln D, in {listed(rows['layer'])}: "
        told += f"before the moment of overfitting in {_counts(rows, 'before', 'runs')} runs, at all in "
        told += f"{_counts(rows, 'departs', 'runs')}"
        if rows["others"].any():
            told += f"; of the runs that do not overfit in {_counts(rows, 'false', 'others')}"
        known = rows[rows["sd"].notna()]
        if len(known):
            own, swapped, constant = (
                listed(number(value, 1) for value in known[name])
                for name in ("sd", "sd_others", "sd_constant")
            )
            told += f". The SD of its lead is {own} epochs in {listed(known['layer'])}; of chance, {swapped} "
            told += f"against the onsets of other runs, {constant} for one constant epoch"
        sentences.append(f"{told}.")
    known = table[table["sd"].notna()]
    if len(known):
        better = known[(known["sd"] < known["sd_others"]) & (known["sd"] < known["sd_constant"])]
        sentences.append(
            f"The lead varies less than by both rules of chance in {len(better)} of {len(known)} rows (a "
            "margin, a sign and a layer each), by however little."
        )
    return sentences


def _counts(rows: pd.DataFrame, counted: str, of: str) -> str:
    counts, runs = rows[counted], rows[of].iloc[0]
    return f"{listed(f'{count}' for count in counts)} of {runs}" if counts.any() else f"none of {runs}"


def seen_in(title: str, curves: xr.Dataset) -> str:
    """Which runs an answer is from: setting, networks and number of runs."""
    if not curves.sizes["run"]:
        raise StudyError("there are no runs to tell of")
    epochs = listed(f"{value}" for value in np.unique(curves["epochs"]))
    return f"{title}, {epochs} epochs: {curves.sizes['run']} runs of {listed(labels(curves))}."
