"""Further tables of the scorecard: predictions, equivalence, accuracies, alarms, rises.

Each takes published curves, one data set or several, as `judge.judge` does. Numbers are NaN and words blank
where there is nothing to show; no result of a test appears until all of its runs are finished.
"""

import math
from functools import partial

import numpy as np
import pandas as pd

from sparsity_lib.study import paper
from sparsity_lib.study.analysis.noise_curve import explained
from sparsity_lib.study.analysis.onset import onset
from sparsity_lib.study.analysis.significance import ALPHA, holm, one_sided
from sparsity_lib.study.analysis.warning_skill import warning_counts
from sparsity_lib.study.claims import REGISTRATION, Cell, Ledger, load, place, registered_ids
from sparsity_lib.study.claims.evidence import (
    OF_A_RUN,
    Curves,
    Evidence,
    Runs,
    networks_of,
    rise,
    sample,
    status,
)
from sparsity_lib.study.claims.judge import fields, magnitude, moments_of
from sparsity_lib.study.profiles import SEVEN, experiments
from sparsity_lib.study.recipes import LAYERS
from sparsity_lib.study.runs.results import joined, label

SMALL = Cell(dataset="cifar100", size="s", kind="direct")
# Least R^2 of the prediction `noise-curve`: over all layers but the last, and in each of three.
THRESHOLDS: dict[tuple[str, ...], float] = {
    LAYERS[:-1]: 0.97,
    ("conv3",): 0.95,
    ("conv4",): 0.95,
    ("fc1",): 0.95,
}
ALTERNATIVES = ("varNet", "dropNet", "normNet")  # with which sr2Net is compared in the test of equivalence
ACCURACIES = {"accuracy": "chosen", "best_accuracy": "best", "last_five_accuracy": "last five"}
_SPREAD = ("sd", "low", "high")
LOSSES = {"val_loss": "raw", "val_loss_calibrated": "calibrated"}


def predictions(curves: Curves) -> pd.DataFrame:
    """The prediction `noise-curve`: how well noise with the same SD at each position predicts the entropy.

    **Returns:** one row per group of layers: `prediction`, `layers`, `threshold`, `r2` with its 95 %
    bootstrap interval over seeds, `low` to `high`; `rms` of the residual, as a share of ln D; the same R^2
    with the SD pooled over positions and images, `pooled_r2`, `pooled_low`, `pooled_high`; `n` of `planned`
    runs, `diverged` ones, `status`; `direction` of the whole prediction: supported, opposite or inconclusive.
    No number but the counts appears until all runs are finished.
    """
    evidence = Evidence(curves)
    runs = [run for name in SEVEN for run in registered_ids(name, SMALL).values()]
    diverged = len(evidence.diverged.intersection(runs))
    finished = sum(run in evidence for run in runs)
    counts = {"n": finished - diverged, "planned": len(runs), "diverged": diverged}
    rows = []
    for layers, threshold in THRESHOLDS.items():
        row = {"prediction": "noise-curve", "layers": ", ".join(layers), "threshold": threshold}
        row |= dict.fromkeys(("r2", "low", "high", "rms", "pooled_r2", "pooled_low", "pooled_high"), math.nan)
        if finished == len(runs):
            table = explained(joined(evidence.of(runs)).sel(layer=list(layers))).set_index("sd")
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
    """The test of equivalence of sr2Net with varNet, dropNet and normNet, and the same of five seeds.

    **Returns:** one row per number of `planned` pairs (15, the registered test, and 5), kind of `accuracy`
    (chosen, best, last five) and network that sr2Net is compared `with`: `margin`; `n` to `status` and `mean`
    to `high90` as of `judge`, of differences; `p` of two one-sided t tests against the margin; of the chosen
    accuracy of 15 pairs, `holm`, corrected over the three networks, and the `result`: equivalent, or not
    shown. No number but the counts appears until all pairs are finished.
    """
    evidence, margin = Evidence(curves), float(load(REGISTRATION).rules["margins"]["accuracy"])
    rows = []
    for seeds in (15, 5):
        for quantity, name in ACCURACIES.items():
            for network in ALTERNATIVES:
                pair = [_with_more_seeds(each, seeds) for each in ("sr2Net", network)]
                found = sample(evidence, OF_A_RUN[quantity], pair)
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
    """The 48 accuracies of the paper's Tables 2 and 3, and ours.

    **Returns:** one row per cell: `network`, the cell's fields, `kind` and `source`; `n` of `planned` runs,
    `diverged`, `status` (complete, as in "3 of 5", not run, or needs a GPU); `best` to `distance` as of
    `judge`, of the highest accuracy of all epochs, which the paper's are, with its `sd` and 95 % interval,
    `low` to `high`; the `chosen` accuracy with `chosen_sd`, `chosen_low`, `chosen_high`.
    """
    evidence, ledger = Evidence(curves), load(REGISTRATION)
    trained_here = {run.id for run in experiments("registered", published=True)}
    rows = []
    for row in paper.accuracies().itertuples():
        if row.epochs != paper.EPOCHS:
            continue
        size = None if row.size == "full" else row.size
        kind = "direct" if size else "close"  # T12
        cell = Cell(dataset=row.dataset, size=size, optimizer=row.optimizer, kind="direct")
        runs, pool = registered_ids(row.network, cell), list(networks_of(cell, ledger).values())
        best, chosen = (
            sample(evidence, OF_A_RUN[quantity], [runs], pool) for quantity in ("best_accuracy", "accuracy")
        )
        needs_gpu = not best.finished and not trained_here.intersection(runs.values())
        found = {"network": row.network} | fields(cell) | {"kind": kind, "source": row.source}
        found |= best.counts() | ({"status": "needs a GPU"} if needs_gpu else {})
        found |= magnitude(row.accuracy, best) | {name: best.described()[name] for name in _SPREAD}
        found |= {"chosen": chosen.described()["mean"]}
        rows.append(found | {f"chosen_{name}": chosen.described()[name] for name in _SPREAD})
    return pd.DataFrame(rows).astype({"inside": "boolean", "inside_unpooled": "boolean"})


def alarms(ledger: Ledger, curves: Curves) -> pd.DataFrame:
    """Hits, misses and false alarms of change-points, in the cells of the ledger's claims about leads.

    **Returns:** one row per cell, group of layers and network with finished runs, and one for `all`: the
    cell's fields, `quantity`, `layers`, `network`, `runs`, `hits` (a change-point before the onset), `misses`
    (an onset without one before it), `false_alarms` (a change-point without an onset), `true_negatives`.
    """
    evidence = Evidence(curves)
    tests = {
        (place(cell), claim.test.quantity, claim.test.layer): (cell, claim.test)
        for claim in ledger.claims
        if claim.test and claim.test.kind == "lead"
        for cell in claim.cells
    }
    tables = []
    for cell, test in tests.values():
        onsets, changes, labels = moments_of(test, evidence, networks_of(cell, ledger))
        if len(labels):
            where = fields(cell) | {"quantity": test.quantity, "layers": ", ".join(test.layer)}
            counts = warning_counts(onsets, changes, labels).reset_index()
            tables.append(pd.DataFrame(where, index=counts.index).join(counts))
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def rises(ledger: Ledger, curves: Curves) -> pd.DataFrame:
    """Rises of the validation loss and moments of overfitting, in all cells of the ledger.

    **Returns:** one row per cell and network with finished runs, of the `loss`, raw and calibrated: the
    cell's fields, `network`; `n` to `high90` as of `judge`, of the rise less the null's mean, nats; `onsets`,
    the number of runs that overfit, and `epoch`, the median of their moments.
    """
    evidence, rows = Evidence(curves), []
    cells = {place(cell): cell for claim in ledger.claims for cell in claim.cells}
    for cell in cells.values():
        for network, runs in networks_of(cell, ledger).items():
            for quantity, name in LOSSES.items():
                found = sample(evidence, rise(quantity), [runs])
                onsets = sample(evidence, partial(onset, quantity=quantity), [runs]).known
                if found.finished:
                    row = {**fields(cell), "network": network, "loss": name, **found.counts()}
                    epoch = float(np.median(onsets)) if len(onsets) else math.nan
                    rows.append(row | found.described() | {"onsets": len(onsets), "epoch": epoch})
    return pd.DataFrame(rows)


def _with_more_seeds(network: str, seeds: int) -> Runs:
    """The first runs of a network at size s on CIFAR-100, those of the test of equivalence included."""
    more = experiments("registered", grids=["equivalence"], published=True)
    runs = {run.seed: run.id for run in more if label(run) == network}
    return dict(list((dict(registered_ids(network, SMALL)) | runs).items())[:seeds])
