"""Test of repeatability: a run's first epochs are trained again and compared."""

import itertools
import math
from typing import Any

import xarray as xr

from sparsity_lib.study.experiment import Experiment
from sparsity_lib.study.runs.layout import SPLITS
from sparsity_lib.study.training.loop import Training
from sparsity_lib.study.training.preparation import device_of, load_on
from sparsity_lib.study.training.random_streams import one_thread, reproducible

EPOCHS = 2
TOLERANCE = 1e-4  # relative, as in tests/study/test_golden.py
DECORRELATED = 2e-2  # where filters are decorrelated: rounding of their mean grows quickly
_BY_EPOCH = ("train_loss", "val_loss", "val_loss_calibrated")
_BY_LAYER = ("entropy", "scale_free_entropy", "noise_entropy", "sd")


def differences(experiment: Experiment, curves: xr.Dataset) -> list[str]:
    """Train the first EPOCHS epochs again; return the differences from the run's curves, one line each.

    `curves` are those of the run alone, finished or published. Losses, and each layer's entropies and SD over
    the monitor images, may differ by TOLERANCE, or DECORRELATED. Nothing is written.

    It trains with one thread, as runs are trained side by side on two cores. At another number of threads, or
    on a CPU of another capability, sums are rounded otherwise, and rounding grows: with two threads, SDs of
    vanillaNet on CIFAR-100 differ by up to 7e-3 after two epochs, losses by up to 1e-4.
    """
    device = device_of(experiment.device)
    run, found = curves.squeeze("run"), []
    tolerance = DECORRELATED if experiment.strengths()["decorrelation"] else TOLERANCE
    with reproducible(experiment, device), one_thread():
        training = Training(experiment, device, load_on(device, experiment))
        for epoch in range(-1, min(EPOCHS, experiment.epochs)):
            record: dict[str, Any] = training.next_epoch()
            then = run.sel(epoch=epoch)
            again = {name: record[name] for name in _BY_EPOCH if name in record}
            for layer, name in itertools.product(training.layers, _BY_LAYER):
                again[f"{layer}/{name}"] = record[f"{layer}/{name}"][0]
            for full_name, value in again.items():
                layer, _, name = full_name.rpartition("/")
                if name not in then:
                    continue  # older runs lack some
                of_run = then[name].sel(layer=layer, split=SPLITS[0]) if layer else then[name]
                known = float(of_run)
                if not (math.isnan(known) or math.isclose(value, known, rel_tol=tolerance, abs_tol=1e-6)):
                    found.append(f"{full_name} at epoch {epoch}: {value:.6g} again, {known:.6g} in the run")
    return found
