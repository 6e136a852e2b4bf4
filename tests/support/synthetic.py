"""Synthetic curves with known effects."""

from collections.abc import Sequence
from types import SimpleNamespace

import numpy as np
import xarray as xr

from sparsity_lib.study import Experiment
from sparsity_lib.study.language import LanguageExperiment
from sparsity_lib.study.runs import results
from sparsity_lib.study.runs.language import language_curves
from sparsity_lib.study.training.language import as_dataset

LAYERS = ("conv1", "conv3", "norm1", "fc1")
CHANNELS = (16.0, 32.0, 32.0, 64.0)


def curve(start: float, best: float, end: float, at: int, epochs: int = 41) -> np.ndarray:
    """From `start` to `best` at epoch `at`, then to `end`; straight lines, epoch -1 first."""
    return np.concatenate([[start], np.interp(np.arange(epochs), [0, at, epochs - 1], [start, best, end])])


def valley(at: int, slope: float = 0.05, epochs: int = 41) -> np.ndarray:
    """A loss of 1 at epoch `at` that rises symmetrically, so that smoothing does not move the minimum."""
    return 1 + slope * np.abs(np.arange(-1, epochs) - at)


def one(label: str = "vanillaNet", seed: int = 0, **given: object) -> xr.Dataset:
    """One run's curves: loss falls to 1 at epoch 20 and rises to 2; accuracy rises to 0.6 at 25, and falls.

    `given` replaces a curve (an array over epochs from -1 on), a layer quantity (a pair: where the loss is
    lowest, at the end) or a coordinate (anything else).
    """
    loss = np.asarray(given.pop("val_loss", valley(20)), dtype=float)
    accuracy = np.asarray(given.pop("val_accuracy", 1.6 - valley(25, slope=0.01)), dtype=float)
    monitor = np.asarray(given.pop("monitor_accuracy", accuracy), dtype=float)
    monitor_loss = np.asarray(given.pop("monitor_loss", loss), dtype=float)
    epochs = len(loss) - 1
    doubt = float(given.pop("doubt", 0.05))  # half width of the bootstrap intervals
    rise, drop = loss[-5:].mean() - loss, accuracy - accuracy[-5:].mean()
    by_epoch = {"val_loss": loss, "val_accuracy": accuracy, "train_loss": loss, "train_accuracy": accuracy}
    for name, values in (("val_loss_rise", rise), ("val_accuracy_drop", drop)):
        by_epoch |= {name: values, f"{name}_low": values - doubt, f"{name}_high": values + doubt}
    variables = {name: (("run", "epoch"), values[None]) for name, values in by_epoch.items()}
    for name, values in (("monitor_loss", monitor_loss), ("monitor_accuracy", monitor)):
        variables[name] = (("run", "split", "epoch"), np.stack([values, values / 2])[None])
    ends = {"entropy": (3.0, 2.0), "scale_free_entropy": (2.5, 2.5), "sd": (1.0, 3.0)}
    ends["perplexity_sparsity"] = (0.2, 0.4)
    for name, (best, end) in {name: given.pop(name, values) for name, values in ends.items()}.items():
        values = curve(best, best, end, at=epochs // 2, epochs=epochs)
        stacked = np.broadcast_to(values, (1, len(LAYERS), 2, epochs + 1)).copy()
        if label != "normNet":
            stacked[:, LAYERS.index("norm1")] = np.nan
        variables[name] = (("run", "layer", "split", "epoch"), stacked)
    growth = curve(1.0, 1.0, 3.0, at=epochs // 2, epochs=epochs)
    variables["weight_norm"] = (("run", "layer", "epoch"), growth * np.ones((1, len(LAYERS), 1)))
    variables["channels"] = (("run", "layer"), np.array([CHANNELS]))
    axes = {"layer": list(LAYERS), "split": ["monitor", "train"], "center": ["filters", "components"]}
    correlation = np.full((1, len(LAYERS), 2, epochs + 1), np.nan)
    variables["correlation"] = (("run", "layer", "center", "epoch"), correlation)
    identity = {
        "network": label.split()[0],
        "size": "s",
        "seed": seed,
        "dataset": "digits",
        "label_noise": 0.0,
        "lambda_conv_scale": 1.0,
        "optimizer": "sgd",
        "epochs": epochs,
        "lr": 0.01,
        "data_seed": 0,
        "label": label,
    } | given
    name = "-".join(str(value) for value in identity.values())
    coordinates = {key: ("run", [value]) for key, value in (identity | {"run": name}).items()}
    return xr.Dataset(variables, coordinates | axes | {"epoch": np.arange(-1, epochs)})


def many(runs: Sequence[xr.Dataset]) -> xr.Dataset:
    """Several runs' curves as one data set; shorter ones end in NaN."""
    return xr.concat(runs, "run", join="outer", coords="minimal", compat="override")


def with_accuracy(label: str, seed: int, accuracy: float, **fields: object) -> xr.Dataset:
    """One run with a constant validation accuracy."""
    return one(label, seed, val_accuracy=np.full(42, accuracy), **fields)


def language_model(seed: int = 0, bits: float = 3.0, hoyer: float = 0.3, **fields: object) -> SimpleNamespace:
    """A language model's run of 4 epochs: `bits` are its lowest, in epoch 2, and 0.5 less than its last."""
    experiment = LanguageExperiment(**{"seed": seed, "epochs": 4, **fields})
    log = {
        "train_loss": [np.nan, 2.5, 2.4, 2.3, 2.2],
        "val_bits": bits + np.array([3, 1, 0.5, 0, 0.5]),
        "mean_abs": [(0.4, 0.5)] * 5,
        "hoyer": [(hoyer, 0.2)] * 5,
        "noise_to_signal": np.full((5, 2), experiment.p),
    }
    made = {"numerics": "core 0", "data_digest": "0", "seconds": 1.0, "python": "3"}
    curves = as_dataset(log, 2).assign(unigram_bits=4.5)
    return SimpleNamespace(id=experiment.id, experiment=experiment, root=curves, provenance=made)


def language_models(seeds: Sequence[int] = (0, 1, 2)) -> xr.Dataset:
    """Without noise, and at five q, a unit of which takes off 0.1 bits and 0.05 of layer 1's sparsity."""
    effects = (0.0, 0.03, -0.02)  # by seed, the same for all q
    made = [
        language_model(seed, 3 - 0.1 * q + effects[seed % 3], 0.4 - 0.05 * q, q=q)
        for seed in seeds
        for q in (1.0, 1.5, 2.0, 2.5, 3.0)
    ]
    return language_curves([*made, *(language_model(seed, 2.9 + effects[seed % 3], p=0.0) for seed in seeds)])


def shrunk(experiment: Experiment, accuracy: float, kept: float = 1.0, guesses: bool = False) -> xr.Dataset:
    """One run with the curves of `sl.GradientCoherent`, which ends with a share `kept` of its weights.

    Coherence falls from 0.3 to -0.3 at epoch 20; a gate is open until then, a delay ends there. The
    gradient of the term has its strength as norm, that of the loss 0.01.
    """
    strength, halves = experiment.l1 + experiment.l2, np.arange(-1, 41) < 20
    gate = halves if experiment.rho == 0 else ~halves if experiment.delay else np.ones(42)
    values = {
        "coherence": np.where(halves, 0.3, -0.3),
        "coherence_gate": gate,
        "loss_gradient_norm": np.full(42, 0.01),
        "shrinkage_norm": np.full(42, strength),
        "nonzero_share": curve(1.0, 1.0, kept, at=20),
    }
    loss = np.full(42, 2.3) if guesses else curve(2.3, 1.0, 1.0, at=20)
    run = one(
        results.label(experiment),
        experiment.seed,
        val_accuracy=np.full(42, accuracy),
        monitor_loss=2 * loss,  # of training images, half
        others=results.others(experiment),
        label_noise=experiment.label_noise,
        lr=experiment.learning_rate(),
        numerics="core 0",
        compiled=0,
    )
    if experiment.rho is not None:
        run = run.assign(
            {name: (("run", "epoch"), each[None].astype(float)) for name, each in values.items()}
        )
    return run.assign_coords(run=[experiment.id])
