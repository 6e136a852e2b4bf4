"""How times grow with the size of what is computed."""

import statistics
from collections.abc import Sequence
from typing import Any

import torch

from benchmarks.measure import exponent, interleaved
from benchmarks.naive import explicit_decorrelation
from benchmarks.trainings import random_data, training
from sparsity_lib import functional


def growth(device: torch.device, rounds: int) -> list[dict[str, Any]]:
    """How times grow: the exponent of the time over the size; 1 is linear."""
    few = max(3, rounds // 3)
    rows = []

    def add(what: str, sizes: Sequence[int], work: dict[str, Any]) -> None:
        times = [statistics.median(seconds) for seconds in interleaved(work, few, 0.1).values()]
        rows.append({"what": what, "sizes": list(sizes), "exponent": exponent(sizes, times)})

    def entropy(samples: int, channels: int) -> Any:
        x = torch.randn(samples, channels, 16, 16, device=device, requires_grad=True)
        return lambda: functional.rfav_entropy(x).sum().backward()

    sizes = (64, 128, 256, 512)
    add("entropy, with positions", [256 * n for n in sizes], {str(n): entropy(n, 32) for n in sizes})
    channels = (32, 64, 128, 256)
    add("entropy, with channels", channels, {str(d): entropy(64, d) for d in channels})

    def pairs(filters: int, explicit: bool) -> Any:
        weight = torch.randn(filters, 576, device=device, requires_grad=True)
        penalty = explicit_decorrelation if explicit else functional.decorrelation
        return lambda: penalty(weight).backward()

    filters = (512, 1024, 2048, 4096)
    for explicit, told in ((False, "decorrelation, signed, with filters"), (True, "the same by all pairs")):
        add(told, filters, {str(d): pairs(d, explicit) for d in filters})
    images = (512, 1024, 2048)
    one = {n: training("sr1Net", "s", device, random_data(n, device, held_out=64)) for n in images}
    add("an epoch, with images", images, {str(n): one[n].train_epoch for n in images})
    return rows
