"""LeNet and AlexNet for small images, of TSR's Table 3 (T12): with ReLU, max-pooling and no dropout."""

from collections import OrderedDict
from typing import NamedTuple

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
}


def layers_of(architecture: str) -> tuple[str, ...]:
    """The layers' names, the last one included."""
    plan = PLANS[architecture]
    dense = len(plan.hidden) + 1
    return (
        *(f"conv{i}" for i in range(1, len(plan.convolutions) + 1)),
        *(f"fc{i}" for i in range(1, dense + 1)),
    )


def build(
    architecture: str, size: str, in_channels: int, image_size: tuple[int, int], classes: int
) -> nn.Sequential:
    """The network for `(N, in_channels, *image_size)`, returning `(N, classes)`.

    Raises `StudyError` if the images are too small for its convolutions and poolings.
    """
    plan, share = PLANS[architecture], SHARES[size]
    if min(image_size) < plan.smallest:
        raise StudyError(
            f"images of {image_size[0]} x {image_size[1]} are too small; {architecture} needs "
            f"{plan.smallest} x {plan.smallest} or more"
        )
    modules: OrderedDict[str, nn.Module] = OrderedDict()
    height, width = image_size
    for i, (filters, kernel, pooled) in enumerate(plan.convolutions, start=1):
        filters = round(filters * share)
        padding = kernel // 2 if plan.padded else 0
        modules[f"conv{i}"] = nn.Conv2d(in_channels, filters, kernel, padding=padding)
        modules[f"conv{i}_relu"] = nn.ReLU()
        if pooled:
            modules[f"pool{i}"] = nn.MaxPool2d(2)
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
