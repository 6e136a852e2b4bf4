"""Detectors of overfitting without labels, applied to published runs of several data sets.

A detector consists of a quantity and a margin. It warns when the quantity has left the range of epochs 0 to 4
by more than the margin, for two epochs in a row: the registered change-point (`change_points.change_point`),
with other margins and for the SD too. A hit is a warning before the run's moment of overfitting.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import xarray as xr

from sparsity_lib.entropy_drop import collapse_epochs
from sparsity_lib.study.analysis import present_layers, settings, targeted_layers, trained
from sparsity_lib.study.analysis.comparison import describe
from sparsity_lib.study.analysis.early_warning.change_points import (
    BASELINE,
    PATIENCE,
    PERPLEXITY,
    layer_means,
    warning_counts,
)
from sparsity_lib.study.analysis.early_warning.permutation_tests import p_of_runs, p_of_seeds
from sparsity_lib.study.analysis.onset import onset
from sparsity_lib.study.errors import StudyError
from sparsity_lib.study.profiles import experiments, profile
from sparsity_lib.study.recipes import convolutions_of
from sparsity_lib.study.runs.results import joined, published

GRIDS = ("networks", "perplexity", "architectures")
# Margins of entropies are shares of ln D, margins of the SD are logarithms.
DEFAULT_MARGINS = {"entropy": 0.05, "perplexity sparsity": 0.05, "SD": float(np.log(2))}
_SHARES = (0.5, 0.4, 0.3, 0.25, 0.2, 0.15, 0.1, 0.07, 0.05, 0.03, 0.02, 0.01, 0.005)
MARGINS_TRIED = {  # descending: the largest margin warns least
    "entropy": _SHARES,
    "perplexity sparsity": _SHARES,
    "SD": tuple(float(np.log(factor)) for factor in (16, 12, 8, 6, 5, 4, 3, 2.5, 2, 1.5, 1.25, 1.1)),
}


@dataclass(frozen=True)
class DetectorInputs:
    """Runs on one data set and the signals of detectors.

    **Fields:**

    - `curves`: from `study.curves(runs)`.
    - `runs`: one row per run: `network` (its label), `seed`, and `onset`, the moment of overfitting by the
      registered rule, in epochs; NaN for a run that does not overfit.
    - `signals`: by detector, `(runs, epochs)`; a fall is a warning: the mean entropy over ln D; the negative
      mean perplexity sparsity; the negative logarithm of the mean SD over ln D.
    """

    curves: xr.Dataset
    runs: pd.DataFrame
    signals: dict[str, np.ndarray]

    def moments(self, detector: str = "entropy", margin: float | None = None) -> pd.DataFrame:
        """Table `runs` with the epoch of the warning, `changed`, and the `lead` in epochs; NaN for none.

        The default of `margin` is in DEFAULT_MARGINS.
        """
        margin = DEFAULT_MARGINS[detector] if margin is None else margin
        changed = collapse_epochs(
            self.signals[detector], margin=margin, reference=BASELINE, patience=PATIENCE
        )
        return self.runs.assign(changed=changed, lead=self.runs["onset"] - changed)


def detector_inputs(curves: xr.Dataset) -> DetectorInputs:
    """Compute the moments of overfitting and the signals of runs on one data set.

    Entropy and SD are means over the layers that SparsityReg acts on in each architecture; perplexity
    sparsity is the mean over the convolutions, the feature-extraction layers of arXiv 2104.06153.

    **Raises:** `StudyError` for no runs.
    """
    after, networks = trained(curves), curves["network"].to_numpy()
    signals = {name: np.full((curves.sizes["run"], after.sizes["epoch"]), np.nan) for name in DEFAULT_MARGINS}
    for network in dict.fromkeys(networks.tolist()):
        chosen = networks == network
        runs = after.isel(run=chosen)
        present = present_layers(runs)
        targeted = [layer for layer in targeted_layers(network) if layer in present]
        features = [layer for layer in convolutions_of(network) if layer in present]
        of_network = {
            "entropy": layer_means(runs, "entropy", targeted),
            "perplexity sparsity": -layer_means(runs, PERPLEXITY, features),
            "SD": -xr.apply_ufunc(np.log, layer_means(runs, "sd", targeted)),
        }
        for name, values in of_network.items():
            signals[name][chosen] = values.transpose("run", "epoch").to_numpy()
    fields = {"network": curves["label"].to_numpy(), "seed": curves["seed"].to_numpy()}
    return DetectorInputs(curves, pd.DataFrame(fields | {"onset": onset(curves).to_numpy()}), signals)


def data_sets(*profiles: str) -> dict[str, DetectorInputs]:
    """Published runs of profiles by data set: the networks of TSR and of arXiv 2104.06153.

    **Returns:** detector inputs by title: data set, number of images and share of redrawn labels, in the
    order of the profiles.

    **Raises:** `StudyError` for an unknown profile, or if none has published runs.
    """
    found = {name: each for profile in profiles for name, each in _data_sets(profile).items()}
    if not found:
        raise StudyError(f"no published runs to apply a detector to: {', '.join(profiles)}")
    return found


@functools.cache
def _data_sets(name: str) -> dict[str, DetectorInputs]:
    grids = [grid for grid in GRIDS if grid in profile(name).grids]
    wanted = [experiment.id for experiment in experiments(name, grids=grids, published=True)]
    # A run may be in the file of another grid. The order of runs enters the drawn permutations.
    files = sorted(profile(name).files().items(), key=lambda item: item[1] not in grids)
    found = [part for file, _ in files if (part := published(name, file)) is not None]
    parts = [part.isel(run=part["run"].isin(wanted).to_numpy()) for part in found]
    parts = [part for part in parts if part.sizes["run"]]
    return {
        _title(curves): detector_inputs(curves.dropna("epoch", how="all").dropna("layer", how="all"))
        for _, curves in (settings(joined(parts)) if parts else ())
    }


def _title(curves: xr.Dataset) -> str:
    first = curves.isel(run=0)
    parts = [str(first["dataset"].item())]
    if limit := int(first["limit"].item()):
        parts.append(f"{limit:,} images")
    if noise := float(first["label_noise"].item()):
        parts.append(f"{100 * noise:g} % of labels redrawn")
    if (optimizer := str(first["optimizer"].item())) != "sgd":
        parts.append(optimizer.capitalize())
    return ", ".join(parts)


def lead_times(sets: Mapping[str, DetectorInputs]) -> pd.DataFrame:
    """Lead times of warnings on overfitting, and tests of whether a warning depends on its own run.

    **Returns:** one row per data set with runs that overfit, and detector: `n` runs with both moments; the
    mean `lead`, epochs, with its 95 % interval `low` to `high`; `p_overall` and `p_within` of the registered
    tests (`p_of_runs`); `p_of_seeds`.
    """
    rows = []
    for name, inputs in sets.items():
        for detector in DEFAULT_MARGINS if inputs.runs["onset"].notna().any() else ():
            found = inputs.moments(detector)
            columns = [found[column].to_numpy() for column in ("onset", "changed", "network", "seed")]
            lead, (p_overall, p_within) = describe(found["lead"]), p_of_runs(*columns[:3])
            rows.append(
                {"data": name, "detector": detector, "n": lead.n, "lead": lead.mean}
                | {"low": lead.low, "high": lead.high, "p_overall": p_overall, "p_within": p_within}
                | {"p_of_seeds": p_of_seeds(*columns)}
            )
    return pd.DataFrame(rows)


def correct(onset: np.ndarray, changed: np.ndarray) -> np.ndarray:
    """1 for a hit, and for no warning in a run that does not overfit; otherwise 0. Shapes are broadcast."""
    return np.where(np.isfinite(onset), changed < onset, np.isnan(changed)).astype(float)


def balanced_accuracy(moments: pd.DataFrame) -> float:
    """Mean of sensitivity (hits among runs that overfit) and specificity (no warning among the others).

    Where only one kind of run occurs, only that share. A detector that never warns, and one that always warns
    in time, have 0.5 where both kinds occur.
    """
    share = correct(moments["onset"].to_numpy(), moments["changed"].to_numpy())
    return float(pd.Series(share).groupby(moments["onset"].notna().to_numpy()).mean().mean())


def accuracy_over_other_runs(moments: pd.DataFrame) -> pd.Series:
    """By run, `correct` minus its mean with the warnings of the network's other runs; NaN for one run."""
    excess = pd.Series(np.nan, moments.index)
    for _, runs in moments.groupby("network"):
        onsets, changes = runs["onset"].to_numpy(), runs["changed"].to_numpy()
        if len(runs) > 1:
            matrix = correct(onsets[:, None], changes[None])
            own = matrix.diagonal()
            excess[runs.index] = own - (matrix.sum(1) - own) / (len(runs) - 1)
    return excess


def exchange_matters(moments: pd.DataFrame) -> pd.Series:
    """By network, whether an exchange of warnings between its runs can change the number of correct ones.

    It cannot where each warning (or its absence) is correct for all runs or for none, for example where no
    run overfits. It cannot either where each run is correct with all of the warnings or with none, for
    example where all warnings precede all moments of overfitting. The mean of `accuracy_over_other_runs` is
    then 0 for any detector.
    """
    found = {}
    for network, runs in moments.groupby("network"):
        matrix = correct(runs["onset"].to_numpy()[:, None], runs["changed"].to_numpy())
        interaction = matrix - matrix.mean(0) - matrix.mean(1, keepdims=True) + matrix.mean()
        found[network] = bool(abs(interaction).max() > 1e-9)
    return pd.Series(found)


def outcomes(sets: Mapping[str, DetectorInputs]) -> pd.DataFrame:
    """Outcomes of detectors at their default margins: one row per detector and data set.

    **Returns:** the columns of `warning_counts`; `balanced`, the balanced accuracy; `over_another_run`, the
    mean of `accuracy_over_other_runs`, with its 95 % t interval `low` to `high` over the means of seeds,
    since runs of one seed begin alike.
    """
    rows = []
    for detector in DEFAULT_MARGINS:
        for name, inputs in sets.items():
            found = inputs.moments(detector)
            counts = warning_counts(found["onset"], found["changed"], found["network"]).loc["all"]
            rows.append({"detector": detector, "data": name} | counts.to_dict() | _scores(found))
    return pd.DataFrame(rows)


def transfers(sets: Mapping[str, DetectorInputs]) -> pd.DataFrame:
    """Outcomes of detectors with the margin chosen on one data set and applied to each other one.

    The chosen margin in MARGINS_TRIED has the highest `balanced_accuracy`; among equals it is the largest.
    Data sets to choose on have runs that overfit and runs that do not.

    **Returns:** one row per detector, data set `chosen_on` and data set `applied_to`: `margin`; `balanced` to
    `high` as in `outcomes`.
    """
    rows = []
    for detector in MARGINS_TRIED:
        for known, source in sets.items():
            if source.runs["onset"].notna().nunique() == 2:
                moments = {margin: source.moments(detector, margin) for margin in MARGINS_TRIED[detector]}
                margin = max(moments, key=lambda each: balanced_accuracy(moments[each]))
                rows += [
                    {"detector": detector, "chosen_on": known, "applied_to": new, "margin": margin}
                    | _scores(target.moments(detector, margin))
                    for new, target in sets.items()
                    if new != known
                ]
    return pd.DataFrame(rows)


def _scores(moments: pd.DataFrame) -> dict[str, float]:
    excess = describe(accuracy_over_other_runs(moments).groupby(moments["seed"]).mean())
    over = {"over_another_run": excess.mean, "low": excess.low, "high": excess.high}
    return {"balanced": balanced_accuracy(moments)} | over
