"""False alarms and power of the rule for the moment of overfitting, on simulated curves.

`python -m sparsity_lib.study.analysis.onset_simulation` prints both tables, in about a minute on one core.

The pilot's 70 runs of 100 epochs have, by `onset.noise`, a noise SD of 0.04 to 0.11 nats (dropNet, whose loss
hardly rises), 0.08 to 0.24 (sr2Net) and more where the loss rises by nats. The autocorrelation has the
quartiles -0.08 and 0.19 and the median 0.03.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from sparsity_lib.study.analysis.onset import LAST, autoregressive, judge, rise_after_minimum

EPOCHS = (40, 60, 100, 200)
AUTOCORRELATIONS = (-0.1, 0.0, 0.2, 0.3, 0.5)
SDS = (0.05, 0.15)  # nats; of dropNet and of sr2Net in the pilot
RISES = (0.05, 0.1, 0.3)  # nats, from the plateau to the last epoch
CURVES = 2000  # per row
DECLINE = 2.0  # nats, from the first epoch to the plateau
INTERVAL = 0.25  # half width of the bootstrap interval over images, in noise SDs (pilot, dropNet)

Draw = Callable[[np.random.RandomState, tuple[int, int]], np.ndarray]


@dataclass(frozen=True)
class Shape:
    """Expected loss at times from 0 to 1, nats; factor of the noise at those times; innovations of SD 1."""

    expected: Callable[[np.ndarray], np.ndarray]
    factor: Callable[[np.ndarray], np.ndarray] = np.ones_like
    draw: Draw = lambda random, shape: random.standard_normal(shape)


def _decline(time: np.ndarray) -> np.ndarray:
    return DECLINE * np.exp(-10 * time)


def _exponential(random: np.random.RandomState, shape: tuple[int, int]) -> np.ndarray:
    return random.exponential(size=shape) - 1


# Curves without overfitting. The skewness of an exponential innovation is 2, that of the pilot's noise mostly
# 1 to 2.5.
SHAPES = {
    "plateau": Shape(np.zeros_like),
    "plateau, skewed noise": Shape(np.zeros_like, draw=_exponential),
    "plateau, noise doubles": Shape(np.zeros_like, lambda time: 2 / 3 * (1 + time)),
    "plateau, noise halves": Shape(np.zeros_like, lambda time: 2 / 3 * (2 - time)),
    "decline to a plateau": Shape(_decline),
    "decline, noise halves": Shape(_decline, lambda time: 2 / 3 * (2 - time)),
    "slow decline": Shape(lambda time: DECLINE * np.exp(-4 * time)),
    "decline to the end": Shape(np.negative),
}


def false_alarms() -> pd.DataFrame:
    """Shares of curves without overfitting in which a rule finds it; one row per shape, length, phi and SD.

    Columns: `null`, the comparison with simulated plateaus alone; `rule`, that and the floor of 0.05 nats;
    `interval`, the pilot's rule, a rise beyond the bootstrap interval.
    """
    rows = []
    for shape, length, phi, sd in itertools.product(SHAPES, EPOCHS, AUTOCORRELATIONS, SDS):
        found = _shares(SHAPES[shape], length, phi, sd)
        rows.append({"shape": shape, "epochs": length, "phi": phi, "sd": sd} | found)
    return pd.DataFrame(rows)


def power() -> pd.DataFrame:
    """Shares of overfitting curves in which the rules find it, one row per rise, length, phi and SD.

    The curves are those of `overfitting`, the columns those of `false_alarms`.
    """
    rows = []
    for rise, length, phi, sd in itertools.product(RISES, EPOCHS, AUTOCORRELATIONS, SDS):
        found = _shares(overfitting(rise), length, phi, sd)
        rows.append({"rise": rise, "epochs": length, "phi": phi, "sd": sd} | found)
    return pd.DataFrame(rows)


def overfitting(rise: float) -> Shape:
    """A decline to a plateau, and a linear rise over the second half of the epochs, nats."""
    return Shape(lambda time: _decline(time) + rise * np.maximum(0, 2 * time - 1))


def simulated(shape: Shape, epochs: int, phi: float, sd: float, curves: int) -> np.ndarray:
    """Losses `(curves, epochs)`, nats; the seed is the length and the autocorrelation."""
    random = np.random.RandomState([1, epochs, round(100 * phi) + 100])
    time = np.arange(epochs) / (epochs - 1)
    noise = sd * shape.factor(time) * autoregressive(shape.draw(random, (curves, epochs)), phi)
    return shape.expected(time) + noise


def _shares(shape: Shape, epochs: int, phi: float, sd: float) -> dict[str, float]:
    loss = simulated(shape, epochs, phi, sd, CURVES)
    lowest, _ = rise_after_minimum(loss)
    found = judge(loss)
    early = lowest < epochs - LAST
    return {
        "null": float((early & (found.rise > found.null_95)).mean()),
        "rule": float(np.isfinite(found.epoch).mean()),
        "interval": float((early & (found.rise > INTERVAL * sd)).mean()),
    }


def main() -> None:
    """Prints both tables, autocorrelations side by side."""
    for title, table, index in (
        ("False alarms", false_alarms(), ["shape", "epochs", "sd"]),
        ("Power", power(), ["rise", "epochs", "sd"]),
    ):
        wide = table.pivot(index=index, columns="phi", values=["null", "rule", "interval"])
        print(f"\n{title}, share of {CURVES} curves, by rule and autocorrelation\n")
        print(wide.sort_index(sort_remaining=True).round(3).to_string())


if __name__ == "__main__":
    main()
