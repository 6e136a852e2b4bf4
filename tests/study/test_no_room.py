"""On a disk that fills up, or may not be written: one line, nothing lost, and the same command resumes.

The disk is one in memory, of a few hundred kB, as root alone may mount it.
"""

import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from image_folders import contents, make_folder
from programs import python
from test_notebook_runner import make_project, run
from test_training import SMALL, equal

from sparsity_lib import study
from sparsity_lib.study import data, files
from sparsity_lib.study.__main__ import main
from sparsity_lib.study.errors import StudyError
from sparsity_lib.study.runs import file as runs
from sparsity_lib.study.training import loop

EARLIER = study.Experiment(network="normNet", **SMALL)
# Its checkpoints are of 170, 338 and 402 KiB, its two files of 205 and 164.
WANTED = study.Experiment(**SMALL)
FULL = os.strerror(errno.ENOSPC)
QUEUE = """
import sys
import torch
from sparsity_lib.study import profiles
from sparsity_lib.study.__main__ import main

if __name__ == "__main__":
    torch.set_num_threads(1)  # as the tests have
    cells = [{{"network": network, **{fields!r}}} for network in ("vanillaNet", "sr3Net")]
    grid = profiles.Grid(cells, seeds=(0,), published_seeds=(0,))
    profiles.PROFILES["two"] = profiles.Profile("two cells", {{"networks": grid}})
    sys.exit(main(["run", "two", "--jobs", "1", "--out", sys.argv[1]]))
"""


class Disk:
    """A disk of its own, mounted at `path`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir()
        self._mount("-t", "tmpfs", "-o", "size=4m", "tmpfs")

    def _mount(self, *arguments: str) -> None:
        subprocess.run(["mount", *arguments, self.path], check=True, capture_output=True)

    def hold(self, kib: int) -> None:
        """Let it hold so many KiB in all."""
        self._mount("-o", f"remount,size={kib}k")

    def refuse(self) -> None:
        """Let nothing be written."""
        self._mount("-o", "remount,ro")

    def digests(self) -> dict[str, str]:
        """SHA-256 of every file but locks, by its path."""
        found = (path for path in self.path.rglob("*") if path.is_file() and path.suffix != ".lock")
        return {str(path.relative_to(self.path)): files.digest(path) for path in found}


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    try:
        mounted = Disk(tmp_path / "disk")
    except (OSError, subprocess.CalledProcessError) as error:
        if os.environ.get("CI") and os.geteuid() == 0:
            raise
        pytest.skip(f"no disk can be mounted here: {error}")
    yield mounted
    subprocess.run(["umount", "--lazy", mounted.path], check=True)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[study.Run, study.Run]:
    """The earlier run and the wanted one, made where there is room."""
    folder = tmp_path_factory.mktemp("undisturbed")
    return study.train(EARLIER, folder=folder), study.train(WANTED, folder=folder)


def of(run: study.Run) -> set[str]:
    """The names of a run's two files."""
    return {run.path.name, run.path.with_suffix(runs.NETWORK).name}


def assert_refused(command: subprocess.CompletedProcess[str], path: Path) -> None:
    assert command.returncode == 2
    assert command.stderr.startswith("error: ")
    assert str(path) in command.stderr
    assert command.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("seconds_between_checkpoints", "room", "left"),
    [
        pytest.param(0, 100, set(), id="first checkpoint"),
        pytest.param(0, 300, {".ckpt"}, id="second checkpoint"),
        pytest.param(60, 60, set(), id="network"),
        pytest.param(60, 280, {runs.NETWORK}, id="run file"),
    ],
)
@pytest.mark.fault("no room", "a training")
def test_a_training_without_space_keeps_earlier_files_and_resumes(
    disk: Disk,
    undisturbed: tuple[study.Run, study.Run],
    seconds_between_checkpoints: float,
    room: int,
    left: set[str],
) -> None:
    def train() -> study.Run:
        return study.train(WANTED, epochs.append, disk.path, seconds_between_checkpoints)

    earlier, wanted = undisturbed
    epochs: list[loop.EpochRecord] = []
    for name in of(earlier):
        shutil.copy(earlier.path.with_name(name), disk.path)
    before = disk.digests()
    disk.hold(sum(-(-path.stat().st_size // 4096) * 4 for path in disk.path.iterdir()) + room)
    with pytest.raises(StudyError, match=rf"{WANTED.id}.*{FULL}"):
        train()
    after = disk.digests()
    assert before.items() <= after.items()
    assert after.keys() - before.keys() == {f"{WANTED.id}{ending}" for ending in left}
    for ending in left:
        files.read_with_checksum(disk.path / f"{WANTED.id}{ending}")
    disk.hold(4096)
    epochs.clear()
    assert equal(train(), wanted)
    assert len(epochs) == (3 if ".ckpt" in left else 4)
    assert before.items() <= disk.digests().items()
    assert disk.digests().keys() == before.keys() | of(wanted)


@pytest.mark.slow  # 15 seconds
@pytest.mark.fault("no room", "several trainings")
def test_a_queue_without_space_keeps_finished_runs_and_resumes(
    disk: Disk, tmp_path: Path, undisturbed: tuple[study.Run, study.Run]
) -> None:
    (tmp_path / "several.py").write_text(QUEUE.format(fields=SMALL))
    disk.hold(480)
    full = python("-W", "error", tmp_path / "several.py", disk.path)
    assert full.returncode == 1
    assert "Traceback" not in full.stdout + full.stderr
    assert FULL in full.stdout
    before = disk.digests()
    assert of(undisturbed[1]) <= before.keys()
    assert all(name.endswith((".nc", runs.NETWORK, ".log")) for name in before)
    disk.hold(4096)
    again = python("-W", "error", tmp_path / "several.py", disk.path)
    assert again.returncode == 0, again.stderr
    assert equal(study.load(disk.path / undisturbed[1].path.name), undisturbed[1])
    assert {name: disk.digests()[name] for name in of(undisturbed[1])}.items() <= before.items()
    assert len(disk.digests()) == 4


@pytest.mark.parametrize("room", [8, 64])  # KiB: for the images' digest alone, for a part of the images
@pytest.mark.fault("no room", "decoding")
def test_decoding_without_space_leaves_no_partial_file_and_resumes(
    disk: Disk, tmp_path: Path, room: int
) -> None:
    name = f"folder:{make_folder(tmp_path / 'insects', height=64, width=64)}"
    expected = data.load(name, root=tmp_path)
    disk.hold(room)
    with pytest.raises(StudyError, match=rf"{disk.path}/cache/folder-\S+\.npy.*{FULL}"):
        data.load(name, root=disk.path)
    assert [Path(path).name[:7] for path in disk.digests()] == ["digest-"]
    disk.hold(4096)
    found = data.load(name, root=disk.path)
    assert found.digest == expected.digest
    assert contents(found.train) == contents(expected.train)


@pytest.mark.slow  # 10 seconds
@pytest.mark.fault("no room", "a page of the book")
def test_a_page_without_space_keeps_the_others_and_is_made_later(disk: Disk) -> None:
    root = make_project(
        disk.path,
        _01_one=["n = 3", "print(n)"],
        _02_two=["n = 3", "print('much\\n' * 60_000)", "print(n)"],
    )
    assert run(root, "01").returncode == 0
    page = root / "book/experiments/01-one.ipynb"
    sound = page.read_bytes()
    used = sum(-(-path.stat().st_size // 4096) * 4 for path in root.rglob("*") if path.is_file())
    for room in (100, 400):  # KiB: for a part of what is executed, and for all of it but not for the page
        disk.hold(used + room)
        full = run(root)
        assert full.returncode == 1
        (error,) = (line for line in full.stderr.splitlines() if line.startswith("error: "))
        assert "02-two.ipynb" in error
        assert FULL in error
        assert "Traceback" not in full.stderr
        assert page.read_bytes() == sound
        assert [path.name for path in page.parent.iterdir()] == [page.name]
    disk.hold(8192)
    assert run(root).returncode == 0
    assert page.read_bytes() == sound
    assert {path.name for path in page.parent.iterdir()} == {page.name, "02-two.ipynb"}


@pytest.mark.slow
@pytest.mark.fault("no room", "a folder that is read-only")
def test_a_read_only_folder_is_refused_in_one_line(disk: Disk, tmp_path: Path) -> None:
    (tmp_path / "several.py").write_text(QUEUE.format(fields=SMALL))
    disk.refuse()
    fields = [f"{name}={value}" for name, value in SMALL.items()]
    trained = python("-W", "error", "-m", "sparsity_lib.study", "train", *fields, "--out", disk.path)
    assert trained.stdout == ""
    assert_refused(trained, disk.path)
    assert_refused(python("-W", "error", tmp_path / "several.py", disk.path), disk.path)
    with pytest.raises(StudyError, match=f"{disk.path}/cache"):
        data.load(f"folder:{make_folder(tmp_path / 'insects')}", root=disk.path)
    project = make_project(tmp_path / "project", _01_one=["n = 3"])
    assert_refused(run(project, "--out", str(disk.path)), disk.path)


def test_an_export_without_space_is_refused_in_one_line(
    disk: Disk, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = study.train(EARLIER, folder=tmp_path / "runs")
    disk.hold(20)
    assert main(["tensorboard", str(run.path), "--to", str(disk.path)]) == 2
    written = capsys.readouterr().err
    assert written.count("\n") == 1
    assert FULL in written
