"""Tasks in processes of their own: each ends with its own error, whatever becomes of the others."""

import os
import signal
import time

import pytest

from sparsity_lib.study.errors import Stopped
from sparsity_lib.study.workers import Killed, side_by_side


class Particular(Exception):
    """Cannot be made from its text alone, so not be unpickled."""

    def __init__(self, one, two):
        super().__init__(f"{one} and {two}")


def work(task, tell, stop):
    match task:
        case "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        case "leaves":
            os._exit(3)
        case "fails":
            raise ValueError("no good")
        case "is particular":
            raise Particular("one", "two")
        case "waits":
            tell(os.getpid())
            while not stop():
                time.sleep(0.01)
            raise Stopped("as asked")
        case _:
            tell(task)


@pytest.mark.fault("one fails", "processes side by side")
@pytest.mark.parametrize("jobs", [1, 2])
def test_one_that_dies_takes_no_other_with_it(jobs, survived):
    told = []
    tasks = ["a", "dies", "b", "fails", "leaves", "c", "is particular", "d"]
    outcome = dict(side_by_side(work, tasks, jobs, 1, told=told.append))
    assert sorted(told) == ["a", "b", "c", "d"]
    assert all(outcome[task] is None for task in told)
    assert isinstance(outcome["dies"], Killed)
    assert "killed by SIGKILL (no memory left?)" in str(outcome["dies"])
    assert "ended with exit code 3" in str(outcome["leaves"])
    assert str(outcome["fails"]) == "no good"
    assert "in work" in outcome["fails"].__notes__[0]  # its traceback
    assert str(outcome["is particular"]) == "Particular: one and two"
    survived()


def test_asked_to_stop_works_end_as_they_do_and_the_others_never_begin():
    told = []
    outcome = list(side_by_side(work, ["waits", "a"], 1, 1, stop=lambda: bool(told), told=told.append))
    assert [(task, str(error)) for task, error in outcome] == [("a", "not started"), ("waits", "as asked")]


def test_whoever_leaves_waits_for_the_processes():
    told = []

    def interrupted(message):
        told.append(message)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(side_by_side(work, ["waits"], 1, 1, told=interrupted))
    (process,) = told
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)
