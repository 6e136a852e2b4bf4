"""Fixtures of the library's tests."""

import pytest
import torch
from small_network import SmallNetwork
from torch import Tensor


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture
def x() -> Tensor:
    """Images for a `SmallNetwork`."""
    return torch.randn(5, 3, 6, 6)


@pytest.fixture
def model() -> SmallNetwork:
    return SmallNetwork().eval()
