"""Two processes with the same task: one works, the other prints that it waits, and there is one result."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from image_folders import contents, make_folder
from test_no_room import QUEUE

from sparsity_lib import study
from sparsity_lib.study import data, files
from sparsity_lib.study.runs import file as runs

FIELDS = {"dataset": "digits", "limit": 300, "epochs": 20, "lr": 0.1}


def start(*arguments: object, **environment: str) -> subprocess.Popen[str]:
    """Python, on one thread, with its output."""
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def train_arguments(folder: Path) -> list[object]:
    fields = [f"{name}={value}" for name, value in FIELDS.items()]
    return ["-m", "sparsity_lib.study", "train", *fields, "--out", folder]


def ended(processes: list[subprocess.Popen[str]], folder: Path) -> list[tuple[str, str]]:
    """Output of each process at its end; no run file may be written a second time."""
    written: dict[str, tuple[int, int]] = {}
    while any(process.poll() is None for process in processes):
        for path in folder.glob("[!.]*.nc"):
            state = path.stat().st_ino, path.stat().st_mtime_ns
            assert written.setdefault(path.name, state) == state, f"{path.name} was written again"
        time.sleep(0.05)
    outputs = [process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes), outputs
    return outputs


def waits(task: str, errors: str) -> bool:
    """Whether a line reports that another process is at work on the task."""
    return re.search(f"{task} .*another process", errors) is not None


def left(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.suffix != ".lock"}


def files_of(*networks: str) -> set[str]:
    ids = [study.Experiment(network=network, **FIELDS).id for network in networks]
    return {f"{run}{ending}" for run in ids for ending in (".nc", runs.NETWORK)}


@pytest.mark.slow
@pytest.mark.fault("two processes", "a training")
def test_the_second_of_two_trainings_waits(tmp_path: Path) -> None:
    run = study.Experiment(**FIELDS)
    both = [start(*train_arguments(tmp_path)) for _ in range(2)]
    (epochs, nothing), (path, waited) = sorted(ended(both, tmp_path), key=lambda output: output[1])
    assert len(epochs.splitlines()) == run.epochs + 2  # one before training, and the path
    assert path == f"{tmp_path / run.id}.nc\n"
    assert nothing == ""
    assert waits(f"^{run.id}", waited)
    assert waited.count("\n") == 1
    assert left(tmp_path) == files_of("vanillaNet")


@pytest.mark.slow  # 20 seconds
@pytest.mark.fault("two processes", "several trainings")
def test_two_of_two_queues_and_a_training_wait(tmp_path: Path) -> None:
    folder = tmp_path / "runs"
    (tmp_path / "several.py").write_text(QUEUE.format(fields=FIELDS))
    queues = [start(tmp_path / "several.py", folder) for _ in range(2)]
    outputs = ended([*queues, start(*train_arguments(folder))], folder)
    first = study.Experiment(**FIELDS).id
    assert sum(waits(first, waited) for _, waited in outputs) == 2
    assert left(folder) == files_of("vanillaNet", "sr3Net")


@pytest.mark.fault("two processes", "decoding")
def test_a_second_process_waits_for_data_in_decoding(tmp_path: Path) -> None:
    name = f"folder:{make_folder(tmp_path / 'insects')}"
    expected = data.load(name, root=tmp_path / "elsewhere")
    program = f"from sparsity_lib.study import data; print(data.load({name!r}).digest)"
    with files.lock(tmp_path / "cache" / "folder", "decoded"):
        second = start("-c", program, SPARSITY_DATA=str(tmp_path))
        assert second.stderr
        assert waits("^folder", second.stderr.readline())
        assert second.poll() is None
        found = data.load(name, root=tmp_path / "elsewhere")  # another folder's is another lock
    outputs, errors = second.communicate(timeout=60)
    assert (second.returncode, outputs, errors) == (0, f"{expected.digest}\n", "")
    assert contents(found.train) == contents(expected.train)
