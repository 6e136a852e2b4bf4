"""Public names are documented with an example that runs."""

from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch
from examples import EXAMPLE, run_example
from torch import nn
from torch.nn.functional import cross_entropy

import sparsity_lib as sl

PUBLIC = {
    f"{module.__name__}.{name}": getattr(module, name)
    for module in (sl, sl.functional, sl.models, sl.entropy_drop)
    for name in module.__all__
    if callable(getattr(module, name))
}


def surroundings() -> dict[str, Any]:
    """Names that examples may use: a network, images, and stand-ins of a user's own objects."""
    torch.manual_seed(0)
    model, x, y = sl.models.vanilla_net(), torch.randn(4, 3, 32, 32), torch.arange(4)
    stats = {"conv3": SimpleNamespace(entropy=1.0), "fc1": SimpleNamespace(entropy=1.0)}
    return {
        **{"torch": torch, "nn": nn, "sl": sl, "models": sl.models, "cross_entropy": cross_entropy},
        **{"model": model, "x": x, "y": y, "epoch": 0, "loss": cross_entropy(model(x), y)},
        "monitor": SimpleNamespace(compute=lambda: stats, reset=lambda: None),
        "SummaryWriter": lambda folder: MagicMock(spec=["add_scalar", "add_image", "add_histogram"]),
        **{name: getattr(sl.functional, name) for name in sl.functional.__all__},
        **{"Sparseout": sl.Sparseout, "collapse_epochs": sl.entropy_drop.collapse_epochs, "np": np},
    }


@pytest.mark.parametrize("name", PUBLIC)
def test_the_example_runs(name: str) -> None:
    run_example(PUBLIC[name], surroundings())


def test_examples_of_explorers_run() -> None:
    pytest.importorskip("anywidget")
    images = np.zeros((4, 32, 32, 3), np.uint8)
    namespace = surroundings() | {"images": images, "epochs": 1, "train_one_epoch": lambda model: None}
    for name in ("Recording", "HeatmapExplorer", "ImageExplorer"):
        run_example(getattr(sl, name), namespace)
        namespace["first"] = namespace["second"] = namespace["recording"]


@pytest.mark.parametrize("module", [sl, sl.models])
def test_examples_of_modules_run(module: ModuleType) -> None:
    for example in EXAMPLE.findall(module.__doc__):
        exec(example, surroundings())


def test_types_of_the_package_are_used_by_checkers() -> None:
    assert (Path(sl.__file__).parent / "py.typed").exists()
