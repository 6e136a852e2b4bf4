"""The training of one language model, as `loop.train` runs it.

    run = study.train(LanguageExperiment(q=1.0, seed=3))

Runs are bit-for-bit repeatable on a CPU at the same number of threads: random numbers come from streams named
by the seed and the epoch.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import ArrayLike

from sparsity_lib.study.errors import NonFiniteLoss
from sparsity_lib.study.language import texts
from sparsity_lib.study.language.experiment import LanguageExperiment
from sparsity_lib.study.language.model import CharacterLSTM, build, observe, streams, train_epoch
from sparsity_lib.study.runs import file as runs
from sparsity_lib.study.runs.provenance import environment
from sparsity_lib.study.training.checkpoint import Record, ResumableTraining
from sparsity_lib.study.training.random_streams import random_stream

if TYPE_CHECKING:
    import xarray as xr


class LanguageTraining(ResumableTraining):
    """The state of one training of a language model."""

    experiment: LanguageExperiment
    data: texts.Text
    model: CharacterLSTM

    def __init__(self, experiment: LanguageExperiment, device: torch.device) -> None:
        super().__init__(experiment, device, texts.load(experiment.text, experiment.limit))
        self.train, self.validation = (part.to(device) for part in streams(experiment, self.data))
        torch.manual_seed(random_stream(experiment.seed, "initialisation"))
        self.model = build(experiment, len(self.data.alphabet)).to(device)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=experiment.lr)

    def train_and_observe(self) -> Record:
        """Read the training text once (not before epoch 0), then the held-out text without noise."""
        torch.manual_seed(random_stream(self.experiment.seed, "noise", self.epoch))
        record = {}
        if self.epoch >= 0:
            loss = train_epoch(self.model, self.optimizer, self.train, self.experiment)
            record["train_loss"] = torch.tensor(loss, dtype=torch.float64)
        observed = observe(self.model, self.validation, self.experiment)
        record |= {name: torch.as_tensor(value, dtype=torch.float64) for name, value in observed.items()}
        if not all(record[name].isfinite() for name in ("train_loss", "val_bits") if name in record):
            raise NonFiniteLoss(
                f"{self.experiment.id}: the loss is not finite in epoch {self.epoch}; try a smaller learning "
                f"rate than {self.experiment.lr:g}"
            )
        return record

    def finish(self, path: Path, made_by: dict[str, Any]) -> runs.Run:
        """Write the run's file."""
        import xarray as xr

        curves = as_dataset(self.log.stacked(), self.experiment.layers)
        tree = xr.DataTree(curves.assign(unigram_bits=self.data.unigram_bits()))
        tree.attrs = {"experiment": json.dumps(self.experiment.describe())}
        tree.attrs |= made_by | environment(self.data.digest, self.device, self.seconds)
        return runs.save(tree, path)


def as_dataset(log: Mapping[str, ArrayLike], layers: int) -> "xr.Dataset":
    """Values of each name, (epoch,) or (epoch, layer), as a reader of the run's file will see them."""
    import xarray as xr

    attributes = {
        "train_loss": {"long_name": "cross-entropy in training, with noise", "units": "nats"},
        "val_bits": {"long_name": "held-out bits per character, without noise", "units": "bits"},
        "mean_abs": {"long_name": "mean |h| of held-out outputs"},
        "hoyer": {"long_name": "Hoyer's sparsity of held-out outputs"},
        "noise_to_signal": {"long_name": "variance of the noise over the mean of h²"},
    }
    variables = {}
    for name, attrs in attributes.items():
        values = np.asarray(log[name], dtype="float32").T
        variables[name] = (("layer", "epoch") if values.ndim == 2 else ("epoch",), values, attrs)
    epochs = np.arange(-1, values.shape[-1] - 1, dtype="int32")
    return xr.Dataset(variables, {"epoch": epochs, "layer": np.arange(1, layers + 1, dtype="int32")})
