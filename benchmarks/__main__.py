"""python -m benchmarks: measures, and writes benchmarks/results/<device>.json, which the book shows.

Times are medians over rounds in which the candidates take turns; results are ratios. Images are random
bytes of 3 x 32 x 32: costs do not depend on the content of images.
"""

import argparse
import contextlib
import json
import os
import platform
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.compiling import compiling
from benchmarks.counterparts import counterparts
from benchmarks.growth import by_channels, growth
from benchmarks.measure import section, write
from benchmarks.precision import accuracies, precisions
from benchmarks.steps import parts, steps
from benchmarks.whole_runs import epoch_parts, monitor_parts, scripts, whole
from sparsity_lib.study.runs import provenance
from sparsity_lib.study.training.preparation import device_of, keep_freed_memory

RESULTS = Path(__file__).parent / "results"
INSTRUCTIONS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
Case = Callable[[], list[dict[str, Any]]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure everything on one device and write the results."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--only", help="measure these again and keep the rest: names with commas")
    args = parser.parse_args(arguments)
    device = device_of(args.device)
    keep_freed_memory()  # as every training of the study does
    to_measure = cases(device)
    names = args.only.split(",") if args.only else list(to_measure)
    if unknown := [name for name in names if name not in to_measure]:
        parser.error(f"--only {unknown[0]}: on {device.type} there are {', '.join(to_measure)}")
    path = RESULTS / f"{device.type}.json"
    record: dict[str, Any] = {"machine": machine(device), "sections": {}}
    if args.only and path.exists():
        kept = json.loads(path.read_text(encoding="utf-8"))
        if kept["machine"] != record["machine"]:
            parser.error(f"--only: {path} was measured on another machine or torch; leave it out")
        record = kept
    made_by = provenance.code()  # before measuring: files may change meanwhile
    for name in names:
        rows = [row for case in to_measure[name] for row in case()]
        record["sections"][name] = section(rows, made_by)
        for row in rows:
            print(f"{name}: {row}", flush=True)
        write(path, record)
    return 0


def cases(device: torch.device) -> dict[str, list[Case]]:
    """Return the measurements for the device, section by section."""
    rounds = 15
    on_cpu = device.type == "cpu"
    sizes = ("s", "m") if on_cpu else ("s", "m", "xxl")
    common: dict[str, list[Case]] = {
        "steps": [lambda size=size: steps(size, device, rounds) for size in sizes],
        "counterparts": [lambda size=size: counterparts(size, device, rounds) for size in sizes],
        "precision": [lambda size=size: precisions(size, device, rounds) for size in sizes[1:]],
        "accuracy": [lambda: accuracies(device)],
        "epoch": [lambda how=how: epoch_parts(device, how) for how in (False, True)],
        "growth": [lambda: growth(device)],
        "channels": [lambda: by_channels(device, rounds)],
    }
    if on_cpu:
        return common | {
            "parts": [lambda size=size: parts(size, device) for size in sizes],
            "monitor_parts": [lambda: monitor_parts(device)],
            "compiling": [lambda: compiling(sizes)],
            "scripts": [lambda: scripts(device)],
        }
    common["steps"] += [lambda size=size: steps(size, device, rounds, "bf16") for size in sizes]
    quick = {"precision": "bf16", "compiled": True}
    return common | {
        "whole": [lambda size=size: [whole("sr3Net", size, device, **quick)] for size in ("s", "xxl")],
        "scripts": [lambda: scripts(device, rounds=3, images=30_000, epochs=10)],
    }


def machine(device: torch.device) -> dict[str, Any]:
    """The machine of a measurement."""
    of_cpu = processor()
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else of_cpu["model name"]
    flags = of_cpu["flags"].split()
    return {
        "device": f"{device.type}: {name}",
        "instructions": [name for name in INSTRUCTIONS if name in flags],
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": str(torch.__version__),
    }


def processor() -> dict[str, str]:
    """Name and instructions of the processor, as Linux names them; elsewhere its architecture alone."""
    record = {"model name": platform.machine(), "flags": ""}
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        pairs = (line.partition(":") for line in lines)
        record |= {key.strip(): value.strip() for key, _, value in pairs if key.strip() in record}
    return record


if __name__ == "__main__":
    sys.exit(main())
