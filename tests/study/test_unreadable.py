"""A file that cannot be read here and now is left as it is, named in one line, and not made anew.

It is locked by another program, may not be read, lies on a broken mount, has a folder or a dangling link in
its place, or was written by a newer library.
"""

import contextlib
import errno
import fcntl
import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import pytest
from image_folders import make_folder
from refusals import refused
from run_files import described_as
from test_training import SMALL, Interrupted, interrupt_after

from sparsity_lib import study
from sparsity_lib.study import data, files, profiles
from sparsity_lib.study.__main__ import main
from sparsity_lib.study.data import official
from sparsity_lib.study.errors import Unreadable, Unusable
from sparsity_lib.study.queue import scheduling
from sparsity_lib.study.runs import file as runs
from sparsity_lib.study.runs import results

WANTED = study.Experiment(**SMALL)
FIELDS = [f"{name}={value}" for name, value in SMALL.items()]
Obstacle = Callable[[Path, pytest.MonkeyPatch], contextlib.AbstractContextManager[None]]


@contextlib.contextmanager
def locked(path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As by a program that opened it to write, HDF5 among them."""
    with path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def in_place_of(path: Path, make: Callable[[], None]) -> Iterator[None]:
    aside = path.with_name("elsewhere")
    path.rename(aside)
    make()
    yield
    (os.rmdir if path.is_dir() else os.unlink)(path)
    aside.rename(path)


def folder(path: Path, monkeypatch: pytest.MonkeyPatch) -> contextlib.AbstractContextManager[None]:
    return in_place_of(path, path.mkdir)


def dangling(path: Path, monkeypatch: pytest.MonkeyPatch) -> contextlib.AbstractContextManager[None]:
    return in_place_of(path, lambda: path.symlink_to("/not/mounted"))


def opening_fails(number: int) -> Obstacle:
    """An error of the system when the file is opened, also for a user who may read all files."""

    @contextlib.contextmanager
    def obstacle(path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        def opened(self: Path, *args: object, **options: object) -> object:
            if self == path:
                raise OSError(number, os.strerror(number), str(path))
            return really(self, *args, **options)

        really = Path.open
        with monkeypatch.context() as patched:
            patched.setattr(Path, "open", opened)
            yield

    return obstacle


OBSTACLES = {
    "in use": locked,
    "Is a directory": folder,
    "No such file or directory": dangling,
    "Permission denied": opening_fails(errno.EACCES),
    "Input/output error": opening_fails(errno.EIO),
    "Stale file handle": opening_fails(errno.ESTALE),
}


def tree(root: Path) -> dict[str, str]:
    """The content of a folder without locks."""
    found = {}
    for path in sorted(root.rglob("*")):
        kind = "link" if path.is_symlink() else "folder" if path.is_dir() else "file"
        if path.suffix != ".lock":
            found[str(path.relative_to(root))] = kind + (digest(path) if kind == "file" else "")
    return found


def digest(path: Path) -> str:
    with open(path, "rb") as file:  # not patched by `opening_fails`
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_left_alone(path: Path, why: str, use: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
    """The use of the file is refused in one line that names it and the reason, and nothing is changed."""
    with OBSTACLES[why](path, monkeypatch):
        before = tree(path.parent)
        with refused(path, why, error=Unreadable):
            use()
        assert tree(path.parent) == before


@pytest.fixture
def finished(tiny_run: study.Run, tmp_path: Path) -> study.Run:
    """A copy of a finished run."""
    shutil.copy(tiny_run.path.with_suffix(runs.NETWORK), tmp_path)
    return study.load(shutil.copy(tiny_run.path, tmp_path))


@pytest.mark.parametrize("why", OBSTACLES)
def test_obstacles_are_refused_in_one_line(why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.nc"
    path.write_bytes(b"content")
    for read in (files.content_of, files.digest):
        is_left_alone(path, why, lambda read=read: read(path), monkeypatch)


def interrupted(folder: Path) -> None:
    with contextlib.suppress(Interrupted):
        study.train(WANTED, interrupt_after(1), folder, checkpoint_seconds=0)


def train(folder: Path) -> study.Run:
    return study.train(WANTED, interrupt_after(-1), folder)


def load(folder: Path) -> data.Data:
    images = folder.parent / "insects"
    return data.load(f"folder:{images if images.exists() else make_folder(images)}", root=folder)


ARCHIVE = official.Archive("https://localhost:1/a.zip", "0" * 32, "a")  # no server
# Functions that make files in a folder, the endings of these, and functions that read them.
USES: dict[str, tuple[Callable[[Path], object], list[str], Callable[[Path], object]]] = {
    "a run": (lambda folder: study.train(WANTED, folder=folder), [".nc", runs.NETWORK], train),
    "a checkpoint": (interrupted, [".ckpt"], train),
    "a note of divergence": (
        lambda folder: runs.note_divergence(WANTED, folder, "it did"),
        [runs.DIVERGED],
        lambda folder: scheduling.missing([WANTED], folder),
    ),
    "decoded data": (load, [".npy", ".json", "digest-*"], load),
    "an archive": (
        lambda folder: (folder / ARCHIVE.file).write_bytes(b"content"),
        [".zip"],
        lambda folder: official.downloaded(ARCHIVE, folder),
    ),
}


@pytest.mark.parametrize("what", USES)
def test_unreadable_files_are_left_unchanged(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, endings, use = USES[what]
    folder = tmp_path / "folder"
    folder.mkdir()
    make(folder)
    for ending in endings:
        (path,) = folder.rglob(f"*{ending}")
        for why in ("in use", "No such file or directory"):
            is_left_alone(path, why, lambda: use(folder), monkeypatch)


@pytest.mark.parametrize("command", [["train", *FIELDS], ["run", "laptop", "--list"], ["status", "laptop"]])
def test_commands_name_the_unreadable_file_and_return_2(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = WANTED if command[0] == "train" else profiles.experiments("laptop")[0]
    path = runs.path_of(wanted, tmp_path)
    path.touch()
    with locked(path, monkeypatch):
        assert main([*command, "--out", str(tmp_path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert str(path) in line
    assert path.read_bytes() == b""
    assert [name for name in os.listdir(tmp_path) if not name.endswith(".lock")] == [path.name]


def test_a_sealed_file_of_a_newer_version_is_left_alone(finished: study.Run) -> None:
    def of_hdf5() -> bytes:
        content = bytes(files.read_with_checksum(finished.path))
        return content[:8] + b"\x09" + content[9:]  # a superblock of a version that is not made yet

    def with_a_field() -> bytes:
        described_as(finished, finished.path.parent, not_invented_yet=1)
        return bytes(files.read_with_checksum(finished.path))

    network, folder = finished.path.with_suffix(runs.NETWORK), finished.path.parent
    checkpoint = runs.path_of(WANTED, folder).with_suffix(".ckpt")
    again, other = (
        lambda: study.train(finished.experiment, interrupt_after(-1), folder),
        lambda: study.train(WANTED, interrupt_after(-1), folder),
    )
    for path, make, use, reason in (
        (checkpoint, lambda: b"what torch 9 makes", other, "torch"),
        (network, lambda: b"what torch 9 makes", lambda: files.load_tensors(network), "torch"),
        (finished.path, with_a_field, again, "not_invented_yet"),
        (finished.path, of_hdf5, again, f"HDF5 {h5py.version.hdf5_version}"),
    ):
        files.write_with_checksum(path, make())
        before = tree(folder)
        with refused(path.name, reason, error=Unreadable):
            use()
        assert tree(folder) == before


def test_readers_may_open_a_file_together(finished: study.Run) -> None:
    with h5py.File(finished.path), finished.path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        assert runs.find(finished.experiment, finished.path.parent)


def test_an_absent_file_is_reported_as_missing(finished: study.Run) -> None:
    finished.path.unlink()
    for read in (
        lambda: study.load(finished.path),
        lambda: results.curves([finished]),
        lambda: finished.root,
    ):
        with refused(finished.path, error=Unusable):
            read()


def test_a_file_that_cannot_be_set_aside_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def replaced(*_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(files.os, "replace", replaced)
    with refused(os.strerror(errno.EROFS)):
        files.set_aside(tmp_path / "a.nc", "too short")


def test_run_files_are_of_a_format_that_other_tools_read(tiny_run: study.Run) -> None:
    """HDF5 1.10's, which netCDF of Debian 12 reads, and the HDF5 1.14 of the oldest h5py that is allowed."""
    assert tiny_run.path.read_bytes()[8] <= 3  # the version of the superblock
    if not shutil.which("ncdump"):
        missing = "ncdump is missing; on Debian or Ubuntu: apt-get install netcdf-bin"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(missing)
    shown = subprocess.run(["ncdump", tiny_run.path], capture_output=True, text=True, check=True).stdout
    for layer in tiny_run.layers:
        assert f"group: {layer} {{" in shown
    assert "val_loss = " in shown
