"""Random numbers of a training: one stream for each seed, purpose and epoch."""

import contextlib
import hashlib
from collections.abc import Iterator

import torch

from sparsity_lib.study.experiment import AnyExperiment


def random_stream(seed: int, purpose: str, epoch: int = 0) -> int:
    """Seed of a stream for one purpose and epoch: a resumed run draws the same numbers as an unbroken one."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{purpose}/{epoch}".encode()).digest()[:7])


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Restrict torch to one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextlib.contextmanager
def reproducible(experiment: AnyExperiment, device: torch.device) -> Iterator[None]:
    """Leave the caller's random state and torch's settings as they were."""
    deterministic = torch.are_deterministic_algorithms_enabled()
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        torch.use_deterministic_algorithms(experiment.deterministic or deterministic)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(deterministic)
