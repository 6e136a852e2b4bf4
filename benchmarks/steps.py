"""A training step: what penalties cost beside plain training and beside the naive form, and why."""

import statistics
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.measure import Work, interleaved, peak_bytes, ratio
from benchmarks.naive import NaiveTraining
from benchmarks.trainings import BATCH, random_data, training
from sparsity_lib.study import Experiment
from sparsity_lib.study.training import Training

RECIPES = ("sr1Net", "sr2Net", "sr3Net")
PARTS = {
    "entropy and its gradient": ("## Call CompiledFxGraph",),
    "adding the gradient to the network's": ("aten::add_",),
    "calling the compiled code": ("Torch-Compiled Region", "TorchDynamo", "_Entropy"),
}


def steps(size: str, device: torch.device, rounds: int) -> list[dict[str, Any]]:
    """The step of each recipe over vanillaNet's, ours and the naive form, and the memory it holds."""
    data = random_data(BATCH * (16 if size == "s" else 4), device, held_out=64)
    ours = {network: training(network, size, device, data) for network in ("vanillaNet", *RECIPES)}
    for network in RECIPES:
        ours[f"{network}, compiled"] = training(network, size, device, data, compiled=True)
    work = {network: one.train_epoch for network, one in ours.items()}
    for network in RECIPES:
        naive = NaiveTraining(Experiment(network=network, size=size), device, data)
        work[f"{network}, naive"] = naive.train_epoch
    times = interleaved(work, rounds)
    memory = {name: peak_bytes(epoch, device) for name, epoch in work.items()}
    activations = regularised_bytes(ours["sr1Net"])
    batches = len(data.train.labels) / BATCH
    rows = []
    for name in work:
        row: dict[str, Any] = {"size": size, "network": name}
        row |= ratio(times[name], times["vanillaNet"])._asdict()
        extra = memory[name] - memory["vanillaNet"]
        row["extra_memory"] = extra / activations  # in copies of sr1Net's regularised activations
        if device.type == "cuda":
            row["milliseconds"] = 1000 * statistics.median(times[name]) / batches
        rows.append(row)
    share = flops(ours["vanillaNet"]) / statistics.median(times["vanillaNet"]) / matrix_rate(device, rounds)
    rows[0]["share_of_matrix_rate"] = share
    return rows


def parts(size: str, device: torch.device, rounds: int = 8) -> list[dict[str, Any]]:
    """What compiled penalties add to a step, by profile: shares of vanillaNet's step."""
    data = random_data(BATCH * (16 if size == "s" else 4), device, held_out=64)
    ones = {n: training(n, size, device, data, compiled=True) for n in ("vanillaNet", "sr1Net", "sr2Net")}
    spent: dict[str, list[dict[str, float]]] = {network: [] for network in ones}
    for _ in range(rounds):
        for network, one in ones.items():
            spent[network].append(self_times(one.train_epoch, device))
    median = {
        network: {what: statistics.median(its[what] for its in times) for what in times[0]}
        for network, times in spent.items()
    }
    plain = median.pop("vanillaNet")
    return [
        {"size": size, "network": network}
        | {what: (its[what] - plain[what]) / plain["all"] for what in PARTS}
        for network, its in median.items()
    ]


def self_times(work: Work, device: torch.device) -> dict[str, float]:
    """Seconds of a call: of each part, and of all."""
    kind = torch.profiler.ProfilerActivity
    on_gpu = device.type == "cuda"
    with torch.profiler.profile(activities=[kind.CUDA if on_gpu else kind.CPU]) as profile:
        work()
    seconds = dict.fromkeys((*PARTS, "all"), 0.0)
    for event in profile.key_averages():
        took = (event.self_device_time_total if on_gpu else event.self_cpu_time_total) / 1e6
        seconds["all"] += took
        for part, names in PARTS.items():
            seconds[part] += took if event.key.startswith(names) else 0.0
    return seconds


def regularised_bytes(one: Training) -> int:
    """Bytes of one batch of the activations that the training's penalties act on."""
    sizes = []
    handles = [
        one.layers[name].register_forward_hook(lambda module, x, y: sizes.append(y.nbytes))
        for name in one.regularised
    ]
    with torch.no_grad():
        one.model(one.prepare(one.data.train.images[:BATCH]))
    for handle in handles:
        handle.remove()
    return sum(sizes)


def flops(one: Training) -> int:
    """Floating-point operations of an epoch, forward and backward."""
    with FlopCounterMode(display=False) as counter:
        one.train_epoch()
    return counter.get_total_flops()


def matrix_rate(device: torch.device, rounds: int) -> float:
    """FLOP/s of a product of square matrices in float32."""
    n = 2048 if device.type == "cpu" else 8192
    a, b = torch.randn(2, n, n, device=device)
    times = interleaved({"product": lambda: a @ b}, rounds)["product"]
    return 2 * n**3 / statistics.median(times)
