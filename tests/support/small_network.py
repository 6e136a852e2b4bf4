"""Networks for tests of the library."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

STRENGTHS = {"conv1": 0.1, "conv2": 0.2, "fc1": 0.3}


class SmallNetwork(nn.Module):
    """`(N, 3, 6, 6) -> (N, 4)`, with an in-place ReLU after every layer and always the same weights."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(1)
            self.conv1, self.norm1 = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)
            self.conv2, self.fc1, self.fc2 = nn.Conv2d(8, 6, 3), nn.Linear(24, 10), nn.Linear(10, 4)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.norm1(self.conv1(x)))
        x = self.relu(self.conv2(x))
        return self.fc2(self.relu(self.fc1(x.flatten(1))))

    def outputs(self, x: Tensor) -> dict[str, Tensor]:
        """The layers' outputs, before any ReLU."""
        conv1 = self.conv1(x)
        norm1 = self.norm1(conv1)
        conv2 = self.conv2(norm1.relu())
        fc1 = self.fc1(conv2.relu().flatten(1))
        return {"conv1": conv1, "norm1": norm1, "conv2": conv2, "fc1": fc1}


class Conv1D(nn.Module):
    """As in GPT-2: a linear layer with weights `(in, out)`, and `nf` channels."""

    def __init__(self, nf: int, nx: int) -> None:
        super().__init__()
        self.nf, self.weight = nf, nn.Parameter(torch.randn(nx, nf))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight


class Function(nn.Module):
    """A function of a tensor as a layer."""

    def __init__(self, function: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> object:
        return self.function(x)


class Network(nn.Module):
    """Named layers, and a function of the network and its input as the forward pass."""

    def __init__(self, function: Callable[..., object], **layers: nn.Module) -> None:
        super().__init__()
        for name, layer in layers.items():
            self.add_module(name, layer)
        self.function = function

    def forward(self, x: Tensor) -> object:
        return self.function(self, x)


def hooks_on(model: nn.Module) -> int:
    """Number of forward hooks on a model."""
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())
