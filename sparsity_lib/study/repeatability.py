"""Test of repeatability: a run's first epochs are trained again and compared."""

import contextlib
import itertools
import math
import tempfile
from collections.abc import Iterator
from typing import Any

import xarray as xr

from sparsity_lib.study.errors import Stopped
from sparsity_lib.study.experiment import Experiment
from sparsity_lib.study.language import LanguageExperiment
from sparsity_lib.study.runs.layout import SPLITS
from sparsity_lib.study.training.language import train_language
from sparsity_lib.study.training.loop import Training
from sparsity_lib.study.training.preparation import device_of, load_on
from sparsity_lib.study.training.random_streams import one_thread, reproducible

EPOCHS = 2
TOLERANCE = 1e-4  # relative, as in tests/study/test_golden.py
DECORRELATED = 2e-2  # where filters are decorrelated: rounding of their mean grows quickly
_BY_EPOCH = ("train_loss", "val_loss", "val_loss_calibrated", "val_bits")
_BY_LAYER = ("entropy", "scale_free_entropy", "noise_entropy", "sd")


def differences(experiment: Experiment, curves: xr.Dataset) -> list[str]:
    """Train the first EPOCHS epochs again; return the differences from the run's curves, one line each.

    `curves` are those of the run alone, finished or published. Losses, and each layer's entropies and SD over
    the monitor images, or a language model's bits per character, may differ by TOLERANCE, or DECORRELATED.
    Nothing is kept.

    It trains with one thread, as runs are trained side by side on two cores. At another number of threads, or
    on a CPU of another capability, sums are rounded otherwise, and rounding grows: with two threads, SDs of
    vanillaNet on CIFAR-100 differ by up to 7e-3 after two epochs, losses by up to 1e-4.
    """
    run, found = curves.squeeze("run"), []
    if isinstance(experiment, LanguageExperiment):
        first_epochs, tolerance = _of_language_model(experiment), TOLERANCE
    else:
        decorrelates = experiment.strengths()["decorrelation"]
        first_epochs, tolerance = _of_network(experiment), DECORRELATED if decorrelates else TOLERANCE
    for epoch, again in enumerate(first_epochs, -1):
        then = run.sel(epoch=epoch)
        for full_name, value in again.items():
            layer, _, name = full_name.rpartition("/")
            if name not in then:
                continue  # older runs lack some
            of_run = then[name].sel(layer=layer, split=SPLITS[0]) if layer else then[name]
            known = float(of_run)
            if not (math.isnan(known) or math.isclose(value, known, rel_tol=tolerance, abs_tol=1e-6)):
                found.append(f"{full_name} at epoch {epoch}: {value:.6g} again, {known:.6g} in the run")
    return found


def _of_network(experiment: Experiment) -> Iterator[dict[str, float]]:
    device = device_of(experiment.device)
    with reproducible(experiment, device), one_thread():
        training = Training(experiment, device, load_on(device, experiment))
        for _ in range(-1, min(EPOCHS, experiment.epochs)):
            record: dict[str, Any] = training.next_epoch()
            names = itertools.product(training.layers, _BY_LAYER)
            of_layers = {f"{layer}/{name}": record[f"{layer}/{name}"][0] for layer, name in names}
            yield {name: record[name] for name in _BY_EPOCH if name in record} | of_layers


def _of_language_model(experiment: LanguageExperiment) -> list[dict[str, float]]:
    log: list[dict[str, Any]] = []
    with one_thread(), tempfile.TemporaryDirectory() as folder, contextlib.suppress(Stopped):
        train_language(experiment, log.append, folder, stop=lambda: len(log) > EPOCHS)
    return [{name: record[name] for name in _BY_EPOCH if name in record} for record in log]
