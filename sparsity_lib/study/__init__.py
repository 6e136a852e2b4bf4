"""The study: experiments, training, runs, analysis and figures of the book.

```python
from sparsity_lib import study

run = study.load_or_train(study.Experiment(network="sr2Net", dataset="digits", lr=0.1))
```
"""

import importlib
from typing import TYPE_CHECKING, Any

from sparsity_lib._settings import needs

if TYPE_CHECKING:
    from sparsity_lib.study.errors import NonFiniteLoss, StudyError
    from sparsity_lib.study.experiment import Experiment
    from sparsity_lib.study.explorers import TrainingExplorer, explore, image_explorer, rescale_control
    from sparsity_lib.study.queue.scheduling import load_or_train_all
    from sparsity_lib.study.runs.file import Run, find, load
    from sparsity_lib.study.runs.networks import trained_network
    from sparsity_lib.study.runs.results import curves, published
    from sparsity_lib.study.selection import select
    from sparsity_lib.study.training.loop import load_or_train, train

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
    "rescale_control",
    "select",
    "train",
    "trained_network",
]

# Imported on first use: `status` needs no torch, and training no explorer.
_MODULES = {
    "errors": ("NonFiniteLoss", "StudyError"),
    "experiment": ("Experiment",),
    "explorers": ("TrainingExplorer", "explore", "image_explorer", "rescale_control"),
    "queue.scheduling": ("load_or_train_all",),
    "runs.file": ("Run", "find", "load"),
    "runs.networks": ("trained_network",),
    "runs.results": ("curves", "published"),
    "selection": ("select",),
    "training.loop": ("load_or_train", "train"),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    with needs("study"):
        module = importlib.import_module(f"{__name__}.{_MODULE_OF[name]}")
    return globals().setdefault(name, getattr(module, name))


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
