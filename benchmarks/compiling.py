"""python -m benchmarks.compiling SIZE: time that compiling the entropies takes and saves, in a new process.

Prints a JSON object: seconds of compiling, seconds of an epoch with and without it, the epoch's steps, and
the number of activations per step whose entropy is computed.
"""

import json
import statistics
import sys
import tempfile
import time
from typing import Any

import torch

from benchmarks.measure import fresh_process, interleaved
from benchmarks.steps import regularised_bytes
from benchmarks.trainings import BATCH, random_data, training
from sparsity_lib.study.training.loop import Training
from sparsity_lib.study.training.preparation import COMPILED_FROM, keep_freed_memory


def compiling(sizes: tuple[str, ...], rounds: int = 3) -> list[dict[str, Any]]:
    """Number of activations after which compiling has saved its own time; torch's cache empty and filled.

    `steps`: time of compiling, in uncompiled steps of sr1Net; `pays_from`: number of activations whose
    entropy must be computed to save this time, infinite if compiled steps are no faster. On a CPU.
    """
    rows = []
    for size in sizes:
        record: dict[str, list[dict[str, float]]] = {"empty": [], "filled": []}
        for _ in range(rounds):
            with tempfile.TemporaryDirectory() as cache:
                for state in record:
                    record[state].append(fresh_process("benchmarks.compiling", size, cache=cache))
        for state, runs in record.items():
            seen = {name: statistics.median(run[name] for run in runs) for name in runs[0]}
            once, saved = seen["once"], seen["plain"] - seen["compiled"]
            batches = once / saved * seen["steps"] if saved > 0 else float("inf")
            rows.append(
                {
                    "size": size,
                    "cache": state,
                    "rounds": rounds,
                    "steps": once / seen["plain"] * seen["steps"],
                    "pays_from": batches * seen["activations"],
                    "compiled_from": COMPILED_FROM,
                }
            )
    return rows


def main(size: str, steps: int = 4) -> None:
    """Measure one size in this process, and print."""
    keep_freed_memory()
    device = torch.device("cpu")
    data = random_data(BATCH * steps, device, held_out=64)

    def started(compiled: bool) -> tuple[Training, float]:
        start = time.perf_counter()
        one = training("sr1Net", size, device, data, compiled=compiled)
        one.train_epoch()
        one.observe()
        return one, time.perf_counter() - start

    plain, _ = started(False)  # what torch does once in a process is not compiling
    (_, first), (compiled, again) = started(True), started(True)
    work = {"plain": plain.train_epoch, "compiled": compiled.train_epoch}
    record = {name: statistics.median(times) for name, times in interleaved(work, 9, 0.1).items()}
    record |= {"once": first - again, "steps": steps, "activations": regularised_bytes(plain) / 4}
    print(json.dumps(record))


if __name__ == "__main__":
    main(sys.argv[1])
