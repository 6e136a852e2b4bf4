"""Whole runs: what observing and writing cost, and how they compare with a script with a DataLoader."""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from benchmarks.measure import interleaved, ratio
from benchmarks.trainings import BATCH, random_data, training
from sparsity_lib.study import observation, runs
from sparsity_lib.study.recording import Log
from sparsity_lib.study.training import Training


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
