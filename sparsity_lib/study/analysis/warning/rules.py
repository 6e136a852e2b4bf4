"""Rules that warn of overfitting, with and without labels: when each does, from what is known up to there.

A rule has one parameter. Everything takes `study.curves(runs)`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import xarray as xr

from sparsity_lib.entropy_drop import collapse_epochs
from sparsity_lib.study.analysis.summary import regularised_layers, trained
from sparsity_lib.study.analysis.timing import BASELINE, PATIENCE
from sparsity_lib.study.errors import StudyError

Watched = Callable[[xr.Dataset], xr.DataArray]
Warns = Callable[[float], np.ndarray]


@dataclass(frozen=True)
class Rule:
    """When to warn.

    **Fields:**

    - `on`: from curves to the rule on them, which takes the parameter and returns (run), the epochs; NaN for
        no warning. What it watches is worked out once, for any number of parameters.
    - `parameter`: what it is, with its unit; `choices`: its values, the most cautious first.
    - `sees`: what labels it needs.
    - `loss`: the held-out loss that it watches, if any; training then goes back to where that was lowest.
    - `needs`: a variable of the curves that runs of older code lack.
    """

    on: Callable[[xr.Dataset], Warns]
    parameter: str
    choices: tuple[float, ...]
    sees: Literal["no label", "training labels", "held-out labels"] = "no label"
    loss: Watched | None = None
    needs: str = ""


# What should not fall, (run, layer, epoch), of held-out images.
_SIGNALS: dict[str, Callable[[xr.Dataset], xr.DataArray]] = {
    "entropy": lambda curves: curves["entropy"] / np.log(curves["channels"]),
    "scale_free_entropy": lambda curves: curves["scale_free_entropy"] / np.log(curves["channels"]),
    "perplexity_sparsity": lambda curves: 1 - curves["perplexity_sparsity"],
    "sd": lambda curves: -xr.apply_ufunc(np.log, curves["sd"].where(curves["sd"] > 0)),
}


def _falls(quantity: str, first_layer: bool = False) -> Callable[[xr.Dataset], Warns]:
    """The rule of `EntropyDropDetector` on the layers that SparsityReg acts on: their mean, or the first."""

    def on(curves: xr.Dataset) -> Warns:
        signals = []
        for layers, mine in _watched(curves).items():
            held_out = trained(curves[["channels", quantity]].isel(run=mine)).sel(split="monitor")
            signal = _SIGNALS[quantity](held_out.sel(layer=list(layers))).transpose("run", "layer", "epoch")
            signals.append((mine, signal if first_layer else signal.mean("layer", skipna=False)))

        def warns(margin: float) -> np.ndarray:
            epochs = np.full(curves.sizes["run"], np.nan)
            for mine, signal in signals:
                falls = _fall_epochs(signal.to_numpy(), margin)
                epochs[mine] = np.fmin.reduce(falls, axis=1) if first_layer else falls
            return epochs

        return warns

    return on


def _fall_epochs(signal: np.ndarray, margin: float) -> np.ndarray:
    return collapse_epochs(signal, margin=margin, reference=BASELINE, patience=PATIENCE)


def _watched(curves: xr.Dataset) -> dict[tuple[str, ...], np.ndarray]:
    """Which runs, as a mask, have which layers watched: those of theirs that SparsityReg would act on."""
    network, there = curves["network"].to_numpy(), curves["channels"].transpose("run", "layer").notnull()
    groups: dict[tuple[str, ...], np.ndarray] = {}
    for name in np.unique(network):
        mine = network == name
        present = curves["layer"].to_numpy()[there.to_numpy()[mine].any(axis=0)]
        layers = tuple(layer for layer in regularised_layers(name) if layer in present)
        if not layers:
            raise StudyError(f"{name} has no layer that SparsityReg would act on: nothing to watch")
        groups[layers] = groups.get(layers, np.zeros(len(network), bool)) | mine
    return groups


def _weights_grow(curves: xr.Dataset) -> Warns:
    """The same rule on the norm of the weights of all monitored layers, whose logarithm should not rise."""
    squares = (trained(curves[["weight_norm"]])["weight_norm"] ** 2).sum("layer", min_count=1)
    shrinking = -np.log(squares.where(squares > 0).transpose("run", "epoch").to_numpy()) / 2
    return lambda margin: _fall_epochs(shrinking, margin)


def _training_loss_below(curves: xr.Dataset) -> Warns:
    loss = trained(curves[["train_loss"]])["train_loss"].to_numpy()
    return lambda threshold: _first(loss < threshold)


def _constant(curves: xr.Dataset) -> Warns:
    return lambda epoch: np.where(curves["epochs"] > epoch, float(epoch), np.nan)


def _never(curves: xr.Dataset) -> Warns:
    return lambda _: np.full(curves.sizes["run"], np.nan)


def _no_better(loss_of: Watched) -> Callable[[xr.Dataset], Warns]:
    """Warns when a loss has not been lower than before for so many epochs."""

    def on(curves: xr.Dataset) -> Warns:
        loss = loss_of(curves).to_numpy()
        since = np.arange(loss.shape[1]) - lowest_so_far(loss)
        return lambda patience: _first((since >= patience) & np.isfinite(loss))

    return on


def lowest_so_far(loss: np.ndarray) -> np.ndarray:
    """(run, epoch): the epoch of the lowest loss up to each epoch."""
    known = np.where(np.isfinite(loss), loss, np.inf)
    before = np.minimum.accumulate(known, axis=1)
    lower = np.ones(loss.shape, bool)
    lower[:, 1:] = known[:, 1:] < before[:, :-1]
    return np.maximum.accumulate(np.where(lower, np.arange(loss.shape[1]), 0), axis=1)


def _first(true: np.ndarray) -> np.ndarray:
    """(run): the first epoch at which it is true; NaN where it never is."""
    return np.where(true.any(axis=1), true.argmax(axis=1).astype(float), np.nan)


def _validation_loss(curves: xr.Dataset) -> xr.DataArray:
    return trained(curves[["val_loss"]])["val_loss"]


def _monitor_loss(curves: xr.Dataset) -> xr.DataArray:
    return trained(curves[["monitor_loss"]])["monitor_loss"].sel(split="monitor")


_SHARES = (0.5, 0.4, 0.3, 0.25, 0.2, 0.15, 0.1, 0.07, 0.05, 0.03, 0.02, 0.01, 0.005)
_PATIENCES = (20, 15, 10, 7, 5, 3, 2, 1)
RULES = {
    "entropy": Rule(_falls("entropy"), "fall, share of ln D", _SHARES),
    "entropy, first layer": Rule(_falls("entropy", first_layer=True), "fall, share of ln D", _SHARES),
    "scale-free entropy": Rule(_falls("scale_free_entropy"), "fall, share of ln D", _SHARES),
    "perplexity sparsity": Rule(_falls("perplexity_sparsity"), "rise", _SHARES),
    "SD": Rule(
        _falls("sd"),
        "rise of ln SD",
        tuple(float(np.log(factor)) for factor in (16, 12, 8, 6, 5, 4, 3, 2.5, 2, 1.5, 1.25, 1.1)),
    ),
    "weight norm": Rule(
        _weights_grow,
        "rise of ln of the norm",
        tuple(float(np.log(factor)) for factor in (4, 3, 2.5, 2, 1.8, 1.6, 1.4, 1.3, 1.2, 1.1, 1.05, 1.02)),
        needs="weight_norm",
    ),
    "training loss": Rule(
        _training_loss_below,
        "nats",
        (0.003, 0.01, 0.03, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9, 1.1, 1.3, 1.5, 1.7, 1.9, 2.1),
        sees="training labels",
    ),
    "constant epoch": Rule(_constant, "epoch", tuple(range(90, 0, -5))),
    "never": Rule(_never, "none", (0.0,)),
    "validation loss": Rule(
        _no_better(_validation_loss),
        "epochs without a lower loss",
        _PATIENCES,
        "held-out labels",
        _validation_loss,
    ),
    "loss on other images": Rule(
        _no_better(_monitor_loss), "epochs without a lower loss", _PATIENCES, "held-out labels", _monitor_loss
    ),
}


def known_rules(curves: xr.Dataset) -> list[str]:
    """The rules for which all of the runs have what is needed."""
    return [name for name, rule in RULES.items() if not lacking(curves, rule)]


def lacking(curves: xr.Dataset, rule: Rule) -> list[str]:
    """The runs without what the rule needs."""
    runs = curves["run"].to_numpy()
    if not rule.needs:
        return []
    if rule.needs not in curves:
        return list(runs)
    there = trained(curves[[rule.needs]])[rule.needs].transpose("run", ...).notnull().to_numpy()
    return list(runs[~there.reshape(len(runs), -1).any(axis=1)])


def of_known(parameters: Mapping[str, float], curves: xr.Dataset) -> dict[str, float]:
    """Those parameters that are of `known_rules` of the curves."""
    known = known_rules(curves)
    return {name: value for name, value in parameters.items() if name in known}
