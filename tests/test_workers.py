"""Tasks in processes of their own: each ends with its own error, whatever becomes of the others."""

import multiprocessing
import os
import signal
import time
from threading import Thread

import pytest

from sparsity_lib.study.errors import Stopped
from sparsity_lib.study.queue.workers import Killed, side_by_side


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
        case "is deaf":
            tell(os.getpid())
            time.sleep(600)
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


def test_whoever_is_interrupted_again_waits_no_longer():
    """First the work is asked to stop, which it does not; two seconds later there is an interrupt."""

    def stop():
        if told:
            signal.alarm(2)
        return bool(told)

    def interrupt(number, frame):
        raise KeyboardInterrupt

    told, before = [], signal.signal(signal.SIGALRM, interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            list(side_by_side(work, ["is deaf"], 1, 1, stop=stop, told=told.append))
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    with pytest.raises(ProcessLookupError):
        os.kill(told[0], 0)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_process_that_is_just_starting_is_not_interrupted(number):
    """Ctrl-C is sent to all processes of a terminal, when it is the parent's to say what stops."""

    def interrupt_all():
        end = time.monotonic() + 60
        while not told and time.monotonic() < end:
            for child in multiprocessing.active_children():
                os.kill(child.pid, number)
            time.sleep(0.001)

    told, thread = [], Thread(target=interrupt_all)
    thread.start()
    assert list(side_by_side(work, ["a"], 1, 1, told=told.append)) == [("a", None)]
    assert told == ["a"]
    thread.join()
