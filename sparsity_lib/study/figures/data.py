"""The numbers that a figure shows, as one long table from which a reader can draw it again.

A figure's function records each series where it draws it, because matplotlib's artists hold coordinates
alone, without the names of network and quantity.
"""

from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

NIGHT = "image/x-dark+png"
INTERVAL = "mean and 95 % interval"
MOST_POSITIONS = 8000  # of a figure's maps, some 200 kB as a table
_NUMBERS = ["value", "low", "high"]
_recorded: WeakKeyDictionary[Any, list[pd.DataFrame]] = WeakKeyDictionary()  # by figure


def record(ax: Axes, drawn: str, **columns: Any) -> None:
    """Record a series `drawn` on `ax`: `columns` are of one length, or single values that hold for all rows.

    The figure shows `value`, or the ends `low` and `high` of a band or an interval; the other columns
    identify them. Raises `ValueError` if the lengths differ.
    """
    arrays = np.broadcast_arrays(*(np.atleast_1d(each) for each in columns.values()))
    rows = pd.DataFrame({"drawn": drawn} | dict(zip(columns, arrays, strict=True)))
    _recorded.setdefault(ax.get_figure(), []).append(rows)


def record_map(ax: Axes, drawn: str, values: ArrayLike, **columns: Any) -> None:
    """Record a picture of `values` (rows, columns), or (rows, columns, channels): a row for each number."""
    values = np.asarray(values)
    axes = np.indices(values.shape).reshape(values.ndim, -1)
    position = dict(zip(("row", "column", "channel"), axes, strict=False))
    record(ax, drawn, **columns, **position, value=values.ravel())


def csv(figure: Figure) -> str | None:
    """Recorded data of `figure`: a row per point, numbers in the last columns; None if there are none."""
    if figure not in _recorded:
        return None
    rows = pd.concat(_recorded[figure], ignore_index=True)
    numbers = [name for name in _NUMBERS if name in rows]
    words = rows.columns.difference(numbers, sort=False)
    rows = rows.dropna(subset=numbers, how="all")[[*words, *numbers]].replace(r"\s+", " ", regex=True)
    return rows.to_csv(index=False, float_format="%.6g", lineterminator="\n")


def attach(figure: Figure, night: Figure | None) -> None:
    """Add the table of `figure`, and the same figure for dark pages as `NIGHT`, to its notebook output."""
    figure._repr_mimebundle_ = partial(_bundle, csv(figure), night)  # type: ignore[attr-defined]


def _bundle(text: str | None, night: Figure | None, **_: Any) -> dict[str, str]:
    from IPython.core.pylabtools import print_figure  # IPython alone calls this

    return ({"text/csv": text} if text else {}) | ({NIGHT: print_figure(night, base64=True)} if night else {})
