"""Checkpoints: the state of a training after an epoch, from which it resumes bit for bit."""

import math
import os
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sparsity_lib import GradientCoherent
from sparsity_lib._fusion import compiles
from sparsity_lib.study.data import Data
from sparsity_lib.study.errors import Unusable
from sparsity_lib.study.experiment import AnyExperiment
from sparsity_lib.study.files import load_tensors, save_tensors, set_aside
from sparsity_lib.study.language.texts import Text
from sparsity_lib.study.runs.contents import Log
from sparsity_lib.study.runs.file import Run
from sparsity_lib.study.runs.provenance import numerics

Record = dict[str, Tensor]  # an epoch's values by their name in the run's file


class ResumableTraining:
    """Base class of trainings with checkpoints: network, optimizer, and the log of observations."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    coherent: GradientCoherent | None = None
    compiled = False
    lowest_loss = math.inf  # of the validation images, at an epoch whose weights are kept

    def __init__(self, experiment: AnyExperiment, device: torch.device, data: Data | Text) -> None:
        self.experiment, self.device, self.data = experiment, device, data
        self.epoch = -1  # the next epoch to do; -1 only observes, before training (T16)
        self.seconds = 0.0
        self.log = Log()
        self.weights_kept: dict[str, Tensor] = {}

    def train_and_observe(self) -> Record:
        """Train one epoch (none before epoch 0), then observe."""
        raise NotImplementedError

    def finish(self, path: Path, made_by: dict[str, Any]) -> Run:
        """Write the run's file."""
        raise NotImplementedError

    def make_observers(self, compiled: bool) -> list[str]:
        """Make the observers, compiled if requested; return the layers under penalties."""
        raise NotImplementedError

    def next_epoch(self) -> dict[str, Tensor | int]:
        """Train one epoch and observe; the values by name, and the `epoch`."""
        start = time.monotonic()
        record = self.train_and_observe()
        self.seconds += time.monotonic() - start
        self.log.append(self.epoch, record, last=self.epoch == self.experiment.epochs - 1)
        self.epoch += 1
        return {"epoch": self.epoch - 1} | record

    def save(self, path: Path) -> None:
        """Write the state after the last finished epoch; whole, or not at all."""
        state = {
            "fingerprint": self._fingerprint(),
            "epoch": self.epoch,
            "seconds": self.seconds,
            "compiled": self.compiled,
            "lowest_loss": self.lowest_loss,
            "weights_kept": self.weights_kept,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "coherent": self.coherent.state_dict() if self.coherent else {},
            "log": self.log.values,
        }
        save_tensors(path, state)

    def restore(self, path: Path) -> None:
        """Resume from the checkpoint, if there is one; a damaged one, or one of other code, is set aside.

        Raises `Unreadable` for one that cannot be read here and now.
        """
        if not os.path.lexists(path):
            return
        try:
            state = load_tensors(path)  # on the CPU, where the log stays
            if state.get("fingerprint") != self._fingerprint():
                raise Unusable("it was written by other code, for another experiment or other data")
            if state["compiled"] and not compiles(self.device):
                raise Unusable("its entropies were compiled, and torch.compile does not work here")
        except Unusable as error:
            set_aside(path, error)
            return
        if state["compiled"] != self.compiled:  # a run keeps to one way
            self.make_observers(state["compiled"])
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.coherent:
            self.coherent.load_state_dict(state["coherent"])
        self.log = Log(state["log"])
        self.epoch, self.seconds = state["epoch"], state["seconds"]
        self.lowest_loss, self.weights_kept = state["lowest_loss"], state["weights_kept"]

    def _fingerprint(self) -> str:
        return f"{self.experiment.digest}/{numerics(self.experiment.numerical_parts)}/{self.data.digest}"
