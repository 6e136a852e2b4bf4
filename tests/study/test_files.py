"""Files are written whole or not at all, and what goes wrong is told in one line."""

import os
import subprocess
import sys

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


@pytest.mark.slow
@pytest.mark.fault("no room", "a training")
def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path):
    """A process that may write no more than 20 kB to a file stands for a disk without room."""
    program = f"""
import resource
from sparsity_lib import study
from sparsity_lib.study.__main__ import main
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
raise SystemExit(main(["train", "epochs=1", "limit=100", "--out", {str(tmp_path)!r}]))
"""
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert answer.returncode == 2
    errors = answer.stderr.strip().splitlines()
    assert errors[-1].startswith("error: cannot write")
    assert [name for name in os.listdir(tmp_path) if not name.endswith(".lock")] == []


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


def test_nobody_waits_for_himself(tmp_path):
    """A module that trains as it is imported, by the training, would."""
    with files.lock(tmp_path / "a.nc"):
        with pytest.raises(StudyError, match="a is being trained by this program already"):
            files.lock(tmp_path / "a.nc").__enter__()
        with files.lock(tmp_path / "b.nc"):
            pass
    with files.lock(tmp_path / "a.nc"):
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
