"""Train one language model and write down what happened. Read `train_language` from top to bottom.

    run = train_language(LanguageExperiment(q=1.0, seed=3))

Runs are bit-for-bit repeatable on a CPU at the same number of threads: all that is drawn at random comes
from streams named by the seed and the epoch. A run takes a minute, so there are no checkpoints.
"""

import json
import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import xarray as xr

from sparsity_lib.study.errors import NonFiniteLoss, Stopped
from sparsity_lib.study.files import lock
from sparsity_lib.study.language import texts
from sparsity_lib.study.language.experiment import LanguageExperiment
from sparsity_lib.study.language.model import Record, build, observe, streams, train_epoch
from sparsity_lib.study.runs import file as runs
from sparsity_lib.study.runs.provenance import code, surroundings
from sparsity_lib.study.training.preparation import device_of, keep_freed_memory
from sparsity_lib.study.training.random_streams import random_stream


def train_language(
    experiment: LanguageExperiment,
    on_epoch: Callable[[Record], None] | None = None,
    folder: str | Path | None = None,
    stop: Callable[[], bool] | None = None,
) -> runs.Run:
    """Train the language model, or return its finished run as it is.

    On Linux the process from then on keeps memory that it frees, for later use (`keep_freed_memory`).

    **Arguments:**

    - `on_epoch`: called after each epoch (first with epoch -1, before training) with what was observed.
    - `folder`: where runs of language models are kept; `language` in the project's `runs/` by default.
    - `stop`: asked after each epoch; if true, `Stopped` is raised, and nothing is kept.

    **Returns:** the finished run, read from its file; its `root` has the curves.

    **Raises:** `NonFiniteLoss` when training diverges; `StudyError` for a text that is missing or too short,
    or a device that is not there.
    """
    path, made_by = runs.path_of(experiment, folder), code(experiment.numerical_parts)
    with lock(path, stop=stop):
        if run := runs.find(experiment, folder):
            return run
        runs.make_room(experiment, folder)
        device = device_of(experiment.device)
        text = texts.load(experiment.text, experiment.limit)
        train, validation = streams(experiment, text)
        keep_freed_memory()
        start, log = time.monotonic(), []
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.manual_seed(random_stream(experiment.seed, "initialisation"))
            model = build(experiment, len(text.alphabet)).to(device)
            optimizer = torch.optim.Adam(model.parameters(), lr=experiment.lr)
            for epoch in range(-1, experiment.epochs):
                torch.manual_seed(random_stream(experiment.seed, "noise", epoch))
                loss = train_epoch(model, optimizer, train.to(device), experiment) if epoch >= 0 else math.nan
                record: Record = {"epoch": epoch, "train_loss": loss}
                record |= observe(model, validation.to(device), experiment)
                if not (math.isfinite(loss) or epoch < 0) or not np.isfinite(record["val_bits"]):
                    raise NonFiniteLoss(
                        f"{experiment.id}: the loss is not finite in epoch {epoch}; try a smaller learning "
                        f"rate than {experiment.lr:g}"
                    )
                log.append(record)
                if on_epoch:
                    on_epoch(record)
                if stop is not None and stop():
                    raise Stopped(f"{experiment.id}: stopped; nothing of it is kept")
        tree = xr.DataTree(as_dataset(log, experiment.layers).assign(unigram_bits=text.unigram_bits()))
        tree.attrs = {"experiment": json.dumps(experiment.describe())}
        tree.attrs |= made_by | surroundings(text.digest, device, time.monotonic() - start)
        return runs.save(tree, path)


def as_dataset(log: list[Record], layers: int) -> xr.Dataset:
    """The epochs' records as labelled data, as a reader of the run's file will see them."""
    attributes = {
        "train_loss": {"long_name": "cross-entropy in training, with noise", "units": "nats"},
        "val_bits": {"long_name": "held-out bits per character, without noise", "units": "bits"},
        "mean_abs": {"long_name": "mean |h| of held-out outputs"},
        "hoyer": {"long_name": "Hoyer's sparsity of held-out outputs"},
        "noise_to_signal": {"long_name": "variance of the noise over the mean of h²"},
    }
    variables = {}
    for name, attrs in attributes.items():
        values = np.array([record[name] for record in log], dtype="float32").T
        variables[name] = (("layer", "epoch") if values.ndim == 2 else ("epoch",), values, attrs)
    epochs = np.array([record["epoch"] for record in log], dtype="int32")
    return xr.Dataset(variables, {"epoch": epochs, "layer": np.arange(1, layers + 1, dtype="int32")})
