"""The networks: those of "Targeted Sparsity Regularization" (TSR, arXiv 2002.09237, Figure 2), and others."""

import functools
import importlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import nn

from sparsity_lib import Sparseout
from sparsity_lib.study import other_networks
from sparsity_lib.study.errors import StudyError

if TYPE_CHECKING:
    from sparsity_lib.study.experiment import Experiment

LAYERS = ("conv1", "conv2", "conv3", "conv4", "fc1", "fc2")  # of the baseline network

# TSR, Table 1: filters of conv1 to conv4 and neurons of fc1.
SIZES = {
    "s": (16, 16, 32, 32, 64),
    "m": (64, 64, 128, 128, 256),
    "xxl": (256, 256, 512, 512, 1024),
}
ALL_SIZES = (*SIZES, *other_networks.SHARES)


@dataclass(frozen=True)
class Recipe:
    """A network's architecture and the layers each penalty acts on."""

    architecture: str
    sparsity: tuple[str, ...] = ()
    variance: tuple[str, ...] = ()
    decorrelation: tuple[str, ...] = ()
    perplexity: tuple[str, ...] = ()


_VGG_CONVOLUTIONS = other_networks.layers_of("VGG11")[:-1]
_RESNET_CONVOLUTIONS = other_networks.layers_of("ResNet18")[:-1]
_TARGETED = ("conv3", "conv4", "fc1")  # section 4.2: the layers whose entropy changes at overfitting

NETWORKS = {
    "vanillaNet": Recipe("vanillaNet"),
    "dropNet": Recipe("dropNet"),
    "normNet": Recipe("normNet"),
    "sr1Net": Recipe("vanillaNet", sparsity=LAYERS[:-1]),
    "sr2Net": Recipe("vanillaNet", sparsity=_TARGETED),
    "sr3Net": Recipe("vanillaNet", sparsity=_TARGETED, decorrelation=("conv1",)),
    # Ours: sr2Net with Var(a)/2 in entropy's place, to tell sparsity from scale.
    "varNet": Recipe("vanillaNet", variance=_TARGETED),
    # Table 3; as in sr2Net, the later half of the convolutions and the first dense layer (T12).
    "LeNet": Recipe("LeNet"),
    "srLeNet": Recipe("LeNet", sparsity=("conv2", "fc1")),
    "AlexNet": Recipe("AlexNet"),
    "srAlexNet": Recipe("AlexNet", sparsity=("conv3", "conv4", "conv5", "fc1")),
    # Sparseout (arXiv 1904.08050) in dropNet's dropout's place.
    "sparseoutNet": Recipe("sparseoutNet"),
    # arXiv 2104.06153, as we read it: its penalty on all convolutions, in three architectures.
    "prNet": Recipe("vanillaNet", perplexity=LAYERS[:4]),
    "VGG11": Recipe("VGG11"),
    "dropVGG11": Recipe("dropVGG11"),
    "normVGG11": Recipe("normVGG11"),
    "sparseoutVGG11": Recipe("sparseoutVGG11"),
    "srVGG11": Recipe("VGG11", sparsity=_VGG_CONVOLUTIONS[4:]),
    "prVGG11": Recipe("VGG11", perplexity=_VGG_CONVOLUTIONS),
    "ResNet18": Recipe("ResNet18"),
    "srResNet18": Recipe("ResNet18", sparsity=_RESNET_CONVOLUTIONS[10:]),
    "prResNet18": Recipe("ResNet18", perplexity=_RESNET_CONVOLUTIONS),
}


def layers_of(network: str) -> tuple[str, ...]:
    """The names of a known network's layers, the last one included."""
    architecture = NETWORKS[network].architecture
    return other_networks.layers_of(architecture) if architecture in other_networks.ARCHITECTURES else LAYERS


def monitored_layers(experiment: "Experiment", model: nn.Module) -> list[str] | None:
    """The names of the layers that are monitored: convolutions, dense layers but the last, and norms (T17).

    `None` for a network from outside the study: then the monitor's default holds.
    """
    if experiment.architecture not in NETWORKS:
        return None
    kinds = (nn.Conv2d, nn.Linear, nn.BatchNorm2d)
    return [name for name, module in model.named_modules() if isinstance(module, kinds)][:-1]


def sizes_of(network: str) -> tuple[str, ...]:
    """The sizes in which a network is built: Table 1's, or shares of the original widths."""
    recipe = NETWORKS.get(network)
    other = recipe and recipe.architecture in other_networks.ARCHITECTURES
    return tuple(other_networks.SHARES if other else SIZES)


def build(experiment: "Experiment", in_channels: int, image_size: tuple[int, int], classes: int) -> nn.Module:
    """The experiment's network for inputs of shape `(N, in_channels, *image_size)`, returning `(N, classes)`.

    Draws its initial weights from torch's global generator. Architectures of the paper draw the same
    weights from the same seed, so that networks are compared as pairs. A network of one's own,
    `"package.module:factory"`, is called as `factory(in_channels, image_size, classes)` and keeps its own
    initialisation.

    Raises `StudyError` if the factory fails, or the images are too small.
    """
    if experiment.architecture in NETWORKS:
        if experiment.architecture in other_networks.ARCHITECTURES:
            model = other_networks.build(
                experiment.architecture,
                experiment.size,
                in_channels,
                image_size,
                classes,
                norm=_norm(experiment),
                noise=_noise(experiment),
            )
        else:
            model = _conv_conv_pool(experiment, in_channels, image_size, classes)
        if experiment.init == "glorot":  # T6
            for module in model.modules():
                if isinstance(module, nn.Conv2d | nn.Linear):
                    nn.init.xavier_uniform_(module.weight)
                    if module.bias is not None:
                        nn.init.zeros_(module.bias)
        return model
    module_name, _, factory_name = experiment.network.partition(":")
    try:
        model = getattr(importlib.import_module(module_name), factory_name)(in_channels, image_size, classes)
    except Exception as error:  # whatever somebody's own code raises
        told = f"{type(error).__name__}: {error}".splitlines()[0]
        raise StudyError(f"network '{experiment.network}' cannot be made: {told}") from error
    if not isinstance(model, nn.Module):
        raise StudyError(f"network '{experiment.network}' made a {type(model).__name__}, no torch.nn.Module")
    return model


def _conv_conv_pool(
    experiment: "Experiment", in_channels: int, image_size: tuple[int, int], classes: int
) -> nn.Sequential:
    """TSR's Figure 2: two conv-conv-pool blocks and two dense layers, with norm or dropout where asked."""
    if min(image_size) < 4:
        raise StudyError(
            f"images of {image_size[0]} x {image_size[1]} are too small; two poolings need 4 x 4 or more"
        )
    norm, noise = _norm(experiment), _noise(experiment)
    *filters, hidden = SIZES[experiment.size]

    modules: OrderedDict[str, nn.Module] = OrderedDict()
    for i, width in enumerate(filters, start=1):
        block, ends_block = (i + 1) // 2, i % 2 == 0
        modules[f"conv{i}"] = nn.Conv2d(in_channels, width, kernel_size=3, padding=1)  # T14
        if norm and experiment.norm_placement == "convolution":
            modules[f"norm{i}"] = norm(width)
        elif norm and ends_block:
            modules[f"norm{block}"] = norm(width)
        modules[f"conv{i}_relu"] = nn.ReLU()
        if noise and experiment.dropout_placement == "convolution" and not ends_block:
            modules[f"dropout{i}"] = noise()
        if ends_block:
            modules[f"pool{block}"] = nn.MaxPool2d(2)
            if noise:  # after the pool in either placement, as the second convolution's own
                modules[f"dropout{i if experiment.dropout_placement == 'convolution' else block}"] = noise()
        in_channels = width
    modules["flatten"] = nn.Flatten()
    modules["fc1"] = nn.Linear(filters[-1] * (image_size[0] // 4) * (image_size[1] // 4), hidden)
    modules["fc1_relu"] = nn.ReLU()
    modules["fc2"] = nn.Linear(hidden, classes)
    return nn.Sequential(modules)


def _norm(experiment: "Experiment") -> Callable[[int], nn.Module] | None:
    """What makes a batch norm for so many channels, where the network has any."""
    if not experiment.architecture.startswith("norm"):
        return None
    # Keras's momentum counts the old value's share, PyTorch's the new one's (T15).
    settings: dict[str, dict[str, Any]] = {"pytorch": {}, "keras": {"momentum": 0.01, "eps": 1e-3}}
    return functools.partial(nn.BatchNorm2d, **settings[experiment.batch_norm])


def _noise(experiment: "Experiment") -> Callable[[], nn.Module] | None:
    """What makes a layer of noise, where the network has any."""
    if experiment.architecture.startswith("drop"):
        return functools.partial(nn.Dropout, experiment.dropout)
    if experiment.architecture.startswith("sparseout"):
        return functools.partial(Sparseout, experiment.dropout, experiment.q, experiment.sparseout_gradient)
    return None
