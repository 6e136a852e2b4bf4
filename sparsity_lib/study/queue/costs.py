"""Measured costs of runs, and expected costs of missing ones."""

import contextlib
import statistics
from collections.abc import Hashable, Sequence
from pathlib import Path

from sparsity_lib.study import profiles
from sparsity_lib.study.experiment import Experiment
from sparsity_lib.study.files import load_tensors
from sparsity_lib.study.language import LanguageExperiment
from sparsity_lib.study.runs import file as runs
from sparsity_lib.study.runs import results


def measured(name: str, queue: Sequence[Experiment], folder: str | Path | None = None) -> dict[str, float]:
    """Duration of runs in seconds, by id: published runs of the profile, and finished ones of the queue."""
    times = results.published_seconds(name)
    for run, experiment in _with_file(queue, folder, ".nc").items():
        if run not in times and (found := runs.find(experiment, folder)):
            times[run] = float(found.provenance["seconds"])
    return times


def in_training(
    queue: Sequence[Experiment], folder: str | Path | None = None
) -> dict[str, tuple[int, float]]:
    """Epochs trained, and expected seconds of all epochs, of runs of the queue with a checkpoint, by id."""
    found = {}
    for run, experiment in _with_file(queue, folder, ".ckpt").items():
        with contextlib.suppress(Exception):  # damaged, just removed, or of no epoch: the run is missing
            state = load_tensors(runs.path_of(experiment, folder).with_suffix(".ckpt"))
            epochs = int(state["epoch"])
            found[run] = epochs, float(state["seconds"]) / epochs * experiment.epochs
    return found


def _with_file(queue: Sequence[Experiment], folder: str | Path | None, ending: str) -> dict[str, Experiment]:
    """Return the runs of the queue with a file of that ending, by their ids."""
    files = runs.path_of(queue[0], folder).parent.glob(f"*{ending}") if queue else []
    digests = {path.stem.rpartition("-")[2] for path in files}
    return {e.id: e for e in queue if e.digest in digests} if digests else {}


def expected(name: str, queue: Sequence[Experiment], times: dict[str, float]) -> dict[str, float | None]:
    """Expected seconds of each run of the queue: the median of `measured` runs of its settings, or its size.

    None without such a run. Means would follow runs on a busy machine, which take many times longer.
    """
    an_epoch: dict[Hashable, list[float]] = {}
    for experiment in {e.id: e for e in (*profiles.experiments(name, published=True), *queue)}.values():
        if seconds := times.get(experiment.id):
            for key in (_settings(experiment), _cost_class(experiment)):
                an_epoch.setdefault(key, []).append(seconds / experiment.epochs)
    costs: dict[str, float | None] = {}
    for experiment in queue:
        found = an_epoch.get(_settings(experiment)) or an_epoch.get(_cost_class(experiment))
        costs[experiment.id] = statistics.median(found) * experiment.epochs if found else None
    return costs


def _settings(experiment: Experiment) -> Hashable:
    return experiment.model_copy(update={"seed": 0}).digest


def _cost_class(experiment: Experiment) -> Hashable:
    """The properties of runs of similar cost."""
    if isinstance(experiment, LanguageExperiment):
        return experiment.setting
    return experiment.dataset_name, experiment.size, experiment.limit, experiment.image_size
