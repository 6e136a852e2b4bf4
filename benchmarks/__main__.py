"""python -m benchmarks: measure, and write benchmarks/results/<device>.json, which the book shows.

Every time is a median over rounds in which the candidates take turns; what is said of them are ratios. Images
are random bytes of 3 x 32 x 32: what they show does not change what they cost.
"""

import argparse
import json
import os
import platform
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.counterparts import counterparts
from benchmarks.growth import growth
from benchmarks.precision import accuracies, precisions
from benchmarks.steps import parts, steps
from benchmarks.whole_runs import epoch_parts, scripts
from sparsity_lib.study.files import written_whole
from sparsity_lib.study.preparation import device_of, keep_freed_memory

RESULTS = Path(__file__).parent / "results"
SECTIONS = ("steps", "counterparts", "parts", "precision", "accuracy", "epoch", "scripts", "growth")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure everything on one device and write it down."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--rounds", type=int, default=15, help="turns of each candidate")
    parser.add_argument("--only", choices=SECTIONS, help="measure this again and keep the rest")
    args = parser.parse_args(arguments)
    if args.rounds < 2:
        parser.error(f"--rounds {args.rounds}: quartiles need 2 or more")
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
        "counterparts": [lambda size=size: counterparts(size, device, args.rounds) for size in sizes],
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


if __name__ == "__main__":
    sys.exit(main())
