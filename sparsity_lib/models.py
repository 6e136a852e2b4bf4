"""Networks of "Targeted Sparsity Regularization" (TSR, arXiv 2002.09237), VGG-11 and ResNet-18.

All are made for small images.

```python
model = models.vanilla_net(num_classes=100)  # size s of TSR's Table 1
model = models.vanilla_net(num_classes=100, widths=models.WIDTHS["m"], dropout=0.25)
model = models.lenet(in_channels=1, image_size=(28, 28), num_classes=10)
```

Layers are named conv1, conv2, ..., fc1, ...; a layer's ReLU is `<layer>_relu`. Weights are Glorot uniform and
biases 0 (T6), or with `init="pytorch"` as in torch. They are drawn from the global generator: networks
that share their layers draw the same weights from the same seed.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeVar, get_args

from torch import nn

from sparsity_lib._settings import needs, one_of

__all__ = ["WIDTHS", "alexnet", "lenet", "resnet18", "vanilla_net", "vgg11"]

#: Filters of conv1 to conv4 and neurons of fc1, by size (TSR, Table 1).
WIDTHS = {
    "s": (16, 16, 32, 32, 64),
    "m": (64, 64, 128, 128, 256),
    "xxl": (256, 256, 512, 512, 1024),
}

Init = Literal["glorot", "pytorch"]
Placement = Literal["block", "convolution"]
Norm = Callable[[int], nn.Module]
Dropout = float | Callable[[], nn.Module]
Model = TypeVar("Model", bound=nn.Module)


def vanilla_net(
    in_channels: int = 3,
    image_size: tuple[int, int] = (32, 32),
    num_classes: int = 10,
    *,
    widths: Sequence[int] = WIDTHS["s"],
    norm: Norm | None = None,
    norm_placement: Placement = "block",
    dropout: Dropout = 0.0,
    dropout_placement: Placement = "block",
    init: Init = "glorot",
) -> nn.Sequential:
    """The baseline network: two conv-conv-pool blocks and two dense layers (TSR, Figure 2).

    ```python
    model = sl.models.vanilla_net(num_classes=100, widths=sl.models.WIDTHS["m"], dropout=0.25)
    ```

    `(N, in_channels, *image_size) -> (N, num_classes)`. With `norm=nn.BatchNorm2d` it is TSR's normNet, with
    `dropout=0.25` dropNet.

    **Arguments:**

    - `in_channels`: of the images, 1 for grey or 3 for RGB.
    - `image_size`: height and width in pixels, at least 4 each.
    - `num_classes`: number of outputs, which are logits.
    - `widths`: filters of conv1 to conv4 and neurons of fc1, as in `WIDTHS`.
    - `norm`: makes a norm for a number of channels; one in a block, behind its second convolution and before
        the ReLU, or behind each convolution (`norm_placement`; T5).
    - `dropout`: probability, or what makes a module in its place (such as `Sparseout`); one in a block,
        behind the pooling, or behind each convolution (`dropout_placement`; T5).
    - `init`: `"glorot"`, Glorot uniform weights and zero biases (T6), or `"pytorch"`, torch's default.

    **Raises:** `ValueError` for images that are too small, another number of widths, or an unknown `init` or
    placement.
    """
    one_of("norm_placement", norm_placement, get_args(Placement))
    one_of("dropout_placement", dropout_placement, get_args(Placement))
    _check_size("the baseline network", image_size, 4)
    if len(widths) != 5:
        raise ValueError(f"widths are of conv1 to conv4 and fc1: five numbers, not {len(widths)}")
    *filters, hidden = widths
    noise = _noise(dropout)
    modules: OrderedDict[str, nn.Module] = OrderedDict()
    for i, width in enumerate(filters, start=1):
        block, ends_block = (i + 1) // 2, i % 2 == 0
        modules[f"conv{i}"] = nn.Conv2d(in_channels, width, kernel_size=3, padding=1)  # T14
        if norm and norm_placement == "convolution":
            modules[f"norm{i}"] = norm(width)
        elif norm and ends_block:
            modules[f"norm{block}"] = norm(width)
        modules[f"conv{i}_relu"] = nn.ReLU()
        if noise and dropout_placement == "convolution" and not ends_block:
            modules[f"dropout{i}"] = noise()
        if ends_block:
            modules[f"pool{block}"] = nn.MaxPool2d(2)
            if noise:  # behind the pool in either placement, as the second convolution's own
                modules[f"dropout{i if dropout_placement == 'convolution' else block}"] = noise()
        in_channels = width
    modules["flatten"] = nn.Flatten()
    modules["fc1"] = nn.Linear(filters[-1] * (image_size[0] // 4) * (image_size[1] // 4), hidden)
    modules["fc1_relu"] = nn.ReLU()
    modules["fc2"] = nn.Linear(hidden, num_classes)
    return _initialised(nn.Sequential(modules), init)


def lenet(
    in_channels: int = 3,
    image_size: tuple[int, int] = (32, 32),
    num_classes: int = 10,
    *,
    width: float = 1.0,
    init: Init = "glorot",
) -> nn.Sequential:
    """LeNet-5 (LeCun et al. 1998) with ReLU and max-pooling (T12): conv1, conv2, fc1, fc2 and fc3.

    ```python
    model = sl.models.lenet(in_channels=1, image_size=(28, 28))
    ```

    `(N, in_channels, *image_size) -> (N, num_classes)`.

    **Arguments:**

    - `in_channels`: of the images, 1 for grey or 3 for RGB.
    - `image_size`: height and width in pixels, at least 16 each.
    - `num_classes`: number of outputs, which are logits.
    - `width`: share of the original numbers of filters and neurons.
    - `init`: `"glorot"`, Glorot uniform weights and zero biases (T6), or `"pytorch"`, torch's default.

    **Raises:** `ValueError` for images that are too small, a width that leaves no filter, or an unknown
    `init`.
    """
    plan = ((6, 5, True), (16, 5, True))
    _check_size("LeNet", image_size, 16)
    return _sequence(plan, (120, 84), False, width, in_channels, image_size, num_classes, init)


def alexnet(
    in_channels: int = 3,
    image_size: tuple[int, int] = (32, 32),
    num_classes: int = 10,
    *,
    width: float = 1.0,
    init: Init = "glorot",
) -> nn.Sequential:
    """AlexNet (Krizhevsky 2014, widths of one column) for small images (T12): conv1 to conv5, fc1 to fc3.

    ```python
    model = sl.models.alexnet(num_classes=100, width=0.125)
    ```

    5 x 5 convolutions without stride stand in place of 11 x 11 with stride 4, and 2 x 2 poolings, since
    32 x 32 pixels leave nothing to stride over. `(N, in_channels, *image_size) -> (N, num_classes)`.

    **Arguments:**

    - `in_channels`: of the images, 1 for grey or 3 for RGB.
    - `image_size`: height and width in pixels, at least 8 each.
    - `num_classes`: number of outputs, which are logits.
    - `width`: share of the original numbers of filters and neurons.
    - `init`: `"glorot"`, Glorot uniform weights and zero biases (T6), or `"pytorch"`, torch's default.

    **Raises:** `ValueError` for images that are too small, a width that leaves no filter, or an unknown
    `init`.
    """
    plan = ((64, 5, True), (192, 5, True), (384, 3, False), (256, 3, False), (256, 3, True))
    _check_size("AlexNet", image_size, 8)
    return _sequence(plan, (4096, 4096), True, width, in_channels, image_size, num_classes, init)


def vgg11(
    in_channels: int = 3,
    image_size: tuple[int, int] = (32, 32),
    num_classes: int = 10,
    *,
    width: float = 1.0,
    norm: Norm | None = None,
    dropout: Dropout = 0.0,
    init: Init = "glorot",
) -> nn.Sequential:
    """VGG-11, configuration A of Simonyan and Zisserman (2015), with the last of its dense layers alone.

    ```python
    model = sl.models.vgg11(width=0.125, norm=nn.BatchNorm2d)
    ```

    `(N, in_channels, *image_size) -> (N, num_classes)`: conv1 to conv8 and fc1.

    **Arguments:**

    - `in_channels`: of the images, 1 for grey or 3 for RGB.
    - `image_size`: height and width in pixels, at least 32 each.
    - `num_classes`: number of outputs, which are logits.
    - `width`: share of the original numbers of filters and neurons.
    - `norm`: makes a norm for a number of channels, such as `nn.BatchNorm2d`; one behind each convolution.
    - `dropout`: probability, or what makes a module in its place (such as `Sparseout`), behind each pooling.
    - `init`: `"glorot"`, Glorot uniform weights and zero biases (T6), or `"pytorch"`, torch's default.

    **Raises:** `ValueError` for images that are too small, a width that leaves no filter, or an unknown
    `init`.
    """
    widths = (64, 128, 256, 256, 512, 512, 512, 512)
    plan = tuple((filters, 3, i not in (2, 4, 6)) for i, filters in enumerate(widths))
    _check_size("VGG-11", image_size, 32)
    return _sequence(plan, (), True, width, in_channels, image_size, num_classes, init, norm, _noise(dropout))


def resnet18(
    in_channels: int = 3,
    image_size: tuple[int, int] = (32, 32),
    num_classes: int = 10,
    *,
    width: float = 1.0,
    init: Init = "glorot",
) -> nn.Module:
    """torchvision's ResNet-18 (He et al. 2016) with a 3 x 3 convolution without stride first, and no pooling.

    ```python
    model = sl.models.resnet18(width=0.125)
    ```

    `(N, in_channels, *image_size) -> (N, num_classes)`.

    **Arguments:**

    - `in_channels`: of the images, 1 for grey or 3 for RGB.
    - `image_size`: height and width in pixels, at least 8 each.
    - `num_classes`: number of outputs, which are logits.
    - `width`: share of the original numbers of filters and neurons.
    - `init`: `"glorot"`, Glorot uniform weights and zero biases (T6), or `"pytorch"`, torch's default.

    **Raises:** `ValueError` for images that are too small, a width that leaves no filter, or an unknown
    `init`; `ImportError` without torchvision.
    """
    with needs("study"):
        from torchvision.models.resnet import BasicBlock, ResNet

    class Narrow(ResNet):
        def _make_layer(self, block: Any, planes: int, blocks: int, **settings: Any) -> nn.Sequential:
            if planes == 64:
                self.inplanes = _share(width, 64)  # the input of the first stage
            stage: nn.Sequential = super()._make_layer(block, _share(width, planes), blocks, **settings)
            return stage

    _check_size("ResNet-18", image_size, 8)
    model: Any = Narrow(BasicBlock, [2, 2, 2, 2], num_classes=num_classes)
    first = _share(width, 64)
    model.conv1 = nn.Conv2d(in_channels, first, kernel_size=3, padding=1, bias=False)
    model.bn1 = nn.BatchNorm2d(first)
    model.maxpool = nn.Identity()
    model.fc = nn.Linear(_share(width, 512), num_classes)
    return _initialised(model, init)


def _sequence(
    plan: Sequence[tuple[int, int, bool]],
    hidden: Sequence[int],
    padded: bool,
    share: float,
    in_channels: int,
    image_size: tuple[int, int],
    num_classes: int,
    init: Init,
    norm: Norm | None = None,
    noise: Callable[[], nn.Module] | None = None,
) -> nn.Sequential:
    """Convolutions of (filters, kernel, pooled) and dense layers, `share` of their widths, in sequence."""
    modules: OrderedDict[str, nn.Module] = OrderedDict()
    height, width = image_size
    for i, (filters, kernel, pooled) in enumerate(plan, start=1):
        filters = _share(share, filters)
        padding = kernel // 2 if padded else 0
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
    for i, neurons in enumerate(hidden, start=1):
        neurons = _share(share, neurons)
        modules[f"fc{i}"] = nn.Linear(features, neurons)
        modules[f"fc{i}_relu"] = nn.ReLU()
        features = neurons
    modules[f"fc{len(hidden) + 1}"] = nn.Linear(features, num_classes)
    return _initialised(nn.Sequential(modules), init)


def _check_size(name: str, image_size: tuple[int, int], smallest: int) -> None:
    height, width = image_size
    if min(height, width) < smallest:
        raise ValueError(
            f"images of {height} x {width} are too small; {name} needs {smallest} x {smallest} or more"
        )


def _share(width: float, number: int) -> int:
    if (share := round(number * width)) < 1:
        raise ValueError(f"width {width} leaves none of {number} filters or neurons")
    return share


def _noise(dropout: Dropout) -> Callable[[], nn.Module] | None:
    if callable(dropout):
        return dropout
    return (lambda: nn.Dropout(dropout)) if dropout else None


def _initialised(model: Model, init: Init) -> Model:
    one_of("init", init, get_args(Init))
    if init == "glorot":
        for module in model.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
    return model
