"""Tasks in separate processes: each ends with its own error, independently of the others."""

import multiprocessing
import os
import signal
import sys
import time
from threading import Thread
from types import ModuleType

import pytest
from programs import python

from sparsity_lib.study.errors import Stopped, StudyError
from sparsity_lib.study.queue.workers import run_in_processes


class Particular(Exception):
    """Cannot be made from its text alone, so not be unpickled."""

    def __init__(self, one, two):
        super().__init__(f"{one} and {two}")


def work(task, report, stop):
    match task:
        case "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        case "is process":
            report(os.getpid())
        case "leaves":
            os._exit(3)
        case "fails":
            raise ValueError("no good")
        case "is particular":
            raise Particular("one", "two")
        case "is deaf":
            report(os.getpid())
            time.sleep(600)
        case "has workers":
            list(run_in_processes(work, ["a"], 1, 1))
        case "waits":
            report(os.getpid())
            while not stop():
                time.sleep(0.01)
            raise Stopped("as asked")
        case "has threads":
            import torch

            report(torch.get_num_threads())
        case _:
            report(task)


def finish(tasks, jobs=1, **how):
    """The tasks with their errors, and what they reported."""
    reported = []
    return list(run_in_processes(work, tasks, jobs, 1, on_report=reported.append, **how)), reported


@pytest.mark.fault("one fails", "processes side by side")
def test_a_killed_process_leaves_other_tasks_unaffected():
    tasks = ["a", "dies", "b", "fails", "leaves", "c", "is particular", "d"]
    outcomes, reported = finish(tasks, 2)
    outcome = dict(outcomes)
    assert sorted(reported) == ["a", "b", "c", "d"]
    assert all(outcome[task] is None for task in reported)
    assert isinstance(outcome["dies"], StudyError)
    assert "killed by SIGKILL (no memory left?)" in str(outcome["dies"])
    assert "ended with exit code 3" in str(outcome["leaves"])
    assert str(outcome["fails"]) == "no good"
    assert "in work" in outcome["fails"].__notes__[0]  # its traceback
    assert str(outcome["is particular"]) == "Particular: one and two"


def test_a_process_takes_one_task_after_another():
    outcomes, reported = finish(["is process"] * 4)
    assert outcomes == [("is process", None)] * 4
    assert len(set(reported)) == 1


def test_a_process_has_its_number_of_threads_in_any_environment(monkeypatch):
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):  # the latter comes first
        monkeypatch.setenv(variable, "2")
    assert finish(["has threads"]) == ([("has threads", None)], [1])


def test_stopped_tasks_end_and_the_others_never_begin():
    reported = []
    outcomes = run_in_processes(
        work, ["waits", "a"], 1, 1, stop=lambda: bool(reported), on_report=reported.append
    )
    assert [(task, str(error)) for task, error in outcomes] == [("a", "not started"), ("waits", "as asked")]


def test_an_interrupt_waits_for_the_processes():
    reported = []

    def interrupted(message):
        reported.append(message)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(run_in_processes(work, ["waits"], 1, 1, on_report=interrupted))
    (process,) = reported
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)


def test_a_second_interrupt_waits_no_longer():
    """The work ignores a request to stop, and then an interrupt comes."""

    def stop():
        if reported:
            signal.setitimer(signal.ITIMER_REAL, 0.5)
        return bool(reported)

    def interrupt(number, frame):
        raise KeyboardInterrupt

    reported, before = [], signal.signal(signal.SIGALRM, interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            list(run_in_processes(work, ["is deaf"], 1, 1, stop=stop, on_report=reported.append))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    with pytest.raises(ProcessLookupError):
        os.kill(reported[0], 0)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_process_that_is_just_starting_is_not_interrupted(number):
    """Ctrl-C reaches all processes of a terminal; the parent decides what stops."""

    def interrupt_all():
        end = time.monotonic() + 60
        while not reported and time.monotonic() < end:
            for child in multiprocessing.active_children():
                os.kill(child.pid, number)
            time.sleep(0.001)

    reported, thread = [], Thread(target=interrupt_all)
    thread.start()
    assert list(run_in_processes(work, ["a"], 1, 1, on_report=reported.append)) == [("a", None)]
    thread.join()


def test_the_script_is_not_executed_again(tmp_path, monkeypatch):
    """As `multiprocessing` would, where it has no main guard."""
    script, main = tmp_path / "script.py", ModuleType("__main__")
    script.write_text(f"open({str(tmp_path / 'again')!r}, 'w')")
    main.__file__ = str(script)
    monkeypatch.setitem(sys.modules, "__main__", main)
    assert list(run_in_processes(work, ["a"], 1, 1)) == [("a", None)]
    assert os.listdir(tmp_path) == ["script.py"]
    assert sys.modules["__main__"] is main


def test_a_worker_has_no_workers():
    """Or a module that trains as it is imported, by the training, would start ever more."""
    (((_, error),), _) = finish(["has workers"])
    assert isinstance(error, StudyError)
    assert "__main__" in str(error)


def test_tasks_run_in_sequence_in_this_process():
    outcomes, reported = finish(["is process", "fails", "a"], 2, in_this_process=True)
    outcome = dict(outcomes)
    assert reported == [os.getpid(), "a"]
    assert outcome["is process"] is outcome["a"] is None
    assert str(outcome["fails"]) == "no good"
    (((_, error),), _) = finish(["a"], 2, stop=lambda: True, in_this_process=True)
    assert isinstance(error, Stopped)


SCRIPT = """
from torch import nn
from sparsity_lib.study import Experiment, load_or_train_all

open("began", "a").write("x")

def net(channels, size, classes):
    pixels = size[0] * size[1]
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * pixels, 8), nn.ReLU(), nn.Linear(8, classes))

small = dict(network={network!r}, epochs=1, limit=60, held_out=40)
runs = load_or_train_all([Experiment(**small, seed=seed) for seed in (0, 1)])
print(*(run.experiment.seed for run in runs))
"""


def run_script(network, folder, *how, given=None):
    (folder / "script.py").write_text(SCRIPT.format(network=network))
    return python(*how, folder=folder, given=given, SPARSITY_RUNS=str(folder / "runs"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("network", "how"),
    [
        ("vanillaNet", "file"),
        ("__main__:net", "file"),
        ("vanillaNet", "-c"),
        ("__main__:net", "-"),
    ],
)
def test_a_script_needs_no_main_guard(network, how, tmp_path):
    text = SCRIPT.format(network=network)
    arguments = {"file": ["script.py"], "-c": ["-c", text], "-": ["-"]}[how]
    result = run_script(network, tmp_path, *arguments, given=text if how == "-" else None)
    assert result.returncode == 0, result.stderr
    assert result.stdout.endswith("\n0 1\n")
    assert (tmp_path / "began").read_text() == "x"


@pytest.mark.slow
def test_a_module_that_trains_as_it_is_imported_by_the_training_is_refused(tmp_path):
    result = run_script("script:net", tmp_path, "script.py")
    assert result.returncode == 1
    last = result.stderr.splitlines()[-1]
    assert "2 of 2 runs failed" in last
    assert 'if __name__ == "__main__"' in last
