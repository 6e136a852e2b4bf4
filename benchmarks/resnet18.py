"""Costs of the library in plain training of torchvision's ResNet-18, 16 images of 64 x 64, on one thread.

python -m benchmarks.resnet18: measures in three minutes, prints, and writes `results/resnet18.json`.
"""

import math
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

import sparsity_lib as sl
from benchmarks.__main__ import RESULTS, machine
from benchmarks.measure import Ratio, Work, interleaved, quartiles, ratio, section, write
from sparsity_lib.study.runs import provenance

FIRST_MONITOR = """
import time, torch
start = time.process_time()
import sparsity_lib
sparsity_lib.ActivationMonitor(torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3)))
print(time.process_time() - start)
"""


def costs(rounds: int = 21, size: int = 64) -> Iterator[dict[str, Any]]:
    """Times with the library over times without it, by round; CPU times of receptive fields and import."""
    torch.manual_seed(0)
    model = torchvision.models.resnet18()
    x, y = torch.randn(16, 3, size, size), torch.randint(1000, (16,))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9)
    convolutions = [name for name, layer in model.named_modules() if isinstance(layer, nn.Conv2d)]
    strengths = {name: 1e-4 for name in convolutions if name.startswith("layer") and "downsample" not in name}
    monitor, sparsity = sl.ActivationMonitor(model), sl.SparsityReg(model, strengths)
    decorrelation = sl.DecorrReg(model, strengths)

    def step(penalty: Callable[[], Tensor] | None = None) -> None:
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        (loss + penalty() if penalty else loss).backward()
        optimizer.step()

    def monitored() -> None:
        with monitor:
            step()

    def penalised() -> None:
        with sparsity:
            step(sparsity)

    on = f"{len(strengths)} convolutions"
    yield _pair(f"ActivationMonitor, {len(monitor.layers)} layers", 1.35, monitored, step, rounds)
    yield _pair(f"SparsityReg, {on}", 1.10, penalised, step, rounds)
    yield _pair(f"DecorrReg, {on}", 1.15, lambda: step(decorrelation), step, rounds)
    kinds: dict[str, Callable[[], torch.optim.Optimizer]] = {
        "SGD with momentum": lambda: torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9),
        "AdamW": lambda: torch.optim.AdamW(model.parameters(), lr=1e-4),
    }
    for name, kind in kinds.items():
        plain, coherent = kind(), kind()
        sl.GradientCoherent(coherent, l1=1e-6, l2=1e-6)
        yield _pair(f"GradientCoherent's step, {name}", 2.0, coherent.step, plain.step, rounds)
    fields = [_seconds(lambda: sl.receptive_fields(model, (3, size, size))) for _ in range(3)]
    yield _row("receptive fields of all layers, CPU time", 3.0, " s", quartiles(fields))
    command = [sys.executable, "-c", FIRST_MONITOR]
    starts = [float(subprocess.check_output(command)) for _ in range(3)]
    yield _row("import and a first monitor, CPU time beyond torch", 2.0, " s", quartiles(starts))


def _seconds(work: Work) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def _row(what: str, goal: float, unit: str, measured: Ratio, profile: str = "") -> dict[str, Any]:
    return {"what": what, "goal": goal, "unit": unit, "profile": profile} | measured._asdict()


def _pair(what: str, goal: float, ours: Work, plain: Work, rounds: int) -> dict[str, Any]:
    """Ratio of the two times, and the operations that make the difference, in shares of the plain time."""
    times = interleaved({"ours": ours, "plain": plain}, rounds, seconds=0.1)
    spent, without = _spent(ours), _spent(plain)
    whole = sum(seconds for _, seconds in without.values())
    shares = {}
    for name, (calls, seconds) in spent.items():
        calls_without, seconds_without = without.get(name, (0, 0.0))
        if calls > calls_without:  # the others belong to the step itself
            shares[name.removeprefix("aten::")] = (seconds - seconds_without) / whole
    most = sorted(shares.items(), key=lambda item: -item[1])[:5]
    profile = ", ".join(f"{name} {100 * share:.0f} %" for name, share in most)
    return _row(what, goal, " ×", ratio(times["ours"], times["plain"]), profile)


def _spent(work: Work) -> dict[str, tuple[int, float]]:
    """Calls, and least CPU time of three profiles, of each operation without the operations it calls."""
    spent: dict[str, tuple[int, float]] = {}
    for _ in range(3):
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
            work()
        for event in profile.key_averages():
            _, least = spent.get(event.key, (0, math.inf))
            spent[event.key] = event.count, min(least, event.self_cpu_time_total)
    return spent


def main() -> None:
    """Measure, print and write."""
    torch.set_num_threads(1)
    made_by = provenance.code()
    rows = []
    for row in costs():
        print(
            f"{row['what']}: {row['median']:.2f}{row['unit']}, goal {row['goal']}; {row['profile']}",
            flush=True,
        )
        rows.append(row)
    sections = {"resnet18": section(rows, made_by)}
    write(RESULTS / "resnet18.json", {"machine": machine(torch.device("cpu")), "sections": sections})


if __name__ == "__main__":
    main()
