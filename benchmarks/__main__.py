"""python -m benchmarks: measure, and write benchmarks/results/<device>.json, which the book shows.

Every time is a median over rounds in which the candidates take turns; what is said of them are ratios. Images
are random bytes of 3 x 32 x 32: what they show does not change what they cost.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.measure import Work, exponent, interleaved, peak_bytes, ratio
from benchmarks.naive import NaiveTraining, explicit_decorrelation
from sparsity_lib import functional
from sparsity_lib.study import Experiment, comparison, observation, runs
from sparsity_lib.study.data import Data, Split
from sparsity_lib.study.files import written_whole
from sparsity_lib.study.preparation import device_of, keep_freed_memory, load_on
from sparsity_lib.study.recording import Log
from sparsity_lib.study.training import Training, reproducible

RESULTS = Path(__file__).parent / "results"
BATCH = 64
SECTIONS = ("steps", "parts", "precision", "accuracy", "epoch", "scripts", "growth")
RECIPES = ("sr1Net", "sr2Net", "sr3Net")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure everything on one device and write it down."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--rounds", type=int, default=15, help="turns of each candidate")
    parser.add_argument("--only", choices=SECTIONS, help="measure this again and keep the rest")
    args = parser.parse_args(arguments)
    device = device_of(args.device)
    keep_freed_memory()  # as every training of the study does
    sizes = ("s", "m") if device.type == "cpu" else ("s", "m", "xxl")
    path = RESULTS / f"{device.type}.json"
    told: dict[str, Any] = {"machine": machine(device), "rounds": args.rounds}
    if args.only:
        kept = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        if any(kept.get(name) != value for name, value in told.items()):
            parser.error(f"--only: {path} was not measured here with {args.rounds} rounds; leave it out")
        told = kept
    cases: dict[str, list[Callable[[], list[dict[str, Any]]]]] = {
        "steps": [lambda size=size: steps(size, device, args.rounds) for size in sizes],
        "parts": [lambda size=size: parts(size, device) for size in sizes],
        "precision": [lambda size=size: precisions(size, device, args.rounds) for size in sizes[1:]],
        "accuracy": [lambda: accuracies(device)],
        "epoch": [lambda how=how: epoch_parts("s", device, how) for how in (False, True)],
        "scripts": [lambda: scripts(rounds=3)],
        "growth": [lambda: growth(device, args.rounds)],
    }
    for name in [args.only] if args.only else SECTIONS:
        told[name] = [row for case in cases[name] for row in case()]
        for row in told[name]:
            print(f"{name}: {row}", flush=True)
    with written_whole(path) as partial:
        partial.write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n")
    return 0


def machine(device: torch.device) -> dict[str, Any]:
    """What was measured on; absolute times are for a GPU alone."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return {
        "device": f"{device.type}: {name}",
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": str(torch.__version__),
    }


def random_data(images: int, device: torch.device, held_out: int = 1000) -> Data:
    """Random images and labels, as a data set of ten classes."""
    generator = torch.Generator().manual_seed(0)

    def split(count: int) -> Split:
        pixels = torch.randint(0, 256, (count, 3, 32, 32), generator=generator, dtype=torch.uint8)
        return Split(pixels.to(device), torch.randint(0, 10, (count,), generator=generator).to(device))

    train = split(images)
    seen = Split(train.images[:held_out], train.labels[:held_out])
    classes = tuple(str(number) for number in range(10))
    return Data("random", classes, "none", train, seen, split(held_out), split(held_out))


def training(network: str, size: str, device: torch.device, data: Data, **fields: Any) -> Training:
    """A training that is past its first observation; not compiled unless the fields say so."""
    experiment = Experiment(network=network, size=size, **{"compiled": False} | fields)
    started = Training(experiment, device, data)
    started.epoch = 0
    return started


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


PARTS = {
    "entropy and its gradient": ("## Call CompiledFxGraph",),
    "adding the gradient to the network's": ("aten::add_",),
    "calling the compiled code": ("Torch-Compiled Region", "TorchDynamo", "_Entropy"),
}


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
            work[network, "float32, deterministic"] = _deterministic(one)
    times = interleaved(work, rounds)
    return [
        {"size": size, "network": network, "precision": precision}
        | ratio(times[network, "float32"], times[network, precision])._asdict()
        for network, precision in work
    ]


def _deterministic(one: Training) -> Work:
    def epoch() -> None:
        with reproducible(one.experiment, one.device):
            one.train_epoch()

    return epoch


def accuracies(device: torch.device, seeds: int = 10, epochs: int = 12) -> list[dict[str, Any]]:
    """Validation accuracy in bf16 less that in float32, paired by seed: size m on digits."""

    def accuracy(network: str, precision: str, seed: int) -> float:
        one = training(network, "m", device, data, precision=precision, seed=seed, lr=0.1)
        with reproducible(one.experiment, device):
            for epoch in range(epochs):
                one.epoch = epoch
                one.train_epoch()
            with one.autocast():
                return (
                    observation.evaluate(one.model, data.validation, one.prepare)
                    .correct.float()
                    .mean()
                    .item()
                )

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


def epoch_parts(size: str, device: torch.device, compiled: bool) -> list[dict[str, Any]]:
    """What observing and writing cost beside training: as shares of an epoch of so many images."""
    data = random_data(BATCH * 32, device)
    one = training("sr3Net", size, device, data, compiled=compiled)
    splits = (data.monitor, data.train_monitor)
    times = interleaved(
        {
            "training": one.train_epoch,
            "monitor": lambda: observation.observe_activations(one.model, one.monitors, splits, one.prepare),
            "evaluation": lambda: observation.evaluate(one.model, data.validation, one.prepare),
        },
        rounds=7,
        seconds=0.1,
    )
    image = statistics.median(times["training"]) / len(data.train.labels)
    monitor, evaluated = (statistics.median(times[name]) for name in ("monitor", "evaluation"))
    writing = statistics.median(interleaved({"writing": _writing(one)}, rounds=3, seconds=0.1)["writing"])
    return [
        {
            "size": size,
            "compiled": compiled,
            "images": images,
            "monitor": monitor / (image * images),
            "validation": evaluated / len(data.validation.labels) * min(9000, images) / (image * images),
            "writing_of_100_epochs": writing / (100 * image * images),
        }
        for images in (10_000, 50_000)
    ]


def _writing(one: Training) -> Any:
    record = one.observe() | {name: torch.zeros(()) for name in ("train_loss", "train_accuracy")}
    folder = tempfile.TemporaryDirectory()

    def write() -> runs.Run:
        one.log = Log()
        for epoch in range(-1, one.experiment.epochs):
            one.log.append(epoch, record, last=epoch == one.experiment.epochs - 1)
        made_by = {"commit": "none", "dirty": 0, "code_fingerprint": "none"}
        return one.finish(Path(folder.name) / "run.nc", made_by)

    write.folder = folder  # type: ignore[attr-defined]  # kept for as long as the function
    return write


def scripts(rounds: int, images: int = 3000, epochs: int = 8) -> list[dict[str, Any]]:
    """Images per second over whole runs, start-up included, over those of a script with a DataLoader.

    Ours also monitors, evaluates and writes the run's file; the images are decoded in its first run alone.
    """
    with tempfile.TemporaryDirectory() as folder:
        write_images(Path(folder) / "images", images)
        script = [sys.executable, "-m", "benchmarks.dataloader", f"{folder}/images", str(epochs)]
        ours = [sys.executable, "-m", "sparsity_lib.study", "train", f"dataset=folder:{folder}/images"]
        ours += [f"epochs={epochs}", "--out", f"{folder}/runs"]
        environment = os.environ | {"SPARSITY_DATA": f"{folder}/data"}

        def run(command: list[str], forget: str) -> None:
            shutil.rmtree(f"{folder}/{forget}", ignore_errors=True)
            subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)

        def first() -> None:
            shutil.rmtree(f"{folder}/data", ignore_errors=True)
            run(ours, "runs")

        work = {"script": lambda: run(script, "none"), "first": first, "again": lambda: run(ours, "runs")}
        times = interleaved(work, rounds, seconds=0.1)
    return [
        {"run": name, "images": images, "epochs": epochs} | ratio(times["script"], times[name])._asdict()
        for name in ("first", "again")
    ]


def write_images(folder: Path, images: int) -> None:
    """Random images of 32 x 32 as JPEG, in ten classes; a fifth as many for validation."""
    generator = torch.Generator().manual_seed(0)
    for part, count in (("train", images), ("val", images // 5)):
        for number in range(count):
            path = folder / part / str(number % 10) / f"{number:05d}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = torch.randint(0, 256, (32, 32, 3), generator=generator, dtype=torch.uint8)
            Image.fromarray(pixels.numpy()).save(path)


def growth(device: torch.device, rounds: int) -> list[dict[str, Any]]:
    """How times grow: the exponent of the time over the size; 1 is linear."""
    few = max(3, rounds // 3)
    rows = []

    def add(what: str, sizes: Sequence[int], work: dict[str, Any]) -> None:
        times = [statistics.median(seconds) for seconds in interleaved(work, few, 0.1).values()]
        rows.append({"what": what, "sizes": list(sizes), "exponent": exponent(sizes, times)})

    def entropy(samples: int, channels: int) -> Any:
        x = torch.randn(samples, channels, 16, 16, device=device, requires_grad=True)
        return lambda: functional.rfav_entropy(x).sum().backward()

    sizes = (64, 128, 256, 512)
    add("entropy, with positions", [256 * n for n in sizes], {str(n): entropy(n, 32) for n in sizes})
    channels = (32, 64, 128, 256)
    add("entropy, with channels", channels, {str(d): entropy(64, d) for d in channels})

    def pairs(filters: int, explicit: bool) -> Any:
        weight = torch.randn(filters, 576, device=device, requires_grad=True)
        penalty = explicit_decorrelation if explicit else functional.decorrelation
        return lambda: penalty(weight).backward()

    filters = (512, 1024, 2048, 4096)
    for explicit, told in ((False, "decorrelation, signed, with filters"), (True, "the same by all pairs")):
        add(told, filters, {str(d): pairs(d, explicit) for d in filters})
    images = (512, 1024, 2048)
    one = {n: training("sr1Net", "s", device, random_data(n, device, held_out=64)) for n in images}
    add("an epoch, with images", images, {str(n): one[n].train_epoch for n in images})
    return rows


if __name__ == "__main__":
    sys.exit(main())
