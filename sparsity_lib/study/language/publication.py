"""The published language models: one file of curves a profile in `results/language/`."""

from pathlib import Path

import xarray as xr

from sparsity_lib.study.files import PROJECT
from sparsity_lib.study.language import runs
from sparsity_lib.study.language.grid import select
from sparsity_lib.study.runs.file import write
from sparsity_lib.study.runs.provenance import is_current
from sparsity_lib.study.runs.publication import require_committed, write_sums, wrong_sums
from sparsity_lib.study.runs.results import load_curves


def folder_of() -> Path:
    """The folder of the published language models."""
    return PROJECT / "results" / "language"


def published(profile: str) -> xr.Dataset | None:
    """The curves of a profile's published language models, as `runs.curves` has them; None without any."""
    return load_curves(folder_of() / f"{profile}.nc")


def publish(profile: str, source: str | Path | None = None, replace: bool = False) -> int:
    """Put the profile's finished runs into `results/language/`; return how many are new.

    Runs made from uncommitted code are refused; one made without git at hand takes the commit that is
    checked out here if its numerics are the same. With `replace`, published runs of other code give way
    to those that were made anew by the code as it is.
    """
    before = published(profile)
    known = set() if before is None else set(before["run"].to_numpy())
    if before is not None and replace:
        older = [not is_current(numerics) for numerics in before["numerics"].to_numpy()]
        known -= set(before["run"].to_numpy()[older])
    new = [
        run
        for experiment in select(profile)
        if experiment.id not in known and (run := runs.find(experiment, source))
    ]
    if not new:
        return 0
    for run in new:
        require_committed(run.id, run.provenance, by_this_code=True)  # `find` finds no others
    parts = [runs.curves(new)]
    if before is not None:
        parts.insert(0, before.isel(run=~before["run"].isin([run.id for run in new]).to_numpy()))
    together = xr.concat([part for part in parts if part.sizes["run"]], "run", join="outer")
    write(xr.DataTree(together), folder_of() / f"{profile}.nc")
    write_sums(folder_of(), _files())
    return len(new)


def verify() -> list[str]:
    """List the faults of `results/language/`, one line each: files missing, changed or unlisted."""
    return wrong_sums(folder_of(), _files(), "published language models")


def _files() -> list[Path]:
    return sorted(folder_of().glob("*.nc"))
