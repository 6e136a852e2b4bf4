"""Time of a training step with the methods of the other three papers, relative to a step without."""

from typing import Any

import torch

from benchmarks.measure import interleaved, ratio
from benchmarks.trainings import BATCH, random_data, training

# Name of a candidate: its network, and what else it is.
CANDIDATES: dict[str, tuple[str, dict[str, Any]]] = {
    "plain": ("vanillaNet", {}),
    "dropout": ("dropNet", {}),
    **{f"Sparseout, q = {q:g}": ("sparseoutNet", {"q": q}) for q in (1.0, 1.5, 2.5, 3.0)},
    "SparsityReg on four convolutions": (
        "vanillaNet",
        {"sparsity": {f"conv{i}": 1e-3 for i in range(1, 5)}, "compiled": True},
    ),
    "PerplexityReg on the same": ("prNet", {"compiled": True}),
    "L1 always on": ("vanillaNet", {"l1": 1e-3}),
    "L1 while gradients cohere": ("vanillaNet", {"l1": 1e-3, "rho": 0.0}),
}
PAIRS = (
    ("dropout", "plain"),
    *((name, "dropout") for name in CANDIDATES if name.startswith("Sparseout")),
    ("SparsityReg on four convolutions", "plain"),
    ("PerplexityReg on the same", "SparsityReg on four convolutions"),
    ("L1 always on", "plain"),
    ("L1 while gradients cohere", "plain"),
)


def counterparts(size: str, device: torch.device, rounds: int) -> list[dict[str, Any]]:
    """The time of each pair's first over its second, and the quartiles over rounds."""
    data = random_data(BATCH * (16 if size == "s" else 4), device, held_out=64)
    work = {
        name: training(network, size, device, data, **fields).train_epoch
        for name, (network, fields) in CANDIDATES.items()
    }
    times = interleaved(work, rounds)
    return [
        {"size": size, "step": name, "over": other} | ratio(times[name], times[other])._asdict()
        for name, other in PAIRS
    ]
