"""Networks of the study by name: architecture and penalised layers.

`Experiment.strengths`, in `experiment.py`, computes the strengths of the penalties.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from torch import nn

    from sparsity_lib import models

PLAIN = "vanillaNet"  # reference of the other networks
LAYERS = ("conv1", "conv2", "conv3", "conv4", "fc1", "fc2")  # of the baseline network
TARGETED = ("conv3", "conv4", "fc1")  # entropy changes at overfitting (TSR, section 4.2)
SHARES = {"quarter": 0.25, "full": 1.0}  # of the original widths of the other architectures
SIZES = ("s", "m", "xxl")  # of `models.WIDTHS`
ALL_SIZES = (*SIZES, *SHARES)

_BASELINES = ("vanillaNet", "dropNet", "normNet", "sparseoutNet")
_VGG = tuple(f"conv{i}" for i in range(1, 9))
_STAGES = [(f"layer{stage}.{block}", stage > 1 and block == 0) for stage in range(1, 5) for block in range(2)]
_RESNET = (
    "conv1",
    *(
        f"{block}.{layer}"
        for block, halves in _STAGES
        for layer in ("conv1", "conv2", *(["downsample.0"] if halves else []))
    ),
)
# Layers with filters or neurons, the last one included, by architecture.
_LAYERS = {
    **dict.fromkeys(_BASELINES, LAYERS),
    "LeNet": ("conv1", "conv2", "fc1", "fc2", "fc3"),
    "AlexNet": (*(f"conv{i}" for i in range(1, 6)), "fc1", "fc2", "fc3"),
    **dict.fromkeys(("VGG11", "dropVGG11", "normVGG11", "sparseoutVGG11"), (*_VGG, "fc1")),
    "ResNet18": (*_RESNET, "fc"),
}


@dataclass(frozen=True)
class Recipe:
    """Architecture of a network and the layers of each penalty."""

    architecture: str
    sparsity: tuple[str, ...] = ()
    variance: tuple[str, ...] = ()
    scale_free: tuple[str, ...] = ()
    decorrelation: tuple[str, ...] = ()
    perplexity: tuple[str, ...] = ()


NETWORKS = {
    "vanillaNet": Recipe("vanillaNet"),
    "dropNet": Recipe("dropNet"),
    "normNet": Recipe("normNet"),
    "sr1Net": Recipe("vanillaNet", sparsity=LAYERS[:-1]),
    "sr2Net": Recipe("vanillaNet", sparsity=TARGETED),
    "sr3Net": Recipe("vanillaNet", sparsity=TARGETED, decorrelation=("conv1",)),
    # Ours: sr2Net with Var(a)/2 instead of the entropy.
    "varNet": Recipe("vanillaNet", variance=TARGETED),
    # Ours: sr2Net with the entropy at unit variance.
    "sfNet": Recipe("vanillaNet", scale_free=TARGETED),
    # Table 3; as in sr2Net, the later half of the convolutions and the first dense layer (T12).
    "LeNet": Recipe("LeNet"),
    "srLeNet": Recipe("LeNet", sparsity=("conv2", "fc1")),
    "AlexNet": Recipe("AlexNet"),
    "srAlexNet": Recipe("AlexNet", sparsity=("conv3", "conv4", "conv5", "fc1")),
    # dropNet with Sparseout (arXiv 1904.08050) instead of dropout.
    "sparseoutNet": Recipe("sparseoutNet"),
    # Our reading of arXiv 2104.06153: its penalty on all convolutions, in three architectures.
    "prNet": Recipe("vanillaNet", perplexity=LAYERS[:4]),
    "VGG11": Recipe("VGG11"),
    "dropVGG11": Recipe("dropVGG11"),
    "normVGG11": Recipe("normVGG11"),
    "sparseoutVGG11": Recipe("sparseoutVGG11"),
    "srVGG11": Recipe("VGG11", sparsity=_VGG[4:]),
    "prVGG11": Recipe("VGG11", perplexity=_VGG),
    "ResNet18": Recipe("ResNet18"),
    "srResNet18": Recipe("ResNet18", sparsity=_RESNET[10:]),
    "prResNet18": Recipe("ResNet18", perplexity=_RESNET),
}


def layers_of(network: str) -> tuple[str, ...]:
    """Names of the layers of a known network, including the last one."""
    return _LAYERS[NETWORKS[network].architecture]


def convolutions_of(network: str) -> tuple[str, ...]:
    """Names of the convolutions of a known network."""
    return tuple(layer for layer in layers_of(network) if not layer.startswith("fc"))


def sizes_of(network: str) -> tuple[str, ...]:
    """Sizes of a network: names in Table 1, or shares of the original widths."""
    recipe = NETWORKS.get(network)
    return tuple(SHARES if recipe and recipe.architecture not in _BASELINES else SIZES)


def build(
    architecture: str,
    size: str,
    in_channels: int,
    image_size: tuple[int, int],
    num_classes: int,
    *,
    init: "models.Init",
    norm_placement: "models.Placement",
    batch_norm: str,
    dropout_placement: "models.Placement",
    dropout: float,
    q: float,
    sparseout_gradient: Literal["exact", "reused"],
) -> "nn.Module":
    """Build an architecture of `sparsity_lib.models` for images `(N, in_channels, *image_size)`.

    The settings are fields of an `Experiment`. Initial weights are drawn from torch's global generator.
    Raises `ValueError` for images that are too small.
    """
    from torch import nn  # imported here, since recipes alone need no torch

    from sparsity_lib import Sparseout, models

    sizes = (in_channels, image_size, num_classes)
    # Keras's momentum is the share of the old value, PyTorch's is the share of the new one (T15).
    keras: dict[str, Any] = {"momentum": 0.01, "eps": 1e-3} if batch_norm == "keras" else {}
    norm = functools.partial(nn.BatchNorm2d, **keras) if architecture.startswith("norm") else None
    noise: models.Dropout = 0.0
    if architecture.startswith("drop"):
        noise = functools.partial(nn.Dropout, dropout)
    elif architecture.startswith("sparseout"):
        noise = functools.partial(Sparseout, dropout, q, sparseout_gradient)
    if architecture in _BASELINES:
        return models.vanilla_net(
            *sizes,
            widths=models.WIDTHS[size],
            norm=norm,
            norm_placement=norm_placement,
            dropout=noise,
            dropout_placement=dropout_placement,
            init=init,
        )
    if architecture.endswith("VGG11"):
        return models.vgg11(*sizes, width=SHARES[size], norm=norm, dropout=noise, init=init)
    builders: dict[str, Callable[..., nn.Module]] = {
        "LeNet": models.lenet,
        "AlexNet": models.alexnet,
        "ResNet18": models.resnet18,
    }
    return builders[architecture](*sizes, width=SHARES[size], init=init)


def monitored_layers(architecture: str, model: "nn.Module") -> list[str] | None:
    """Names of the monitored layers: convolutions, norms, and dense layers except the last (T17).

    `None`, the default of the monitor, for a network from outside the study.
    """
    from torch import nn

    if architecture not in NETWORKS:
        return None
    kinds = (nn.Conv2d, nn.Linear, nn.BatchNorm2d)
    return [name for name, module in model.named_modules() if isinstance(module, kinds)][:-1]
