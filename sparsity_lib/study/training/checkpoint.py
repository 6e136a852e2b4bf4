"""Checkpoints: the state of a training after an epoch, from which it resumes bit for bit."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from sparsity_lib._fusion import compiles
from sparsity_lib.study.errors import Unusable
from sparsity_lib.study.files import load_tensors, save_tensors, set_aside
from sparsity_lib.study.runs.provenance import numerics
from sparsity_lib.study.runs.recording import Log

if TYPE_CHECKING:
    from sparsity_lib.study.training.loop import Training


def save(training: "Training", path: Path) -> None:
    """Write the state after the last finished epoch; whole, or not at all."""
    state = {
        "fingerprint": _fingerprint(training),
        "epoch": training.epoch,
        "seconds": training.seconds,
        "compiled": training.compiled,
        "lowest_loss": training.lowest_loss,
        "weights_kept": training.weights_kept,
        "model": training.model.state_dict(),
        "optimizer": training.optimizer.state_dict(),
        "coherent": training.coherent.state_dict() if training.coherent else {},
        "log": training.log.state(),
    }
    save_tensors(path, state)


def restore(training: "Training", path: Path) -> None:
    """Resume from the checkpoint, if there is one; a damaged one, or one of other code, is set aside.

    Raises `Unreadable` for one that cannot be read here and now.
    """
    if not os.path.lexists(path):
        return
    try:
        state = load_tensors(path)  # on the CPU, where the log stays
        if state.get("fingerprint") != _fingerprint(training):
            raise Unusable("it was written by other code, for another experiment or other data")
        if state["compiled"] and not compiles(training.device):
            raise Unusable("its entropies were compiled, and torch.compile does not work here")
    except Unusable as error:
        set_aside(path, error)
        return
    if state["compiled"] != training.compiled:  # a run keeps to one way
        training.listen(state["compiled"])
    training.model.load_state_dict(state["model"])
    training.optimizer.load_state_dict(state["optimizer"])
    if training.coherent:
        training.coherent.load_state_dict(state["coherent"])
    training.log = Log(state["log"])
    training.epoch, training.seconds = state["epoch"], state["seconds"]
    training.lowest_loss, training.weights_kept = state["lowest_loss"], state["weights_kept"]


def _fingerprint(training: "Training") -> str:
    return (
        f"{training.experiment.digest}/{numerics(training.experiment.numerical_parts)}/{training.data.digest}"
    )
