"""Times and memory; candidates take turns, so that a busy moment of the machine slows all of them."""

import datetime
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch

from sparsity_lib.study.files import atomic_write

Work = Callable[[], object]
Name = TypeVar("Name")


class Ratio(NamedTuple):
    """The median and quartiles of rounds, as of a candidate's time over the reference's."""

    median: float
    low: float
    high: float


def interleaved(
    candidates: Mapping[Name, Work], rounds: int, seconds: float = 0.4
) -> dict[Name, list[float]]:
    """Seconds per call of each candidate, round by round; they take turns of about `seconds`."""
    repeats = {}
    for name, work in candidates.items():
        work()  # allocates, and compiles where there is something to compile
        repeats[name] = max(1, round(seconds / _timed(work, 1)))
    times: dict[Name, list[float]] = {name: [] for name in candidates}
    for _ in range(rounds):
        for name, work in candidates.items():
            times[name].append(_timed(work, repeats[name]))
    return times


def _timed(work: Work, repeats: int) -> float:
    _wait()
    start = time.perf_counter()
    for _ in range(repeats):
        work()
    _wait()
    return (time.perf_counter() - start) / repeats


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def ratio(times: Sequence[float], reference: Sequence[float]) -> Ratio:
    """One candidate's times over another's, of the same rounds."""
    return quartiles([time / other for time, other in zip(times, reference, strict=True)])


def quartiles(of_rounds: Sequence[float]) -> Ratio:
    """Median and quartiles of two rounds or more; never beyond what was measured."""
    low, median, high = statistics.quantiles(of_rounds, n=4, method="inclusive")
    return Ratio(median, low, high)


def peak_bytes(work: Work, device: torch.device) -> int:
    """Peak memory of a call in bytes, beyond the memory in use before it."""
    work()
    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        work()
        return torch.cuda.max_memory_allocated(device) - before
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True) as profile:
        work()
    events = [e for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"]
    held = peak = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak


def exponent(of_sizes: Mapping[int, float]) -> float:
    """The exponent of a time or memory, given by size: the slope of logarithms by least squares."""
    return float(np.polyfit(np.log([*of_sizes]), np.log([*of_sizes.values()]), 1)[0])


def section(rows: list[dict[str, Any]], made_by: dict[str, Any]) -> dict[str, Any]:
    """The rows of a section with today's date and the code that they were measured with."""
    return {"date": datetime.datetime.now(datetime.UTC).date().isoformat(), **made_by, "rows": rows}


def write(path: Path, record: dict[str, Any]) -> None:
    """Write a record as JSON."""
    with atomic_write(path) as partial:
        partial.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")


def fresh_process(module: str, *arguments: str, cache: str | None = None) -> Any:
    """Run the module and return the JSON that it prints; compiled code is kept in `cache`, or nowhere."""
    with tempfile.TemporaryDirectory() as empty:
        result = subprocess.run(
            [sys.executable, "-m", module, *arguments],
            check=True,
            env=os.environ | {"TORCHINDUCTOR_CACHE_DIR": cache or empty},
            stdout=subprocess.PIPE,
            text=True,
        )
    return json.loads(result.stdout)
