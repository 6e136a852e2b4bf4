"""Do entropies tell the moment of overfitting? Rules judged run by run, and their parameters chosen.

A parameter is chosen on some runs and judged on others. The moment of overfitting is T10's; a run without one
is said not to overfit, though it might in a longer training. Everything takes `study.curves(runs)`.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
import xarray as xr
from scipy.stats import t

from sparsity_lib.study.analysis.comparison import describe
from sparsity_lib.study.analysis.summary import moment_of_overfitting, settings, smoothed, trained
from sparsity_lib.study.analysis.warning import rules
from sparsity_lib.study.errors import StudyError

WITHIN = 10  # epochs, before the moment or after it, in which a warning counts as a hit
OUTCOMES = ("hit", "early", "late", "missed", "false alarm", "quiet")
QUANTITIES = ("right", "excess_loss", "lost_accuracy")


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
    """What the rules, by name in `rules.RULES`, say of each run, and how right that is.

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
        raise StudyError(f"no rule to judge; known: {', '.join(rules.RULES)}")
    if unknown := [name for name in parameters if name not in rules.RULES]:
        raise StudyError(f"unknown rule '{unknown[0]}'; known: {', '.join(rules.RULES)}")
    for name in parameters:
        if without := rules.lacking(curves, rules.RULES[name]):
            raise StudyError(f"{without[0]} has no {rules.RULES[name].needs}, which the rule '{name}' needs")
    parts = []
    for title, group in settings(curves):
        truth = _truth(group)
        for name, parameter in parameters.items():
            rule = rules.RULES[name]
            judged = _judged(group, truth, rule, rule.on(group)(parameter), within)
            parts.append(judged.assign(setting=title, rule=name, parameter=parameter))
    first = ["run", "setting", "label", "seed", "rule", "parameter"]
    together = pd.concat(parts, ignore_index=True)
    return together[[*first, *together.columns.drop(first)]]


def _judged(
    group: xr.Dataset, truth: _Truth, rule: rules.Rule, warned: np.ndarray, within: int
) -> pd.DataFrame:
    outcome = _outcome(truth.onset, warned, within)
    stop = np.where(np.isfinite(warned), warned, truth.last).astype(int)
    runs = np.arange(len(stop))
    kept = stop if rule.loss is None else rules.lowest_so_far(rule.loss(group).to_numpy())[runs, stop]
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
    """Each of `rules.known_rules` with each of its choices: one row with the columns of `table`.

    **Raises:** as `judge`.
    """
    parts = [
        table(judged.assign(rule=name, parameter=parameter))
        for name, parameter, judged in _every_choice(curves, within)
    ]
    return pd.concat(parts, ignore_index=True)


def _every_choice(curves: xr.Dataset, within: int) -> Iterator[tuple[str, float, pd.DataFrame]]:
    groups = [(group, _truth(group)) for _, group in settings(curves)]
    for name in rules.known_rules(curves):
        rule = rules.RULES[name]
        watched = [(group, truth, rule.on(group)) for group, truth in groups]
        for parameter in rule.choices:
            parts = [_judged(group, truth, rule, warns(parameter), within) for group, truth, warns in watched]
            yield name, parameter, pd.concat(parts)


def choose(
    curves: xr.Dataset, by: Literal["balanced", "excess_loss"] = "balanced", within: int = WITHIN
) -> dict[str, float]:
    """Of `rules.known_rules` the parameter that is best on these runs; of equals the most cautious.

    Best is the highest `balanced`, or the lowest mean excess loss.

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
    return judge(judge_on, rules.of_known(choose(choose_on, by, within), judge_on), within)


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
