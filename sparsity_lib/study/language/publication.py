"""The published language models: one file of curves a profile in `results/language/`."""

from pathlib import Path

import xarray as xr

from sparsity_lib.study.errors import StudyError
from sparsity_lib.study.files import PROJECT, sha256, written_whole
from sparsity_lib.study.language import runs
from sparsity_lib.study.language.grid import select
from sparsity_lib.study.provenance import code
from sparsity_lib.study.runs import write


def folder_of() -> Path:
    """The folder of the published language models."""
    return PROJECT / "results" / "language"


def published(profile: str) -> xr.Dataset | None:
    """The curves of a profile's published language models, as `runs.curves` has them; None without any."""
    path = folder_of() / f"{profile}.nc"
    if not path.exists():
        return None
    try:
        return xr.load_dataset(path, engine="h5netcdf")
    except Exception as error:  # whatever a damaged file makes the reader raise
        told = f"{type(error).__name__}: {error}".splitlines()[0]
        raise StudyError(f"{path} is damaged ({told}); get the published file again") from None


def publish(profile: str, source: str | Path | None = None, replace: bool = False) -> int:
    """Put the profile's finished runs of published seeds into `results/language/`; return how many are new.

    Runs made from uncommitted code are refused; one made without git at hand takes the commit that is
    checked out here if its code fingerprint is the same. With `replace`, published runs of other code give
    way to those that were made anew by the code as it is.
    """
    before = published(profile)
    known = set() if before is None else set(before["run"].to_numpy())
    if before is not None and replace:
        other = before["code_fingerprint"].to_numpy() != runs.code_fingerprint()
        known -= set(before["run"].to_numpy()[other])
    new = [
        run
        for experiment in select(profile, published=True)
        if experiment.id not in known and (run := runs.find(experiment, source))
    ]
    if not new:
        return 0
    for run in new:
        if run.provenance["commit"] == "unknown":
            run.provenance.update({name: code()[name] for name in ("commit", "dirty")})
        if run.provenance["dirty"] or run.provenance["commit"] == "unknown":
            raise StudyError(f"{run.id} was trained from uncommitted code; commit, and train it again")
    parts = [runs.curves(new)]
    if before is not None:
        parts.insert(0, before.isel(run=~before["run"].isin([run.id for run in new]).to_numpy()))
    together = xr.concat([part for part in parts if part.sizes["run"]], "run", join="outer")
    write(xr.DataTree(together), folder_of() / f"{profile}.nc")
    with written_whole(folder_of() / "SHA256SUMS") as partial:
        partial.write_text("".join(f"{sha256(path)}  {path.name}\n" for path in _files()))
    return len(new)


def verify() -> list[str]:
    """What is wrong with `results/language/`, one line each: files missing, changed or unlisted."""
    sums = folder_of() / "SHA256SUMS"
    if not sums.exists():
        return [f"{sums}: missing; there are no published language models"]
    expected = {line[66:]: line[:64] for line in sums.read_text().splitlines()}
    present = {path.name: path for path in _files()}
    wrong = [f"{folder_of() / name}: missing" for name in sorted(expected.keys() - present.keys())]
    wrong += [f"{path}: not in SHA256SUMS" for name, path in present.items() if name not in expected]
    for name, path in present.items():
        if name in expected and (digest := sha256(path)) != expected[name]:
            wrong.append(f"{path}: its SHA-256 is {digest[:12]}…, not {expected[name][:12]}…")
    return wrong


def _files() -> list[Path]:
    return sorted(folder_of().glob("*.nc"))
