"""Networks of a run: with initial weights, and trained, from the file next to the run's.

The file has tensors, `<run>.weights.pt`, or, of a published run, netCDF, `<run>.weights.nc`.
"""

import inspect
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import h5py
import torch
from torch import Tensor, nn

from sparsity_lib.study.data.scaling import Scaling
from sparsity_lib.study.errors import StudyError
from sparsity_lib.study.experiment import Experiment
from sparsity_lib.study.files import load_tensors, reading, save_tensors
from sparsity_lib.study.recipes import NETWORKS
from sparsity_lib.study.runs.dimensions import KEPT
from sparsity_lib.study.runs.file import NETWORK, PUBLISHED_NETWORK, READER, Run, check_structure

if TYPE_CHECKING:
    import xarray as xr


def save_networks(path: Path, model: nn.Module, lowest_loss: Mapping[str, Tensor], prepare: Scaling) -> None:
    """Write a run's network after the last epoch and at the lowest validation loss, and the inputs' scaling.

    `path` is the run's file; `lowest_loss` are the weights at that epoch, as `model.state_dict()` names them.
    """
    last = {name: value.detach().cpu() for name, value in model.state_dict().items()}
    scaling = {"offset": prepare.offset.cpu(), "scale": prepare.scale.cpu()}
    networks = {"model": last, "lowest_loss": dict(lowest_loss)}
    save_tensors(path.with_suffix(NETWORK), {"run": path.stem, **networks, **scaling})


def load_networks(path: Path, run: str) -> dict[str, Any]:
    """The tensors of `save_networks`: state dicts "model", "lowest_loss"; inputs' "offset", "scale".

    Reads netCDF if `path` has its ending. Raises one of several errors if the file belongs to another run.
    """
    kept = _from_netcdf(path) if path.name.endswith(PUBLISHED_NETWORK) else load_tensors(path)
    if kept["run"] != run:
        raise ValueError(f"it belongs to run {kept['run']}")
    return kept


def networks_dataset(kept: Mapping[str, Any]) -> "xr.Dataset":
    """The kept networks as arrays, to the bit: each parameter by its name, (kept_moment, *shape).

    `offset` and `scale` are of the inputs: (uint8 image - offset) / scale.
    """
    import xarray as xr

    networks = {"lowest_loss": kept["lowest_loss"], "last": kept["model"]}
    variables = {}
    for name in kept["model"]:
        array = torch.stack([networks[moment][name] for moment in KEPT])
        variables[name] = (("kept_moment", *_axes(name, array[0])), array.numpy())
    for name in ("offset", "scale"):
        variables[name] = (_axes(name, kept[name]), kept[name].numpy())
    return xr.Dataset(variables, {"kept_moment": list(KEPT)}, {"run": kept["run"]})


def _axes(name: str, array: Tensor) -> tuple[str, ...]:
    return tuple(f"{name}_{axis}" for axis in range(array.dim()))


def _from_netcdf(path: Path) -> dict[str, Any]:
    from sparsity_lib.study.runs.netcdf import read_dataset

    with reading(path, READER), h5py.File(path) as file:
        check_structure(file)
        stored = read_dataset(file)
    tensors = {str(name): torch.from_numpy(values.to_numpy()) for name, values in stored.items()}
    kept: dict[str, Any] = {name: tensors.pop(name) for name in ("offset", "scale")}
    for key, moment in (("lowest_loss", "lowest_loss"), ("model", "last")):
        kept[key] = {name: values[KEPT.index(moment)] for name, values in tensors.items()}
    return kept | {"run": stored.attrs["run"]}


def initial_network(run: Run, seed: int | None = None) -> nn.Module:
    """The run's network with initial weights, drawn with a seed of torch if one is given.

    Raises `StudyError` if it cannot be built, or if it is a user's own network whose module was not imported:
    opening a file must not run code that the file names.
    """
    _check_imported(run.experiment)
    _, height, width, channels = run.root["images"].shape
    with torch.random.fork_rng(devices=[]):  # building draws initial weights
        if seed is not None:
            torch.manual_seed(seed)
        return run.experiment.build(channels, (height, width), len(run.classes))


def _check_imported(experiment: Experiment) -> None:
    """Raise `StudyError` unless the network is of a module that was imported and is no part of Python."""
    if experiment.network in NETWORKS:
        return
    module, _, factory = experiment.network.partition(":")
    found = vars(sys.modules[module]).get(factory) if module in sys.modules else None
    own = inspect.isfunction(found) or (inspect.isclass(found) and issubclass(found, nn.Module))
    if not own or found.__module__ != module or module.split(".")[0] in sys.stdlib_module_names:
        raise StudyError(
            f"the run names a user's own network, {experiment.network}, which is not built unless its "
            f"module was imported: if you trust that code, import {module} first"
        )


def trained_network(run: Run, moment: Literal["last", "lowest_loss"] = "last") -> tuple[nn.Module, Scaling]:
    """The run's network, in evaluation mode on the CPU, and the scaling of its inputs.

    `moment`: after the last epoch, or at the epoch of the lowest validation loss.

    ```python
    model, prepare = study.trained_network(run)
    logits = model(prepare(images))  # uint8 (N, C, H, W), of the run's own size
    ```

    Raises `StudyError` where the network was not kept (few published runs have one), its file is damaged, or
    it is a user's own that `initial_network` refuses.
    """
    places = [run.path.with_suffix(ending) for ending in (NETWORK, PUBLISHED_NETWORK)]
    path = next((place for place in places if place.exists()), None)
    if path is None:
        raise StudyError(
            f"the network of {run.id} was not kept: there is no {places[0].name} next to the run; few "
            "published runs have one, and a run gets one where it is trained"
        )
    model = initial_network(run)
    try:
        kept = load_networks(path, run.id)
        model.load_state_dict(kept["model" if moment == "last" else moment])
        prepare = Scaling(kept["offset"], kept["scale"])
    except StudyError:
        raise
    except Exception as error:  # whatever a foreign file makes torch raise
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise StudyError(
            f"{path} is damaged or of another network: {reason}; training the run again makes both anew"
        ) from None
    return model.eval(), prepare
