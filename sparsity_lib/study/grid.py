"""Train what is missing of a profile: several runs side by side, in order, in a given time."""

import contextlib
import math
import multiprocessing
import os
import queue
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from multiprocessing.synchronize import Event
from pathlib import Path
from threading import Thread
from typing import Any, TypeAlias

import torch
from tqdm import tqdm

from sparsity_lib.study import runs
from sparsity_lib.study.errors import StudyError
from sparsity_lib.study.experiment import Experiment
from sparsity_lib.study.files import require_writable
from sparsity_lib.study.provenance import code_fingerprint, equivalent
from sparsity_lib.study.runs import Run
from sparsity_lib.study.training import NonFiniteLoss, Stopped, train

Messages: TypeAlias = "multiprocessing.Queue[tuple[str, int, float]]"  # run, epoch, validation loss


@dataclass
class Outcome:
    """What became of a queue: ids of the runs, where some diverged, and the errors of those that failed."""

    already: list[str] = field(default_factory=list)
    done: list[str] = field(default_factory=list)
    stopped: list[str] = field(default_factory=list)
    diverged: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)


def default_jobs() -> int:
    """Runs side by side if none is said: one a core, or one where a GPU is used."""
    return 1 if torch.cuda.is_available() else os.cpu_count() or 1


def run_queue(
    experiments: Sequence[Experiment],
    jobs: int | None = None,
    seconds: float | None = None,
    folder: str | Path | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Outcome:
    """Train those experiments that have no run yet, `jobs` at a time, with progress on standard error.

    When `seconds` are over, or `stop` says so, runs in training write a checkpoint after their epoch and
    stop; the same call goes on from there. A run that fails does not stop the others. Returns what became of
    each.
    """
    jobs = default_jobs() if jobs is None else jobs
    if jobs < 1 or (seconds is not None and seconds <= 0):
        raise StudyError(f"jobs and seconds must be more than 0, not {jobs} and {seconds}")
    outcome = Outcome()
    missing: list[Experiment] = []
    for experiment in experiments:
        if runs.find(experiment, folder):
            outcome.already.append(experiment.id)
        elif noted := _diverges(experiment, folder):
            outcome.diverged[experiment.id] = noted
        else:
            missing.append(experiment)
    if missing:
        require_writable(runs.path_of(missing[0], folder).parent)
        end = math.inf if seconds is None else time.monotonic() + seconds
        for experiment, error in _train_side_by_side(
            missing, min(jobs, len(missing)), folder, lambda: stop() or time.monotonic() >= end
        ):
            if error is None:
                outcome.done.append(experiment.id)
            elif isinstance(error, Stopped):
                outcome.stopped.append(experiment.id)
            elif isinstance(error, NonFiniteLoss):
                outcome.diverged[experiment.id] = str(error)
            else:
                outcome.failed[experiment.id] = (
                    str(error).splitlines()[0] if str(error) else type(error).__name__
                )
    return outcome


def load_or_train_all(experiments: Sequence[Experiment], jobs: int | None = None) -> list[Run]:
    """The experiments' runs from `runs/`, in order; those that are missing are trained now, side by side.

    Those that diverge are left out, and printed. Raises `StudyError` naming the first run that failed, and
    how many did, or where all diverged.
    """
    outcome = run_queue(experiments, jobs)
    for told in outcome.diverged.values():
        print(f"left out: {told}")
    if outcome.diverged and len(outcome.diverged) == len(experiments):
        raise StudyError("all of the runs diverged; try a smaller learning rate or weaker penalties")
    if outcome.failed:
        first, error = next(iter(outcome.failed.items()))
        raise StudyError(f"{len(outcome.failed)} of {len(experiments)} runs failed; {first}: {error}")
    return [run for experiment in experiments if (run := runs.find(experiment))]


def _diverges(experiment: Experiment, folder: str | Path | None) -> str | None:
    """Where it diverged, if that was by the code as it is: it would do so again."""
    noted = runs.divergence(experiment, folder)
    return noted["told"] if noted and equivalent(noted["code_fingerprint"]) == code_fingerprint() else None


def _train_side_by_side(
    experiments: Sequence[Experiment], jobs: int, folder: str | Path | None, stop: Callable[[], bool]
) -> Iterator[tuple[Experiment, BaseException | None]]:
    """Yield each experiment as it ends, with its error or None."""
    threads = max(1, (os.cpu_count() or 1) // jobs)
    total = sum(experiment.epochs + 1 for experiment in experiments)
    with (
        workers(jobs, threads) as (pool, messages, stopping),
        tqdm(total=total, unit="epoch", mininterval=1, dynamic_ncols=True, smoothing=0.05) as bar,
    ):
        pending: dict[Future[None], Experiment] = {
            pool.submit(_train_one, experiment, folder): experiment for experiment in experiments
        }
        ended = 0
        while pending:
            finished, _ = wait(pending, timeout=0.5)
            if stop():
                stopping.set()
            _show(bar, messages, f"run {min(ended + jobs, len(experiments))} of {len(experiments)}")
            for future in finished:
                experiment, ended = pending.pop(future), ended + 1
                error = future.exception()
                if isinstance(error, BrokenProcessPool):
                    error = StudyError("the process was killed (no memory left?); the same command goes on")
                if not isinstance(error, Stopped):
                    mark = "done" if error is None else f"not finished: {error}"
                    bar.write(f"[{ended} of {len(experiments)}] {experiment.id}: {mark}")
                yield experiment, error


@contextlib.contextmanager
def workers(jobs: int, threads: int) -> Iterator[tuple[ProcessPoolExecutor, Messages, Event]]:
    """So many processes, each with so many threads, what they send, and how they are asked to stop.

    `stop_asked` tells them. They are asked on leaving too, so that an interrupted notebook leaves
    checkpoints, and waited for: a pool that is left to the interpreter's end may be closed twice, with a
    traceback.
    """
    context = multiprocessing.get_context("spawn")  # a forked torch hangs once it has started threads
    messages, stopping = context.Queue(), context.Event()
    pool = ProcessPoolExecutor(jobs, context, _start_worker, (messages, stopping, threads))
    try:
        yield pool, messages, stopping
    finally:
        stopping.set()
        pool.shutdown(cancel_futures=True)


def stop_asked() -> bool:
    """Whether the process, one of `workers`, was asked to stop."""
    return _stopping.is_set()


def _show(bar: "tqdm[Any]", messages: Messages, position: str) -> None:
    while True:
        try:
            run, epoch, loss = messages.get_nowait()
        except queue.Empty:
            return
        bar.update()
        bar.set_description(position, refresh=False)
        bar.set_postfix_str(f"{run} epoch {epoch} val loss {loss:.3f}", refresh=False)


_messages: Messages
_stopping: Event


def _start_worker(messages: Messages, stopping: Event, threads: int) -> None:
    global _messages, _stopping
    _messages, _stopping = messages, stopping
    torch.set_num_threads(threads)
    for number in (signal.SIGINT, signal.SIGTERM):  # sent to the whole group; the parent says when to stop
        signal.signal(number, signal.SIG_IGN)
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A parent that is killed cannot stop its workers, which would wait for work for ever."""
    if parent := multiprocessing.parent_process():
        parent.join()
        os._exit(1)


def _train_one(experiment: Experiment, folder: str | Path | None) -> None:
    if stop_asked():
        raise Stopped(f"{experiment.id}: not started")

    def report(record: dict[str, Any]) -> None:
        _messages.put((experiment.id, record["epoch"], float(record["val_loss"])))

    try:
        train(experiment, report, folder, stop=stop_asked)
    except NonFiniteLoss as error:
        runs.note_divergence(experiment, folder, str(error))
        raise
