"""Files are written whole or not at all, and a failure is one line."""

import os

import pytest
from filelock import FileLock

from sparsity_lib import study
from sparsity_lib.study import files
from sparsity_lib.study.errors import Stopped, StudyError

SMALL = {"dataset": "digits", "limit": 100, "epochs": 1}


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "results.txt"
    path.write_text("old")

    def fail():
        with files.written_whole(path) as partial:
            partial.write_text("half of the new")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["results.txt"]


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "a-file").write_text("in the way")
    with pytest.raises(StudyError, match=r"cannot write in .*a-file") as caught:
        study.train(study.Experiment(**SMALL), folder=tmp_path / "a-file" / "runs")
    assert "\n" not in str(caught.value)


def test_no_permission_is_one_line(tmp_path):
    (tmp_path / "runs").mkdir(mode=0o500)
    if os.access(tmp_path / "runs", os.W_OK):
        pytest.skip("whoever runs this may write everywhere")
    with pytest.raises(StudyError, match=r"cannot write in .*runs.*[Pp]ermission denied") as caught:
        study.train(study.Experiment(**SMALL), folder=tmp_path / "runs")
    assert "\n" not in str(caught.value)


def test_set_aside_loses_nothing(tmp_path):
    path = tmp_path / "damaged.nc"
    for content in ("first", "second"):
        path.write_text(content)
        with pytest.warns(UserWarning, match=r"damaged.nc was set aside as .*: too short"):
            files.set_aside(path, ValueError("too short\nand more"))
    kept = sorted(p.read_text() for p in tmp_path.iterdir())
    assert kept == ["first", "second"]


def test_a_thread_does_not_wait_for_itself(tmp_path):
    """A module that trains as it is imported, by the training, would."""
    with files.lock(tmp_path / "a.nc"), files.lock(tmp_path / "a.nc"):
        pass


def test_whoever_waits_for_a_lock_can_be_stopped(tmp_path, capsys):
    with (
        FileLock(tmp_path / ".a.lock"),
        pytest.raises(Stopped, match="a: stopped, while another process was at it"),
    ):
        files.lock(tmp_path / "a.nc", stop=lambda: True).__enter__()
    assert "a is being trained by another process; waiting for it" in capsys.readouterr().err
    with files.lock(tmp_path / "a.nc", stop=lambda: True):  # nobody holds it
        pass
