"""Publishing: a profile's finished runs go to `results/`, where they are part of the project."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import xarray as xr

from sparsity_lib.study.errors import StudyError
from sparsity_lib.study.files import sha256, written_whole
from sparsity_lib.study.profiles import experiments, profile
from sparsity_lib.study.runs import file as runs
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
    published_parts,
)

PUBLISHED_IMAGES = 8  # a published run's file has the maps of this many images


def publish(name: str, source: str | Path | None = None, replace: bool = False) -> int:
    """Put the profile's finished confirmatory runs into `results/<name>/`; return how many are new.

    The curves of all go into their grid's file and one row of each into `summary.csv`; the files of a grid's
    first `published_files` seeds are kept too, with the maps of their first PUBLISHED_IMAGES images. Runs
    made from uncommitted code are refused; a run made without git at hand takes the commit that is checked
    out here if its numerics are the same. With `replace`, published runs of other code give way to
    those that were made anew by the code as it is.
    """
    import pandas as pd  # here: the training path has to run without these

    from sparsity_lib.study.analysis.summary import summary

    target = folder_of(name)
    count = sum(_publish(name, file, source, replace) for file in profile(name).files())
    if together := published_parts(name):
        with written_whole(target / "summary.csv") as partial:
            table = pd.concat([summary(part) for part in together])
            table.to_csv(partial, index=False, float_format="%.6g", lineterminator="\n")
        write_sums(target, _listed(target))
    return count


def _publish(name: str, file: str, source: str | Path | None, replace: bool) -> int:
    """Publish the grids whose curves are kept in this file."""
    target, before = folder_of(name), published(name, file)
    stale = _of_other_code(before) if replace and before is not None else set()
    known = published_ids(name) - stale
    grids = profile(name).files()[file]
    new = [
        run
        for experiment in experiments(name, grids=grids, published=True)
        if experiment.id not in known
        and (run := runs.find(experiment, source, by_any_code=True))
        and run.id not in known  # the same training may go by two names
        and not (run.id in stale and run.by_other_code)
    ]
    for run in new:
        require_committed(run.id, run.provenance, by_this_code=not run.by_other_code)
    if not new and before is None:
        return 0  # notes of divergence alone have no curves to be written with
    if before is not None:
        before = before.isel(run=~before["run"].isin([run.id for run in new]).to_numpy())
    parts = [
        part for part in (before, curves(new) if new else None) if part is not None and part.sizes["run"]
    ]
    together = joined(parts)
    together.attrs["diverged"] = json.dumps(_diverged(name, grids, together, before, source))
    with_files = {
        experiment.id
        for each in grids
        if (grid := profile(name).grids[each]).published_files
        for experiment in experiments(name, grid.published_seeds[: grid.published_files], [each])
    }
    for run in new:
        if run.id in with_files:
            with xr.open_datatree(run.path, engine="h5netcdf", mask_and_scale=False) as tree:  # bytes stay so
                shown = tree.isel(image=slice(PUBLISHED_IMAGES), missing_dims="ignore").load()
                shown.attrs["commit"] = run.provenance["commit"]
                runs.write(shown, target / run.path.name)
    runs.write(xr.DataTree(together), target / file)
    write_sums(target, _listed(target))  # what is written next reads this file
    return len(new)


def _of_other_code(published: xr.Dataset) -> set[str]:
    older = [not is_current(numerics) for numerics in published["numerics"].to_numpy()]
    return set(published["run"].to_numpy()[older])


def _diverged(
    name: str,
    grids: Sequence[str],
    together: xr.Dataset,
    before: xr.Dataset | None,
    source: str | Path | None,
) -> dict[str, str]:
    """What is known and noted of divergence, but of runs that were finished after all."""
    found = {} if before is None else diverged(before)
    for experiment in experiments(name, grids=grids, published=True):
        noted = runs.divergence(experiment, source)
        if noted and not noted["dirty"] and noted["commit"] != "unknown":  # as runs, by committed code
            found[experiment.id] = f"{noted['told']} (commit {noted['commit']})"
    finished = set(together["run"].to_numpy())
    return {run: told for run, told in found.items() if run not in finished}


def _listed(target: Path) -> list[Path]:
    return [*sorted(target.glob("*.nc")), *target.glob("summary.csv")]


def verify(name: str) -> list[str]:
    """What is wrong with `results/<name>/`, one line each: files missing, changed or unlisted."""
    target = folder_of(name)
    return wrong_sums(target, _listed(target), f"published runs of '{name}'")


def require_committed(run: str, provenance: dict[str, Any], by_this_code: bool) -> None:
    """Refuse a run of uncommitted code.

    One made without git at hand, but by this very code, is noted as of the commit that is checked out.
    """
    if provenance["commit"] == "unknown" and by_this_code:
        provenance |= {name: code()[name] for name in ("commit", "dirty")}
    if provenance["dirty"] or provenance["commit"] == "unknown":
        raise StudyError(f"{run} was trained from uncommitted code; commit, and train it again")


def write_sums(target: Path, files: Iterable[Path]) -> None:
    """Write the SHA-256 of the files into the folder, as `sha256sum` does."""
    with written_whole(target / SUMS) as partial:
        partial.write_text("".join(f"{sha256(path)}  {path.name}\n" for path in files))


def wrong_sums(target: Path, files: Iterable[Path], what: str) -> list[str]:
    """What is wrong with the files of a folder, one line each: missing, changed or unlisted."""
    expected = listed_sums(target)
    if expected is None:
        return [f"{target / SUMS}: missing; there are no {what}"]
    present = {path.name for path in files}
    wrong = [f"{target / file}: missing" for file in sorted(expected.keys() - present)]
    wrong += [f"{target / file}: not in {SUMS}" for file in sorted(present - expected.keys())]
    for file in sorted(present & expected.keys()):
        if (digest := sha256(target / file)) != expected[file]:
            wrong.append(f"{target / file}: its SHA-256 is {digest[:12]}…, not {expected[file][:12]}…")
    return wrong
