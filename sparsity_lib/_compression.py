"""Compression of a model by weights that are exactly zero."""

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from sparsity_lib._layers import named_layers
from sparsity_lib._weights import refuse_slices, used_weights


@dataclass(frozen=True)
class Compression:
    """How many parameters there are, and how many of them are not exactly zero.

    ```python
    sl.Compression(parameters=100, nonzero=25).ratio  # 4.0
    ```

    `layers` holds the same for each module with parameters of its own, by dotted name in the model's order.
    """

    parameters: int
    nonzero: int
    layers: dict[str, "Compression"] = field(default_factory=dict)

    @property
    def ratio(self) -> float:
        """Parameters over those that are not zero: 1 without zeros, infinite if all are."""
        return self.parameters / self.nonzero if self.nonzero else math.inf


@torch.no_grad()
def compression(model: nn.Module) -> Compression:
    """How far zeros compress a model, over all its weights and layer by layer.

    ```python
    total = sl.compression(model)
    total.ratio, total.layers["conv1"].nonzero
    ```

    All count, biases and norms too, as the layers compute with them: pruned ones masked, parametrised ones as
    they are made, quantised ones unpacked, and those sharded by `fully_shard` whole, for which every process
    must call. A weight that several layers share counts once, in the first.

    **Raises:** `ValueError` if the model has no parameters, or a lazy layer none yet; `TypeError` for a model
    wrapped in `nn.DataParallel` or `FullyShardedDataParallel`.
    """
    refuse_slices(model)
    layers: dict[str, Compression] = {}
    seen: set[Any] = set()
    for name, module in named_layers(model).items():
        parameters = nonzero = 0
        for used in used_weights(module).values():
            if not seen.issuperset(used.sources):
                seen.update(used.sources)
                weight = used.read()
                parameters += weight.numel()
                nonzero += int(weight.count_nonzero())
        if parameters:
            layers[name] = Compression(parameters, nonzero)
    if not layers:
        raise ValueError("the model has no parameters")
    return Compression(
        sum(layer.parameters for layer in layers.values()),
        sum(layer.nonzero for layer in layers.values()),
        layers,
    )
