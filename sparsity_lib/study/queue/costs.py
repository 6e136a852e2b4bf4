"""Measured costs of runs, and expected costs of missing ones."""

import contextlib
import statistics
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sparsity_lib.study import profiles
from sparsity_lib.study.experiment import Experiment
from sparsity_lib.study.files import load_tensors
from sparsity_lib.study.language import LanguageExperiment
from sparsity_lib.study.runs import file as runs
from sparsity_lib.study.runs import results


@dataclass(frozen=True)
class Cost:
    """Seconds of one job, as runs of the same settings took; or by the epoch, as `others` of its size did."""

    seconds: float
    others: bool


@dataclass(frozen=True)
class Progress:
    """Progress of a run by its checkpoint: epochs trained, and the seconds that they took."""

    epochs: int
    seconds: float


def measured(name: str, queue: Sequence[Experiment], folder: str | Path | None = None) -> dict[str, float]:
    """Seconds that runs took, by their ids: the profile's published, and those of the queue that are here."""
    times = results.published_seconds(name)
    for run, experiment in _with_file(queue, folder, ".nc").items():
        if run not in times and (found := runs.find(experiment, folder)):
            times[run] = float(found.provenance["seconds"])
    return times


def in_training(queue: Sequence[Experiment], folder: str | Path | None = None) -> dict[str, Progress]:
    """Return the runs of the queue that have a checkpoint, by their ids."""
    found = {}
    for run, experiment in _with_file(queue, folder, ".ckpt").items():
        with contextlib.suppress(Exception):  # damaged, or just gone: the run is missing
            state = load_tensors(runs.path_of(experiment, folder).with_suffix(".ckpt"))
            found[run] = Progress(int(state["epoch"]), float(state["seconds"]))
    return found


def _with_file(queue: Sequence[Experiment], folder: str | Path | None, ending: str) -> dict[str, Experiment]:
    """Return the runs of the queue with a file of that ending, by their ids."""
    files = runs.path_of(queue[0], folder).parent.glob(f"*{ending}") if queue else []
    digests = {path.stem.rpartition("-")[2] for path in files}
    return {e.id: e for e in queue if e.digest in digests} if digests else {}


def expected(name: str, queue: Sequence[Experiment], times: dict[str, float]) -> dict[str, Cost | None]:
    """Return the expected cost of each run of the queue by the `measured` ones; None where none is alike.

    Medians: a run on a busy machine takes many times longer.
    """
    same: dict[Hashable, list[float]] = {}
    an_epoch: dict[Hashable, list[float]] = {}
    known = {
        experiment.id: experiment for experiment in [*profiles.experiments(name, published=True), *queue]
    }
    for run, experiment in known.items():
        if seconds := times.get(run):
            same.setdefault(_settings(experiment), []).append(seconds)
            an_epoch.setdefault(_alike(experiment), []).append(seconds / experiment.epochs)
    costs: dict[str, Cost | None] = {}
    for experiment in queue:
        if found := same.get(_settings(experiment)):
            costs[experiment.id] = Cost(statistics.median(found), others=False)
        elif found := an_epoch.get(_alike(experiment)):
            costs[experiment.id] = Cost(statistics.median(found) * experiment.epochs, others=True)
        else:
            costs[experiment.id] = None
    return costs


def _settings(experiment: Experiment) -> Hashable:
    return experiment.model_copy(update={"seed": 0}).digest


def _alike(experiment: Experiment) -> Hashable:
    """Return the properties by which networks cost alike."""
    if isinstance(experiment, LanguageExperiment):
        return experiment.setting
    return experiment.dataset_name, experiment.size, experiment.limit, experiment.image_size
