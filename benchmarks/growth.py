"""Growth of time and memory with the size of the computation.

python -m benchmarks.growth DEVICE SIZES: seconds of the decorrelation of so many filters, printed as JSON.
"""

import json
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from benchmarks.measure import Work, exponent, fresh_process, interleaved, peak_bytes, quartiles, ratio
from benchmarks.naive import explicit_decorrelation
from benchmarks.trainings import random_data, training
from sparsity_lib import functional
from sparsity_lib.study.training.preparation import keep_freed_memory

Seconds = Mapping[int, float]
SIGNED, ADDITIONS = "decorrelation, signed, with filters", "16 additions of as many weights"


def growth(device: torch.device, rounds: int = 5, small: bool = False) -> list[dict[str, Any]]:
    """The exponents of time, by round, and of peak memory over the size; 1 is linear.

    `small` leaves out the larger sizes: it shows that this works, and little of growth.
    """

    def entropy(samples: int, channels: int) -> Work:
        x = torch.randn(samples, channels, 16, 16, device=device).to(memory_format=torch.channels_last)
        x.requires_grad_()
        return lambda: functional.rfav_entropy(x).sum().backward()

    def measured(what: str, work: Mapping[int, Work]) -> dict[str, Any]:
        times = interleaved(work, rounds, 0.05)
        of_rounds = [{size: times[size][i] for size in work} for i in range(rounds)]
        return _row(what, list(work), of_rounds, _peaks(work, device))

    samples, channels = ((1, 2), (8, 16)) if small else ((256, 512, 1024, 2048), (32, 64, 128, 256))
    rows = [
        measured("entropy, not compiled, with positions", {256 * n: entropy(n, 32) for n in samples}),
        measured("entropy, not compiled, with channels", {d: entropy(samples[0], d) for d in channels}),
    ]
    filters = ((64, 128),) if small else ((64, 128, 256, 512), (1024, 2048, 4096))
    rows += _decorrelation_rows(device, rounds, filters)
    images = (64, 128) if small else (640, 2560, 10240)
    ones = {n: training("sr1Net", "s", device, random_data(n, device, held_out=64)) for n in images}
    return [*rows, measured("an epoch, with images", {n: one.train_epoch for n, one in ones.items()})]


def _decorrelation_rows(
    device: torch.device, rounds: int, ranges: Sequence[Sequence[int]]
) -> list[dict[str, Any]]:
    """Rows of the decorrelation; each round is a new process, as times depend on the place in memory."""
    rows = []
    for sizes in ranges:
        argument = json.dumps(sizes)
        found = [fresh_process("benchmarks.growth", str(device), argument) for _ in range(rounds)]
        by_what: dict[str, list[dict[int, float]]] = {
            what: [{size: record[what][str(size)] for size in sizes} for record in found] for what in found[0]
        }
        for what, work in decorrelation_work(device, sizes).items():
            rows.append(_row(what, sizes, by_what[what], _peaks(work, device)))
        beyond = [
            exponent(signed) - exponent(added)
            for signed, added in zip(by_what[SIGNED], by_what[ADDITIONS], strict=True)
        ]
        rows.append({"what": "decorrelation minus additions", "sizes": sizes} | quartiles(beyond)._asdict())
    return rows


def decorrelation_work(device: torch.device, sizes: Sequence[int]) -> dict[str, dict[int, Work]]:
    """Decorrelation with its gradient, by the library and by all pairs, and additions, by size."""

    def penalty(of: Callable[[torch.Tensor], torch.Tensor], filters: int) -> Work:
        weight = torch.randn(filters, 576, device=device, requires_grad=True)
        return lambda: of(weight).backward()

    def additions(filters: int) -> Work:
        """Passes over the same weights: growth beyond linear is due to memory alone."""
        weight = torch.randn(filters, 576, device=device)

        def work() -> None:
            summed = weight
            for _ in range(16):
                summed = summed + weight

        return work

    return {
        SIGNED: {size: penalty(functional.decorrelation, size) for size in sizes},
        "the same by all pairs": {size: penalty(explicit_decorrelation, size) for size in sizes},
        ADDITIONS: {size: additions(size) for size in sizes},
    }


def main(device: torch.device, sizes: Sequence[int]) -> None:
    """Measure in this process, and print."""
    keep_freed_memory()
    record = {}
    for what, work in decorrelation_work(device, sizes).items():
        times = interleaved(work, 5, 0.05)
        record[what] = {size: statistics.median(seconds) for size, seconds in times.items()}
    print(json.dumps(record))


def _row(
    what: str, sizes: Sequence[int], of_rounds: Sequence[Seconds], memory: Mapping[int, int]
) -> dict[str, Any]:
    by_round = quartiles([exponent(seconds) for seconds in of_rounds])._asdict()
    return {"what": what, "sizes": list(sizes)} | by_round | {"memory": exponent(memory)}


def _peaks(work: Mapping[int, Work], device: torch.device) -> dict[int, int]:
    return {size: peak_bytes(one, device) for size, one in work.items()}


def by_channels(device: torch.device, rounds: int, activations: int = 2**21) -> list[dict[str, Any]]:
    """Time of an entropy with its gradient per activation, over one exponential, by the number of channels.

    With fewer channels, an activation costs more: a vector's maximum and sums are computed once per vector.
    """
    exponentials = torch.empty(activations, device=device)
    values = torch.randn(activations, device=device)
    counts = (16, 32, 64, 128, 256)

    def entropy(channels: int, compiled: bool) -> Work:
        vectors = values.view(-1, channels)
        return lambda: functional.rfav_entropy(vectors, compiled=compiled)

    ways = [(channels, compiled) for compiled in (True, False) for channels in counts]
    work: dict[Any, Work] = {"exp": lambda: torch.exp(values, out=exponentials)}
    times = interleaved(work | {way: entropy(*way) for way in ways}, rounds, 0.1)
    return [
        {"channels": way[0], "compiled": way[1]} | ratio(times[way], times["exp"])._asdict() for way in ways
    ]


if __name__ == "__main__":
    main(torch.device(sys.argv[1]), json.loads(sys.argv[2]))
