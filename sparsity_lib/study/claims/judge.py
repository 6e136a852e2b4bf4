"""Directions and verdicts of claims, by the `rules` of registration.yaml, from published curves."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import xarray as xr

from sparsity_lib.study.analysis.comparison import describe, prediction_interval
from sparsity_lib.study.analysis.early_warning.permutation_tests import p_of_runs, p_of_seeds
from sparsity_lib.study.analysis.onset import onset
from sparsity_lib.study.analysis.significance import ALPHA, detectable, holm, interval, one_sided, wilson
from sparsity_lib.study.claims import Cell, Claim, Criterion, Registration, paper_value
from sparsity_lib.study.claims.evidence import (
    RUN_QUANTITIES,
    Curves,
    Evidence,
    Runs,
    Sample,
    change_point,
    compared_runs,
    measure_for,
    planned_networks,
    sample,
)
from sparsity_lib.study.claims.images import image_interval, outcomes_of


def judge(registration: Registration, curves: Curves, images: Sequence[xr.Dataset] = ()) -> pd.DataFrame:
    """One row per claim with a test and cell, in the order of the registration.

    **Arguments:** `registration`, from `claims.load`; `curves`, one data set or several, such as
    `claims.published()`; `images`, from `claims.published_images`.

    **Returns:** a table in which missing numbers are NaN and missing words blank:

    - `claim`; `dataset`, `size`, `limit` (0: all images), `epochs`, `optimizer`, `kind` of the cell; `test`,
      `quantity`, `network`, `expected`; `primary`: whether this cell decides a primary claim.
    - `n` values of `planned` runs or pairs; `diverged`, left out for an infinite or NaN loss; `without` a
      value (lead times). `runs`, such as "3 of 5"; `status`: complete, not run, or the same.
    - `mean`, `sd`, 95 % interval `low` to `high` (Wilson's for shares), 90 % interval `low90` to `high90`,
      `margin`; for accuracies and raw losses in primary cells, the bootstrap interval over `images`,
      `image_low` to `image_high`.
    - `smallest`: the effect that n runs show with 80 % power, from the SD pooled over the networks of the
      cell (for pairs, as if their runs were independent).
    - `p_supported`, `p_opposite`; `p`, twice the smaller one; `holm`, corrected over the primary claims;
      unfinished ones count as 1, so that finishing them can only lower the others.
    - `direction`: supported, opposite, negligible, inconclusive or not run; `uncorrected`, the direction
      before Holm's correction. `verdict`: supported, contradicted or inconclusive; blank in conceptual cells,
      and at size m where xxl is finished. All planned runs must be finished for any number but the counts.
    - for lead times, once all networks of the cell are finished: `p_overall`, `p_within`, from change-points
      permuted over runs, by which the registered rule gives the `warning`: warning, or order of events; and
      `p_of_seeds`, from permuted seeds, since runs of one seed are near copies (not registered).
    - for accuracies in direct and close cells, at the best epoch: `best`, our mean; `paper`; the 95 %
      prediction interval for one more run or pair from the pooled SD, `predicted_low` to `predicted_high`,
      and from the SD of the cell, `unpooled_low` to `unpooled_high`; `inside` and `inside_unpooled`, whether
      the paper's value lies within; `distance`, ours minus the paper's, in points.
    """
    evidence = Evidence(curves)
    rows = [
        _row(registration, evidence, images, claim, cell)
        for claim in registration.claims
        for cell in claim.cells
    ]
    return _with_verdicts(pd.DataFrame(rows), registration)


def direction(test: Criterion, values: np.ndarray, margin: float) -> str:
    """Direction by the first registered rule that applies: negligible, supported, opposite, inconclusive."""
    if test.kind == "share":
        if not len(values):
            return "inconclusive"
        (low, high), hits = wilson(values), values.sum()
        if test.expected:
            supported, opposite = low > 0.5, high < 0.5
        else:
            supported, opposite = not hits and high < 0.5, low > 0.5
        return "supported" if supported else "opposite" if opposite else "inconclusive"
    low90, high90 = interval(values, 0.90)
    if -margin < low90 and high90 < margin and not (test.kind == "lead" and test.expected):
        return "negligible" if test.expected else "supported"
    low, high = interval(values, 0.95)
    above, below = low > margin, high < -margin
    if (test.expected > 0 and low > 0) or (test.expected < 0 and high < 0):
        return "supported"
    opposite = {1: below, -1: above, 0: below or above}[test.expected]
    return "opposite" if opposite else "inconclusive"


def p_values(test: Criterion, values: np.ndarray, margin: float) -> tuple[float, float]:
    """p of supported and p of opposite, by one-sided t tests; NaN for shares and fewer than two values."""
    if test.kind == "share":
        return math.nan, math.nan
    above, below = one_sided(values, margin, 1), one_sided(values, -margin, -1)
    if test.expected:
        return one_sided(values, 0, test.expected), below if test.expected > 0 else above
    within = max(one_sided(values, -margin, 1), one_sided(values, margin, -1))
    return within, min(above, below)


def moments_of_runs(test: Criterion, evidence: Evidence, networks: Mapping[str, Runs]) -> pd.DataFrame:
    """Moments of overfitting and change-points of the quantity of a lead time, in published runs of networks.

    **Returns:** one row per run: `network` (its label), `seed`, `onset` and `changed` (epochs; NaN for none).
    """
    planned = [(run, label, seed) for label, runs in networks.items() for seed, run in runs.items()]
    runs = pd.DataFrame(planned, columns=["run", "network", "seed"]).set_index("run")
    onsets = evidence.measured(onset, runs.index)
    changes = evidence.measured(lambda curves: change_point(test, curves), runs.index)
    return runs[runs.index.isin(onsets.index)].assign(onset=onsets, changed=changes)


def paper_comparison(paper: float, best: Sample) -> dict[str, object]:
    """Columns `best` to `distance` of `judge`: whether one more run or pair could give the paper's value."""
    n, mean, *_ = describe(best.known)
    low, high = prediction_interval(best.known, pooled=best.pooled)
    own_low, own_high = prediction_interval(best.known)
    judged = best.complete and n > 1
    return {
        "best": mean,
        "paper": paper,
        "predicted_low": low,
        "predicted_high": high,
        "unpooled_low": own_low,
        "unpooled_high": own_high,
        "inside": low <= paper <= high if judged else pd.NA,
        "inside_unpooled": own_low <= paper <= own_high if judged else pd.NA,
        "distance": 100 * (mean - paper),
    }


def _row(
    registration: Registration, evidence: Evidence, images: Sequence[xr.Dataset], claim: Claim, cell: Cell
) -> dict[str, object]:
    test = claim.test
    assert test is not None, "only claims with a test are judged"
    pairs, networks = compared_runs(test, cell), planned_networks(cell, registration)
    found = sample(evidence, measure_for(test), pairs, list(networks.values()))
    row = {"claim": claim.id} | cell.columns | {"kind": cell.kind} | found.counts()
    row |= {"test": test.kind, "quantity": test.quantity, "network": " - ".join(test.networks)}
    row |= {"expected": test.expected, "primary": claim.primary and cell == claim.cells[0]}
    margin, without = registration.margin(test), len(found.values) - len(found.known)
    row |= {"margin": margin, "without": without, "warning": ""}
    if not found.complete:
        return row | {"uncorrected": "" if found.finished else "not run"}
    row |= _effect(test, found) | {"uncorrected": direction(test, found.known, margin)}
    row["p_supported"], row["p_opposite"] = p_values(test, found.known, margin)
    if row["primary"] and len(found.known):
        outcomes = outcomes_of(test, images, pairs, found.values.index.tolist())
        row["image_low"], row["image_high"] = image_interval(outcomes, float(found.known.mean()))
    if test.kind == "lead" and all(run in evidence for runs in networks.values() for run in runs.values()):
        row |= _warning(test, row, moments_of_runs(test, evidence, networks))
    paper = paper_value(test, cell) if cell.kind in ("direct", "close") else None
    if paper is not None:
        best = sample(evidence, RUN_QUANTITIES["best_accuracy"], pairs, list(networks.values()))
        row |= paper_comparison(paper, best)
    return row


def _effect(test: Criterion, found: Sample) -> dict[str, float]:
    known = found.known
    if test.kind != "share":
        return found.described() | {"smallest": detectable(found.pooled[0], len(known))}
    low, high = wilson(known) if len(known) else (math.nan, math.nan)
    return {"mean": found.described()["mean"], "low": low, "high": high}


def _warning(test: Criterion, row: Mapping[str, object], moments: pd.DataFrame) -> dict[str, object]:
    if moments.empty:
        return {}
    columns = [moments[name] for name in ("onset", "changed", "network", "seed")]
    overall, within = p_of_runs(*columns[:3])
    found: dict[str, object] = {"p_overall": overall, "p_within": within, "p_of_seeds": p_of_seeds(*columns)}
    if test.expected > 0 and row["uncorrected"] == "supported":
        found["warning"] = "warning" if overall < ALPHA and within < ALPHA else "order of events"
    return found


def _with_verdicts(table: pd.DataFrame, registration: Registration) -> pd.DataFrame:
    """Table with Holm's correction, directions and verdicts added."""
    table = table.reindex(columns=COLUMNS).astype({"inside": "boolean", "inside_unpooled": "boolean"})
    table["p"] = (2 * table[["p_supported", "p_opposite"]].min(axis=1)).clip(upper=1)
    primary = table.index[table["primary"]]
    family = sum(claim.primary for claim in registration.claims)
    table.loc[primary, "holm"] = holm(table.loc[primary, "p"].fillna(1).tolist(), family)
    table["direction"] = table["uncorrected"]
    needs = table["direction"].isin(["supported", "opposite"]) & table["primary"]
    table.loc[needs & ~(table["holm"] < ALPHA), "direction"] = "inconclusive"
    verdict = table["direction"].map({"supported": "supported", "inconclusive": "inconclusive"})
    verdict = verdict.mask(table["direction"].isin(["opposite", "negligible"]), "contradicted")
    decides = table["kind"].isin(["direct", "close"]) & ~_repeats_xxl(table)
    table["verdict"] = verdict.where(decides).fillna("")
    return table


def _repeats_xxl(table: pd.DataFrame) -> pd.Series:
    """Whether a row has size m, and the cell of size xxl with the same data is finished."""
    where = ["claim", "dataset", "limit", "epochs", "optimizer"]
    finished = table[(table["size"] == "xxl") & (table["status"] == "complete")][where]
    larger = pd.MultiIndex.from_frame(table[where]).isin(pd.MultiIndex.from_frame(finished))
    return (table["size"] == "m") & (table["kind"] == "close") & larger


COLUMNS = [
    *("claim", "dataset", "size", "limit", "epochs", "optimizer", "kind"),
    *("test", "quantity", "network", "expected", "primary"),
    *("n", "planned", "diverged", "without", "runs", "status"),
    *("mean", "sd", "low", "high", "low90", "high90", "image_low", "image_high", "margin", "smallest"),
    *("p_supported", "p_opposite", "p", "holm", "direction", "uncorrected", "verdict"),
    *("p_overall", "p_within", "p_of_seeds", "warning"),
    *("best", "paper", "predicted_low", "predicted_high", "unpooled_low", "unpooled_high"),
    *("inside", "inside_unpooled", "distance"),
]
