"""Two processes asked for the same: one works, the other says that it waits, and there is one result."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from image_folders import contents, make_folder
from test_no_room import QUEUE

from sparsity_lib import study
from sparsity_lib.study import data, files, runs

FIELDS = {"dataset": "digits", "limit": 500, "epochs": 60, "lr": 0.1}
WAITS = "is being trained by another process; waiting for it"


def start(*arguments: object, **environment: str) -> subprocess.Popen[str]:
    """Python, on one thread, with what it says."""
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def started(process: subprocess.Popen[str], folder: Path) -> None:
    """Wait until a training has its lock."""
    while not list(folder.glob(".*.lock")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)


def train_arguments(folder: Path) -> list[object]:
    fields = [f"{name}={value}" for name, value in FIELDS.items()]
    return ["-m", "sparsity_lib.study", "train", *fields, "--out", folder]


def left(folder: Path) -> dict[str, tuple[int, int]]:
    """Each file but locks, with what changes when it is written anew."""
    found = (path for path in folder.iterdir() if path.suffix != ".lock")
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in found}


def files_of(*networks: str) -> set[str]:
    ids = [study.Experiment(network=network, **FIELDS).id for network in networks]
    return {f"{run}{ending}" for run in ids for ending in (".nc", runs.NETWORK)}


@pytest.mark.fault("asked twice", "a training")
def test_of_two_trainings_one_waits_and_says_so(tmp_path: Path) -> None:
    first = start(*train_arguments(tmp_path))
    started(first, tmp_path)
    second = start(*train_arguments(tmp_path))
    told, errors = first.communicate(timeout=120)
    once = left(tmp_path)
    told_again, waited = second.communicate(timeout=120)
    assert (first.returncode, second.returncode) == (0, 0), errors + waited
    run = study.Experiment(**FIELDS)
    assert len(told.splitlines()) == run.epochs + 2
    assert told_again == f"{tmp_path / run.id}.nc\n"  # and no epoch
    assert (errors, waited) == ("", f"{run.id} {WAITS}\n")
    assert left(tmp_path) == once
    assert once.keys() == files_of("vanillaNet")


@pytest.mark.slow
@pytest.mark.parametrize("other", ["run", "train"])
@pytest.mark.fault("asked twice", "several trainings")
def test_of_two_queues_one_waits_and_says_so(tmp_path: Path, other: str) -> None:
    folder = tmp_path / "runs"
    (tmp_path / "several.py").write_text(QUEUE.format(fields=FIELDS))
    first = start(tmp_path / "several.py", folder)
    started(first, folder)
    second = start(*([tmp_path / "several.py", folder] if other == "run" else train_arguments(folder)))
    written: dict[str, tuple[int, int]] = {}
    while first.poll() is None or second.poll() is None:
        for name, state in left(folder).items() if folder.exists() else ():
            if not name.startswith(".") and name.endswith(".nc"):
                assert written.setdefault(name, state) == state, f"{name} was written twice"
        time.sleep(0.05)
    (_, errors), (_, waited) = first.communicate(), second.communicate()
    assert (first.returncode, second.returncode) == (0, 0), errors + waited
    assert f"{study.Experiment(**FIELDS).id} {WAITS}" in waited
    assert left(folder).keys() == files_of("vanillaNet", "sr3Net", "normNet")


@pytest.mark.fault("asked twice", "decoding")
def test_who_needs_data_that_are_being_decoded_waits_and_says_so(
    tmp_path: Path, survived: Callable[[], None]
) -> None:
    name = f"folder:{make_folder(tmp_path / 'insects')}"
    expected = data.load(name, root=tmp_path / "elsewhere")
    program = f"from sparsity_lib.study import data; print(data.load({name!r}).digest)"
    with files.lock(tmp_path / "cache" / "folder", "decoded"):
        second = start("-c", program, SPARSITY_DATA=str(tmp_path))
        assert second.stderr
        assert second.stderr.readline() == "folder is being decoded by another process; waiting for it\n"
        assert second.poll() is None
        found = data.load(name, root=tmp_path / "elsewhere")  # another folder's is another lock
    told, errors = second.communicate(timeout=60)
    assert (second.returncode, told, errors) == (0, f"{expected.digest}\n", "")
    assert contents(found.train) == contents(expected.train)
    survived()
