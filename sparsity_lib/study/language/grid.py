"""The language models of each profile, and training several side by side."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from sparsity_lib.study.errors import Stopped, StudyError
from sparsity_lib.study.files import require_writable
from sparsity_lib.study.language import runs, texts
from sparsity_lib.study.language.experiment import LanguageExperiment
from sparsity_lib.study.language.runs import LanguageRun
from sparsity_lib.study.language.training import streams, train_language
from sparsity_lib.study.queue.scheduling import default_jobs
from sparsity_lib.study.queue.workers import Report, Stop, side_by_side
from sparsity_lib.study.selection import Listed, listed, parse_seeds

QS = ("none", "1", "1.5", "2", "2.5", "3")  # no noise; sparser than dropout; dropout; denser
SEEDS = tuple(range(100, 110))

# Fields that all of a profile's language models share. p is one for all q, and was not tuned: TSR's dropout.
# Sizes and epochs are what minutes on 2 cores allow; on the desktop they were chosen, with seed 0, so that
# the network overfits without noise.
GRIDS: dict[str, dict[str, Any]] = {
    "laptop": {"text": "python-topics", "limit": 50_000, "epochs": 20, "lr": 0.01},
    "desktop": {"text": "shakespeare", "limit": 60_000, "epochs": 25, "lr": 0.005, "hidden": 128},
}


def select(
    profile: str, *, q: Listed | None = "", seeds: Listed | None = "", **fields: Any
) -> list[LanguageExperiment]:
    """The profile's language models, seed by seed: the published ones, narrowed or changed.

    `q`, as in `"none,1,2"`, and `seeds`, as in `"0,1"` or `"100-104"`, are in place of the published ones; so
    are other `fields` of `LanguageExperiment`.

    Raises `StudyError` (one line) for an unknown name or value, and for a profile without language models.
    """
    if profile not in GRIDS:
        raise StudyError(f"the profile {profile} has no language models; {', '.join(GRIDS)} have")
    noises = [_noise(each) for each in listed("q", q, str) or QS]
    found = {
        (experiment := LanguageExperiment(**GRIDS[profile] | fields | noise, seed=seed)).digest: experiment
        for seed in parse_seeds(seeds) or SEEDS
        for noise in noises
    }
    return list(found.values())


def _noise(q: str) -> dict[str, float]:
    if q == "none":
        return {"p": 0.0}
    try:
        return {"q": float(q)}
    except ValueError:
        raise StudyError(f"q = '{q}': give numbers, or none, as in none,1,2") from None


def run_all(
    experiments: Sequence[LanguageExperiment], jobs: int | None = None, folder: str | Path | None = None
) -> list[LanguageRun]:
    """The experiments' runs, in order; those that are missing are trained now, `jobs` at a time.

    Each has one thread, with which so small networks are fastest. Raises `StudyError` at once for a text that
    is missing or too short, and after all others have ended for a run that failed, naming the first. An
    interrupted call leaves those that are finished.
    """
    jobs = default_jobs() if jobs is None else jobs
    if jobs < 1:
        raise StudyError(f"jobs must be more than 0, not {jobs}")
    missing = [experiment for experiment in experiments if not runs.find(experiment, folder)]
    for each in {experiment.setting: experiment for experiment in missing}.values():
        streams(each, texts.load(each.text, each.limit))
    failed = []
    if missing:
        require_writable(runs.path_of(missing[0], folder).parent)
        work = partial(_train_one, folder=folder)
        with tqdm(total=len(missing), unit="run", mininterval=1) as bar:
            for experiment, error in side_by_side(work, missing, min(jobs, len(missing)), threads=1):
                bar.update()
                if error:
                    failed.append(f"{experiment.id}: {error}")
    if failed:
        raise StudyError(f"{len(failed)} of {len(missing)} runs failed; {failed[0]}")
    return [run for experiment in experiments if (run := runs.find(experiment, folder))]


def _train_one(experiment: LanguageExperiment, report: Report, stop: Stop, folder: str | Path | None) -> None:
    def stop_if_asked(record: object) -> None:
        if stop():
            raise Stopped(f"{experiment.id}: stopped; nothing of it is kept")

    train_language(experiment, stop_if_asked, folder)
