"""Fixtures of the library's tests."""

import sys
import types
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from small_network import Conv1D, SmallNetwork
from torch import Tensor


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture
def _fresh_compiler() -> Iterator[None]:
    """Nothing compiled, and torch.compile not looking for hooks, as by default."""
    torch.compiler.reset()
    torch._dynamo.config.skip_nnmodule_hook_guards = True
    yield
    torch.compiler.reset()


@pytest.fixture
def _alone(tmp_path: Path) -> Iterator[None]:
    """A process group of this process alone."""
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.fixture
def _transformers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in of transformers, with its Conv1D."""
    library = types.ModuleType("transformers.pytorch_utils")
    library.Conv1D = Conv1D
    monkeypatch.setitem(sys.modules, library.__name__, library)


@pytest.fixture
def x() -> Tensor:
    """Images for a `SmallNetwork`."""
    return torch.randn(5, 3, 6, 6)


@pytest.fixture
def model() -> SmallNetwork:
    return SmallNetwork().eval()
