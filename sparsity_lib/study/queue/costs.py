"""What runs took, and what those that are missing will take."""

import statistics
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sparsity_lib.study import profiles
from sparsity_lib.study.experiment import Experiment
from sparsity_lib.study.runs import file as runs
from sparsity_lib.study.runs import results


@dataclass(frozen=True)
class Cost:
    """Seconds of one job, as runs of the same settings took; or by the epoch, as `others` of its size did."""

    seconds: float
    others: bool


def measured(name: str, queue: Sequence[Experiment], folder: str | Path | None = None) -> dict[str, float]:
    """Seconds that runs took, by their ids: the profile's published, and those of the queue that are here."""
    took = {
        run: float(seconds)
        for part in results.published_parts(name)
        for run, seconds in zip(part.run.values, part.seconds.values, strict=True)
    }
    for experiment in queue:
        if experiment.id not in took and (run := runs.find(experiment, folder)):
            took[experiment.id] = float(run.provenance["seconds"])
    return took


def expected(name: str, queue: Sequence[Experiment], took: dict[str, float]) -> dict[str, Cost | None]:
    """What each run of the queue costs, going by those that were `measured`; None where none is like it.

    Medians: a run beside other work on its machine takes many times longer.
    """
    same: dict[Hashable, list[float]] = {}
    an_epoch: dict[Hashable, list[float]] = {}
    known = {
        experiment.id: experiment for experiment in [*profiles.experiments(name, published=True), *queue]
    }
    for run, experiment in known.items():
        if seconds := took.get(run):
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
    """What makes networks cost alike."""
    return experiment.dataset_name, experiment.size, experiment.limit, experiment.image_size
