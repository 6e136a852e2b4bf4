"""SIGKILL: what is left is enough to go on, to the numbers of an unbroken run."""

import contextlib
import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest
from copied_project import copied_project, finish, start
from test_training import equal

from sparsity_lib import study

EPOCHS = 40
COMMANDS = {
    "a training": (
        *("-m", "sparsity_lib.study", "train", "network=sr3Net"),
        *("dataset=digits", "limit=300", "lr=0.1", f"epochs={EPOCHS}"),
    ),
    "`run`": ("-m", "sparsity_lib.study", "run", "tiny", "--jobs", "2"),
    "the workflow": (
        *("-m", "snakemake", "trained", "--cores", "2"),
        *("--config", "profile=tiny", "runs_per_job=2"),
    ),
}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, study.Run]:
    """The runs of the profile `tiny`, by the names of their files."""
    project = copied_project(tmp_path_factory.mktemp("undisturbed") / "project", EPOCHS)
    finish(start(project, *COMMANDS["`run`"]))
    return runs_in(project / "runs")


def runs_in(folder: Path) -> dict[str, study.Run]:
    return {path.name: study.load(path) for path in folder.glob("*.nc")}


def remnants(folder: Path) -> list[str]:
    """Files that are neither a run, nor its network, nor a lock, which is an empty file."""
    ends = (".nc", ".weights.pt", ".lock")
    return [path.name for path in folder.iterdir() if not path.name.endswith(ends)] + [
        path.name for path in folder.glob(".*") if path.suffix != ".lock"
    ]


def newer(folder: Path, pattern: str, begun: float) -> bool:
    """Whether a file of that pattern was written since."""
    with contextlib.suppress(FileNotFoundError):  # a checkpoint that was just replaced
        return any(path.stat().st_mtime > begun for path in folder.glob(pattern))
    return False


def kill(process: subprocess.Popen[bytes], and_its_children: bool) -> None:
    """As one that takes too much memory, or all as on a machine that is switched off."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL) if and_its_children else process.kill()
    process.wait()


@pytest.mark.slow
@pytest.mark.parametrize(
    "where", [pytest.param(where, marks=pytest.mark.fault("killed", where), id=where) for where in COMMANDS]
)
def test_killed_commands_resume(where: str, undisturbed: dict[str, study.Run], tmp_path: Path) -> None:
    """SIGKILL comes as a run begins, then after each of two checkpoints, once without its children."""
    project, command, chance = copied_project(tmp_path / "project", EPOCHS), COMMANDS[where], random.Random(1)
    folder, broken = project / "runs", []
    for pattern, and_its_children in ((".*.lock", True), ("*.ckpt", False), ("*.ckpt", True)):
        begun = time.time()
        broken.append(process := start(project, *command))
        while not newer(folder, pattern, begun):
            assert process.poll() is None, process.log.read_text()
            time.sleep(0.01)
        time.sleep(chance.uniform(0, 0.1))
        kill(process, and_its_children)
    finish(start(project, *command))
    for process in broken:  # children that went on by themselves
        kill(process, and_its_children=True)
    made = runs_in(folder)
    assert made
    assert (made.keys() == undisturbed.keys()) or where == "a training"
    assert all(equal(made[name], undisturbed[name]) for name in made)
    assert remnants(folder) == []
