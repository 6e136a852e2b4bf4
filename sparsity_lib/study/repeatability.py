"""Whether a run can be repeated: its first epochs are trained again and compared."""

import itertools
import math
from typing import Any

import numpy as np
import xarray as xr

from sparsity_lib.study.experiment import Experiment
from sparsity_lib.study.training.loop import Training, reproducible
from sparsity_lib.study.training.observation import SPLITS
from sparsity_lib.study.training.preparation import device_of, load_on

EPOCHS = 2
TOLERANCE = 1e-4  # relative, across machines, as in tests/test_golden.py
DECORRELATED = 2e-2  # where filters are decorrelated: rounding of their mean grows quickly
_BY_EPOCH = ("train_loss", "val_loss", "val_loss_calibrated")
_BY_LAYER = ("entropy", "scale_free_entropy", "noise_entropy", "sd")


def differences(experiment: Experiment, curves: xr.Dataset) -> list[str]:
    """Train the first EPOCHS epochs again; what differs from the run's curves, one line each.

    `curves` are those of the run alone, finished or published. Losses, and each layer's entropies and SD over
    the monitor images, may differ by TOLERANCE, or DECORRELATED. Nothing is written.
    """
    device = device_of(experiment.device)
    run, found = curves.squeeze("run"), []
    tolerance = DECORRELATED if experiment.strengths()["decorrelation"] else TOLERANCE
    with reproducible(experiment, device):
        training = Training(experiment, device, load_on(device, experiment))
        for epoch in range(-1, min(EPOCHS, experiment.epochs)):
            record: dict[str, Any] = training.next_epoch()
            then = run.sel(epoch=epoch)
            pairs = {name: (record[name], then[name]) for name in _BY_EPOCH if name in record}
            for layer, name in itertools.product(training.layers, _BY_LAYER):
                of_layer = then[name].sel(layer=layer, split=SPLITS[0])
                pairs[f"{layer}/{name}"] = record[f"{layer}/{name}"][0], of_layer
            for name, (again, value) in pairs.items():
                known = not np.isnan(value)  # older runs lack some
                if known and not math.isclose(again, value, rel_tol=tolerance, abs_tol=1e-6):
                    found.append(f"{name} at epoch {epoch}: {again:.6g} again, {float(value):.6g} in the run")
    return found
