"""Tables of the scorecard: claims, predictions, equivalence, accuracies, alarms, rises.

All but `verdicts` take published curves, one data set or several, as `judge.judge` does. Missing numbers are
NaN and missing words blank. A test has no result before all of its runs are finished.
"""

import math
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from sparsity_lib.study import paper
from sparsity_lib.study.analysis.early_warning.change_points import warning_counts
from sparsity_lib.study.analysis.explained_by_noise import explained
from sparsity_lib.study.analysis.onset import LOSSES, excess_rise, onset
from sparsity_lib.study.analysis.significance import ALPHA, holm, one_sided
from sparsity_lib.study.claims import REGISTRATION, Cell, Registration, load, registered_ids
from sparsity_lib.study.claims.evidence import (
    RUN_QUANTITIES,
    Curves,
    Evidence,
    Runs,
    planned_networks,
    sample,
    status,
)
from sparsity_lib.study.claims.judge import moments_of_runs, paper_comparison
from sparsity_lib.study.errors import StudyError
from sparsity_lib.study.profiles import STUDY_NETWORKS, experiments
from sparsity_lib.study.recipes import LAYERS, TARGETED
from sparsity_lib.study.runs.results import joined, label

CIFAR100_SMALL = Cell(dataset="cifar100", size="s", kind="direct")
# Least R^2 of the prediction `noise-curve`: over all layers but the last, and in each of three layers.
LEAST_R2 = {LAYERS[:-1]: 0.97} | {(layer,): 0.95 for layer in TARGETED}
EQUIVALENT_TO_SR2NET = ("varNet", "dropNet", "normNet")  # networks of the test of equivalence
ACCURACIES = {"accuracy": "chosen", "best_accuracy": "best", "last_five_accuracy": "last five"}
_SPREAD = ("sd", "low", "high")
# Words on the scorecard for directions and verdicts.
VERDICT_WORDS = {"supported": "holds", "inconclusive": "undecided"}
VERDICT_WORDS |= dict.fromkeys(("opposite", "negligible", "contradicted"), "does not hold")
_VERDICTS = [
    *("id", "claim", "where", "cell", "kind", "runs", "effect", "low", "high", "direction", "verdict"),
    *("p_within", "p_of_seeds", "warning", "primary", "holm"),
]
# Quantities of the claims that a network does not overfit.
OVERFITTING_QUANTITIES = ("val_loss_rise", "val_loss_calibrated_rise", "onset_loss")


def verdicts(registration: Registration, judged: pd.DataFrame, every_cell: bool = False) -> pd.DataFrame:
    """Verdicts of registered claims in words: holds, does not hold, undecided, incomplete, not run.

    A claim of no overfitting is "does not hold: it overfits" where the network overfits. A cell with a part
    of its runs is incomplete; a cell without runs is not run.

    **Arguments:** `registration`, from `claims.load`; `judged`, from `judge.judge`; `every_cell`: list all
    cells without a finished run, not only the first cell of each claim that has none.

    **Returns:** one row per claim and cell: `id`, `claim` (the sentence, with "(ours)" for our own claims),
    `where` in the paper, `cell`, `kind`, `runs` (such as "3 of 5"; pairs in comparisons), `effect`, `low` to
    `high`, `direction`, `verdict` (blank in conceptual cells); for lead times `p_within`, `p_of_seeds` and
    `warning`, as in `judge`; `primary`; `holm`, the corrected p of a finished primary claim.
    """
    sentences = [
        (claim.claim + " (ours)" * claim.where.startswith("ours"), claim.where, cell.title)
        for claim in registration.claims
        for cell in claim.cells
    ]
    table = judged.rename(columns={"claim": "id", "mean": "effect"})
    table = table.join(pd.DataFrame(sentences, columns=["claim", "where", "cell"]))
    complete, started = table["status"] == "complete", table["status"] != "not run"
    verdict = table["verdict"].map(VERDICT_WORDS).fillna("")
    about_overfitting = (table["expected"] == 0) & table["quantity"].isin(OVERFITTING_QUANTITIES)
    verdict = verdict.mask(about_overfitting & (verdict == "does not hold"), "does not hold: it overfits")
    verdict = verdict.where(complete, table["status"].mask(started, "incomplete"))
    direction = table["direction"].map(VERDICT_WORDS).fillna("")
    table = table.assign(direction=direction, verdict=verdict, holm=table["holm"].where(complete))
    first_of_none = ~started.groupby(table["id"]).transform("any") & ~table["id"].duplicated()
    return table.loc[every_cell | started | first_of_none, _VERDICTS].reset_index(drop=True)


def predictions(curves: Curves) -> pd.DataFrame:
    """Test of the prediction `noise-curve`: noise with the SD of each position predicts the entropy.

    **Returns:** one row per group of layers: `prediction`, `layers`, `threshold`, `r2` with its 95 %
    bootstrap interval over seeds, `low` to `high`; `rms` of the residual, as a share of ln D; the same R^2
    with the SD pooled over positions and images, `pooled_r2`, `pooled_low`, `pooled_high`; `n`, `planned` and
    `diverged` runs, `status`; `direction` of the whole prediction: supported, opposite or inconclusive.
    Numbers other than counts are NaN until all runs are finished.
    """
    evidence = Evidence(curves)
    runs = [run for name in STUDY_NETWORKS for run in registered_ids(name, CIFAR100_SMALL).values()]
    diverged = len(evidence.diverged.intersection(runs))
    finished = sum(run in evidence for run in runs)
    counts = {"n": finished - diverged, "planned": len(runs), "diverged": diverged}
    rows = []
    for layers, threshold in LEAST_R2.items():
        row = {"prediction": "noise-curve", "layers": ", ".join(layers), "threshold": threshold}
        row |= dict.fromkeys(("r2", "low", "high", "rms", "pooled_r2", "pooled_low", "pooled_high"), math.nan)
        if finished == len(runs):
            table = explained(joined(evidence.curves_of(runs)).sel(layer=list(layers))).set_index("sd")
            row |= table.loc["positions", ["r2", "low", "high", "rms"]].to_dict()
            row |= table.loc["pooled", ["r2", "low", "high"]].add_prefix("pooled_").to_dict()
        rows.append(row | counts | {"status": status(finished, len(runs))})
    result = pd.DataFrame(rows)
    if (result["low"] >= result["threshold"]).all():
        direction = "supported"
    else:
        direction = "opposite" if (result["high"] < result["threshold"]).any() else "inconclusive"
    return result.assign(direction=direction if finished == len(runs) else "")


def equivalence(curves: Curves) -> pd.DataFrame:
    """Test of equivalence of sr2Net with varNet, dropNet and normNet, with 15 seeds and with five.

    **Returns:** one row per number of `planned` pairs (15, the registered test, and 5), kind of `accuracy`
    (chosen, best, last five) and network that sr2Net is compared `with`: `margin`; `n` to `status` and `mean`
    to `high90` of the differences, as in `judge`; `p` of two one-sided t tests against the margin; for the
    chosen accuracy of 15 pairs, `holm`, corrected over the three networks, and the `result`: equivalent, or
    not shown. Numbers other than counts are NaN until all pairs are finished.
    """
    evidence, margin = Evidence(curves), float(load(REGISTRATION).rules["margins"]["accuracy"])
    rows = []
    for seeds in (15, 5):
        for quantity, name in ACCURACIES.items():
            for network in EQUIVALENT_TO_SR2NET:
                pair = [_with_more_seeds(each, seeds) for each in ("sr2Net", network)]
                found = sample(evidence, RUN_QUANTITIES[quantity], pair)
                p = max(one_sided(found.known, -margin, 1), one_sided(found.known, margin, -1))
                row = {"accuracy": name, "network": "sr2Net", "with": network, "margin": margin}
                row |= found.counts() | (found.described() | {"p": p} if found.complete else {})
                rows.append(row)
    table = pd.DataFrame(rows).assign(holm=math.nan, result="")
    registered = table.index[(table["planned"] == 15) & (table["accuracy"] == "chosen")]
    if (table.loc[registered, "status"] == "complete").all():
        corrected = holm(table.loc[registered, "p"].fillna(1).tolist(), len(registered))
        table.loc[registered, "holm"] = corrected
        table.loc[registered, "result"] = np.where(np.less(corrected, ALPHA), "equivalent", "not shown")
    return table


def accuracies(curves: Curves) -> pd.DataFrame:
    """Comparison of the 48 accuracies of the paper's Tables 2 and 3 with ours.

    **Returns:** one row per cell: `network`, the cell's columns, `kind` and `source`; `n`, `planned`,
    `diverged`, `runs` and `status` as in `judge`, or the status needs a GPU; `best` to `distance` as in
    `judge`, for the highest accuracy of all epochs (as in the paper), with its `sd` and 95 % interval, `low`
    to `high`; the `chosen` accuracy with `chosen_sd`, `chosen_low`, `chosen_high`.
    """
    evidence, registration = Evidence(curves), load(REGISTRATION)
    trained_here = {run.id for run in experiments("registered", published=True)}
    rows = []
    for row, cell in _paper_cells():
        runs, pool = registered_ids(row.network, cell), list(planned_networks(cell, registration).values())
        best, chosen = (
            sample(evidence, RUN_QUANTITIES[quantity], [runs], pool)
            for quantity in ("best_accuracy", "accuracy")
        )
        needs_gpu = not best.finished and not trained_here.intersection(runs.values())
        found = {"network": row.network} | cell.columns | {"kind": cell.kind, "source": row.source}
        found |= best.counts() | ({"status": "needs a GPU"} if needs_gpu else {})
        found |= paper_comparison(row.accuracy, best) | {name: best.described()[name] for name in _SPREAD}
        found |= {"chosen": chosen.described()["mean"]}
        rows.append(found | {f"chosen_{name}": chosen.described()[name] for name in _SPREAD})
    return pd.DataFrame(rows).astype({"inside": "boolean", "inside_unpooled": "boolean"})


def curves_of_cells(curves: Curves, **fields: object) -> xr.Dataset:
    """Curves of the published runs in the paper's cells, including varNet.

    **Arguments:** `fields` select cells: `dataset`, `size` (full for LeNet and AlexNet), `optimizer`.

    **Raises:** `StudyError` if there are none.
    """
    registration = load(REGISTRATION)
    cells = dict.fromkeys(cell for _, cell in _paper_cells() if fields.items() <= cell.columns.items())
    networks = [planned_networks(cell, registration) for cell in cells]
    ids = [run for each in networks for runs in each.values() for run in runs.values()]
    found = Evidence(curves).curves_of(ids)
    if not found:
        wanted = ", ".join(f"{name} = {value}" for name, value in fields.items()) or "the paper's settings"
        raise StudyError(f"no run of {wanted} is published yet")
    return joined(found)


def alarms(registration: Registration, curves: Curves) -> pd.DataFrame:
    """Counts of hits, misses and false alarms of change-points, for the registered claims about lead times.

    **Returns:** one row per cell, group of layers and network with finished runs, and one for `all`: the
    cell's columns, `quantity`, `layers`, and the columns of `warning_counts`.
    """
    evidence = Evidence(curves)
    tests = {
        (*cell.columns.values(), claim.test.quantity, claim.test.layer): (cell, claim.test)
        for claim in registration.claims
        if claim.test and claim.test.kind == "lead"
        for cell in claim.cells
    }
    tables = []
    for cell, test in tests.values():
        found = moments_of_runs(test, evidence, planned_networks(cell, registration))
        if len(found):
            where = cell.columns | {"quantity": test.quantity, "layers": ", ".join(test.layer)}
            counts = warning_counts(found["onset"], found["changed"], found["network"]).reset_index()
            tables.append(pd.DataFrame(where, index=counts.index).join(counts))
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def rises(registration: Registration, curves: Curves) -> pd.DataFrame:
    """Rises of the validation loss and moments of overfitting, in all cells of the registration.

    **Returns:** one row per cell, network with finished runs, and `loss`, raw or calibrated: the cell's
    columns, `network`; `n` to `high90` as in `judge`, of the rise minus the mean of the null, nats; `onsets`,
    the number of runs that overfit, and `epoch`, the median of their moments.
    """
    evidence, rows = Evidence(curves), []
    cells = {tuple(cell.columns.values()): cell for claim in registration.claims for cell in claim.cells}
    for cell in cells.values():
        for network, runs in planned_networks(cell, registration).items():
            for name, quantity in zip(("raw", "calibrated"), LOSSES, strict=True):
                found = sample(evidence, partial(excess_rise, quantity=quantity), [runs])
                onsets = sample(evidence, partial(onset, quantity=quantity), [runs]).known
                if found.finished:
                    row = {**cell.columns, "network": network, "loss": name, **found.counts()}
                    epoch = float(np.median(onsets)) if len(onsets) else math.nan
                    rows.append(row | found.described() | {"onsets": len(onsets), "epoch": epoch})
    return pd.DataFrame(rows)


def _paper_cells() -> list[tuple[Any, Cell]]:
    """Rows of the paper's Tables 2 and 3 with their cells; LeNet and AlexNet have one size (T12)."""
    found = []
    for row in paper.accuracies().query(f"epochs == {paper.EPOCHS}").itertuples():
        close = row.size == "full"
        sized = {"size": None, "kind": "close"} if close else {"size": row.size, "kind": "direct"}
        found.append((row, Cell(dataset=row.dataset, optimizer=row.optimizer, **sized)))
    return found


def _with_more_seeds(network: str, seeds: int) -> Runs:
    """First runs of a network at size s on CIFAR-100, including the test of equivalence."""
    more = experiments("registered", grids=["equivalence"], published=True)
    runs = {run.seed: run.id for run in more if label(run) == network}
    return dict(list((dict(registered_ids(network, CIFAR100_SMALL)) | runs).items())[:seeds])
