"""The file of a language model's run, in `runs/language/`, and many runs as one data set."""

import contextlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
import xarray as xr

from sparsity_lib.study.errors import StudyError, Unusable
from sparsity_lib.study.files import folder, is_sealed, names_in, reading, set_aside
from sparsity_lib.study.language import texts
from sparsity_lib.study.language.experiment import LanguageExperiment
from sparsity_lib.study.runs import provenance
from sparsity_lib.study.runs.file import READER, check_structure, loaded, write


@dataclass(frozen=True)
class LanguageRun:
    """A finished run: its curves over epochs, and how it was made."""

    path: Path
    experiment: LanguageExperiment
    curves: xr.Dataset
    provenance: dict[str, Any]

    def __repr__(self) -> str:
        return f"LanguageRun({self.id})"

    @property
    def id(self) -> str:
        """The file's name without its ending."""
        return self.path.stem

    @property
    def by_other_code(self) -> bool:
        """Whether the run was made by another version of the numerics."""
        return not provenance.is_current(self.provenance["numerics"])


def path_of(experiment: LanguageExperiment, where: str | Path | None = None) -> Path:
    """Where the run is kept: in `where`, or `language` in `runs/` (environment: SPARSITY_RUNS)."""
    return Path(where or folder("runs", "SPARSITY_RUNS") / "language") / f"{experiment.id}.nc"


def code() -> dict[str, Any]:
    """The commit, and the versions of the numerics that a language model uses."""
    return provenance.code(("language", "sparseout"))


def save(
    experiment: LanguageExperiment,
    curves: xr.Dataset,
    path: Path,
    made_by: dict[str, Any],
    text_digest: str,
    device: torch.device,
    seconds: float,
) -> LanguageRun:
    """Write a run's file, whole or not at all, and open it."""
    made = made_by | provenance.surroundings(text_digest, device, seconds)
    whole = curves.assign_attrs(made | {"experiment": json.dumps(experiment.describe())})
    write(xr.DataTree(whole), path)
    return load(path)


def load(path: str | Path) -> LanguageRun:
    """Open a run's file, all of it.

    Raises `Unusable` if it is missing, damaged or no language model's; `Unreadable` if it cannot be read here
    and now: it is locked, there is no permission, it is of a newer format. Both are `StudyError`.
    """
    path = Path(path)
    with reading(path, "language model's run", READER):
        is_sealed(path)  # refuses another content; without a seal, reading all compares checksums
        with h5py.File(path) as file:
            check_structure(file)
        with xr.open_dataset(path, engine="h5netcdf") as opened:
            curves = loaded(opened)
        attrs = {name: getattr(value, "item", lambda v=value: v)() for name, value in curves.attrs.items()}
        experiment = LanguageExperiment(**json.loads(attrs.pop("experiment")))
        attrs["numerics"] = provenance.numerics_of(attrs)
    return LanguageRun(path, experiment, curves.drop_attrs(deep=False), attrs)


def find(experiment: LanguageExperiment, where: str | Path | None = None) -> LanguageRun | None:
    """The experiment's finished run, or None if there is none that is sound and of the same text and code.

    Texts go by their name alone, so what they hold is compared. Raises `Unreadable` for a file that cannot
    be read here and now.
    """
    found = _files(experiment, where)
    text = texts.digest(experiment.text) if found else ""
    for path in found:
        with contextlib.suppress(Unusable):
            run = load(path)
            if run.provenance["data_digest"] == text and not run.by_other_code:
                return run
    return None


def make_room(experiment: LanguageExperiment, where: str | Path | None = None) -> None:
    """Set aside, with a warning, what stands where the experiment's run is about to be written."""
    for path in _files(experiment, where):
        try:
            load(path)
            set_aside(path, "it was made by another version of the numerical code, or from another text")
        except Unusable as error:
            set_aside(path, error)


def _files(experiment: LanguageExperiment, where: str | Path | None) -> list[Path]:
    parent, ending = path_of(experiment, where).parent, f"-{experiment.digest}.nc"
    return [parent / name for name in names_in(parent) if name.endswith(ending)]


def curves(which: Sequence[LanguageRun]) -> xr.Dataset:
    """The runs' curves in one data set with dimensions run, layer and epoch.

    A run that is shorter, or has fewer layers, has NaN there. The coordinates of `run` say what was trained
    (`label` and `setting` distinguish cells; `experiment` and `provenance` are all of it, in JSON).
    """
    if not which:
        raise StudyError(
            "no runs of language models; train some with: python -m sparsity_lib.study run language"
        )
    together = xr.concat([run.curves for run in which], "run", join="outer")
    described = [run.experiment for run in which]
    columns: dict[str, list[Any]] = {
        "run": [run.id for run in which],
        **{name: [getattr(e, name) for e in described] for name in ("label", "setting", "seed", "epochs")},
        "q": [e.q if e.p else np.nan for e in described],
        "text": [texts.name_of(e.text) for e in described],
        **{n: [run.provenance[n] for run in which] for n in ("numerics", "data_digest", "seconds")},
        "experiment": [json.dumps(e.describe()) for e in described],
        "provenance": [json.dumps(run.provenance) for run in which],
    }
    return together.assign_coords(
        {
            name: ("run", np.array(values, dtype=object if isinstance(values[0], str) else None))
            for name, values in columns.items()
        }
    )
