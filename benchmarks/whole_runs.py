"""Whole runs: costs of observing and writing, and speed compared with a script with a DataLoader.

python -m benchmarks.whole_runs FIELDS: one whole training in a process of its own, its row printed as JSON.
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from benchmarks.measure import Work, fresh_process, interleaved, ratio
from benchmarks.steps import flops, self_times
from benchmarks.trainings import random_data, training
from sparsity_lib.study.runs import file as runs
from sparsity_lib.study.runs.contents import Log
from sparsity_lib.study.training import observation
from sparsity_lib.study.training.loop import Training
from sparsity_lib.study.training.preparation import keep_freed_memory


def epoch_parts(
    device: torch.device, compiled: bool, images: int = 10_000, rounds: int = 7
) -> list[dict[str, Any]]:
    """Costs of observing and writing, in shares of the time of training sr3Net for an epoch, by round.

    The parts are described where they are shown, in book/_ext/speed_tables.py.
    """
    validated = min(9000, images)
    data = random_data(images, device, held_out=min(1000, images), validation=validated)
    one = training("sr3Net", "s", device, data, compiled=compiled)
    splits = (data.monitor, data.train_monitor)
    times = interleaved(
        {
            "training": one.train_epoch,
            "monitor": lambda: observation.observe_activations(one.model, one.monitors, splits, one.prepare),
            "passing": lambda: [observation.evaluate(one.model, split, one.prepare) for split in splits],
            "filters": lambda: observation.observe_filters(one.weights),
            "validation": lambda: observation.evaluate(one.model, data.validation, one.prepare),
            "observing": one.observe,
        },
        rounds,
        seconds=0.1,
    )
    training_times = times.pop("training")
    row: dict[str, Any] = {"size": "s", "compiled": compiled, "images": images}
    rows = [
        row | {"part": part} | ratio(seconds, training_times)._asdict() for part, seconds in times.items()
    ]
    with tempfile.TemporaryDirectory() as folder:
        work = {"writing": _writing(one, Path(folder) / "run.nc")}
        writing = statistics.median(interleaved(work, 3, seconds=0.1)["writing"])
    epoch = statistics.median(training_times)
    return [*rows, row | {"part": "writing_of_100_epochs", "median": writing / (100 * epoch)}]


def whole(
    network: str, size: str, device: torch.device, epochs: int = 100, images: int = 50_000, **fields: Any
) -> dict[str, Any]:
    """A whole monitored training on images that are resident: its seconds, and its FLOP/s while training.

    In a process of its own, whose cache of compiled code is empty. Compiling and the run's file are included;
    starting Python and decoding images are not.
    """
    row = {"network": network, "size": size, "epochs": epochs, "images": images} | fields
    record: dict[str, float] = fresh_process("benchmarks.whole_runs", json.dumps(row), str(device))
    return row | record


def main(network: str, size: str, device: torch.device, images: int, **fields: Any) -> None:
    """Train in this process, and print how long it took."""
    keep_freed_memory()
    data = random_data(images, device, held_out=min(1000, images), validation=min(9000, images))
    start = time.perf_counter()
    one = training(network, size, device, data, **fields)
    one.epoch = -1
    epochs = one.experiment.epochs
    spent = sum(float(one.next_epoch()["epoch_seconds"]) for _ in range(epochs + 1))
    with tempfile.TemporaryDirectory() as folder:
        one.finish(Path(folder) / "run.nc", MADE_BY)
    total = time.perf_counter() - start
    print(json.dumps({"seconds": total, "teraflops": flops(one) * epochs / spent / 1e12}))


MADE_BY = {"commit": "none", "dirty": 0, "numerics": "core 0"}
MONITORING = {
    "entropies and sums, compiled": ("## Call CompiledFxGraph",),
    "calling the compiled code": ("Torch-Compiled Region", "TorchDynamo"),
    "products of channels": ("aten::mm",),
    "sums and the active channels": ("aten::sum", "aten::relu", "aten::clamp_min", "aten::sub"),
    "histogram": ("aten::index_add_", "aten::_to_copy", "aten::copy_", "aten::clamp", "aten::div"),
}


def monitor_parts(device: torch.device, rounds: int = 5) -> list[dict[str, Any]]:
    """By profile, what the statistics of 1,000 held-out and 1,000 training images spend: shares of all.

    A plain pass of the images is one of the parts, and what it spends is not counted with another.
    """
    data = random_data(1000, device, held_out=1000)
    one = training("sr3Net", "s", device, data, compiled=True)
    splits = (data.monitor, data.train_monitor)

    def observe() -> None:
        observation.observe_activations(one.model, one.monitors, splits, one.prepare)

    def passing() -> None:
        for split in splits:
            observation.evaluate(one.model, split, one.prepare)

    observe()
    passing()
    found: dict[str, list[float]] = {part: [] for part in ("a plain pass of the images", *MONITORING)}
    for _ in range(rounds):
        plain, observing = self_times(passing, MONITORING), self_times(observe, MONITORING)
        spent = {part: observing[part] - plain[part] for part in MONITORING}
        for part, seconds in ({"a plain pass of the images": plain["all"]} | spent).items():
            found[part].append(seconds / observing["all"])
    shares = {part: statistics.median(of_rounds) for part, of_rounds in found.items()}
    rows = [{"size": "s", "part": part, "median": share} for part, share in shares.items()]
    return [*rows, {"size": "s", "part": "the rest", "median": 1 - sum(shares.values())}]


def _writing(one: Training, path: Path) -> Work:
    record = one.observe() | {name: torch.zeros(()) for name in ("train_loss", "train_accuracy")}
    one.weights_kept = {name: value.clone() for name, value in one.model.state_dict().items()}

    def write() -> runs.Run:
        one.log = Log()
        for epoch in range(-1, one.experiment.epochs):
            one.log.append(epoch, record, last=epoch == one.experiment.epochs - 1)
        return one.finish(path, MADE_BY)

    return write


def scripts(
    device: torch.device, rounds: int = 5, images: int = 3000, epochs: int = 8
) -> list[dict[str, Any]]:
    """Images per second over whole runs, start-up included, over those of a script with a DataLoader.

    Ours also monitors, evaluates and writes the run's file; the images are decoded in its first run alone.
    """
    with tempfile.TemporaryDirectory() as folder:
        write_images(Path(folder) / "images", images)
        script = [sys.executable, "-m", "benchmarks.dataloader", f"{folder}/images", str(epochs)]
        ours = [sys.executable, "-m", "sparsity_lib.study", "train", f"dataset=folder:{folder}/images"]
        ours += [f"epochs={epochs}", "--out", f"{folder}/runs"]
        environment = os.environ | {"SPARSITY_DATA": f"{folder}/data"}
        if device.type == "cpu":
            environment["CUDA_VISIBLE_DEVICES"] = ""

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


if __name__ == "__main__":
    main(device=torch.device(sys.argv[2]), **json.loads(sys.argv[1]))
