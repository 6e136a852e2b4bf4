"""Do entropies tell the moment of overfitting? Rules with and without labels, judged run by run.

A rule says of each run at which epoch it warns, from what is known up to there. It has one parameter, to be
chosen on some runs and judged on others. The moment of overfitting is T10's; a run without one is said not to
overfit, though it might in a longer training. Everything takes `study.curves(runs)`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
import xarray as xr
from scipy.stats import t

from sparsity_lib.early_warning import collapse_epochs
from sparsity_lib.study.analysis import (
    moment_of_overfitting,
    regularised_layers,
    settings,
    smoothed,
    trained,
)
from sparsity_lib.study.comparison import describe
from sparsity_lib.study.errors import StudyError
from sparsity_lib.study.timing import BASELINE, PATIENCE

WITHIN = 10  # epochs, before the moment or after it, in which a warning counts as a hit
OUTCOMES = ("hit", "early", "late", "missed", "false alarm", "quiet")
QUANTITIES = ("right", "excess_loss", "lost_accuracy")

Watched = Callable[[xr.Dataset], xr.DataArray]


@dataclass(frozen=True)
class Rule:
    """When to warn.

    **Fields:**

    - `warns`: from curves and the parameter to (run), the epochs; NaN for no warning.
    - `parameter`: what it is, with its unit; `choices`: its values, the most cautious first.
    - `sees`: what labels it needs.
    - `loss`: the held-out loss that it watches, if any; training then goes back to where that was lowest.
    - `needs`: a variable of the curves that runs of older code lack.
    """

    warns: Callable[[xr.Dataset, float], np.ndarray]
    parameter: str
    choices: tuple[float, ...]
    sees: Literal["no label", "training labels", "held-out labels"] = "no label"
    loss: Watched | None = None
    needs: str = ""


# What should not fall, (run, layer, epoch), of held-out images.
_SIGNALS: dict[str, Callable[[xr.Dataset], xr.DataArray]] = {
    "entropy": lambda curves: curves["entropy"] / np.log(curves["channels"]),
    "scale_free_entropy": lambda curves: curves["scale_free_entropy"] / np.log(curves["channels"]),
    "perplexity_sparsity": lambda curves: 1 - curves["perplexity_sparsity"],
    "sd": lambda curves: -xr.apply_ufunc(np.log, curves["sd"].where(curves["sd"] > 0)),
}


def _falls(quantity: str, first_layer: bool = False) -> Callable[[xr.Dataset, float], np.ndarray]:
    """The rule of `OverfitWarning` on the layers that SparsityReg acts on: their mean, or the first."""

    def warns(curves: xr.Dataset, margin: float) -> np.ndarray:
        def falls(signal: xr.DataArray) -> np.ndarray:
            return collapse_epochs(signal.to_numpy(), margin=margin, reference=BASELINE, patience=PATIENCE)

        epochs = np.full(curves.sizes["run"], np.nan)
        for layers, mine in _watched(curves).items():
            held_out = trained(curves[["channels", quantity]].isel(run=mine)).sel(split="monitor")
            signal = _SIGNALS[quantity](held_out.sel(layer=list(layers)))
            signal = signal.transpose("run", "layer", "epoch")
            if first_layer:
                epochs[mine] = np.fmin.reduce(falls(signal), axis=1)
            else:
                epochs[mine] = falls(signal.mean("layer", skipna=False))
        return epochs

    return warns


def _watched(curves: xr.Dataset) -> dict[tuple[str, ...], np.ndarray]:
    """Which runs, as a mask, have which layers watched: those of theirs that SparsityReg would act on."""
    network, there = curves["network"].to_numpy(), curves["channels"].transpose("run", "layer").notnull()
    groups: dict[tuple[str, ...], np.ndarray] = {}
    for name in np.unique(network):
        mine = network == name
        present = curves["layer"].to_numpy()[there.to_numpy()[mine].any(axis=0)]
        layers = tuple(layer for layer in regularised_layers(name) if layer in present)
        if not layers:
            raise StudyError(f"{name} has no layer that SparsityReg would act on: nothing to watch")
        groups[layers] = groups.get(layers, np.zeros(len(network), bool)) | mine
    return groups


def _weights_grow(curves: xr.Dataset, margin: float) -> np.ndarray:
    """The same rule on the norm of the weights of all monitored layers, whose logarithm should not rise."""
    squares = (trained(curves[["weight_norm"]])["weight_norm"] ** 2).sum("layer", min_count=1)
    shrinking = -np.log(squares.where(squares > 0).transpose("run", "epoch").to_numpy()) / 2
    return collapse_epochs(shrinking, margin=margin, reference=BASELINE, patience=PATIENCE)


def _training_loss_below(curves: xr.Dataset, threshold: float) -> np.ndarray:
    return _first(trained(curves[["train_loss"]])["train_loss"].to_numpy() < threshold)


def _constant(curves: xr.Dataset, epoch: float) -> np.ndarray:
    return np.where(curves["epochs"] > epoch, float(epoch), np.nan)


def _never(curves: xr.Dataset, _: float) -> np.ndarray:
    return np.full(curves.sizes["run"], np.nan)


def _no_better(loss_of: Watched) -> Callable[[xr.Dataset, float], np.ndarray]:
    """Warns when a loss has not been lower than before for so many epochs."""

    def warns(curves: xr.Dataset, patience: float) -> np.ndarray:
        loss = loss_of(curves).to_numpy()
        since = np.arange(loss.shape[1]) - _lowest_so_far(loss)
        return _first((since >= patience) & np.isfinite(loss))

    return warns


def _lowest_so_far(loss: np.ndarray) -> np.ndarray:
    """(run, epoch): the epoch of the lowest loss up to each epoch."""
    known = np.where(np.isfinite(loss), loss, np.inf)
    before = np.minimum.accumulate(known, axis=1)
    lower = np.ones(loss.shape, bool)
    lower[:, 1:] = known[:, 1:] < before[:, :-1]
    return np.maximum.accumulate(np.where(lower, np.arange(loss.shape[1]), 0), axis=1)


def _first(true: np.ndarray) -> np.ndarray:
    """(run): the first epoch at which it is true; NaN where it never is."""
    return np.where(true.any(axis=1), true.argmax(axis=1).astype(float), np.nan)


def _validation_loss(curves: xr.Dataset) -> xr.DataArray:
    return trained(curves[["val_loss"]])["val_loss"]


def _monitor_loss(curves: xr.Dataset) -> xr.DataArray:
    return trained(curves[["monitor_loss"]])["monitor_loss"].sel(split="monitor")


_SHARES = (0.5, 0.4, 0.3, 0.25, 0.2, 0.15, 0.1, 0.07, 0.05, 0.03, 0.02, 0.01, 0.005)
_PATIENCES = (20, 15, 10, 7, 5, 3, 2, 1)
RULES = {
    "entropy": Rule(_falls("entropy"), "fall, share of ln D", _SHARES),
    "entropy, first layer": Rule(_falls("entropy", first_layer=True), "fall, share of ln D", _SHARES),
    "scale-free entropy": Rule(_falls("scale_free_entropy"), "fall, share of ln D", _SHARES),
    "perplexity sparsity": Rule(_falls("perplexity_sparsity"), "rise", _SHARES),
    "SD": Rule(
        _falls("sd"),
        "rise of ln SD",
        tuple(float(np.log(factor)) for factor in (16, 12, 8, 6, 5, 4, 3, 2.5, 2, 1.5, 1.25, 1.1)),
    ),
    "weight norm": Rule(
        _weights_grow,
        "rise of ln of the norm",
        tuple(float(np.log(factor)) for factor in (4, 3, 2.5, 2, 1.8, 1.6, 1.4, 1.3, 1.2, 1.1, 1.05, 1.02)),
        needs="weight_norm",
    ),
    "training loss": Rule(
        _training_loss_below,
        "nats",
        (0.003, 0.01, 0.03, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9, 1.1, 1.3, 1.5, 1.7, 1.9, 2.1),
        sees="training labels",
    ),
    "constant epoch": Rule(_constant, "epoch", tuple(range(90, 0, -5))),
    "never": Rule(_never, "none", (0.0,)),
    "validation loss": Rule(
        _no_better(_validation_loss),
        "epochs without a lower loss",
        _PATIENCES,
        "held-out labels",
        _validation_loss,
    ),
    "loss on other images": Rule(
        _no_better(_monitor_loss), "epochs without a lower loss", _PATIENCES, "held-out labels", _monitor_loss
    ),
}


def known_rules(curves: xr.Dataset) -> list[str]:
    """The rules for which all of the runs have what is needed."""
    return [name for name, rule in RULES.items() if not lacking(curves, rule)]


def lacking(curves: xr.Dataset, rule: Rule) -> list[str]:
    """The runs without what the rule needs."""
    runs = curves["run"].to_numpy()
    if not rule.needs:
        return []
    if rule.needs not in curves:
        return list(runs)
    there = trained(curves[[rule.needs]])[rule.needs].transpose("run", ...).notnull().to_numpy()
    return list(runs[~there.reshape(len(runs), -1).any(axis=1)])


class _Truth(NamedTuple):
    """What warnings are held against: moments and last epochs (run), smoothed curves (run, epoch)."""

    onset: np.ndarray
    loss: np.ndarray
    accuracy: np.ndarray
    last: np.ndarray


def _truth(curves: xr.Dataset) -> _Truth:
    after = trained(curves)
    return _Truth(
        moment_of_overfitting(curves).to_numpy(),
        smoothed(after["val_loss"]).to_numpy(),
        smoothed(after["val_accuracy"]).to_numpy(),
        curves["epochs"].to_numpy() - 1,
    )


def judge(curves: xr.Dataset, parameters: Mapping[str, float], within: int = WITHIN) -> pd.DataFrame:
    """What the rules, by name in RULES, say of each run, and how right that is.

    **Returns:** one row per run and rule:

    - `run`, `setting`, `label`, `seed`, `rule`, `parameter`;
    - `onset`, `warned`, in epochs, NaN for none; `lead`, their difference: positive is before overfitting;
    - `outcome`: of a run that overfits `hit` (at most `within` epochs before or after), `early`, `late` or
        `missed` (no warning); of another `false alarm` or `quiet`. `right`: 1 for hit and quiet, else 0;
    - `right_by_chance`: `right`, had another run of this network and setting given the warning: the mean over
        these; NaN if there is none;
    - `excess_loss` (nats) and `lost_accuracy`: how much worse than at their best epochs the smoothed
        validation curves are where training would have stopped: at the warning, else at the end; of a rule
        that watches a held-out loss, where that was lowest till then.

    **Raises:** `StudyError` for no runs, no rule, an unknown one or one that a run lacks something for, or a
    network without layers to watch.
    """
    if not parameters:
        raise StudyError(f"no rule to judge; known: {', '.join(RULES)}")
    if unknown := [name for name in parameters if name not in RULES]:
        raise StudyError(f"unknown rule '{unknown[0]}'; known: {', '.join(RULES)}")
    for name in parameters:
        if without := lacking(curves, RULES[name]):
            raise StudyError(f"{without[0]} has no {RULES[name].needs}, which the rule '{name}' needs")
    parts = []
    for title, group in settings(curves):
        truth = _truth(group)
        for name, parameter in parameters.items():
            judged = _judged(group, truth, RULES[name], parameter, within)
            parts.append(judged.assign(setting=title, rule=name, parameter=parameter))
    first = ["run", "setting", "label", "seed", "rule", "parameter"]
    together = pd.concat(parts, ignore_index=True)
    return together[[*first, *together.columns.drop(first)]]


def _judged(group: xr.Dataset, truth: _Truth, rule: Rule, parameter: float, within: int) -> pd.DataFrame:
    warned = rule.warns(group, parameter)
    outcome = _outcome(truth.onset, warned, within)
    stop = np.where(np.isfinite(warned), warned, truth.last).astype(int)
    runs = np.arange(len(stop))
    kept = stop if rule.loss is None else _lowest_so_far(rule.loss(group).to_numpy())[runs, stop]
    identity = {name: group[name].to_numpy() for name in ("run", "label", "seed")}
    return pd.DataFrame(
        {
            **identity,
            "onset": truth.onset,
            "warned": warned,
            "lead": truth.onset - warned,
            "outcome": outcome,
            "right": _right(outcome),
            "right_by_chance": _right_by_chance(truth.onset, warned, identity["label"], within),
            "excess_loss": truth.loss[runs, kept] - np.nanmin(truth.loss, axis=1),
            "lost_accuracy": np.nanmax(truth.accuracy, axis=1) - truth.accuracy[runs, kept],
        }
    )


def _outcome(onset: np.ndarray, warned: np.ndarray, within: int) -> np.ndarray:
    lead, overfits, warns = onset - warned, np.isfinite(onset), np.isfinite(warned)
    cases = [~overfits & warns, ~overfits, ~warns, lead > within, lead < -within]
    return np.select(cases, ["false alarm", "quiet", "missed", "early", "late"], "hit").astype(object)


def _right(outcome: np.ndarray) -> np.ndarray:
    return np.isin(outcome, ("hit", "quiet")).astype(float)


def _right_by_chance(onset: np.ndarray, warned: np.ndarray, label: np.ndarray, within: int) -> np.ndarray:
    found = np.full(len(onset), np.nan)
    for name in np.unique(label):
        mine = np.flatnonzero(label == name)
        if len(mine) > 1:
            right = _right(_outcome(onset[mine, None], warned[None, mine], within))
            found[mine] = (right.sum(axis=1) - right.diagonal()) / (len(mine) - 1)
    return found


def balanced(judged: pd.DataFrame) -> float:
    """The mean of two shares: hits of the runs that overfit, quiet ones of the others; one alone if so."""
    return float(judged.groupby(judged["onset"].notna())["right"].mean().mean())


def sweep(curves: xr.Dataset, within: int = WITHIN) -> pd.DataFrame:
    """Each of `known_rules` with each of its choices: one row with the columns of `table`.

    **Raises:** as `judge`.
    """
    parts = [
        table(judged.assign(rule=name, parameter=parameter))
        for name, parameter, judged in _every_choice(curves, within)
    ]
    return pd.concat(parts, ignore_index=True)


def _every_choice(curves: xr.Dataset, within: int) -> Iterator[tuple[str, float, pd.DataFrame]]:
    groups = [(group, _truth(group)) for _, group in settings(curves)]
    for name in known_rules(curves):
        rule = RULES[name]
        for parameter in rule.choices:
            yield name, parameter, pd.concat([_judged(*group, rule, parameter, within) for group in groups])


def choose(
    curves: xr.Dataset, by: Literal["balanced", "excess_loss"] = "balanced", within: int = WITHIN
) -> dict[str, float]:
    """Of `known_rules` the parameter with the highest `balanced`, or the lowest excess loss, on these runs.

    Of equals the most cautious.

    **Raises:** as `judge`, and for another `by`.
    """
    if by not in ("balanced", "excess_loss"):
        raise StudyError(f"unknown criterion '{by}'; known: balanced, excess_loss")
    best: dict[str, tuple[float, float]] = {}
    for name, parameter, judged in _every_choice(curves, within):
        score = balanced(judged) if by == "balanced" else -float(judged["excess_loss"].mean())
        if name not in best or score > best[name][0]:
            best[name] = score, float(parameter)
    return {name: parameter for name, (_, parameter) in best.items()}


def choose_and_judge(
    choose_on: xr.Dataset,
    judge_on: xr.Dataset,
    by: Literal["balanced", "excess_loss"] = "balanced",
    within: int = WITHIN,
) -> pd.DataFrame:
    """`judge` of some runs by the rules known of all, with the parameters that are best on others.

    Raises `StudyError` if a run is among both. Trainings of one seed begin alike, whatever their penalties:
    to judge what is new, take other seeds too.
    """
    if both := set(choose_on["run"].to_numpy()) & set(judge_on["run"].to_numpy()):
        raise StudyError(f"{min(both)} is among the runs to choose on and those to judge on")
    return judge(judge_on, of_known(choose(choose_on, by, within), judge_on), within)


def of_known(parameters: Mapping[str, float], curves: xr.Dataset) -> dict[str, float]:
    """Those parameters that are of `known_rules` of the curves."""
    known = known_rules(curves)
    return {name: value for name, value in parameters.items() if name in known}


def table(judged: pd.DataFrame, by: Sequence[str] = ()) -> pd.DataFrame:
    """One row per rule, and per what else is asked for, as `by=["label"]`.

    Runs, those that overfit, how many have each of OUTCOMES; `balanced`; mean, SD and 95 % interval of the
    lead, over the `lead_n` runs that have one, and of QUANTITIES; and the same of `over_chance`, `right` less
    `right_by_chance`, over the `over_chance_n` with another run of their network. Intervals are `by_seed`.
    """
    rows = []
    for key, group in judged.groupby(["rule", *by], sort=False):
        counts = group["outcome"].value_counts()
        row = dict(zip(["rule", *by], key, strict=True))
        parameters = group["parameter"].unique()
        row |= {"parameter": parameters[0] if len(parameters) == 1 else np.nan}
        row |= {"runs": len(group), "overfit": int(group["onset"].notna().sum())}
        row |= {name: int(counts.get(name, 0)) for name in OUTCOMES} | {"balanced": balanced(group)}
        row |= _told(group["lead"], group["seed"], "lead") | {"lead_n": int(group["lead"].notna().sum())}
        for quantity in QUANTITIES:
            row |= _told(group[quantity], group["seed"], quantity)
        over = group["right"] - group["right_by_chance"]
        row |= _told(over, group["seed"], "over_chance") | {"over_chance_n": int(over.notna().sum())}
        rows.append(row)
    return pd.DataFrame(rows)


def against(judged: pd.DataFrame, rule: str, quantity: str = "right") -> pd.DataFrame:
    """Each other rule less this one, run by run, in a column of QUANTITIES.

    **Returns:** one row per rule: `n` runs, mean difference, SD, 95 % interval `low` to `high` (`by_seed`).

    **Raises:** `StudyError` for a rule that was not judged, or an unknown quantity.
    """
    there = list(judged["rule"].unique())
    if rule not in there:
        raise StudyError(f"the rule '{rule}' was not judged; judged: {', '.join(there)}")
    if quantity not in QUANTITIES:
        raise StudyError(f"unknown quantity '{quantity}'; known: {', '.join(QUANTITIES)}")
    wide = judged.pivot(index=["run", "seed"], columns="rule", values=quantity)
    seeds = wide.index.get_level_values("seed").to_series(index=wide.index)
    rows = []
    for other in there:
        if other != rule:
            difference = wide[other] - wide[rule]
            told = _told(difference, seeds)
            rows.append({"rule": other, "n": int(difference.notna().sum())} | told)
    return pd.DataFrame(rows)


def _told(values: pd.Series, seeds: pd.Series, name: str = "") -> dict[str, float]:
    known = values.notna()
    told = describe(values)
    low, high = by_seed(values[known].to_numpy(), seeds[known].to_numpy())
    before = f"{name}_" if name else ""
    return {
        name or "mean": told.mean,
        f"{before}sd": told.sd,
        f"{before}low": low,
        f"{before}high": high,
    }


def by_seed(values: np.ndarray, seeds: np.ndarray) -> tuple[float, float]:
    """The 95 % interval of the mean where runs of one seed, which begin alike, go together.

    Cluster-robust, Student's t over seeds: with as many runs of each seed, that of the seeds' means. NaN for
    fewer than two seeds; of no width, and then of no meaning, where the few seeds agree to the last run.
    """
    _, seed = np.unique(seeds, return_inverse=True)
    n = seed.max() + 1 if len(seed) else 0
    if n < 2:
        return np.nan, np.nan
    mean = values.mean()
    error = np.sqrt(n / (n - 1) * (np.bincount(seed, values - mean) ** 2).sum()) / len(values)
    half = t.ppf(0.975, n - 1) * error
    return float(mean - half), float(mean + half)
