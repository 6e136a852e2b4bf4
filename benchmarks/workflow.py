"""python -m benchmarks.workflow: the cost of a workflow's job in addition to its runs.

Snakemake processes a hundred jobs of one short run each: on this machine's cores, and by Slurm where that is
installed. The mean time of a job beyond its training is given in units of the training time of a run of the
laptop's main grid, with the number of such runs in a planned job.
"""

import argparse
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.__main__ import RESULTS, machine
from benchmarks.measure import write
from sparsity_lib import study
from sparsity_lib.study import profiles
from sparsity_lib.study.queue.scheduling import run_queue

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests/support"))  # the copy of the project and the Slurm are the tests' own

from copied_project import copied_project, finish, start  # noqa: E402
from slurm_cluster import SITE, is_installed, slurm  # noqa: E402

MOST, ENOUGH = 24, 600  # runs of a job, and their seconds, as the workflow plans them
CORES = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and write down."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.workflow", description=__doc__)
    parser.add_argument("--jobs", type=int, default=100, help="a multiple of 4, the runs of a seed")
    args = parser.parse_args(arguments)
    if args.jobs < 4 or args.jobs % 4:
        parser.error(f"--jobs {args.jobs}: give a multiple of 4")
    with tempfile.TemporaryDirectory() as folder:
        of_a_run = training_seconds(Path(folder, "laptop"))
        runs = min(MOST, math.ceil(ENOUGH / of_a_run))
        seconds = {"this machine's cores": on_cores(Path(folder, "cores"), args.jobs)}
        if is_installed():
            seconds["Slurm"] = through_slurm(Path(folder, "slurm"), args.jobs)
    rows = [
        {"how": how, "jobs": args.jobs, "runs_per_job": runs, "cost": each / of_a_run}
        for how, each in seconds.items()
    ]
    record = {"machine": machine(torch.device("cpu")), "rows": rows}
    write(RESULTS.parent / "workflow.json", record)
    for row in rows:
        print(row)
    return 0


def training_seconds(folder: Path) -> float:
    """Time of a run of the laptop's main grid, with one thread, as many side by side as there are cores."""
    wanted = profiles.experiments("laptop", seeds=[0], grids=["networks"])
    run_queue(wanted, CORES, folder=folder)
    return statistics.mean(_seconds(folder))


def on_cores(folder: Path, jobs: int) -> float:
    """Return the cost of a job on this machine, in seconds of a core."""
    return _cost(copied_project(folder, epochs=1), jobs, {}, "--cores", str(CORES))


def through_slurm(folder: Path, jobs: int) -> float:
    """Return the cost of a job through Slurm, in seconds of a core."""
    with slurm(folder / "slurm", CORES) as environment:
        project = copied_project(folder / "project", epochs=1)
        return _cost(project, jobs, environment, "--workflow-profile", "slurm", *SITE)


def _cost(project: Path, jobs: int, environment: dict[str, str], *how: str) -> float:
    settings: dict[str, Any] = {"profile": "tiny", "seeds": f"0-{jobs // 4 - 1}", "runs_per_job": 1}
    given = [f"{name}={value}" for name, value in settings.items()]
    began = time.monotonic()
    command = ("-m", "snakemake", "trained", *how, "--config", *given)
    finish(start(project, *command, environment=environment), seconds=3600)
    elapsed = time.monotonic() - began
    trained = _seconds(project / "runs")
    assert len(trained) == jobs
    return (elapsed * CORES - sum(trained)) / jobs


def _seconds(runs: Path) -> list[float]:
    return [float(study.load(path).provenance["seconds"]) for path in runs.glob("*.nc")]


if __name__ == "__main__":
    sys.exit(main())
