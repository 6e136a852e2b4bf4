"""Training without the library: hooks, softmax and logarithm, a matrix of all pairs, `.item()`."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparsity_lib.study import Experiment
from sparsity_lib.study.data import Data
from sparsity_lib.study.training.preparation import scaling


class NaiveTraining:
    """A training of the same network on the same data, whose epoch is `train_epoch`."""

    def __init__(self, experiment: Experiment, device: torch.device, data: Data) -> None:
        images = data.train.images
        torch.manual_seed(experiment.seed)
        height, width = images.shape[2:]
        self.model = experiment.build(images.shape[1], (height, width), len(data.classes))
        self.model = self.model.to(device).to(memory_format=torch.channels_last).train()
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=experiment.learning_rate())
        self.data, self.prepare, self.batch_size = data, scaling(experiment, images), experiment.batch_size
        self.strengths = experiment.strengths()
        self.modules = dict(self.model.named_modules())
        self.penalty: list[Tensor] = []
        for name, strength in self.strengths["sparsity"].items():
            self.modules[name].register_forward_hook(self._hook(strength))

    def _hook(self, strength: float) -> Any:
        def add(module: nn.Module, inputs: Any, output: Tensor) -> None:
            p = torch.softmax(output, dim=1)
            self.penalty.append(strength * (p * torch.log(p)).sum() / len(output))

        return add

    def train_epoch(self) -> float:
        """One epoch; the mean loss."""
        total = 0.0
        order = torch.randperm(len(self.data.train.labels)).to(self.data.train.labels.device)
        batches = order.split(self.batch_size)
        for batch in batches:
            x, y = self.prepare(self.data.train.images[batch]), self.data.train.labels[batch]
            self.penalty.clear()
            loss = F.cross_entropy(self.model(x), y)
            loss = sum(self.penalty, start=loss)
            for name, strength in self.strengths["decorrelation"].items():
                loss = loss + strength * explicit_decorrelation(self.modules[name].weight)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            total += loss.item()
        return total / len(batches)


def explicit_decorrelation(weight: Tensor) -> Tensor:
    """TSR's Eq. 6 and 7 as printed, by the matrix of all pairs."""
    filters = weight.flatten(1)
    centred = filters - filters.mean(0)
    units = centred / centred.norm(dim=1, keepdim=True)
    return (units @ units.T).tril(-1).sum()
