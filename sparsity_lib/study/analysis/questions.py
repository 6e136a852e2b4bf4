"""Quantities that answer a sceptic's first questions, from the curves of published runs.

What is compared is one setting: `setting_of` gives that of a profile's grid. Whatever the runs lack is a
`StudyError` of one line, for the page to say. The sentences made of these quantities are in `answers`.
"""

import functools
import itertools
from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
import xarray as xr
from numpy.typing import ArrayLike
from torch import nn

from sparsity_lib.functional import filter_correlation
from sparsity_lib.study import profiles
from sparsity_lib.study.analysis.comparison import describe
from sparsity_lib.study.analysis.summary import (
    labels,
    layers_of,
    moment_of_overfitting,
    only,
    settings,
    smoothed,
    summary,
    trained,
)
from sparsity_lib.study.errors import StudyError
from sparsity_lib.study.experiment import Experiment
from sparsity_lib.study.recipes import LAYERS, TARGETED

WATCHED = LAYERS[:-1]  # the layers that are penalised somewhere
PLAIN = "vanillaNet"


def of_grid(curves: xr.Dataset | None, profile: str, grid: str = "networks") -> xr.Dataset:
    """The published runs of a profile's grid; `StudyError` if there are none."""
    wanted = {experiment.id for experiment in profiles.experiments(profile, grids=[grid], published=True)}
    there = [] if curves is None else [run in wanted for run in curves["run"].to_numpy().tolist()]
    if curves is None or not any(there):
        raise StudyError(f"the profile {profile} has no published runs of the grid '{grid}' yet")
    return curves.isel(run=there).dropna("epoch", how="all").dropna("layer", how="all")


def setting_of(curves: xr.Dataset) -> tuple[str, xr.Dataset]:
    """Title and runs of the last setting: on the laptop the one with redrawn labels."""
    return settings(curves)[-1]


def having(curves: xr.Dataset, quantity: str) -> xr.Dataset:
    """The runs in which the quantity was measured; `StudyError` if there are none."""
    if quantity in curves:
        values = curves[quantity]
        there = values.notnull().any([name for name in values.dims if name != "run"])
        if there.any():
            return curves.isel(run=there.to_numpy())
    raise StudyError(f"none of these runs has the quantity '{quantity}'; they were made before it was kept")


def first_with(curves: xr.Dataset | None, profile: str, quantity: str) -> tuple[str, xr.Dataset]:
    """The setting of the first of the profile's grids in which the quantity was measured.

    **Returns:** its title and its runs that have it. **Raises:** `StudyError` if no grid's runs have it.
    """
    for grid in profiles.profile(profile).grids:
        try:
            return setting_of(having(of_grid(curves, profile, grid), quantity))
        except StudyError:
            continue
    raise StudyError(f"no published run of the profile {profile} has the quantity '{quantity}' yet")


def watched(curves: xr.Dataset, among: Sequence[str] = WATCHED) -> list[str]:
    """Of the layers that these runs have, those that are penalised somewhere, in the network's order."""
    there = layers_of(curves)
    return [layer for layer in among if layer in there]


# 1. Is it sparsity, or scale?


def growth(curves: xr.Dataset, layers: Sequence[str] = TARGETED) -> pd.DataFrame:
    """What happens to activations from the lowest smoothed validation loss to the last epoch.

    **Returns:** one row per network, layer and quantity: n runs, mean, SD, 95 % t interval `low` to `high`,
    of the change of `entropy` and `scale_free_entropy` (nats), of `apart`, how much further the first moves
    than the second (nats, both without sign), and of `log_sd`, the logarithm of the factor by which the SD
    grew.
    """
    table = summary(curves)
    rows = []
    for label, layer in itertools.product(labels(curves), watched(curves, layers)):
        mine = table[table["label"] == label]
        change = {
            name: mine[f"{name}_end:{layer}"] - mine[f"{name}_best:{layer}"]
            for name in ("entropy", "scale_free_entropy")
        }
        change["apart"] = change["entropy"].abs() - change["scale_free_entropy"].abs()
        change["log_sd"] = np.log(mine[f"sd_end:{layer}"] / mine[f"sd_best:{layer}"])
        rows += [
            {"label": label, "layer": layer, "quantity": name} | describe(values)._asdict()
            for name, values in change.items()
        ]
    return pd.DataFrame(rows)


# 2. Hold entropy up: does overfitting stop?


def at_training_loss(curves: xr.Dataset, levels: ArrayLike) -> xr.DataArray:
    """(run, level): the validation loss when the training loss first falls to a level, both in nats.

    Both losses in evaluation mode and smoothed (T9); between two epochs on a straight line. NaN where a run
    never falls so low, or starts below.
    """
    after = trained(curves)
    training = smoothed(after["monitor_loss"].sel(split="train")).to_numpy()
    validation = smoothed(after["val_loss"]).to_numpy()
    wanted = np.asarray(levels, dtype=float)
    values = np.full((curves.sizes["run"], len(wanted)), np.nan)
    for row, x, y in zip(values, training, validation, strict=True):
        reached = x[:, None] <= wanted  # (epoch, level); a shorter run's NaN are not
        epoch = reached.argmax(0)  # the first; 0 where none
        there = reached.any(0) & (epoch > 0)
        last = epoch[there]
        share = (x[last - 1] - wanted[there]) / (x[last - 1] - x[last])
        row[there] = y[last - 1] + share * (y[last] - y[last - 1])
    return xr.DataArray(values, {"run": curves["run"], "level": wanted}, ("run", "level"))


def matched(curves: xr.Dataset, a: str, b: str, levels: int = 200) -> xr.DataArray:
    """(seed, level): validation loss of `a` less that of `b` at the same training loss, in pairs of a seed.

    The levels, in nats, go from the highest to the lowest training loss of the two networks, evenly in
    logarithm. NaN where one of a pair does not come down to a level; `StudyError` if no seed has both.
    """
    both = only(curves, label=[a, b])
    training = smoothed(trained(both)["monitor_loss"].sel(split="train"))
    wanted = np.geomspace(float(training.max()), float(training.min()), levels)
    values = at_training_loss(both, wanted).assign_coords(run=both["seed"].to_numpy())
    first, second = (values[(both["label"] == label).to_numpy()].rename(run="seed") for label in (a, b))
    first, second = xr.align(first, second, join="inner")
    if not first.sizes["seed"]:
        raise StudyError(f"no seed has both '{a}' and '{b}'")
    return first - second


def at_lowest_common(differences: xr.DataArray) -> pd.DataFrame:
    """One row per pair of `matched`: its `difference` at the lowest loss both reach, and that `level`."""
    known = differences.dropna("seed", how="all")
    last = known.notnull().cumsum("level").argmax("level")  # the first place of the highest count
    level = known["level"].isel(level=last)
    return pd.DataFrame({"difference": known.isel(level=last).to_numpy(), "level": level.to_numpy()})


def overfitting(curves: xr.Dataset) -> pd.DataFrame:
    """What holding entropy up does to overfitting, network by network.

    **Returns:** one row per setting and network: of `runs`, how many get worse for good (`overfit`, T10);
    and against vanillaNet at the lowest training loss that both of a pair reach (its median: `level`, nats)
    n pairs, mean, SD and 95 % t interval of the difference of validation losses; NaN without such pairs.
    """
    rows = []
    for title, group in settings(curves):
        moments = moment_of_overfitting(group)
        for label in labels(group):
            mine = moments[(group["label"] == label).to_numpy()]
            row = {"setting": title, "label": label, "runs": mine.size}
            row |= {"overfit": int(mine.notnull().sum()), "level": np.nan} | describe(np.nan)._asdict()
            if label != PLAIN and PLAIN in labels(group):
                pairs = at_lowest_common(matched(group, label, PLAIN))
                row |= {"level": pairs["level"].median()} | describe(
                    pairs["difference"] if len(pairs) else np.nan
                )._asdict()
            rows.append(row)
    return pd.DataFrame(rows)


# 3. Lambda 0.001 is not one strength.

# Channels, pixels a side and classes of the images, as their makers give them.
IMAGES = {
    "digits": (1, 8, 10),
    "cifar10": (3, 32, 10),
    "cifar10-jpeg": (3, 32, 10),
    "cifar100": (3, 32, 100),
    "tiny32-100": (3, 32, 100),
    "tiny-imagenet": (3, 64, 200),
}


def layer_sizes(experiment: Experiment) -> pd.DataFrame:
    """One row per layer: `channels` D, `positions` R, and `fan_in`, the number of a filter's weights.

    The network is built without memory or data. Raises `StudyError` for a data set whose images have no known
    size.
    """
    if experiment.dataset not in IMAGES:
        raise StudyError(
            f"the images of '{experiment.dataset}' have no known size; known: {', '.join(IMAGES)}"
        )
    channels, pixels, classes = IMAGES[experiment.dataset]
    side = experiment.image_size or pixels
    rows: dict[str, dict[str, int]] = {}

    def note(name: str, module: nn.Conv2d | nn.Linear, shape: torch.Size) -> None:
        sizes = {"channels": shape[1], "positions": shape[2:].numel(), "fan_in": module.weight[0].numel()}
        rows[name] = sizes

    with torch.device("meta"):
        model = experiment.build(channels, (side, side), classes)
        for name, module in model.named_children():
            if isinstance(module, nn.Conv2d | nn.Linear):
                module.register_forward_hook(lambda m, _, out, name=name: note(name, m, out.shape))
        model(torch.empty(1, channels, side, side))
    return pd.DataFrame(rows).T


def strengths(settings_: Sequence[tuple[str, str]] | None = None, lambda_: float = 1e-3) -> pd.DataFrame:
    """Lambda R ln D, the largest value of a layer's term of Eq. 5 (nats), for data sets and sizes.

    One row per data set and size, one column per layer, and `loss`: the cross-entropy of guessing,
    ln(classes).
    """
    chosen = settings_ or [
        ("digits", "s"),
        ("cifar100", "s"),
        ("cifar100", "m"),
        ("cifar100", "xxl"),
        ("tiny-imagenet", "xxl"),
    ]
    rows = []
    for dataset, size in chosen:
        sizes = layer_sizes(Experiment(network=PLAIN, dataset=dataset, size=size)).loc[list(WATCHED)]
        terms = lambda_ * sizes["positions"] * np.log(sizes["channels"])
        loss = float(np.log(IMAGES[dataset][2]))
        rows.append({"images": dataset, "size": size} | terms.to_dict() | {"loss": loss})
    return pd.DataFrame(rows).set_index(["images", "size"])


# 4. Was the baseline tuned as hard? See `choices.tuned`.


# 5. Best accuracy is optimistic.

ACCURACIES = ("best_accuracy", "chosen_accuracy", "last_five_accuracy")


def optimism(curves: xr.Dataset) -> pd.DataFrame:
    """By how many percentage points the best accuracy exceeds the chosen one and that of the last five.

    **Returns:** one row per network and `measure`: n runs, mean, SD and 95 % t interval of the difference
    within each run.
    """
    table = summary(curves)
    return pd.DataFrame(
        {"label": label, "measure": measure}
        | describe(100 * (mine["best_accuracy"] - mine[measure]))._asdict()
        for label in labels(curves)
        for mine in [table[table["label"] == label]]
        for measure in ACCURACIES[1:]
    )


def ranks(curves: xr.Dataset) -> pd.DataFrame:
    """Networks as rows, the three accuracies as columns: the rank of the mean over runs, 1 the highest."""
    means = summary(curves).groupby("label")[list(ACCURACIES)].mean()
    return means.rank(ascending=False, method="min").astype(int).loc[labels(curves)]


def swapped(curves: xr.Dataset, measure: str) -> pd.DataFrame:
    """The pairs of networks whose mean `measure` is the other way round than their mean best accuracy.

    **Returns:** one row per pair: labels `a` and `b`, and `clear`, whether the 95 % intervals of both
    differences, over pairs of a seed, exclude zero.
    """
    table = summary(curves)
    of_best, of_measure = (
        table.pivot(index="seed", columns="label", values=name) for name in ("best_accuracy", measure)
    )
    rows = []
    for a, b in itertools.combinations(labels(curves), 2):
        best, other = (describe(wide[a] - wide[b]) for wide in (of_best, of_measure))
        if best.mean * other.mean < 0:
            clear = all(told.low * told.high > 0 for told in (best, other))
            rows.append({"a": a, "b": b, "clear": clear})
    return pd.DataFrame(rows, columns=["a", "b", "clear"])


# 6. Is conv1 special, or just small?


@functools.cache
def random_correlation(filters: int, n: int, center: str = "filters") -> float:
    """The mean absolute correlation of so many random filters of n weights, drawn with a fixed seed.

    About sqrt(2/(pi n)) for many filters; of few, taking their mean away leaves more.
    """
    generator = torch.Generator().manual_seed(0)
    pairs = filters * (filters - 1) // 2
    draws = -(-20_000 // pairs)
    total = 0.0
    for _ in range(draws):
        drawn = filter_correlation(torch.randn(filters, n, generator=generator), center=center)
        total += float(drawn.tril(-1).abs().sum())
    return total / (draws * pairs)


def welch_bound(filters: int, n: int) -> float:
    """The least root mean square of the cosines between so many directions in n dimensions; 0 if they fit."""
    return float(np.sqrt((filters - n) / (n * (filters - 1)))) if filters > n else 0.0


def likeness(curves: xr.Dataset, center: str = "filters") -> pd.DataFrame:
    """Mean absolute correlation of a layer's filters against that of random ones, by network and layer.

    **Returns:** one row per network, layer and `moment` (`start` before training, `end` the last epoch): n
    runs, mean, SD and 95 % t interval of the correlation, what is `expected` of random filters, and the
    `welch` bound, which is one on the root mean square. Runs without correlations are left out.
    """
    curves = having(curves, "correlation")
    first = curves.isel(run=0)
    network, size, dataset = (str(first[name].item()) for name in ("network", "size", "dataset"))
    sizes = layer_sizes(Experiment(network=network, size=size, dataset=dataset))
    correlation = curves["correlation"].sel(center=center)
    ends = {"start": correlation.sel(epoch=-1), "end": correlation.sel(epoch=curves["epochs"] - 1)}
    rows = []
    lines = {}
    for layer in watched(curves):
        filters, n = int(sizes.loc[layer, "channels"]), int(sizes.loc[layer, "fan_in"])
        free = n - (center == "components")  # its own mean is taken away
        lines[layer] = {
            "expected": random_correlation(filters, n, center),
            "welch": welch_bound(filters, free),
        }
    for label, layer in itertools.product(labels(curves), watched(curves)):
        rows += [
            {"label": label, "layer": layer, "moment": moment}
            | describe(values.sel(layer=layer)[curves["label"] == label])._asdict()
            | lines[layer]
            for moment, values in ends.items()
        ]
    return pd.DataFrame(rows)


def conv1_against(curves: xr.Dataset, label: str, center: str = "filters") -> pd.DataFrame:
    """By what factor conv1's filters are more alike than random ones, less that of each later layer.

    **Returns:** one row per later layer: n runs, mean, SD and 95 % t interval of the difference within each
    run.
    """
    mine = only(curves, label=label)
    expected = likeness(mine, center).query("moment == 'end'").set_index("layer")["expected"]
    end = mine["correlation"].sel(center=center).sel(epoch=mine["epochs"] - 1)
    factors = {layer: end.sel(layer=layer) / expected[layer] for layer in watched(mine)}
    first, *later = factors
    return pd.DataFrame(
        {"layer": layer, "factor": float(factors[layer].mean()), "of_conv1": float(factors[first].mean())}
        | describe(factors[first] - factors[layer])._asdict()
        for layer in later
    )


# 7. "Full capacity" has no measure in the paper.


def rank_share(curves: xr.Dataset) -> xr.DataArray:
    """(run, layer): the effective rank at the last epoch, held-out images, as a share of the channels.

    Of the runs in which it was measured.
    """
    mine = having(curves, "effective_rank").sel(layer=watched(curves))
    rank = mine["effective_rank"].sel(split="monitor").sel(epoch=mine["epochs"] - 1)
    return rank.drop_vars("epoch") / mine["channels"]


def knockout_area(curves: xr.Dataset) -> xr.DataArray:
    """(run, layer): the mean share of its accuracy that a network keeps as a layer's channels are silenced.

    The area below accuracy over the share silenced, by the trapezoid rule, divided by the accuracy without
    silencing and by the largest share: 1 where nothing is lost. The more of a layer's capacity is needed, the
    smaller it is. Of the runs in which it was measured.
    """
    accuracy = having(curves, "knockout_accuracy")["knockout_accuracy"].sel(layer=watched(curves))
    kept = accuracy / accuracy.sel(knocked_out=0)
    return kept.integrate("knocked_out") / float(accuracy["knocked_out"].max())


def by_layer(values: xr.DataArray, label: str) -> pd.DataFrame:
    """One row per layer: n, mean, SD and 95 % t interval of a network's values, which are (run, layer)."""
    mine = values.isel(run=(values["label"] == label).to_numpy())
    return pd.DataFrame(
        {"layer": layer} | describe(mine.sel(layer=layer))._asdict() for layer in values["layer"].to_numpy()
    )


def against_plain(values: xr.DataArray, label: str) -> pd.DataFrame:
    """As `by_layer`, of the differences from vanillaNet's run of the same seed."""
    wide = {
        name: pd.DataFrame(
            mine.transpose("run", "layer").to_numpy(), mine["seed"].to_numpy(), mine["layer"].to_numpy()
        )
        for name in (label, PLAIN)
        for mine in [values.isel(run=(values["label"] == name).to_numpy())]
    }
    difference = (wide[label] - wide[PLAIN]).dropna(how="all")
    if difference.empty:
        raise StudyError(f"no seed has both '{label}' and '{PLAIN}'")
    return pd.DataFrame({"layer": layer} | describe(difference[layer])._asdict() for layer in difference)
