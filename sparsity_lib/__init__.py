"""Activation sparsity and overfitting: measure, monitor and regularise it in any torch model.

```python
import sparsity_lib as sl

sparsity = sl.SparsityReg(model, {"conv3": 1e-3, "fc1": 1e-3})
with sparsity, sl.ActivationMonitor(model) as monitor:
    loss = cross_entropy(model(x), y) + sparsity()
stats = monitor.compute()
```

The library needs torch and numpy. `sparsity_lib.study` and the explorers need the extras `study` and `book`,
and are imported only when asked for.
"""

import warnings
from typing import Any

from sparsity_lib import functional, models
from sparsity_lib.coherence import Compression, GradientCoherent, compression
from sparsity_lib.entropy_drop import EntropyDropDetector
from sparsity_lib.monitor import ActivationMonitor, LayerStats
from sparsity_lib.receptive import ReceptiveField, receptive_fields
from sparsity_lib.regularizers import DecorrReg, PerplexityReg, SparsityReg, VarianceReg
from sparsity_lib.sparseout import Sparseout
from sparsity_lib.tensorboard import write_to_tensorboard

__all__ = [
    "ActivationMonitor",
    "Compression",
    "DecorrReg",
    "EntropyDropDetector",
    "GradientCoherent",
    "HeatmapExplorer",
    "ImageExplorer",
    "LayerStats",
    "PerplexityReg",
    "ReceptiveField",
    "Sparseout",
    "SparsityReg",
    "TrainingExplorer",
    "VarianceReg",
    "compression",
    "functional",
    "models",
    "receptive_fields",
    "write_to_tensorboard",
]
__version__ = "0.2.0"

_EXPLORERS = ("HeatmapExplorer", "ImageExplorer", "TrainingExplorer")


# Names of version 0.1, which warn for one release.
_RENAMED = {"OverfitWarning": "EntropyDropDetector"}


def __getattr__(name: str) -> Any:
    if name in _RENAMED:
        warnings.warn(f"{name} is now {_RENAMED[name]}", DeprecationWarning, stacklevel=2)
        return globals()[_RENAMED[name]]
    if name in _EXPLORERS:
        from sparsity_lib import explorer

        return getattr(explorer, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
