"""SIGKILL at random moments: what is left is enough to go on, to the numbers of an unbroken run."""

import contextlib
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from copied_project import copied_project, finish, start
from test_training import equal

from sparsity_lib import study

FIELDS = ("network=sr3Net", "dataset=digits", "limit=300", "lr=0.1", "epochs=40")
COMMANDS = {
    "a training": ("-m", "sparsity_lib.study", "train", *FIELDS),
    "`run`": ("-m", "sparsity_lib.study", "run", "tiny", "--jobs", "2"),
    "the workflow": (
        *("-m", "snakemake", "trained", "--cores", "2"),
        *("--config", "profile=tiny", "runs_per_job=2"),
    ),
}


def runs_in(folder: Path) -> dict[str, study.Run]:
    return {path.name: study.load(path) for path in folder.glob("*.nc")}


def whatever_else_is_in(folder: Path) -> list[str]:
    """Neither a run, nor its network, nor a lock, which is an empty file that nobody need hold."""
    ends = (".nc", ".weights.pt", ".lock")
    left = [p.name for p in folder.iterdir() if not p.name.endswith(ends)]
    return left + [path.name for path in folder.glob(".*") if path.suffix != ".lock"]


def kill(process: subprocess.Popen[bytes], and_its_children: bool) -> None:
    """As one that takes too much memory, or all as on a machine that is switched off."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL) if and_its_children else process.kill()
    process.wait()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("where", "kills"),
    [
        pytest.param(where, kills, marks=pytest.mark.fault("killed", where), id=where)
        for where, kills in (("a training", 20), ("`run`", 5), ("the workflow", 5))
    ],
)
def test_killed_at_random_moments(where: str, kills: int, tmp_path: Path, survived: Callable[[], None]):
    project, command, chance = copied_project(tmp_path / "project", 20), COMMANDS[where], random.Random(where)
    begun = time.monotonic()
    finish(start(project, *command))
    whole = time.monotonic() - begun
    (project / "runs").rename(project / "undisturbed")
    undisturbed = runs_in(project / "undisturbed")
    assert undisturbed

    killed = 0
    while killed < kills:
        broken = []
        while killed + len(broken) < kills:
            process = start(project, *command)
            try:
                process.wait(chance.uniform(0, whole))
                break  # done before its time
            except subprocess.TimeoutExpired:
                kill(process, and_its_children=chance.random() < 0.5)
                broken.append(process)
        if process in broken:
            finish(start(project, *command))
        for process in broken:  # children that went on by themselves
            kill(process, and_its_children=True)
        made = runs_in(project / "runs")
        assert made.keys() == undisturbed.keys()
        assert all(equal(made[name], undisturbed[name]) for name in made)
        assert whatever_else_is_in(project / "runs") == []
        for _ in broken:
            survived()
        killed += len(broken)
        shutil.rmtree(project / "runs")
