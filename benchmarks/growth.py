"""How time and memory grow with the size of what is computed."""

from collections.abc import Callable, Mapping
from typing import Any

import torch

from benchmarks.measure import Work, exponent, interleaved, peak_bytes, quartiles, ratio
from benchmarks.naive import explicit_decorrelation
from benchmarks.trainings import random_data, training
from sparsity_lib import functional


def growth(device: torch.device, rounds: int, small: bool = False) -> list[dict[str, Any]]:
    """The exponents of time, by round, and of peak memory over the size; 1 is linear.

    `small` leaves out the larger sizes: it shows that this works, and says little of growth.
    """
    rows = []

    def add(what: str, work: Mapping[int, Work], *ranges: tuple[int, int]) -> None:
        times = interleaved({str(size): one for size, one in work.items()}, rounds, 0.05)
        memory = {size: peak_bytes(one, device) for size, one in work.items()}
        for low, high in ranges or ((min(work), max(work)),):
            sizes = [size for size in work if low <= size <= high]
            by_round = [
                exponent(sizes, seconds)
                for seconds in zip(*(times[str(size)] for size in sizes), strict=True)
            ]
            row: dict[str, Any] = {"what": what, "sizes": sizes} | quartiles(by_round)._asdict()
            rows.append(row | {"memory": exponent(sizes, [memory[size] for size in sizes])})

    def entropy(samples: int, channels: int) -> Work:
        x = torch.randn(samples, channels, 16, 16, device=device, requires_grad=True)
        return lambda: functional.rfav_entropy(x).sum().backward()

    samples, channels = ((1, 2), (8, 16)) if small else ((64, 128, 256, 512), (32, 64, 128, 256))
    add("entropy, with positions", {256 * n: entropy(n, 32) for n in samples})
    add("entropy, with channels", {d: entropy(64, d) for d in channels})

    def pairs(filters: int, penalty: Callable[[torch.Tensor], torch.Tensor]) -> Work:
        weight = torch.randn(filters, 576, device=device, requires_grad=True)
        return lambda: penalty(weight).backward()

    def additions(filters: int) -> Work:
        """A fixed number of passes over such weights: what exceeds linear growth here is memory's."""
        weight = torch.randn(filters, 576, device=device)

        def work() -> None:
            summed = weight
            for _ in range(16):
                summed = summed + weight

        return work

    filters = (64, 128) if small else (64, 128, 256, 512, 1024, 2048, 4096)
    ranges = ((64, 128),) if small else ((64, 512), (1024, 4096))
    for what, penalty in (
        ("decorrelation, signed, with filters", functional.decorrelation),
        ("the same by all pairs", explicit_decorrelation),
    ):
        add(what, {d: pairs(d, penalty) for d in filters}, *ranges)
    add("16 additions of as many weights", {d: additions(d) for d in filters}, *ranges)

    images = (64, 128) if small else (640, 2560, 10240)
    ones = {n: training("sr1Net", "s", device, random_data(n, device, held_out=64)) for n in images}
    add("an epoch, with images", {n: one.train_epoch for n, one in ones.items()})
    return rows


def by_channels(device: torch.device, rounds: int, activations: int = 2**21) -> list[dict[str, Any]]:
    """An activation's share of an entropy with its gradient, over one exponential, by the number of channels.

    Few channels cost more each: a vector's maximum and sums are taken across it, once per vector.
    """
    exponentials = torch.empty(activations, device=device)
    values = torch.randn(activations, device=device)
    counts = (16, 32, 64, 128, 256)

    def entropy(channels: int, compiled: bool) -> Work:
        vectors = values.view(-1, channels)
        return lambda: functional.rfav_entropy(vectors, compiled=compiled)

    ways = [(channels, compiled) for compiled in (True, False) for channels in counts]
    work: dict[str, Work] = {"exp": lambda: torch.exp(values, out=exponentials)}
    work |= {f"{channels} {compiled}": entropy(channels, compiled) for channels, compiled in ways}
    times = interleaved(work, rounds, 0.1)
    return [
        {"channels": channels, "compiled": compiled}
        | ratio(times[f"{channels} {compiled}"], times["exp"])._asdict()
        for channels, compiled in ways
    ]
