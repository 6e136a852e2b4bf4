"""Activation sparsity and overfitting: measure, monitor and regularise it in any torch model.

```python
import sparsity_lib as sl

sparsity = sl.SparsityReg(model, {"conv3": 0.25, "fc1": 1e-3})
with sparsity, sl.ActivationMonitor(model) as monitor:
    loss = cross_entropy(model(x), y) + sparsity()
stats = monitor.compute()
```

The library needs torch and numpy. `sparsity_lib.study` needs the extra `study`, the explorers `explorer`;
they are imported only when asked for.
"""

import importlib
import pkgutil
import warnings
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sparsity_lib import functional, models
    from sparsity_lib._compression import Compression, compression
    from sparsity_lib._receptive_fields import ReceptiveField, receptive_fields
    from sparsity_lib.entropy_drop import EntropyDropDetector
    from sparsity_lib.gradient_coherence import GradientCoherent
    from sparsity_lib.monitor import ActivationMonitor, LayerStats
    from sparsity_lib.regularizers import DecorrReg, PerplexityReg, ScaleFreeReg, SparsityReg, VarianceReg
    from sparsity_lib.sparseout import Sparseout
    from sparsity_lib.tensorboard import write_to_tensorboard

__all__ = [
    "ActivationMonitor",
    "Compression",
    "DecorrReg",
    "EntropyDropDetector",
    "GradientCoherent",
    "LayerStats",
    "PerplexityReg",
    "ReceptiveField",
    "ScaleFreeReg",
    "Sparseout",
    "SparsityReg",
    "VarianceReg",
    "compression",
    "functional",
    "models",
    "receptive_fields",
    "write_to_tensorboard",
]
__version__ = "0.2.0"

# Imported when asked for: torch takes seconds, which a command such as `study status` does not need.
_MODULES = {
    "_compression": ("Compression", "compression"),
    "_receptive_fields": ("ReceptiveField", "receptive_fields"),
    "entropy_drop": ("EntropyDropDetector",),
    "explorer": ("HeatmapExplorer", "ImageExplorer", "Recording"),
    "gradient_coherence": ("GradientCoherent",),
    "monitor": ("ActivationMonitor", "LayerStats"),
    "regularizers": ("DecorrReg", "PerplexityReg", "ScaleFreeReg", "SparsityReg", "VarianceReg"),
    "sparseout": ("Sparseout",),
    "tensorboard": ("write_to_tensorboard",),
}
_SUBMODULES = {module.name for module in pkgutil.iter_modules(__path__) if module.name[0] != "_"}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}
# Until version 0.3: name -> name in sparsity_lib.study.explorers, warning, frames up to the caller.
_OF_STUDY = {
    "TrainingExplorer": ("TrainingExplorer", "sl.TrainingExplorer is now study.TrainingExplorer", 2),
    "_recordings_of": ("recordings_of", "sl.HeatmapExplorer(runs) is now study.explore(runs)", 3),
    "_of_run": ("of_run", "sl.ImageExplorer(run) is now study.image_explorer(run)", 3),
}


# Names of version 0.1, which warn for one release.
_RENAMED = {"OverfitWarning": "EntropyDropDetector"}


def __getattr__(name: str) -> Any:
    if name in _RENAMED:
        warnings.warn(f"{name} is now {_RENAMED[name]}", DeprecationWarning, stacklevel=2)
        return __getattr__(_RENAMED[name])
    if name in _SUBMODULES:
        return importlib.import_module(f"sparsity_lib.{name}")
    if name in _MODULE_OF:
        module = importlib.import_module(f"sparsity_lib.{_MODULE_OF[name]}")
        return globals().setdefault(name, getattr(module, name))
    if name in _OF_STUDY:
        from sparsity_lib.study import explorers

        there, warning, frames = _OF_STUDY[name]
        warnings.warn(warning, DeprecationWarning, stacklevel=frames)
        return getattr(explorers, there)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULE_OF, *_SUBMODULES})
