"""Set-up of a training: the device, the data on it, the scaling of inputs, and the penalties."""

import contextlib
import ctypes
import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from sparsity_lib import (
    ActivationMonitor,
    DecorrReg,
    PerplexityReg,
    ScaleFreeReg,
    SparsityReg,
    VarianceReg,
)
from sparsity_lib.study import data
from sparsity_lib.study.data.scaling import Prepare, Scaling
from sparsity_lib.study.errors import StudyError
from sparsity_lib.study.experiment import Experiment

Penalty = SparsityReg | VarianceReg | ScaleFreeReg | PerplexityReg | DecorrReg

# On a CPU, compiling takes seconds, and saves nanoseconds per activation whose entropy is computed.
COMPILED_FROM = 5e9  # activations in a whole run


def load_on(device: torch.device, experiment: Experiment) -> data.Data:
    """The experiment's data, resident on the device."""
    settings = ("limit", "held_out", "image_size", "label_noise", "data_seed")
    loaded = data.load(experiment.dataset, **{name: getattr(experiment, name) for name in settings})
    moved: dict[str, Any] = {
        name: data.Split(split.images.to(device), split.labels.to(device))
        for name, split in vars(loaded).items()
        if isinstance(split, data.Split)
    }
    return dataclasses.replace(loaded, **moved)


def untrained(experiment: Experiment) -> tuple[data.Data, nn.Module]:
    """The experiment's data on the CPU, and its network with any initial weights."""
    loaded = load_on(torch.device("cpu"), experiment)
    _, channels, height, width = loaded.train.images.shape
    with torch.random.fork_rng(devices=[]):  # building draws initial weights
        return loaded, experiment.build(channels, (height, width), len(loaded.classes))


def penalties(
    model: nn.Module, experiment: Experiment, compiled: bool
) -> tuple[dict[str, Penalty], list[str]]:
    """The penalties by name, and the layers they act on, whose weights' gradients are compared."""
    strengths = experiment.strengths()
    kinds: dict[str, Callable[..., SparsityReg | VarianceReg | ScaleFreeReg | PerplexityReg]] = {
        "sparsity": functools.partial(SparsityReg, compiled=compiled),
        "variance": VarianceReg,
        "scale_free": functools.partial(ScaleFreeReg, compiled=compiled),
        "perplexity": functools.partial(PerplexityReg, compiled=compiled),
    }
    after = "_relu" if experiment.activation == "after" else ""
    built: dict[str, Penalty] = {}
    for name, kind in kinds.items():
        if strengths[name]:
            layers = {layer + after: strength for layer, strength in strengths[name].items()}
            reduction = "mean" if name == "perplexity" else experiment.reduction
            # The bias alone could make a layer's pattern even, whatever the input.
            include_bias = experiment.include_bias and name != "scale_free"
            built[name] = kind(model, layers, reduction=reduction, include_bias=include_bias)
    if strengths["decorrelation"]:
        built["decorrelation"] = DecorrReg(
            model,
            strengths["decorrelation"],
            center=experiment.center,
            penalty=experiment.decorrelation_penalty,
        )
    layers_of = (layer.removesuffix("_relu") for penalty in built.values() for layer in penalty.layers)
    return built, list(dict.fromkeys(layers_of))


def compiling_saves_time(
    model: nn.Module, experiment: Experiment, loaded: data.Data, prepare: Prepare
) -> bool:
    """Whether the run computes so many entropies that compiling them first saves time."""
    monitor = ActivationMonitor(model)
    model.eval()
    with torch.no_grad(), monitor:
        model(prepare(loaded.train.images[:1]))
    sizes = {layer: stats.positions * stats.channels for layer, stats in monitor.compute().items()}
    monitored = len(loaded.monitor.labels) + len(loaded.train_monitor.labels)
    activations = monitored * sum(sizes.values())
    strengths = experiment.strengths()
    for layer in (*strengths["sparsity"], *strengths["scale_free"], *strengths["perplexity"]):
        activations += len(loaded.train.labels) * sizes.get(layer, 0)
    return activations * experiment.epochs >= COMPILED_FROM


@functools.cache
def keep_freed_memory() -> None:
    """Set glibc to keep the memory that a step frees, for the next step.

    By default it returns large blocks to the system, which clears every page of them before their next use;
    in small networks that takes a good part of the time. Holds for the whole process.
    """
    never_map, trim_threshold = -4, -1  # M_MMAP_MAX, M_TRIM_THRESHOLD of <malloc.h>
    with contextlib.suppress(AttributeError, OSError, TypeError):  # another C library, or Windows
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(never_map, 0)
        mallopt(trim_threshold, 2**31 - 1)


def scaling(experiment: Experiment, images: Tensor) -> Scaling:
    """Inputs in [0, 1], or standardised per channel by the training images (T7)."""
    offset, scale = torch.zeros(()), torch.tensor(255.0)
    if experiment.input_scaling == "standardize":
        pixels = images.double()
        offset = pixels.mean((0, 2, 3), keepdim=True).float()
        scale = pixels.std((0, 2, 3), keepdim=True).clamp_min(1.0).float()
    return Scaling(offset.to(images.device), scale.to(images.device))


def device_of(name: str) -> torch.device:
    """The device of that name; `StudyError` if this machine has none."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError):  # torch raises AssertionError where it was built without CUDA
        raise StudyError(f"device '{name}' is not available here; use device='cpu' or 'auto'") from None
    return torch.device(name)
