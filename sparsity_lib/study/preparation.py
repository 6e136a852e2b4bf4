"""What a training starts from: the device, the data on it, the scaling of inputs, and the penalties."""

import dataclasses
from collections.abc import Callable

import torch
from torch import Tensor, nn

from sparsity_lib import DecorrReg, SparsityReg, VarianceReg
from sparsity_lib.study import data
from sparsity_lib.study.errors import StudyError
from sparsity_lib.study.experiment import Experiment

Prepare = Callable[[Tensor], Tensor]  # uint8 images to what the network takes
Penalty = SparsityReg | VarianceReg | DecorrReg


def load_on(device: torch.device, experiment: Experiment) -> data.Data:
    """The experiment's data, resident on the device."""
    loaded = data.load(
        experiment.dataset,
        limit=experiment.limit,
        image_size=experiment.image_size,
        label_noise=experiment.label_noise,
        data_seed=experiment.data_seed,
    )

    def moved(split: data.Split) -> data.Split:
        return data.Split(split.images.to(device), split.labels.to(device))

    return dataclasses.replace(
        loaded,
        train=moved(loaded.train),
        train_monitor=moved(loaded.train_monitor),
        monitor=moved(loaded.monitor),
        validation=moved(loaded.validation),
    )


def penalties(model: nn.Module, experiment: Experiment) -> tuple[dict[str, Penalty], list[str]]:
    """The penalties by name, and the layers they act on (weights of which their gradients are compared)."""
    strengths = experiment.strengths()
    kinds: dict[str, type[SparsityReg] | type[VarianceReg]] = {
        "sparsity": SparsityReg,
        "variance": VarianceReg,
    }
    built: dict[str, Penalty] = {}
    for name, kind in kinds.items():
        if strengths[name]:
            after = "_relu" if experiment.activation == "after" else ""
            layers = {layer + after: strength for layer, strength in strengths[name].items()}
            built[name] = kind(
                model, layers, reduction=experiment.reduction, include_bias=experiment.include_bias
            )
    if strengths["decorrelation"]:
        built["decorrelation"] = DecorrReg(
            model,
            strengths["decorrelation"],
            center=experiment.center,
            penalty=experiment.decorrelation_penalty,
        )
    layers_of = (layer.removesuffix("_relu") for penalty in built.values() for layer in penalty.layers)
    return built, list(dict.fromkeys(layers_of))


def scaling(experiment: Experiment, images: Tensor) -> Prepare:
    """Inputs in [0, 1], or standardised per channel by the training images (T7)."""
    offset, scale = torch.zeros(()), torch.tensor(255.0)
    if experiment.input_scaling == "standardize":
        pixels = images.double()
        offset = pixels.mean((0, 2, 3), keepdim=True).float()
        scale = pixels.std((0, 2, 3), keepdim=True).clamp_min(1.0).float()
    offset, scale = offset.to(images.device), scale.to(images.device)
    return lambda batch: ((batch.float() - offset) / scale).contiguous(memory_format=torch.channels_last)


def device_of(name: str) -> torch.device:
    """The device of that name; `StudyError` if this machine has none."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError):  # torch raises AssertionError where it was built without CUDA
        raise StudyError(f"device '{name}' is not available here; use device='cpu' or 'auto'") from None
    return torch.device(name)
