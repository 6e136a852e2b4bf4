"""Train what is missing of a profile: several runs side by side, in order, in a given time."""

import multiprocessing
import os
import queue
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from typing import Any

import torch
from tqdm import tqdm

from sparsity_lib.study import runs
from sparsity_lib.study.errors import StudyError
from sparsity_lib.study.experiment import Experiment
from sparsity_lib.study.runs import Run
from sparsity_lib.study.training import OutOfTime, train


@dataclass
class Outcome:
    """What became of a queue: ids of the runs, and the errors of those that failed."""

    already: list[str] = field(default_factory=list)
    done: list[str] = field(default_factory=list)
    out_of_time: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)


def default_jobs() -> int:
    """Runs side by side if none is said: one a core, or one where a GPU is used."""
    return 1 if torch.cuda.is_available() else os.cpu_count() or 1


def run_queue(
    experiments: Sequence[Experiment],
    jobs: int | None = None,
    seconds: float | None = None,
    folder: str | Path | None = None,
) -> Outcome:
    """Train those experiments that have no run yet, `jobs` at a time, with progress on standard error.

    With `seconds`, runs still in training at the end write a checkpoint and stop; the same call goes on from
    there. A run that fails does not stop the others. Returns what became of each.
    """
    jobs = default_jobs() if jobs is None else jobs
    if jobs < 1 or (seconds is not None and seconds <= 0):
        raise StudyError(f"jobs and seconds must be more than 0, not {jobs} and {seconds}")
    outcome = Outcome()
    missing: list[Experiment] = []
    for experiment in experiments:
        if runs.find(experiment, folder):
            outcome.already.append(experiment.id)
        else:
            missing.append(experiment)
    if missing:
        deadline = None if seconds is None else time.time() + seconds
        threads = max(1, (os.cpu_count() or 1) // jobs)
        for experiment, error in _train_side_by_side(
            missing, min(jobs, len(missing)), threads, deadline, folder
        ):
            if error is None:
                outcome.done.append(experiment.id)
            elif isinstance(error, OutOfTime):
                outcome.out_of_time.append(experiment.id)
            else:
                outcome.failed[experiment.id] = (
                    str(error).splitlines()[0] if str(error) else type(error).__name__
                )
    return outcome


def load_or_train_all(experiments: Sequence[Experiment], jobs: int | None = None) -> list[Run]:
    """The experiments' runs from `runs/`, in order; those that are missing are trained now, side by side.

    Raises `StudyError` naming the first run that failed, and how many did.
    """
    outcome = run_queue(experiments, jobs)
    if outcome.failed:
        first, error = next(iter(outcome.failed.items()))
        raise StudyError(f"{len(outcome.failed)} of {len(experiments)} runs failed; {first}: {error}")
    return [run for experiment in experiments if (run := runs.find(experiment))]


def _train_side_by_side(
    experiments: Sequence[Experiment],
    jobs: int,
    threads: int,
    deadline: float | None,
    folder: str | Path | None,
) -> Iterator[tuple[Experiment, BaseException | None]]:
    """Yield each experiment as it ends, with its error or None."""
    context = multiprocessing.get_context("spawn")  # a forked torch hangs once it has started threads
    messages: multiprocessing.Queue[tuple[str, int, float]] = context.Queue()
    total = sum(experiment.epochs + 1 for experiment in experiments)
    with (
        ProcessPoolExecutor(jobs, context, _start_worker, (messages, threads)) as pool,
        tqdm(total=total, unit="epoch", mininterval=1, dynamic_ncols=True, smoothing=0.05) as bar,
    ):
        pending: dict[Future[None], Experiment] = {
            pool.submit(_train_one, experiment, deadline, folder): experiment for experiment in experiments
        }
        ended = 0
        while pending:
            finished, _ = wait(pending, timeout=0.5)
            _show(bar, messages, f"run {min(ended + jobs, len(experiments))} of {len(experiments)}")
            for future in finished:
                experiment, ended = pending.pop(future), ended + 1
                error = future.exception()
                if isinstance(error, BrokenProcessPool):
                    error = StudyError("the process was killed (no memory left?); the same command goes on")
                mark = "done" if error is None else f"not finished: {error}"
                bar.write(f"[{ended} of {len(experiments)}] {experiment.id}: {mark}")
                yield experiment, error


def _show(bar: "tqdm[Any]", messages: "multiprocessing.Queue[tuple[str, int, float]]", position: str) -> None:
    while True:
        try:
            run, epoch, loss = messages.get_nowait()
        except queue.Empty:
            return
        bar.update()
        bar.set_description(position, refresh=False)
        bar.set_postfix_str(f"{run} epoch {epoch} val loss {loss:.3f}", refresh=False)


_messages: "multiprocessing.Queue[tuple[str, int, float]]"


def _start_worker(messages: "multiprocessing.Queue[tuple[str, int, float]]", threads: int) -> None:
    global _messages
    _messages = messages
    torch.set_num_threads(threads)
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A parent that is killed cannot stop its workers, which would wait for work for ever."""
    if parent := multiprocessing.parent_process():
        parent.join()
        os._exit(1)


def _train_one(experiment: Experiment, deadline: float | None, folder: str | Path | None) -> None:
    if deadline is not None and time.time() >= deadline:
        raise OutOfTime(f"{experiment.id}: not started")

    def report(record: dict[str, Any]) -> None:
        _messages.put((experiment.id, record["epoch"], float(record["val_loss"])))

    train(experiment, report, folder, deadline=deadline)
