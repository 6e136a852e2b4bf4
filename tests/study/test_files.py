"""Files are written whole or not at all, and a failure is one line."""

import os

import pytest
from filelock import FileLock
from refusals import refused

from sparsity_lib import study
from sparsity_lib.study import files
from sparsity_lib.study.errors import Stopped

SMALL = {"dataset": "digits", "limit": 100, "epochs": 1}


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "results.txt"
    path.write_text("old")

    def fail():
        with files.atomic_write(path) as partial:
            partial.write_text("half of the new")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["results.txt"]


def test_a_folder_that_cannot_be_made_is_refused_in_one_line(tmp_path):
    (tmp_path / "a-file").write_text("in the way")
    with refused("a-file"):
        study.train(study.Experiment(**SMALL), folder=tmp_path / "a-file" / "runs")


def test_files_set_aside_are_all_kept(tmp_path):
    path = tmp_path / "damaged.nc"
    for content in ("first", "second"):
        path.write_text(content)
        with pytest.warns(UserWarning, match=r"damaged.nc .*: too short$"):
            files.set_aside(path, ValueError("too short\nand more"))
    kept = sorted(p.read_text() for p in tmp_path.iterdir())
    assert kept == ["first", "second"]


def test_a_lock_is_reentrant_within_a_thread(tmp_path):
    """A module that trains as it is imported, by the training, would."""
    with files.lock(tmp_path / "a.nc"), files.lock(tmp_path / "a.nc"):
        pass


def test_waiting_for_a_lock_can_be_stopped(tmp_path, capsys):
    with (
        FileLock(tmp_path / ".a.lock"),
        pytest.raises(Stopped, match=r"^a: "),
    ):
        files.lock(tmp_path / "a.nc", stop=lambda: True).__enter__()
    assert capsys.readouterr().err.startswith("a ")
    with files.lock(tmp_path / "a.nc", stop=lambda: True):
        pass
