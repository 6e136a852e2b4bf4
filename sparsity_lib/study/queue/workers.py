"""Parallel tasks, each in a process of its own; a process that is killed does not stop the others.

Each process has a pipe to its parent and shares nothing with the others. The pools of the standard library
share locks, which stay locked when the process that holds one is killed.
"""

import contextlib
import copy
import multiprocessing
import os
import signal
import sys
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnContext, SpawnProcess
from threading import Thread
from types import ModuleType
from typing import Any, TypeAlias, TypeVar

from sparsity_lib.study.errors import Stopped, StudyError

Task = TypeVar("Task")
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
Report: TypeAlias = Callable[[Any], None]
Stop: TypeAlias = Callable[[], bool]

_is_worker = False  # whether this process is one of those that `run_in_processes` starts


def run_in_processes(
    work: Callable[[Task, Report, Stop], None],
    tasks: Sequence[Task],
    jobs: int,
    threads: int,
    stop: Stop = lambda: False,
    on_report: Report = lambda message: None,
    in_this_process: bool = False,
) -> Iterator[tuple[Task, BaseException | None]]:
    """Run tasks in parallel processes, and yield each when it ends, with its error or None.

    `work(task, report, stop)`, a function of a module, is called in one of `jobs` processes with `threads`
    each; `on_report` is called in this process with each report. When `stop` is true, so is the `stop` of
    each task; tasks that were not started end with `Stopped`. When the caller leaves the iteration, running
    tasks are stopped and waited for, so that an interrupted notebook leaves checkpoints; a second interrupt,
    or one while they stop, kills them. Errors carry the traceback of their process as a note.

    With `in_this_process`, tasks run one after the other in this process: they need objects of `__main__`,
    which other processes do not import. So do tasks of a daemonic process, which cannot have children.
    Raises `StudyError` in a worker process, as where a module trains when it is imported.
    """
    if _is_worker:
        raise StudyError(
            "a training imports this module, which trains as it is imported: put that below "
            '`if __name__ == "__main__":`'
        )
    if in_this_process or multiprocessing.current_process().daemon:
        yield from _one_after_the_other(work, tasks, stop, on_report)
        return
    waiting, stopping = deque(tasks), False
    idle: list[_Worker] = []
    running: dict[Any, tuple[_Worker, Task]] = {}  # by the pipe
    try:
        while waiting or running:
            if not stopping and stop():
                stopping = True
                for worker, _ in running.values():
                    worker.ask_to_stop()
            while waiting and stopping:
                yield waiting.popleft(), Stopped("not started")
            while waiting and len(running) < jobs:
                worker = idle.pop() if idle else _Worker(work, threads)
                task = waiting.popleft()
                running[worker.pipe] = worker, task
                worker.give(task)
            for pipe in wait(list(running), timeout=0.5):
                worker, task = running[pipe]
                what, content = worker.receive()
                if what == "report":
                    on_report(content)
                    continue
                del running[pipe]
                if what == "ended":
                    idle.append(worker)
                yield task, content
    except BaseException:
        if stopping:
            _kill(running)
        raise
    finally:
        workers = [*idle, *(worker for worker, _ in running.values())]
        for worker in workers:
            worker.ask_to_stop()
        try:
            for worker in workers:
                worker.leave()
        except BaseException:
            _kill(running)
            raise


def _one_after_the_other(
    work: Callable[[Task, Report, Stop], None], tasks: Sequence[Task], stop: Stop, on_report: Report
) -> Iterator[tuple[Task, BaseException | None]]:
    for task in tasks:
        error = None
        try:
            if stop():
                raise Stopped("not started")
            work(task, on_report, stop)
        except Exception as raised:
            error = raised
        yield task, error


def _kill(running: dict[Any, tuple["_Worker", Task]]) -> None:
    for worker, _ in running.values():
        worker.process.kill()


class _Worker:
    """A process and the parent's end of the pipe to it."""

    def __init__(self, work: Callable[..., None], threads: int) -> None:
        context: SpawnContext = multiprocessing.get_context("spawn")  # a forked torch hangs, having threads
        self.pipe, other_end = context.Pipe()
        self.process: SpawnProcess = context.Process(target=_serve, args=(other_end, work, threads))
        # Signals wait until it ignores them: Ctrl-C is sent to whole groups of processes.
        with _signals_held_back(), _main_hidden():
            self.process.start()
        other_end.close()  # else the pipe would not end with the process

    def give(self, task: Any) -> None:
        """Send the process a task, or None, which ends it."""
        with contextlib.suppress(BrokenPipeError):  # the process has ended: `receive` reports it
            self.pipe.send(task)

    def ask_to_stop(self) -> None:
        """Send a message that the work can poll; after the work, it ends the process."""
        self.give(None)

    def leave(self) -> None:
        """Wait until the process has ended; its last messages are read, so that it does not block."""
        while self.process.is_alive():
            with contextlib.suppress(EOFError, OSError):
                while self.pipe.poll(0.1):
                    self.pipe.recv()
            self.process.join(0.1)

    def receive(self) -> tuple[str, Any]:
        """Return the process's message: "report" or "ended" and its content, or "gone" and the error."""
        try:
            what, content = self.pipe.recv()
            return what, content
        except (EOFError, ConnectionResetError):
            self.process.join()
            code = self.process.exitcode or 0
            how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
            why = " (no memory left?)" if code == -signal.SIGKILL else ""
            return "gone", StudyError(f"its process was {how}{why}; the same command resumes")


@contextlib.contextmanager
def _signals_held_back() -> Iterator[None]:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _main_hidden() -> Iterator[None]:
    """Keep processes that start in this block from importing the main script, which would train again."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _serve(pipe: Connection, work: Callable[..., None], threads: int) -> None:
    global _is_worker
    _is_worker = True
    for number in _STOP_SIGNALS:  # only the parent's message stops it
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOP_SIGNALS)
    # Torch reads these when it is imported, by the work or by its own processes; MKL prefers its own.
    os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
    Thread(target=_end_with_parent, daemon=True).start()
    while (task := pipe.recv()) is not None:
        try:
            work(task, lambda message: pipe.send(("report", message)), pipe.poll)
            pipe.send(("ended", None))
        except Exception as error:
            _send(pipe, error)


def _send(pipe: Connection, error: Exception) -> None:
    error.add_note(traceback.format_exc())
    try:
        copy.copy(error)  # built again from its arguments, as by the other process
        pipe.send(("ended", error))
    except Exception:  # an error that is not built from its text alone
        plain = StudyError(f"{type(error).__name__}: {error}")
        plain.add_note(error.__notes__[-1])
        pipe.send(("ended", plain))


def _end_with_parent() -> None:
    """End this process when its parent ends, since a killed parent cannot stop it."""
    if parent := multiprocessing.parent_process():
        parent.join()
        os._exit(1)
