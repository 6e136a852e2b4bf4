"""Tables of the scorecard: claims, predictions, equivalence, accuracies, alarms, rises.

All but `verdicts` take published curves, one data set or several, as `judge.judge` does. Numbers are NaN and
words blank where there is nothing to show; no result of a test appears until all of its runs are finished.
"""

import math
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from sparsity_lib.study import paper
from sparsity_lib.study.analysis.early_warning.skill import warning_counts
from sparsity_lib.study.analysis.explained_by_noise import explained
from sparsity_lib.study.analysis.onset import onset
from sparsity_lib.study.analysis.significance import ALPHA, holm, one_sided
from sparsity_lib.study.claims import REGISTRATION, Cell, Registration, load, registered_ids
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
from sparsity_lib.study.claims.judge import magnitude, moments_of
from sparsity_lib.study.errors import StudyError
from sparsity_lib.study.profiles import SEVEN, experiments
from sparsity_lib.study.recipes import LAYERS, TARGETED
from sparsity_lib.study.runs.results import joined, label

SMALL = Cell(dataset="cifar100", size="s", kind="direct")
# Least R^2 of the prediction `noise-curve`: over all layers but the last, and in each of three.
THRESHOLDS = {LAYERS[:-1]: 0.97} | {(layer,): 0.95 for layer in TARGETED}
ALTERNATIVES = ("varNet", "dropNet", "normNet")  # with which sr2Net is compared in the test of equivalence
ACCURACIES = {"accuracy": "chosen", "best_accuracy": "best", "last_five_accuracy": "last five"}
_SPREAD = ("sd", "low", "high")
# The scorecard's words for the directions and verdicts of the registration.
WORDS = {"supported": "holds", "inconclusive": "undecided"}
WORDS |= dict.fromkeys(("opposite", "negligible", "contradicted"), "does not hold")
LOSSES = {"val_loss": "raw", "val_loss_calibrated": "calibrated"}
_VERDICTS = [
    *("id", "claim", "where", "cell", "kind", "runs", "effect", "low", "high", "direction", "verdict"),
    *("p_within", "p_of_seeds", "warning", "primary", "holm"),
]
OVERFITTING = ("val_loss_rise", "val_loss_calibrated_rise", "onset_loss")  # quantities of a claim of none


def verdicts(ledger: Registration, judged: pd.DataFrame, every_cell: bool = False) -> pd.DataFrame:
    """The registered claims in the scorecard's words: holds, does not hold, undecided, incomplete, not run.

    A claim of no overfitting that meets overfitting has "does not hold: it overfits"; a cell with some of its
    runs, or none, is incomplete or not run.

    **Arguments:** `ledger`, of `claims.load`; `judged`, of `judge.judge`; `every_cell`, whether cells without
    a finished run are listed too, and not only the first cell of a claim that has none.

    **Returns:** one row per claim and cell: `id`, `claim` (the sentence, with "(ours)" if it is), `where` in
    the paper, `cell`, `kind`, `runs` (as in "3 of 5"; of comparisons, pairs), `effect`, `low` to `high`,
    `direction`, `verdict` (blank in conceptual cells, which give none); of lead times, as of `judge`,
    `p_within`, `p_of_seeds` and `warning`; `primary`; `holm`, the corrected p of a finished primary claim.
    """
    sentences = [
        (claim.claim + " (ours)" * claim.where.startswith("ours"), claim.where, cell.title)
        for claim in ledger.claims
        for cell in claim.cells
    ]
    table = judged.rename(columns={"claim": "id", "mean": "effect"})
    table = table.join(pd.DataFrame(sentences, columns=["claim", "where", "cell"]))
    complete, started = table["status"] == "complete", table["status"] != "not run"
    verdict = table["verdict"].map(WORDS).fillna("")
    overfits = (verdict == "does not hold") & (table["expected"] == 0) & table["quantity"].isin(OVERFITTING)
    verdict = verdict.mask(overfits, "does not hold: it overfits")
    verdict = verdict.where(complete, table["status"].mask(started, "incomplete"))
    direction = table["direction"].map(WORDS).fillna("")
    table = table.assign(direction=direction, verdict=verdict, holm=table["holm"].where(complete))
    first_of_none = ~started.groupby(table["id"]).transform("any") & ~table["id"].duplicated()
    return table.loc[every_cell | started | first_of_none, _VERDICTS].reset_index(drop=True)


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

    **Returns:** one row per cell: `network`, the cell's fields, `kind` and `source`; `runs`, as in "3 of 5",
    `n` values of `planned` ones, `diverged`, `status` (as of `judge`, or needs a GPU); `best` to `distance`
    as of `judge`, of the highest accuracy of all epochs, which the paper's are, with its `sd` and 95 %
    interval, `low` to `high`; the `chosen` accuracy with `chosen_sd`, `chosen_low`, `chosen_high`.
    """
    evidence, ledger = Evidence(curves), load(REGISTRATION)
    trained_here = {run.id for run in experiments("registered", published=True)}
    rows = []
    for row, cell in _papers_cells():
        runs, pool = registered_ids(row.network, cell), list(networks_of(cell, ledger).values())
        best, chosen = (
            sample(evidence, OF_A_RUN[quantity], [runs], pool) for quantity in ("best_accuracy", "accuracy")
        )
        needs_gpu = not best.finished and not trained_here.intersection(runs.values())
        found = {"network": row.network} | cell.place | {"kind": cell.kind, "source": row.source}
        found |= best.counts() | ({"status": "needs a GPU"} if needs_gpu else {})
        found |= magnitude(row.accuracy, best) | {name: best.described()[name] for name in _SPREAD}
        found |= {"chosen": chosen.described()["mean"]}
        rows.append(found | {f"chosen_{name}": chosen.described()[name] for name in _SPREAD})
    return pd.DataFrame(rows).astype({"inside": "boolean", "inside_unpooled": "boolean"})


def curves_of_cells(curves: Curves, **fields: object) -> xr.Dataset:
    """Curves of the published runs of the paper's cells, and of varNet in them.

    **Arguments:** `fields` narrow the cells: `dataset`, `size` (full for LeNet and AlexNet), `optimizer`.

    **Raises:** `StudyError` if there are none.
    """
    ledger = load(REGISTRATION)
    cells = dict.fromkeys(cell for _, cell in _papers_cells() if fields.items() <= cell.place.items())
    networks = [networks_of(cell, ledger) for cell in cells]
    found = Evidence(curves).of(run for each in networks for runs in each.values() for run in runs.values())
    if not found:
        wanted = ", ".join(f"{name} = {value}" for name, value in fields.items()) or "the paper's settings"
        raise StudyError(f"no run of {wanted} is published yet")
    return joined(found)


def alarms(ledger: Registration, curves: Curves) -> pd.DataFrame:
    """Hits, misses and false alarms of change-points, in the cells of the ledger's claims about lead times.

    **Returns:** one row per cell, group of layers and network with finished runs, and one for `all`: the
    cell's fields, `quantity`, `layers`, `network`, `runs`, `hits` (a change-point before the onset), `misses`
    (an onset without one before it), `false_alarms` (a change-point without an onset), `true_negatives`.
    """
    evidence = Evidence(curves)
    tests = {
        (*cell.place.values(), claim.test.quantity, claim.test.layer): (cell, claim.test)
        for claim in ledger.claims
        if claim.test and claim.test.kind == "lead"
        for cell in claim.cells
    }
    tables = []
    for cell, test in tests.values():
        found = moments_of(test, evidence, networks_of(cell, ledger))
        if len(found):
            where = cell.place | {"quantity": test.quantity, "layers": ", ".join(test.layer)}
            counts = warning_counts(found["onset"], found["changed"], found["network"]).reset_index()
            tables.append(pd.DataFrame(where, index=counts.index).join(counts))
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def rises(ledger: Registration, curves: Curves) -> pd.DataFrame:
    """Rises of the validation loss and moments of overfitting, in all cells of the ledger.

    **Returns:** one row per cell and network with finished runs, of the `loss`, raw and calibrated: the
    cell's fields, `network`; `n` to `high90` as of `judge`, of the rise minus the null's mean, nats;
    `onsets`, the number of runs that overfit, and `epoch`, the median of their moments.
    """
    evidence, rows = Evidence(curves), []
    cells = {tuple(cell.place.values()): cell for claim in ledger.claims for cell in claim.cells}
    for cell in cells.values():
        for network, runs in networks_of(cell, ledger).items():
            for quantity, name in LOSSES.items():
                found = sample(evidence, rise(quantity), [runs])
                onsets = sample(evidence, partial(onset, quantity=quantity), [runs]).known
                if found.finished:
                    row = {**cell.place, "network": network, "loss": name, **found.counts()}
                    epoch = float(np.median(onsets)) if len(onsets) else math.nan
                    rows.append(row | found.described() | {"onsets": len(onsets), "epoch": epoch})
    return pd.DataFrame(rows)


def _papers_cells() -> list[tuple[Any, Cell]]:
    """Rows of the paper's Tables 2 and 3, each with its cell; LeNet and AlexNet have one size (T12)."""
    found = []
    for row in paper.accuracies().query(f"epochs == {paper.EPOCHS}").itertuples():
        close = row.size == "full"
        sized = {"size": None, "kind": "close"} if close else {"size": row.size, "kind": "direct"}
        found.append((row, Cell(dataset=row.dataset, optimizer=row.optimizer, **sized)))
    return found


def _with_more_seeds(network: str, seeds: int) -> Runs:
    """The first runs of a network at size s on CIFAR-100, those of the test of equivalence included."""
    more = experiments("registered", grids=["equivalence"], published=True)
    runs = {run.seed: run.id for run in more if label(run) == network}
    return dict(list((dict(registered_ids(network, SMALL)) | runs).items())[:seeds])
