"""Costs of penalties in a training step, relative to plain training and the naive form, by operation."""

import gc
import statistics
import time
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.measure import Work, interleaved, peak_bytes, ratio
from benchmarks.naive import NaiveTraining
from benchmarks.trainings import BATCH, random_data, training
from sparsity_lib.study import Experiment
from sparsity_lib.study.training.loop import Training
from sparsity_lib.study.training.observation import layer_outputs

RECIPES = ("sr1Net", "sr2Net", "sr3Net")
PARTS = {
    "entropy and its gradient": ("## Call CompiledFxGraph",),
    "adding the gradient to the network's": ("aten::add_",),
    "calling the compiled code": ("Torch-Compiled Region", "TorchDynamo", "_Entropy"),
    "sums and views around it": (
        *("aten::sum", "aten::view", "aten::reshape", "aten::permute", "aten::movedim", "aten::expand"),
        *("aten::new_full", "aten::select", "aten::as_strided", "aten::detach", "aten::item"),
    ),
}


def steps(size: str, device: torch.device, rounds: int, precision: str = "float32") -> list[dict[str, Any]]:
    """Time and memory of a step of each recipe over vanillaNet's, with the library and in the naive form.

    The naive form is in float32 alone.
    """
    data = random_data(BATCH * (16 if size == "s" else 4), device, held_out=64)
    fields = {"precision": precision}
    ours = {n: training(n, size, device, data, **fields) for n in ("vanillaNet", *RECIPES)}
    for network in RECIPES:
        ours[f"{network}, compiled"] = training(network, size, device, data, compiled=True, **fields)
    work = {network: one.train_epoch for network, one in ours.items()}
    for network in RECIPES if precision == "float32" else ():
        naive = NaiveTraining(Experiment(network=network, size=size), device, data)
        work[f"{network}, naive"] = naive.train_epoch
    products, operations = matrix_products(device, precision)
    times = interleaved(work | products, rounds)
    memory = {name: peak_bytes(epoch, device) for name, epoch in work.items()}
    activations = regularised_bytes(ours["sr1Net"])
    batches = len(data.train.labels) / BATCH
    rows = []
    for name in work:
        row: dict[str, Any] = {"size": size, "network": name, "precision": precision}
        row |= ratio(times[name], times["vanillaNet"])._asdict()
        extra = memory[name] - memory["vanillaNet"]
        row["extra_memory"] = extra / activations  # in copies of sr1Net's regularised activations
        if device.type == "cuda":
            row["milliseconds"] = 1000 * statistics.median(times[name]) / batches
        rows.append(row)
    rate = {name: operations / statistics.median(times[name]) for name in products}
    fastest = max(rate, key=rate.__getitem__)
    reached = flops(ours["vanillaNet"]) / statistics.median(times["vanillaNet"])
    rows[0] |= {"share_of_matrix_rate": reached / rate[fastest], "fastest_product": fastest}
    if device.type == "cuda":
        rows[0]["teraflops"] = reached / 1e12
    return rows


def matrix_products(device: torch.device, precision: str) -> tuple[dict[str, Work], int]:
    """One product of two square matrices, computed in two ways, and its floating-point operations.

    On a CPU the two ways use different libraries; one can be twice as fast as the other.
    """
    n = 2048 if device.type == "cpu" else 8192
    dtype = torch.float32 if precision == "float32" else torch.bfloat16
    a, b = torch.randn(2, n, n, device=device, dtype=dtype)
    pixels = a.view(n // 64, 8, 8, n).permute(0, 3, 1, 2)  # channels last in memory
    filters = b.T.reshape(n, n, 1, 1).contiguous(memory_format=torch.channels_last)
    ways: dict[str, Work] = {
        "matrix product": lambda: a @ b,
        "convolution with 1 × 1 filters": lambda: F.conv2d(pixels, filters),
    }
    return ways, 2 * n**3


def parts(size: str, device: torch.device, rounds: int = 31) -> list[dict[str, Any]]:
    """Costs of compiled penalties in a step, by profile, in shares of vanillaNet's profiled step.

    `all` is the difference by the clock; `the rest` is the time outside PARTS: Python's own time in hooks and
    the loop, and DecorrReg in sr3Net.
    """
    data = random_data(BATCH * (16 if size == "s" else 4), device, held_out=64)
    ones = {n: training(n, size, device, data, compiled=True) for n in ("vanillaNet", *RECIPES)}
    for one in ones.values():
        one.train_epoch()  # compiles
    beyond: dict[str, list[dict[str, float]]] = {network: [] for network in RECIPES}
    for _ in range(rounds):
        spent = {network: self_times(one.train_epoch, PARTS) for network, one in ones.items()}
        plain = spent.pop("vanillaNet")
        for network, times in spent.items():
            beyond[network].append({what: (times[what] - plain[what]) / plain["all"] for what in times})
    rows = []
    for network, of_rounds in beyond.items():
        added = {what: statistics.median(times[what] for times in of_rounds) for what in ("all", *PARTS)}
        rest = added["all"] - sum(added[what] for what in PARTS)
        rows.append({"size": size, "network": network} | added | {"the rest": rest})
    return rows


def self_times(work: Work, parts: Mapping[str, tuple[str, ...]]) -> dict[str, float]:
    """CPU seconds of a call, and of each part: the operations whose names begin as given."""
    gc.collect()  # events of the last profile, which would be collected in this one
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        start = time.perf_counter()
        work()
        everything = time.perf_counter() - start  # by the clock: operations lack Python's own time
    seconds = dict.fromkeys(parts, 0.0)
    for event in profile.key_averages():
        part = next((part for part, names in parts.items() if event.key.startswith(names)), None)
        if part:
            seconds[part] += event.self_cpu_time_total / 1e6
    return seconds | {"all": everything}


def regularised_bytes(one: Training) -> int:
    """Bytes of one batch of the activations that the training's penalties act on."""
    with torch.no_grad(), one.autocast():
        x = one.prepare(one.data.train.images[:BATCH])
        outputs = layer_outputs(one.model, list(one.regularised), x)
    return sum(output.nbytes for output in outputs.values())


def flops(one: Training) -> int:
    """Floating-point operations of an epoch, forward and backward."""
    with FlopCounterMode(display=False) as counter:
        one.train_epoch()
    return counter.get_total_flops()
