"""The language models of each profile, and training several side by side."""

import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from sparsity_lib.study import grid
from sparsity_lib.study.errors import StudyError
from sparsity_lib.study.language import runs
from sparsity_lib.study.language.experiment import LanguageExperiment
from sparsity_lib.study.language.runs import LanguageRun
from sparsity_lib.study.language.training import train_language
from sparsity_lib.study.profiles import profile as profile_of
from sparsity_lib.study.selection import Listed, _items, parse_seeds
from sparsity_lib.study.training import Stopped

QS = ("none", "1", "1.5", "2", "2.5", "3")  # no noise; sparser than dropout; dropout; denser


@dataclass(frozen=True)
class LanguageGrid:
    """The fields that all of a profile's language models share, its values of q, and its seeds."""

    fields: dict[str, Any]
    qs: tuple[str, ...]
    seeds: tuple[int, ...]
    published_seeds: tuple[int, ...]


# p is one for all q, and was not tuned: TSR's dropout has it. Sizes and epochs are what minutes on 2 cores
# allow; on the desktop they were chosen, with seed 0, so that without noise the network overfits.
GRIDS = {
    "laptop": LanguageGrid(
        {"text": "python-topics", "limit": 50_000, "epochs": 20, "lr": 0.01},
        ("1", "2", "3"),
        (0, 1, 2),
        tuple(range(100, 110)),
    ),
    "desktop": LanguageGrid(
        {"text": "shakespeare", "limit": 60_000, "epochs": 25, "lr": 0.005, "hidden": 128},
        QS,
        tuple(range(100, 105)),
        tuple(range(100, 110)),
    ),
}


def with_language(of_profile: str) -> str:
    """The profile, if it has language models; else the laptop."""
    profile_of(of_profile)  # refuses what is unknown
    return of_profile if of_profile in GRIDS else "laptop"


def select(
    profile: str,
    *,
    text: str = "",
    q: Listed | None = "",
    seeds: Listed | None = "",
    published: bool = False,
    device: str = "auto",
    **fields: Any,
) -> list[LanguageExperiment]:
    """The profile's language models, seed by seed, narrowed or changed by what is said.

    `q`, as in `"none,1,2"`, and `seeds`, as in `"0,1"` or `"100-104"`, are in place of the profile's own, or
    of those that are `published`; so are other `fields` of `LanguageExperiment` that are not None.

    Raises `StudyError` (one line) for what is unknown, and for a profile without language models.
    """
    profile_of(profile)
    if profile not in GRIDS:
        raise StudyError(f"the profile {profile} has no language models; {', '.join(GRIDS)} have")
    chosen = GRIDS[profile]
    own_qs, own_seeds = (QS, chosen.published_seeds) if published else (chosen.qs, chosen.seeds)
    told = {name: value for name, value in fields.items() if value is not None}
    shared = chosen.fields | told | ({"text": text} if text else {})
    noises = [_noise(each) for each in _items("q", q, str) or own_qs]
    found = {
        (experiment := LanguageExperiment(**shared | noise, seed=seed, device=device)).digest: experiment
        for seed in parse_seeds(seeds) or own_seeds
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

    Each has one thread, with which so small networks are fastest. Raises `StudyError` naming the first that
    failed, once all others have ended; an interrupted call leaves those that are finished.
    """
    jobs = grid.default_jobs() if jobs is None else jobs
    if jobs < 1:
        raise StudyError(f"jobs must be more than 0, not {jobs}")
    missing = [experiment for experiment in experiments if not runs.find(experiment, folder)]
    failed = []
    if missing:
        with _workers(min(jobs, len(missing))) as pool, tqdm(total=len(missing), unit="run") as bar:
            pending = {pool.submit(_train_one, each, folder): each for each in missing}
            for future in as_completed(pending):
                bar.update()
                if error := future.exception():
                    failed.append(f"{pending[future].id}: {error}")
    if failed:
        raise StudyError(f"{len(failed)} of {len(missing)} runs failed; {failed[0]}")
    return [run for experiment in experiments if (run := runs.find(experiment, folder))]


@contextmanager
def _workers(jobs: int) -> Iterator[ProcessPoolExecutor]:
    context = multiprocessing.get_context("spawn")  # a forked torch hangs once it has started threads
    stopping = context.Event()
    pool = ProcessPoolExecutor(jobs, context, grid._start_worker, (context.Queue(), stopping, 1))
    try:
        yield pool
    finally:
        stopping.set()
        pool.shutdown(cancel_futures=True)


def _train_one(experiment: LanguageExperiment, folder: str | Path | None) -> None:
    def stop_if_asked(record: object) -> None:
        if grid._stopping.is_set():
            raise Stopped(f"{experiment.id}: stopped; nothing of it is kept")

    train_language(experiment, stop_if_asked, folder)
