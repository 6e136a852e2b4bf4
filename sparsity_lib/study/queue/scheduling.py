"""Training of a profile's missing runs: several side by side, in order, in a given time."""

import contextlib
import math
import os
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from sparsity_lib.study.errors import NonFiniteLoss, Stopped, StudyError
from sparsity_lib.study.experiment import Experiment
from sparsity_lib.study.files import atomic_write, note_read, require_writable
from sparsity_lib.study.language import LanguageExperiment
from sparsity_lib.study.queue.workers import Report, Stop, run_in_processes
from sparsity_lib.study.runs import file as runs
from sparsity_lib.study.runs.file import Run
from sparsity_lib.study.runs.provenance import is_current
from sparsity_lib.study.runs.results import published_run

# Torch is imported where a run is trained: a queue without missing runs does not need it.


@dataclass
class Outcome:
    """The outcome of a queue: ids of the runs, where some diverged, and the errors of those that failed."""

    already: list[str] = field(default_factory=list)
    done: list[str] = field(default_factory=list)
    stopped: list[str] = field(default_factory=list)
    diverged: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)


def default_jobs() -> int:
    """Default number of runs side by side: one a core, or one where a GPU is used."""
    import torch

    return 1 if torch.cuda.is_available() else os.cpu_count() or 1


def run_queue(
    experiments: Sequence[Experiment],
    jobs: int | None = None,
    seconds: float | None = None,
    folder: str | Path | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Outcome:
    """Train the experiments that have no run yet, `jobs` at a time, with progress on standard error.

    After `seconds`, or when `stop` returns true, runs in training write a checkpoint at the end of their
    epoch and stop; the same call resumes them. A run that fails does not stop the others; its traceback is
    kept in `runs.log_of` until it succeeds. Returns the outcome of each run.
    """
    require_positive(jobs, seconds)
    outcome = Outcome()
    to_train = missing(experiments, folder, outcome)
    if to_train:
        jobs = default_jobs() if jobs is None else jobs
        require_writable(runs.path_of(to_train[0], folder).parent)
        end = math.inf if seconds is None else time.monotonic() + seconds
        for experiment, error in _train_side_by_side(
            to_train, min(jobs, len(to_train)), folder, lambda: stop() or time.monotonic() >= end
        ):
            if error is None:
                runs.log_of(experiment, folder).unlink(missing_ok=True)
                outcome.done.append(experiment.id)
            elif isinstance(error, Stopped):
                outcome.stopped.append(experiment.id)
            elif isinstance(error, NonFiniteLoss):
                outcome.diverged[experiment.id] = str(error)
            else:
                outcome.failed[experiment.id] = (str(error) or type(error).__name__).splitlines()[0]
                with contextlib.suppress(StudyError), atomic_write(runs.log_of(experiment, folder)) as log:
                    log.write_text("".join(traceback.format_exception(error)), encoding="utf-8")
    return outcome


def require_positive(jobs: int | None, seconds: float | None) -> None:
    """Raise `StudyError` where the number of jobs or the time, if given, is not more than 0."""
    if (jobs is not None and jobs < 1) or (seconds is not None and seconds <= 0):
        raise StudyError(f"jobs and seconds must be more than 0, not {jobs} and {seconds}")


def missing(
    experiments: Sequence[Experiment], folder: str | Path | None = None, outcome: Outcome | None = None
) -> list[Experiment]:
    """Return the experiments that have neither a sound run by this code nor a known divergence.

    The others are added to `outcome`.
    """
    outcome = outcome or Outcome()
    to_train: list[Experiment] = []
    for experiment in experiments:
        if runs.find(experiment, folder):
            outcome.already.append(experiment.id)
        elif (noted := runs.divergence(experiment, folder)) and is_current(noted["numerics"]):
            outcome.diverged[experiment.id] = noted["reason"]  # this code would diverge again
        else:
            to_train.append(experiment)
    return to_train


def load_or_train_all(experiments: Sequence[Experiment], train: bool = True) -> list[Run]:
    """The experiments' runs from `runs/`, in order; missing ones are trained now, side by side.

    ```python
    runs = study.load_or_train_all(experiments)
    ```

    Without `train`, a missing run is replaced by the published run of the same settings, or left out. Runs
    that diverge are left out and printed. Raises `StudyError` if a run failed, or if all diverged.
    """
    if not train:
        for experiment in experiments:
            note_read(runs.path_of(experiment))  # the page is made again when this run exists
        found = (runs.find(experiment) or published_run(experiment) for experiment in experiments)
        return list({run.id: run for run in found if run}.values())
    outcome = run_queue(experiments)
    for reason in outcome.diverged.values():
        print(f"left out: {reason}")
    if outcome.diverged and len(outcome.diverged) == len(experiments):
        raise StudyError("all of the runs diverged; try a smaller learning rate or weaker penalties")
    if outcome.failed:
        first, error = next(iter(outcome.failed.items()))
        raise StudyError(f"{len(outcome.failed)} of {len(experiments)} runs failed; {first}: {error}")
    return [run for experiment in experiments if (run := runs.find(experiment))]


def _train_side_by_side(
    experiments: Sequence[Experiment], jobs: int, folder: str | Path | None, stop: Callable[[], bool]
) -> Iterator[tuple[Experiment, BaseException | None]]:
    """Yield each experiment when it ends, with its error or None."""
    import torch

    threads = max(1, torch.get_num_threads() // jobs)  # torch follows OMP_NUM_THREADS, as schedulers set it
    total = sum(experiment.epochs + 1 for experiment in experiments)
    ended = 0
    with tqdm(total=total, unit="epoch", mininterval=1, dynamic_ncols=True, smoothing=0.05) as bar:

        def show(message: tuple[str, int, float]) -> None:
            run, epoch, loss = message
            bar.update()
            bar.set_description(
                f"run {min(ended + jobs, len(experiments))} of {len(experiments)}", refresh=False
            )
            bar.set_postfix_str(f"{run} epoch {epoch} val loss {loss:.3f}", refresh=False)

        work = partial(_train_one, folder=folder)
        in_main = any(experiment.network.startswith("__main__:") for experiment in experiments)
        for experiment, error in run_in_processes(work, experiments, jobs, threads, stop, show, in_main):
            ended += 1
            if not isinstance(error, Stopped):
                mark = "done" if error is None else f"not finished: {error}"
                bar.write(f"[{ended} of {len(experiments)}] {experiment.id}: {mark}")
            yield experiment, error


def _train_one(experiment: Experiment, report_epoch: Report, stop: Stop, folder: str | Path | None) -> None:
    from sparsity_lib.study.training.loop import train

    loss = "val_bits" if isinstance(experiment, LanguageExperiment) else "val_loss"

    def report(record: dict[str, Any]) -> None:
        report_epoch((experiment.id, record["epoch"], float(record[loss])))

    train(experiment, report, folder, stop=stop)
