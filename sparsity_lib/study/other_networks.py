"""Other networks, made for small images: LeNet and AlexNet (TSR's Table 3; T12), VGG-11, ResNet-18."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple

from torch import nn

from sparsity_lib.study.errors import StudyError

# Share of the layers' original widths.
SHARES = {"quarter": 0.25, "full": 1.0}


class Plan(NamedTuple):
    """Convolutions as (filters, kernel, pooled after), hidden neurons, padding kind, least image side."""

    convolutions: tuple[tuple[int, int, bool], ...]
    hidden: tuple[int, ...]
    padded: bool
    smallest: int


_VGG11 = Plan(
    # Configuration A of Simonyan and Zisserman (2015); of its dense layers, made for 224 x 224, the last.
    (
        *((64, 3, True), (128, 3, True), (256, 3, False), (256, 3, True)),
        *((512, 3, False), (512, 3, True), (512, 3, False), (512, 3, True)),
    ),
    (),
    padded=True,
    smallest=32,
)
# By architecture; all with ReLU and max-pooling.
PLANS = {
    # LeNet-5 (LeCun et al. 1998), made for 32 x 32.
    "LeNet": Plan(((6, 5, True), (16, 5, True)), (120, 84), padded=False, smallest=16),
    # AlexNet (Krizhevsky 2014, widths of one column): 5 x 5 without stride in place of 11 x 11 with stride 4,
    # and 2 x 2 max-pooling, since 32 x 32 pixels leave nothing to stride over.
    "AlexNet": Plan(
        ((64, 5, True), (192, 5, True), (384, 3, False), (256, 3, False), (256, 3, True)),
        (4096, 4096),
        padded=True,
        smallest=8,
    ),
    **dict.fromkeys(("VGG11", "dropVGG11", "normVGG11", "sparseoutVGG11"), _VGG11),
}
RESNET = "ResNet18"
ARCHITECTURES = (*PLANS, RESNET)


def layers_of(architecture: str) -> tuple[str, ...]:
    """The names of the layers with filters or neurons, the last one included."""
    if architecture == RESNET:
        stages = (
            (f"layer{stage}.{block}", stage > 1 and block == 0) for stage in range(1, 5) for block in range(2)
        )
        blocks = (
            (f"{name}.conv1", f"{name}.conv2", *([f"{name}.downsample.0"] if halves else []))
            for name, halves in stages
        )
        return ("conv1", *(layer for block in blocks for layer in block), "fc")
    plan = PLANS[architecture]
    dense = len(plan.hidden) + 1
    return (
        *(f"conv{i}" for i in range(1, len(plan.convolutions) + 1)),
        *(f"fc{i}" for i in range(1, dense + 1)),
    )


def build(
    architecture: str,
    size: str,
    in_channels: int,
    image_size: tuple[int, int],
    classes: int,
    norm: Callable[[int], nn.Module] | None = None,
    noise: Callable[[], nn.Module] | None = None,
) -> nn.Module:
    """The network for `(N, in_channels, *image_size)`, returning `(N, classes)`.

    `norm` makes a layer for so many channels, put behind each convolution; `noise` one behind each pooling.

    Raises `StudyError` if the images are too small for its convolutions and poolings.
    """
    smallest = PLANS[architecture].smallest if architecture in PLANS else 8
    if min(image_size) < smallest:
        raise StudyError(
            f"images of {image_size[0]} x {image_size[1]} are too small; {architecture} needs "
            f"{smallest} x {smallest} or more"
        )
    if architecture == RESNET:
        return _resnet18(SHARES[size], in_channels, classes)
    return _planned(PLANS[architecture], SHARES[size], in_channels, image_size, classes, norm, noise)


def _planned(
    plan: Plan,
    share: float,
    in_channels: int,
    image_size: tuple[int, int],
    classes: int,
    norm: Callable[[int], nn.Module] | None,
    noise: Callable[[], nn.Module] | None,
) -> nn.Sequential:
    modules: OrderedDict[str, nn.Module] = OrderedDict()
    height, width = image_size
    for i, (filters, kernel, pooled) in enumerate(plan.convolutions, start=1):
        filters = round(filters * share)
        padding = kernel // 2 if plan.padded else 0
        modules[f"conv{i}"] = nn.Conv2d(in_channels, filters, kernel, padding=padding)
        if norm:
            modules[f"norm{i}"] = norm(filters)
        modules[f"conv{i}_relu"] = nn.ReLU()
        if pooled:
            modules[f"pool{i}"] = nn.MaxPool2d(2)
            if noise:
                modules[f"dropout{i}"] = noise()
        stride = 2 if pooled else 1
        height, width = ((side + 2 * padding - kernel + 1) // stride for side in (height, width))
        in_channels = filters
    modules["flatten"] = nn.Flatten()
    features = in_channels * height * width
    for i, neurons in enumerate(plan.hidden, start=1):
        neurons = round(neurons * share)
        modules[f"fc{i}"] = nn.Linear(features, neurons)
        modules[f"fc{i}_relu"] = nn.ReLU()
        features = neurons
    modules[f"fc{len(plan.hidden) + 1}"] = nn.Linear(features, classes)
    return nn.Sequential(modules)


def _resnet18(share: float, in_channels: int, classes: int) -> nn.Module:
    """torchvision's ResNet-18 (He et al. 2016): a 3 x 3 convolution without stride first, and no pooling."""
    from torchvision.models.resnet import BasicBlock, ResNet

    class Narrow(ResNet):
        def _make_layer(self, block: Any, planes: int, blocks: int, **settings: Any) -> nn.Sequential:
            if planes == 64:
                self.inplanes = round(64 * share)  # what the first stage is given
            stage: nn.Sequential = super()._make_layer(block, round(planes * share), blocks, **settings)
            return stage

    model: Any = Narrow(BasicBlock, [2, 2, 2, 2], num_classes=classes)
    first = round(64 * share)
    model.conv1 = nn.Conv2d(in_channels, first, kernel_size=3, padding=1, bias=False)
    model.bn1 = nn.BatchNorm2d(first)
    model.maxpool = nn.Identity()
    model.fc = nn.Linear(round(512 * share), classes)
    network: nn.Module = model
    return network
