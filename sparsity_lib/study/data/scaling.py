"""Scaling of images to the inputs of a network."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Prepare = Callable[[Tensor], Tensor]  # uint8 images to what the network takes


@dataclass(frozen=True)
class Scaling:
    """From uint8 images to (image - offset) / scale, float32; both broadcast over (N, C, H, W)."""

    offset: Tensor
    scale: Tensor

    def __call__(self, images: Tensor) -> Tensor:
        """Scaled images, channels last in memory."""
        return ((images.float() - self.offset) / self.scale).contiguous(memory_format=torch.channels_last)
