"""Temperature scaling (Guo et al. 2017, arXiv 1706.04599): one number that sets a network's confidence."""

import math

import torch
from torch import Tensor

MOST = 1000.0  # temperatures lie from 1/MOST to MOST
_HALVINGS = 50


@torch.no_grad()
def temperature(logits: Tensor, labels: Tensor) -> float:
    """Temperature T, from 1/MOST to MOST, that minimises the mean cross-entropy of softmax(logits / T).

    **Arguments:** `logits` (N, classes), `labels` (N,). The cross-entropy is convex in 1/T: its
    derivative there, the mean of E[z] - z_label over images, z the logits, is bisected.
    """
    z = logits.double()
    of_label = z.gather(1, labels[:, None]).squeeze(1)

    def slope(inverse: float) -> float:
        return float(((z * inverse).softmax(1).mul(z).sum(1) - of_label).mean())

    low, high = -math.log(MOST), math.log(MOST)  # of ln(1/T)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if slope(math.exp(middle)) > 0 else (middle, high)
    return math.exp(-(low + high) / 2)
