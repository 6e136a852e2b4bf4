"""Other precisions: their speed, and the accuracy that is reached with them."""

from typing import Any

import numpy as np
import torch

from benchmarks.measure import interleaved, ratio
from benchmarks.trainings import BATCH, random_data, training
from sparsity_lib.study import Experiment
from sparsity_lib.study.analysis import comparison
from sparsity_lib.study.training import observation
from sparsity_lib.study.training.preparation import load_on
from sparsity_lib.study.training.random_streams import reproducible


def precisions(size: str, device: torch.device, rounds: int) -> list[dict[str, Any]]:
    """Steps per second in other precisions over those in float32; on a GPU also of `deterministic`."""
    data = random_data(BATCH * 4, device, held_out=64)
    work = {}
    for network in ("vanillaNet", "sr3Net"):
        for precision in ("float32", "bf16"):
            one = training(network, size, device, data, precision=precision, compiled=True)
            work[network, precision] = one.train_epoch
        if device.type == "cuda":
            one = training(network, size, device, data, deterministic=True, compiled=True)
            work[network, "float32, deterministic"] = reproducible(one.experiment, device)(one.train_epoch)
    times = interleaved(work, rounds)
    return [
        {"size": size, "network": network, "precision": precision}
        | ratio(times[network, "float32"], times[network, precision])._asdict()
        for network, precision in work
    ]


def accuracies(device: torch.device, seeds: int = 10, epochs: int = 12) -> list[dict[str, Any]]:
    """Validation accuracy in bf16 less that in float32, paired by seed: size m on digits."""

    def accuracy(network: str, precision: str, seed: int) -> float:
        one = training(network, "m", device, data, precision=precision, seed=seed, lr=0.1)
        with reproducible(one.experiment, device):
            for epoch in range(epochs):
                one.epoch = epoch
                one.train_epoch()
            with one.autocast():
                outcome = observation.evaluate(one.model, data.validation, one.prepare)
            return outcome.correct.float().mean().item()

    data = load_on(device, Experiment(dataset="digits"))
    rows = []
    for network in ("vanillaNet", "sr3Net"):
        reached = {
            precision: np.array([accuracy(network, precision, seed) for seed in range(seeds)])
            for precision in ("float32", "bf16")
        }
        row = {"network": network, "epochs": epochs, "float32_sd": reached["float32"].std(ddof=1)}
        row |= {precision: values.mean() for precision, values in reached.items()}
        rows.append(row | comparison.describe(reached["bf16"] - reached["float32"])._asdict())
    return rows
