"""Test of repeatability: the first epochs of a run are trained again and compared."""

import math
from collections.abc import Iterator
from typing import Any

import xarray as xr

from sparsity_lib.study.experiment import AnyExperiment, Experiment
from sparsity_lib.study.runs.dimensions import SPLITS
from sparsity_lib.study.training.loop import new_training
from sparsity_lib.study.training.preparation import device_of
from sparsity_lib.study.training.random_streams import one_thread, reproducible

EPOCHS = 2
TOLERANCE = 1e-4  # relative, as in tests/study/test_golden.py
DECORRELATION_TOLERANCE = 2e-2  # with DecorrReg, rounding errors of the mean of filters grow quickly
_BY_EPOCH = ("train_loss", "val_loss", "val_loss_calibrated", "val_bits")
_BY_LAYER = ("entropy", "scale_free_entropy", "noise_entropy", "sd")


def differences(experiment: AnyExperiment, curves: xr.Dataset, tolerance: float = TOLERANCE) -> list[str]:
    """Train the first EPOCHS epochs again; return the differences from the curves of the run, one line each.

    `curves` have this run only. Losses, entropies and SDs of layers on the monitor images, and bits
    per character of language models, may differ by `tolerance`, with DecorrReg by DECORRELATION_TOLERANCE.
    The new training is not stored.

    Training uses one thread, as in parallel runs. With another number of threads, or on another CPU, rounding
    differs: SDs differ by up to 2e-2 after two epochs, losses by up to 3e-3.
    """
    run, found = curves.squeeze("run"), []
    decorrelates = isinstance(experiment, Experiment) and experiment.strengths()["decorrelation"]
    tolerance = max(tolerance, DECORRELATION_TOLERANCE) if decorrelates else tolerance
    for record in _first_epochs(experiment):
        then = run.sel(epoch=record["epoch"])
        for full_name, again in record.items():
            layer, _, name = full_name.rpartition("/")
            if name not in (_BY_LAYER if layer else _BY_EPOCH) or name not in then:
                continue  # older runs lack some quantities
            of_run = then[name].sel(layer=layer, split=SPLITS[0]) if layer else then[name]
            old, new = float(of_run), float(again[0] if layer else again)
            if not (math.isnan(old) or math.isclose(new, old, rel_tol=tolerance, abs_tol=1e-6)):
                found.append(f"{full_name} at epoch {record['epoch']}: {new:.6g} again, {old:.6g} in the run")
    return found


def _first_epochs(experiment: AnyExperiment) -> Iterator[dict[str, Any]]:
    device = device_of(experiment.device)
    with reproducible(experiment, device), one_thread():
        training = new_training(experiment, device)
        for _ in range(-1, min(EPOCHS, experiment.epochs)):
            yield training.next_epoch()
