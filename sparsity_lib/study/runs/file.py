"""A run's file in netCDF: the experiment, its results, and the versions and data that made them.

`xarray.open_datatree(path)` reads it; `Run` is a thin view of it. `contents.as_tree` makes the variables:
curves over epochs in the root, and a group per layer with statistics, heatmaps and correlations. Attributes
hold the experiment, versions and digests.
"""

import contextlib
import io
import json
import os
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py

from sparsity_lib.study.configuration import is_plain
from sparsity_lib.study.errors import StudyError, Unusable
from sparsity_lib.study.experiment import AnyExperiment, Experiment, experiment_of
from sparsity_lib.study.files import (
    atomic_write,
    content_of,
    folder,
    note_read,
    read_with_checksum,
    reading,
    set_aside,
    write_with_checksum,
)
from sparsity_lib.study.runs.provenance import code, is_current

if TYPE_CHECKING:  # a training needs xarray, and with it pandas, only once it has ended
    import xarray as xr

MOST_BYTES = 1_000_000_000  # of a variable, unpacked: a small file may declare any number
DIVERGED = ".diverged"  # the ending of a file in a run's place
NETWORK = ".weights.pt"  # ending of a run's trained network
READER = f"HDF5 {h5py.version.hdf5_version}"  # as errors name it
PUBLISHED_NETWORK = ".weights.nc"  # ending of the same in netCDF, of a published run
RUNS_A_CHUNK = 20  # of a variable of many runs
_REQUIRED = ("experiment", "numerics", "data_digest")  # attributes of a run's file


class Run:
    """A finished run, read from its file as it is needed.

    ```python
    run.root["val_loss"]  # over epochs, in nats
    run.layer("conv1")["entropy"]  # over splits and epochs, in nats
    ```

    **Attributes:**

    - `path`: the file.
    - `experiment`: the `Experiment` that was run.
    - `layers`, `classes`: names of the monitored layers, and of the data's classes.
    - `provenance`: versions, machine, digests and cost, by name.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        note_read(path)
        with h5py.File(path) as file:
            attrs = {
                name: value.item() if hasattr(value, "item") else value  # h5py's numbers are numpy's
                for name, value in file.attrs.items()
                if name[0] != "_"
            }
        # A language model's is a LanguageExperiment, and its file has neither groups nor classes.
        self.experiment: Experiment = experiment_of(json.loads(attrs.pop("experiment")))
        self.layers: list[str] = json.loads(attrs.pop("layers", "[]"))
        self.classes: list[str] = json.loads(attrs.pop("classes", "[]"))
        if unfit := [layer for layer in self.layers if not is_plain(layer)]:
            raise ValueError(f"it has a layer {unfit[0]!r}")
        for name in ("numerics", "data_digest"):  # by which a run is found
            attrs[name] = str(attrs[name])
        self.provenance = attrs

    def __repr__(self) -> str:
        return f"Run({self.id})"

    @property
    def id(self) -> str:
        """The file's name without its ending."""
        return self.path.stem

    @cached_property
    def _tree(self) -> "xr.DataTree":
        import xarray as xr

        read_with_checksum(self.path)  # it may have been replaced meanwhile
        return xr.open_datatree(self.path, engine="h5netcdf")

    @cached_property
    def root(self) -> "xr.Dataset":
        """Curves over epochs, and the images shown."""
        return self._tree.to_dataset().load()

    def layer(self, name: str) -> "xr.Dataset":
        """Return the quantities of one layer; `StudyError` naming the run's layers for any other."""
        if name not in self.layers:
            raise StudyError(f"run {self.id} has no layer '{name}'; it has {', '.join(self.layers)}")
        return self._tree.children[name].to_dataset(inherit=True).load()

    @property
    def by_other_code(self) -> bool:
        """Whether the run was made by another version of the numerics."""
        return not is_current(self.provenance["numerics"])


def check_structure(file: h5py.File) -> None:
    """Raise `ValueError` for links, other files and sizes that no run's file has and the reader follows."""
    groups = [file["/"]]
    for group in groups:  # the loop appends the layers' groups
        for name in group:
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise ValueError(f"{group.name} has a link, {name}")
            item = group[name]
            if isinstance(item, h5py.Group):
                if group.name != "/":
                    raise ValueError(f"{group.name} has a group, {name}")
                groups.append(item)
            elif item.external or item.is_virtual or item.nbytes > MOST_BYTES:
                raise ValueError(f"{item.name} is in another file, or declares {item.nbytes:,} bytes")


def path_of(experiment: AnyExperiment, where: str | Path | None = None) -> Path:
    """Where the experiment's run is kept: in `where`, or its kind's folder in `runs/` (SPARSITY_RUNS)."""
    return Path(where or folder("runs", "SPARSITY_RUNS") / experiment.subfolder) / f"{experiment.id}.nc"


def log_of(experiment: AnyExperiment, where: str | Path | None = None) -> Path:
    """Path of the traceback of a training that failed."""
    return path_of(experiment, where).with_suffix(".log")


def save(tree: "xr.DataTree", path: Path) -> Run:
    """Write a run's file and open it."""
    write(tree, path)
    return load(path)


def write(tree: "xr.DataTree", path: Path) -> None:
    """Write netCDF whole and sealed, every variable compressed, numbers with a checksum."""
    from xarray.backends import H5NetCDFStore

    content = io.BytesIO()  # on a disk without room, HDF5 itself would crash
    # `DataTree.to_netcdf` opens the same, in the newer file format: the older spends 2.6 kB on the index of
    # each compressed variable, more than half of a run's file.
    store = H5NetCDFStore.open(content, mode="w", driver_kwds={"libver": ("v110", "v110")})
    with contextlib.closing(store):
        for node in tree.subtree:
            dataset = node.to_dataset(inherit=False)
            encoding = {name: _encoding(variable) for name, variable in dataset.variables.items()}
            group = store if node.path == "/" else store.get_child_store(node.path)
            dataset.drop_encoding().dump_to_store(group, encoding=encoding)
    write_with_checksum(path, content.getbuffer())


def _encoding(variable: "xr.Variable") -> dict[str, Any]:
    if not variable.ndim:
        return {}
    compressed: dict[str, Any] = {"zlib": True, "complevel": 9, "shuffle": True}
    many_runs = variable.dims[0] == "run"
    if variable.dtype.kind not in "iuf":
        return compressed | {"dtype": "S1"} if many_runs else {}
    if many_runs:
        # Numbers of one layer are similar, which compresses well. A new run leaves most chunks unchanged, so
        # that versions of a published file share them in git.
        layer = (1,) if variable.ndim > 2 else ()
        chunks = (min(RUNS_A_CHUNK, variable.shape[0]), *layer, *variable.shape[1 + len(layer) :])
        compressed["chunksizes"] = chunks
    return compressed | {"fletcher32": True}


def load(path: str | Path) -> Run:
    """Open a run's file.

    ```python
    run = study.load(path)
    ```

    Raises `Unusable` if it is missing, damaged or no run's file; `Unreadable` if it cannot be read here and
    now: it is locked, there is no permission, it is of a newer format. Both are `StudyError`.
    """
    path = Path(path)
    with reading(path, READER):
        with h5py.File(path) as file:
            check_structure(file)
            absent = [name for name in _REQUIRED if name not in file.attrs]
        if not absent:
            return Run(path)
    raise Unusable(f"{path} is no run's file: it has no attribute {', '.join(absent)}")


def find(experiment: AnyExperiment, where: str | Path | None = None, by_any_code: bool = False) -> Run | None:
    """The experiment's finished run, or None if there is none that is sound and of the same data and code.

    ```python
    run = study.find(experiment)
    ```

    Folders of images and texts go by their names alone, so their contents are compared; `by_any_code` allows
    other code. Raises `Unreadable` for a file that cannot be read here and now.
    """
    found = _files(experiment, where)
    data = experiment.data_digest() if found else None
    for path in found:
        with contextlib.suppress(Unusable):
            run = _sound(path)
            same_data = data in (None, run.provenance["data_digest"])
            if same_data and (by_any_code or not run.by_other_code):
                return run
    return None


def make_room(experiment: AnyExperiment, where: str | Path | None = None) -> None:
    """Set aside, with a warning each, the files in the place of the experiment's run.

    Files that a killed process was about to write are removed: the caller holds the run's lock.
    Raises `Unreadable` as `find` does.
    """
    place = path_of(experiment, where)
    for ending in (place.suffix, NETWORK, ".ckpt"):
        for unfinished in place.parent.glob(f".{place.stem}{ending}.[0-9]*"):
            unfinished.unlink(missing_ok=True)
    for path in _files(experiment, where):
        reason: object = "it was made by another version of the numerical code, or from other data"
        try:
            _sound(path)
        except Unusable as error:
            reason = error
        for file in (path, path.with_suffix(NETWORK)):
            if file.exists():
                set_aside(file, reason)


def note_divergence(experiment: AnyExperiment, where: str | Path | None, reason: str) -> None:
    """Write a file, next to the runs, on where the experiment's loss became infinite or NaN."""
    path = path_of(experiment, where).with_suffix(DIVERGED)
    note = {"reason": reason} | code(experiment.numerical_parts)
    with atomic_write(path) as partial:
        partial.write_text(json.dumps(note), encoding="utf-8")


def divergence(experiment: AnyExperiment, where: str | Path | None = None) -> dict[str, Any] | None:
    """Where the experiment diverged ("reason"), and by what code; None without a sound note.

    Raises `Unreadable` for one that cannot be read here and now.
    """
    path = path_of(experiment, where).with_suffix(DIVERGED)
    with contextlib.suppress(Unusable, json.JSONDecodeError, UnicodeDecodeError):
        noted: dict[str, Any] = json.loads(content_of(path))
        if {"reason", "commit", "dirty", "numerics"} <= noted.keys():
            return noted
    return None


def _sound(path: Path) -> Run:
    """The run; raises `Unusable` if its file or its network's file is damaged."""
    run, network = load(path), path.with_suffix(NETWORK)
    if os.path.lexists(network):
        read_with_checksum(network)
    return run


def _files(experiment: AnyExperiment, where: str | Path | None) -> list[Path]:
    # By digest: the same training may go by two names, as a recipe and written out.
    return sorted(path_of(experiment, where).parent.glob(f"*-{experiment.digest}.nc"))
