"""The study: experiments, their training, their runs, and what the book draws from them.

from sparsity_lib import study
run = study.load_or_train(study.Experiment(network="sr2Net", dataset="digits", lr=0.1))
"""

from sparsity_lib.study.errors import StudyError
from sparsity_lib.study.experiment import Experiment
from sparsity_lib.study.queue.scheduling import load_or_train_all
from sparsity_lib.study.runs.file import Run, find, load
from sparsity_lib.study.runs.networks import trained_network
from sparsity_lib.study.runs.results import curves, published
from sparsity_lib.study.selection import select
from sparsity_lib.study.training.loop import NonFiniteLoss, load_or_train, train

__all__ = [
    "Experiment",
    "NonFiniteLoss",
    "Run",
    "StudyError",
    "curves",
    "find",
    "load",
    "load_or_train",
    "load_or_train_all",
    "published",
    "select",
    "train",
    "trained_network",
]
