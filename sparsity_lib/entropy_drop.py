"""EntropyDropDetector: which layers lose activation entropy during training, without any label.

A layer collapses when its entropy, as a share of ln D, lies below the lowest value of the reference epochs by
more than a margin, for some epochs in a row. The rule is causal: it uses no later epoch, and no loss.
"""

import math
from collections.abc import Mapping
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

import numpy as np

from sparsity_lib._settings import require

if TYPE_CHECKING:
    from sparsity_lib.monitor import LayerStats

__all__ = ["MARGIN", "PATIENCE", "REFERENCE", "EntropyDropDetector", "collapse_epochs"]

MARGIN = 0.05  # of ln D
REFERENCE = 5  # epochs, 0 to 4, with which later ones are compared
PATIENCE = 2  # epochs in a row
ROUNDING = 1e-4  # of shares: means are summed in float32 on some devices


class EntropyDropDetector:
    """Names, epoch by epoch, the layers whose activation entropy began to fall.

    ```python
    detector = sl.EntropyDropDetector({"conv3": 32, "fc1": 64})
    for epoch in range(100):
        ...  # train; then run unlabelled images through the network under an ActivationMonitor
        for layer in detector.update(monitor.compute()):
            print(f"epoch {epoch}: the entropy of {layer} falls")
        monitor.reset()
    ```

    The first update is epoch 0. The study measures entropies on held-out images. A fall of entropy need not
    mean that the network overfits: growing activations cause it too (see `LayerStats.noise_entropy`).
    """

    def __init__(
        self,
        channels: Mapping[str, int],
        *,
        margin: float = MARGIN,
        reference: int = REFERENCE,
        patience: int = PATIENCE,
    ) -> None:
        """**Arguments:**

        - `channels`: `{layer: D}`, at least 2 each; `LayerStats.channels`.
        - `margin`: by how much the entropy must have fallen, as a share of ln D; at least 0.
        - `reference`: with how many first epochs, at least 1, the later ones are compared.
        - `patience`: for how many epochs in a row, at least 1, it must lie so low; it warns in the last.

        **Raises:** `ValueError` for other values, or no layers; `TypeError` if `channels` is no mapping.
        """
        if not isinstance(channels, Mapping):
            raise TypeError(f"channels must map each layer to its number, not be a {type(channels).__name__}")
        if not channels:
            raise ValueError("no layer is named; give {layer: number of channels}")
        for name, d in channels.items():
            require(f"layer {name!r}", d, Integral, lambda x: x >= 2, "of a whole number of channels >= 2")
        self._channels = {name: int(d) for name, d in channels.items()}
        self._falls = _Falls(len(channels), margin, reference, patience)

    def __repr__(self) -> str:
        rule = ", ".join(f"{name}={value}" for name, value in self._falls.state()["rule"].items())
        return f"EntropyDropDetector({self._channels}, {rule})"

    @property
    def epochs(self) -> dict[str, int]:
        """The layers that have collapsed, and when, `{layer: epoch}`."""
        pairs = zip(self._channels, self._falls.epochs, strict=True)
        return {name: int(epoch) for name, epoch in pairs if math.isfinite(epoch)}

    def update(self, entropies: Mapping[str, float] | Mapping[str, "LayerStats"]) -> list[str]:
        """Add an epoch's mean entropies; return the layers that began to collapse in it.

        `entropies` are those of `ActivationMonitor.compute()`, or numbers in nats, one for each layer; other
        layers are ignored.

        **Raises:** `ValueError` for a layer that is missing or has another number of channels, or an entropy
        that is not in [0, ln D]; the epoch then does not count.
        """
        shares = []
        for name, d in self._channels.items():
            if name not in entropies:
                raise ValueError(f"the entropy of layer {name!r} is missing; given: {', '.join(entropies)}")
            if (given := getattr(entropies[name], "channels", d)) != d:
                raise ValueError(f"layer {name!r} has {given} channels, and {d} in this detector")
            shares.append(_share(name, getattr(entropies[name], "entropy", entropies[name]), d))
        began = self._falls.step(np.array(shares))
        return [name for name, begins in zip(self._channels, began, strict=True) if begins]

    def state_dict(self) -> dict[str, Any]:
        """The state that `load_state_dict` needs after an interruption: numbers, lists and dicts alone."""
        return {"channels": dict(self._channels), **self._falls.state()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume from a state of `state_dict`.

        **Raises:** `ValueError` if it is no such state, or comes from other layers or another rule.
        """
        if missing := sorted(self.state_dict().keys() - state.keys()):
            raise ValueError(f"this is not a state of EntropyDropDetector: it lacks {', '.join(missing)}")
        if (theirs := state["channels"]) != self._channels:
            raise ValueError(f"the state is of the layers {theirs}, not {self._channels}")
        self._falls.restore(state)


def _share(layer: str, entropy: Any, channels: int) -> float:
    """The entropy, a number or what holds one, as a share of ln D."""
    try:
        share = float(entropy) / math.log(channels)
    except (TypeError, ValueError, RuntimeError):  # as what it is raises
        raise ValueError(f"the entropy of layer {layer!r} must be one number, not {entropy!r}") from None
    if not -ROUNDING <= share <= 1 + ROUNDING:
        raise ValueError(
            f"the entropy of layer {layer!r}, with {channels} channels, must be in [0, "
            f"{math.log(channels):.4g}] nats, not {float(entropy):.4g}"
        )
    return share


def collapse_epochs(
    shares: np.ndarray, *, margin: float = MARGIN, reference: int = REFERENCE, patience: int = PATIENCE
) -> np.ndarray:
    """The rule of `EntropyDropDetector` on whole curves.

    ```python
    collapse_epochs(np.array([0.9, 0.9, 0.9, 0.9, 0.9, 0.8, 0.8]))  # 6, the second epoch in a row
    ```

    **Arguments:**

    - `shares`: `(..., epoch)`, from epoch 0 on: entropies over ln D, or whatever else should not fall; NaN
        where there is none. A curve with a NaN in the reference epochs never falls.
    - `margin`, `reference`, `patience`: as for `EntropyDropDetector`; the margin in the unit of `shares`.

    **Returns:** `(...)`, the epochs, as floats; NaN where nothing falls.

    **Raises:** `ValueError` as `EntropyDropDetector`.
    """
    falls = _Falls(shares.shape[:-1], margin, reference, patience)
    for values in np.moveaxis(shares, -1, 0):
        falls.step(values)
    return falls.epochs


class _Falls:
    """The rule itself, for an array of curves, one epoch after the other."""

    def __init__(self, shape: int | tuple[int, ...], margin: float, reference: int, patience: int) -> None:
        require("margin", margin, Real, lambda x: 0 <= x < math.inf, "a finite number >= 0")
        for name, count in (("reference", reference), ("patience", patience)):
            require(name, count, Integral, lambda x: x >= 1, "a whole number of at least 1 epoch")
        self._rule = {"margin": float(margin), "reference": int(reference), "patience": int(patience)}
        self._seen = 0
        self._lowest = np.zeros(shape)  # of the reference epochs, once there are any
        self._in_a_row = np.zeros(shape, int)
        self.epochs = np.full(shape, np.nan)

    def step(self, values: np.ndarray) -> np.ndarray:
        """Which curves began to fall in this epoch."""
        if self._seen < self._rule["reference"]:
            self._lowest = np.minimum(self._lowest, values) if self._seen else values
            below = np.zeros(values.shape, bool)
        else:
            below = values < self._lowest - self._rule["margin"]
        self._in_a_row = np.where(below, self._in_a_row + 1, 0)
        began = (self._in_a_row == self._rule["patience"]) & np.isnan(self.epochs)
        self.epochs[began] = self._seen
        self._seen += 1
        return began

    def state(self) -> dict[str, Any]:
        epochs = [None if math.isnan(epoch) else int(epoch) for epoch in self.epochs]
        lists = {"lowest": self._lowest.tolist(), "in_a_row": self._in_a_row.tolist(), "epochs": epochs}
        return {"rule": dict(self._rule), "seen": self._seen, **lists}

    def restore(self, state: Mapping[str, Any]) -> None:
        if state["rule"] != self._rule:
            raise ValueError(f"the state is of the rule {state['rule']}, not {self._rule}")
        self._seen = state["seen"]
        self._lowest = np.array(state["lowest"], float)
        self._in_a_row = np.array(state["in_a_row"], int)
        self.epochs = np.array(state["epochs"], float)
