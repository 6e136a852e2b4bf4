"""Strong L1 and L2, always on, delayed, and gated by gradient coherence: tables of published runs.

The reading of GCSR (arXiv 1811.08056, known by its abstract) is our own. `runs_with_shrinkage` selects the
runs, `outcomes` makes a table of them, `cell_table` a table of their means.
"""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from sparsity_lib.study.analysis import (
    LAST,
    chosen_accuracy,
    chosen_epoch,
    last_five_accuracy,
    runs_of,
    settings,
    trained,
)
from sparsity_lib.study.analysis.comparison import Description, describe
from sparsity_lib.study.experiment import Experiment
from sparsity_lib.study.profiles import experiments as experiments_of
from sparsity_lib.study.recipes import PLAIN
from sparsity_lib.study.runs.results import diverged

NONE, ALWAYS, DELAYED, GATED = "none", "always on", "delayed", "gated"
WAYS = (ALWAYS, DELAYED, GATED)
TERMS = ("L1", "L2")
WEIGHT_DECAY = "weight decay"
GUESSING_SHARE = 0.95  # share of the untrained network's training loss, above which a network guesses
Condition = tuple[str, float, str]  # term, strength, way


def experiments(profile: str) -> list[Experiment]:
    """Published experiments of a profile with vanillaNet and gradient coherence or weight decay."""
    planned = experiments_of(profile, published=True)
    return [e for e in planned if e.network == PLAIN and (e.rho is not None or e.weight_decay)]


def shrinkage_of(experiment: Experiment) -> dict[str, Any]:
    """Shrinkage of the weights: `term` ("" for none), its `strength`, and the `way` in which it acts."""
    strengths = (experiment.l1, experiment.l2, experiment.weight_decay)
    for term, strength in zip((*TERMS, WEIGHT_DECAY), strengths, strict=True):
        if strength:
            gated = experiment.rho is not None and experiment.rho > -1
            way = DELAYED if experiment.delay else GATED if gated else ALWAYS
            return {"term": term, "strength": strength, "way": way}
    return {"term": "", "strength": 0.0, "way": NONE}


def label_of(term: str, strength: float, way: str) -> str:
    """Name of a cell: `L1 0.003, gated`, or `none`."""
    return NONE if way == NONE else f"{term} {strength:g}, {way}"


def runs_with_shrinkage(curves: xr.Dataset | None, which: Sequence[Experiment]) -> xr.Dataset:
    """Curves of these experiments, with the coordinates `term`, `strength` and `way` of each run.

    The attribute `diverged` lists the diverged runs. Raises `StudyError` without any run.
    """
    found = runs_of(curves, which, "there are no published runs with strong L1 or L2")
    by_id = {experiment.id: experiment for experiment in which}
    lost = [
        {"run": run, "seed": by_id[run].seed} | shrinkage_of(by_id[run])
        for run in diverged(found)
        if run in by_id
    ]
    cells = pd.DataFrame([shrinkage_of(by_id[run]) for run in found["run"].to_numpy().tolist()])
    found = found.dropna("epoch", how="all").assign_attrs(diverged=json.dumps(lost))
    return found.assign_coords({name: ("run", cells[name].to_numpy()) for name in cells})


def cells(curves: xr.Dataset) -> dict[Condition, xr.Dataset]:
    """Curves of `runs_with_shrinkage` by term, strength and way, in order."""
    columns = (curves[name].to_numpy().tolist() for name in ("term", "strength", "way"))
    keys: list[Condition] = list(zip(*columns, strict=True))
    return {key: curves.isel(run=[each == key for each in keys]) for key in sorted(set(keys))}


def outcomes(curves: xr.Dataset) -> pd.DataFrame:
    """One row per run of `runs_with_shrinkage`, and per experiment that diverged.

    **Returns:** `setting`, `dataset`, `seed`, `term`, `strength`, `way`, `label` (of the cell), and

    - `accuracy`: of the last five epochs; `chosen_accuracy`: at the chosen epoch (T18);
    - `compression`: number of parameters divided by the number of nonzero ones, after the last epoch;
      `log_compression`: its logarithm, NaN for a network that guesses, since that needs no weights;
      `chosen_log_compression`: the logarithm at the chosen epoch;
    - `guesses`: whether the training loss of the last five epochs is at chance level, or infinite;
    - `loss_gradient`, `term_gradient`: norms of the gradients of the loss, in one batch, and of the term,
      after the first epoch;
    - `open_early`: share of the first fifth of the epochs in the steps in which the term acts.

    Values that were not measured, and all values of a diverged run, are NaN.
    """
    loss = curves["monitor_loss"].sel(split="train")
    end = loss.where(loss["epoch"] >= curves["epochs"] - LAST).mean("epoch")
    nonzero, gate = curves["nonzero_share"], trained(curves)["coherence_gate"]
    early, whole = (each.sum("epoch") for each in (gate.where(gate["epoch"] < curves["epochs"] / 5), gate))
    table = pd.DataFrame(
        {name: curves[name].to_numpy() for name in ("run", "seed", "term", "strength", "way")}
        | {
            "accuracy": last_five_accuracy(curves).to_numpy().round(6),  # float32 has no more digits
            "chosen_accuracy": chosen_accuracy(curves).to_numpy().round(6),
            "compression": 1 / nonzero.sel(epoch=curves["epochs"] - 1).to_numpy(),
            "chosen_compression": 1 / nonzero.sel(epoch=chosen_epoch(curves)).to_numpy(),
            "guesses": (end > GUESSING_SHARE * loss.sel(epoch=-1)).to_numpy(),
            "loss_gradient": curves["loss_gradient_norm"].sel(epoch=0).to_numpy(),
            "term_gradient": curves["shrinkage_norm"].sel(epoch=0).to_numpy(),
            "open_early": (early / whole.where(whole > 0)).to_numpy(),
        }
    )
    lost = pd.DataFrame(json.loads(curves.attrs["diverged"])).assign(guesses=True)
    table = pd.concat([table, lost]) if len(lost) else table
    table = table.astype({"guesses": bool}).sort_values(["term", "strength", "way", "seed"])
    return table.assign(
        setting=settings(curves)[0][0],
        dataset=curves["dataset"].to_numpy()[0],
        label=[label_of(*key) for key in zip(table["term"], table["strength"], table["way"], strict=True)],
        **{
            f"{when}log_compression": np.log(table[f"{when}compression"].where(~table["guesses"])).round(6)
            for when in ("", "chosen_")
        },
    )


def cell_table(table: pd.DataFrame) -> pd.DataFrame:
    """Means of `outcomes` by term, strength and way: `n` runs, number that `guess`, accuracies with SD.

    Compression is the geometric mean over learners, the runs that do not guess; gradient norms are means.
    """
    keys = [table[name] for name in ("term", "strength", "way")]
    grouped = table.groupby(keys)
    return pd.DataFrame(
        {
            "n": grouped.size(),
            "guess": grouped["guesses"].sum(),
            "accuracy": grouped["accuracy"].mean(),
            "SD": grouped["accuracy"].std(),
            "learners' accuracy": table["accuracy"].where(~table["guesses"]).groupby(keys).mean(),
            "chosen accuracy": grouped["chosen_accuracy"].mean(),
            "chosen compression": np.exp(grouped["chosen_log_compression"].mean().astype(float)),
            "compression": np.exp(grouped["log_compression"].mean().astype(float)),
            "loss's gradient": grouped["loss_gradient"].mean(),
            "regulariser's gradient": grouped["term_gradient"].mean(),
        }
    )


def against_early_stopping(table: pd.DataFrame, label: str) -> Description:
    """Accuracy of a label at the end minus accuracy of `none` at the chosen epoch, paired by seed."""
    end, stopped = (table[table["label"] == name].set_index("seed") for name in (label, NONE))
    return describe((end["accuracy"] - stopped["chosen_accuracy"]).dropna())


def coherence_table(curves: xr.Dataset) -> pd.DataFrame:
    """Gradient coherence and open gates of `runs_with_shrinkage`, in the first and in the last five epochs.

    **Returns:** one row per term, strength and way, for the plain and the gated cells: `n` runs, `coherence`
    with its 95 % t interval over seeds, `low` to `high`, and `open`, the share of steps with an open gate;
    each for the `first` epoch and the `last` ones.
    """
    rows: dict[Condition, dict[str, float]] = {}
    for key, runs in cells(curves).items():
        if key[2] in (NONE, GATED):
            rows[key] = {"n": runs.sizes["run"]}
            both = zip(("first", "last"), ends(runs, "coherence"), ends(runs, "coherence_gate"), strict=True)
            for when, cosine, gate in both:
                rows[key] |= {
                    f"coherence, {when}": cosine.mean,
                    f"low, {when}": cosine.low,
                    f"high, {when}": cosine.high,
                    f"open, {when}": gate.mean if key[2] == GATED else np.nan,
                }
    index = pd.MultiIndex.from_tuples(list(rows), names=["term", "strength", "way"])
    return pd.DataFrame(list(rows.values()), index)


def ends(curves: xr.Dataset, quantity: str) -> tuple[Description, Description]:
    """Value of a curve in the first epoch, and its mean over the last five epochs, over runs."""
    values = trained(curves)[quantity]
    late = values["epoch"] >= curves["epochs"] - LAST
    return describe(values.sel(epoch=0)), describe(values.where(late).mean("epoch"))


def failure_strength(table: pd.DataFrame, term: str) -> float:
    """Smallest strength at which at least half of the always-on runs guess; NaN if there is none."""
    always = table[(table["term"] == term) & (table["way"] == ALWAYS)]
    shares = always.groupby("strength")["guesses"].mean()
    return float(shares.index[shares >= 0.5].min())


def pairs(table: pd.DataFrame) -> list[tuple[str, str]]:
    """Pairs of labels to compare at each strength: each way and none, gated and the other ways.

    Pairs are left out if all runs of the first label guess.
    """
    against = [(ALWAYS, NONE), (DELAYED, NONE), (GATED, NONE), (GATED, ALWAYS), (GATED, DELAYED)]
    learned = table[table["term"].isin(TERMS) & ~table["guesses"]]
    strengths = sorted(set(zip(learned["term"], learned["strength"], strict=True)))
    labels = set(learned["label"])
    found = [
        (label_of(term, strength, a), label_of(term, strength, b))
        for term, strength in strengths
        for a, b in against
    ]
    return [(a, b) for a, b in found if a in labels]
