"""Copies of run files with other content, sealed as if they were written so."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py

from sparsity_lib import study
from sparsity_lib.study import files


def changed(path: Path, folder: Path, change: Callable[[h5py.File], object]) -> Path:
    """A copy of a run's file in the folder after `change(file)`."""
    copy = folder / path.name
    if copy != path:
        shutil.copy(path, copy)
    with h5py.File(copy, "r+") as file:
        change(file)
    files.write_with_checksum(copy, copy.read_bytes())
    return copy


def described_as(run: study.Run, folder: Path, **fields: object) -> Path:
    """A copy of a run's file in the folder, with other fields of its experiment."""

    def describe(file: h5py.File) -> None:
        file.attrs["experiment"] = json.dumps(json.loads(file.attrs["experiment"]) | fields)

    return changed(run.path, folder, describe)
