"""The study: experiments, their training, their runs, and what the book draws from them.

from sparsity_lib import study
run = study.load_or_train(study.Experiment(network="sr2Net", dataset="digits", lr=0.1))
"""

from typing import TYPE_CHECKING, Any

from sparsity_lib.study.errors import StudyError
from sparsity_lib.study.experiment import Experiment
from sparsity_lib.study.queue.scheduling import load_or_train_all
from sparsity_lib.study.runs.file import Run, find, load
from sparsity_lib.study.runs.networks import trained_network
from sparsity_lib.study.runs.results import curves, published
from sparsity_lib.study.selection import select
from sparsity_lib.study.training.loop import NonFiniteLoss, load_or_train, train

if TYPE_CHECKING:
    from sparsity_lib.study.explorers import TrainingExplorer, explore, image_explorer
else:

    def __getattr__(name: str) -> Any:  # the explorers need the extra `book`
        if name in ("TrainingExplorer", "explore", "image_explorer"):
            from sparsity_lib.study import explorers

            return getattr(explorers, name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "Experiment",
    "NonFiniteLoss",
    "Run",
    "StudyError",
    "TrainingExplorer",
    "curves",
    "explore",
    "find",
    "image_explorer",
    "load",
    "load_or_train",
    "load_or_train_all",
    "published",
    "select",
    "train",
    "trained_network",
]
