"""Many runs of language models at once: their curves as one data set."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from sparsity_lib.study.language import LanguageExperiment
from sparsity_lib.study.runs.file import Run


def language_curves(which: Sequence[Run]) -> xr.Dataset:
    """The runs' curves in one data set with dimensions run, layer and epoch.

    Values are NaN for epochs and layers that a run lacks. The coordinates of `run` describe the experiment:
    `label` and `setting` distinguish cells; `experiment` and `provenance` are complete, in JSON.
    """
    together = xr.concat([run.root.drop_attrs(deep=False) for run in which], "run", join="outer")
    described: list[LanguageExperiment] = [run.experiment for run in which]  # type: ignore[misc]
    columns: dict[str, list[Any]] = {
        "run": [run.id for run in which],
        **{name: [getattr(e, name) for e in described] for name in ("label", "setting", "seed", "epochs")},
        "q": [e.q if e.p else np.nan for e in described],
        "text": [e.dataset for e in described],
        **{n: [run.provenance[n] for run in which] for n in ("numerics", "data_digest", "seconds")},
        "experiment": [json.dumps(e.describe()) for e in described],
        "provenance": [json.dumps(run.provenance) for run in which],
    }
    return together.assign_coords(
        {
            name: ("run", np.array(values, dtype=object if isinstance(values[0], str) else None))
            for name, values in columns.items()
        }
    )
