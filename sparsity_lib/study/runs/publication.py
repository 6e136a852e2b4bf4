"""Publishing: a profile's finished runs go to `results/`, where they are part of the project.

Each grid's runs are in one file, `results/<profile>/<grid>.nc`: their curves, and in its group `outcomes`
each validation image at a few moments. A few run files are kept as well, for their maps, and a few networks.
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import xarray as xr

from sparsity_lib.study.errors import StudyError
from sparsity_lib.study.experiment import Experiment
from sparsity_lib.study.files import atomic_write, digest
from sparsity_lib.study.profiles import experiments, profile
from sparsity_lib.study.runs import file as runs
from sparsity_lib.study.runs.compact import (
    OUTCOMES,
    outcomes_dataset,
    outcomes_of_run,
    published_outcomes,
    rounded_dataset,
    trimmed,
)
from sparsity_lib.study.runs.file import NETWORK, PUBLISHED_NETWORK, Run
from sparsity_lib.study.runs.networks import load_networks, networks_dataset
from sparsity_lib.study.runs.provenance import code, is_current
from sparsity_lib.study.runs.results import (
    SUMS,
    curves,
    diverged,
    folder_of,
    joined,
    listed_sums,
    published,
    published_ids,
)


def publish(name: str, source: str | Path | None = None, replace: bool = False) -> int:
    """Put the profile's finished confirmatory runs into `results/<name>/`; return how many are new.

    Numbers are rounded to five significant digits. Run files that a grid shows are published too, trimmed by
    `compact.trimmed`. The file of a grid without new runs stays unchanged. Runs of uncommitted code are
    refused; a run made without git takes the commit checked out here if its numerics are the same. With
    `replace`, new runs by the present code replace published runs of other code.
    """
    return sum(_publish(name, file, source, replace) for file in profile(name).files())


def _publish(name: str, file: str, source: str | Path | None, replace: bool) -> int:
    """Publish the runs of one grid."""
    grid = profile(name).files()[file]
    planned, before = experiments(name, grids=[grid], published=True), published(name, file)
    new = _new_runs(name, planned, before, source, replace)
    together = _merged(before, new, planned)
    if together is None:
        return 0  # notes of divergence alone have no curves to be written with
    lost = (diverged(before) if before is not None else {}) | _divergences(planned, source)
    finished = together["run"].to_numpy().tolist()
    together.attrs["diverged"] = json.dumps({run: lost[run] for run in sorted(lost.keys() - set(finished))})
    if before is not None and not new and diverged(together) == diverged(before):
        return 0
    target = folder_of(name)
    shown = {experiment.id for experiment in profile(name).grids[grid].experiments_with_run_file()}
    for run in new:
        if run.id in shown:
            with xr.open_datatree(run.path, engine="h5netcdf", mask_and_scale=False) as tree:  # bytes stay so
                kept = trimmed(tree.load())
            kept.attrs["commit"] = run.provenance["commit"]
            runs.write(kept, target / run.path.name)
    outcomes = [published_outcomes(name, file), *(outcomes_of_run(run) for run in new)]
    tree = xr.DataTree(together)
    if (images := outcomes_dataset(outcomes, finished)) is not None:
        tree[OUTCOMES] = xr.DataTree(images)
    runs.write(tree, target / file)
    write_sums(target)  # what is written next reads this file
    return len(new)


def _new_runs(
    name: str,
    planned: Sequence[Experiment],
    before: xr.Dataset | None,
    source: str | Path | None,
    replace: bool,
) -> list[Run]:
    """Finished runs of committed code that are not published yet, or replace runs of other code."""
    stale: set[str] = set()
    if replace and before is not None:
        other_code = [not is_current(numerics) for numerics in before["numerics"].to_numpy()]
        stale = set(before["run"].to_numpy()[other_code])
    known = published_ids(name) - stale
    new = [
        run
        for experiment in planned
        if experiment.id not in known
        and (run := runs.find(experiment, source, by_any_code=True))
        and run.id not in known  # the same training may go by two names
        and not (run.id in stale and run.by_other_code)
    ]
    for run in new:
        require_committed(run.id, run.provenance, by_this_code=not run.by_other_code)
    return new


def _merged(
    before: xr.Dataset | None, new: Sequence[Run], planned: Sequence[Experiment]
) -> xr.Dataset | None:
    """Published and new runs in the order of the grid, new ones rounded; None if there are none."""
    parts = [rounded_dataset(curves(new))] if new else []
    if before is not None:
        parts.append(before.isel(run=~before["run"].isin([run.id for run in new]).to_numpy()))
    # The longest network has its layers in order.
    parts = sorted((part for part in parts if part.sizes["run"]), key=lambda part: -part.sizes["layer"])
    if not parts:
        return None
    together = joined(parts)
    ids = together["run"].to_numpy().tolist()
    order = dict.fromkeys(run for run in (*(e.id for e in planned), *sorted(ids)) if run in ids)
    ordered = together.sel(run=list(order))
    # Names in the same order, whatever was published first.
    return ordered[[*sorted(ordered.data_vars, key=str), *sorted(ordered.coords, key=str)]]


def _divergences(planned: Sequence[Experiment], source: str | Path | None) -> dict[str, str]:
    """The notes of divergence by committed code."""
    notes = {experiment.id: runs.divergence(experiment, source) for experiment in planned}
    return {
        run: f"{noted['reason']} (commit {noted['commit']})"
        for run, noted in notes.items()
        if noted and not noted["dirty"] and noted["commit"] != "unknown"
    }


def publish_networks(name: str, which: Iterable[str], source: str | Path | None = None) -> int:
    """Put the networks of published run files into `results/<name>/`, in netCDF; return how many are new.

    `which` are names of networks, such as sr2Net. Raises `StudyError` for a network without a shown run file.
    """
    shown = [e for grid in profile(name).grids.values() for e in grid.experiments_with_run_file()]
    if absent := [network for network in which if network not in {e.network for e in shown}]:
        names = ", ".join(dict.fromkeys(e.network for e in shown)) or "none"
        raise StudyError(f"no run file of {absent[0]} is published in {name}; there are those of {names}")
    target, count = folder_of(name), 0
    for experiment in shown:
        run = runs.find(experiment, source, by_any_code=True)
        path = target / f"{experiment.id}{PUBLISHED_NETWORK}"
        its_run = path.with_name(f"{experiment.id}.nc")
        if experiment.network in which and run and its_run.exists() and not path.exists():
            kept = load_networks(run.path.with_suffix(NETWORK), run.id)
            runs.write(xr.DataTree(networks_dataset(kept)), path)
            count += 1
    if count:
        write_sums(target)
    return count


def verify(name: str) -> list[str]:
    """List the faults of `results/<name>/`, one line each: files missing, changed or unlisted."""
    target = folder_of(name)
    expected = listed_sums(target)
    if expected is None:
        return [f"{target / SUMS}: missing; there are no published runs of '{name}'"]
    present = {path.name for path in target.glob("*.nc")}
    wrong = [f"{target / file}: missing" for file in sorted(expected.keys() - present)]
    wrong += [f"{target / file}: not in {SUMS}" for file in sorted(present - expected.keys())]
    for file in sorted(present & expected.keys()):
        if (found := digest(target / file)) != expected[file]:
            wrong.append(f"{target / file}: its SHA-256 is {found[:12]}…, not {expected[file][:12]}…")
    return wrong


def require_committed(run: str, provenance: dict[str, Any], by_this_code: bool) -> None:
    """Refuse a run of uncommitted code.

    A run of this code made without git takes the commit that is checked out.
    """
    if provenance["commit"] == "unknown" and by_this_code:
        provenance |= {name: code()[name] for name in ("commit", "dirty")}
    if provenance["dirty"] or provenance["commit"] == "unknown":
        raise StudyError(f"{run} was trained from uncommitted code; commit, and train it again")


def write_sums(target: Path) -> None:
    """Write the SHA-256 of the folder's files into it, as `sha256sum` does."""
    files = sorted(target.glob("*.nc"))
    with atomic_write(target / SUMS) as partial:
        partial.write_text("".join(f"{digest(path)}  {path.name}\n" for path in files))
