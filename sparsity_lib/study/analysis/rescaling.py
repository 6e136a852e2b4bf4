"""Networks that compute the same function at other scales: it does not determine activation entropy.

Let a layer put out a = W x + b, and let c > 0 for each of its channels. With c W and c b it puts out c a.
ReLU, max-pooling, flattening and dropout under one mask act on each channel by itself and commute with c:
relu(c a) is c relu(a). The next layer, V h + d, is given c h, where zero padding stays zero; with V/c it puts
out V/c (c h) + d, the same as before, and so do all layers after it. A power of two changes exponents alone,
so that products and sums are rounded alike: logits are the same to the bit, but for under- and overflow. A
batch norm in between undoes c itself, with mean c m and variance c^2 (v + eps) - eps: its output
(c a - c m)/sqrt(c^2 (v + eps)) is (a - m)/sqrt(v + eps). Yet H(softmax(c a)) falls from ln D to 0 as c grows,
where one channel is largest.

The symmetry is known: Neyshabur et al. 2015; Dinh et al. 2017, arXiv 1703.04933.
"""

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from sparsity_lib import ActivationMonitor
from sparsity_lib.study.data.scaling import Prepare
from sparsity_lib.study.errors import StudyError

COMMUTING = (nn.ReLU, nn.MaxPool2d, nn.AvgPool2d, nn.Flatten, nn.Dropout, nn.Dropout2d, nn.Identity)
BATCH = 512  # images


def rescale(model: nn.Sequential, layer: str, factor: float | Tensor) -> nn.Sequential:
    """A network with the same logits and one layer whose output is multiplied by `factor`.

    The following layer makes up for it; or a batch norm in between, in evaluation mode alone.

    **Arguments:**

    - `model`: a ReLU network in sequence, such as `models.vanilla_net` makes; it is left as it is.
    - `layer`: the name of a convolution or linear layer.
    - `factor`: above 0; a number, or `(D,)`, one for each channel.

    **Returns:** a changed copy, in the same mode.

    **Raises:** `StudyError` for a factor that is not above 0, another kind of network, a layer that is not
    there or is the last, or one followed by a module that does not commute with factors.
    """
    model = copy.deepcopy(model)
    scaled, following = _with_next(model, layer)
    weight = scaled.weight
    factors = torch.as_tensor(factor, dtype=weight.dtype, device=weight.device)
    if factors.dim() and factors.shape != weight.shape[:1]:
        raise StudyError(f"{layer} has {len(weight)} channels; give a factor for each, or one for all")
    if not ((factors > 0) & factors.isfinite()).all():
        raise StudyError(f"factors of {layer} must be above 0 and finite; one is {factors.min().item():g}")
    factors = factors.expand(len(weight))
    with torch.no_grad():
        for parameter in scaled.parameters(recurse=False):  # weight and, where there is one, bias
            parameter.mul_(factors.view(-1, *[1] * (parameter.dim() - 1)))
        if isinstance(following, nn.BatchNorm2d):
            assert following.running_mean is not None
            assert following.running_var is not None
            following.running_mean.mul_(factors)
            following.running_var.add_(following.eps).mul_(factors**2).sub_(following.eps)
        else:  # (outputs, channels, positions in the kernel or in the flattened map)
            following.weight.view(len(following.weight), len(factors), -1).div_(factors[:, None])
    return model


def to_scales(
    model: nn.Sequential, images: Tensor, prepare: Prepare, sds: Mapping[str, float]
) -> nn.Sequential:
    """A network with the same logits, whose named layers have the given SDs of outputs on the images.

    **Arguments:**

    - `model`: as for `rescale`; it is left as it is.
    - `images`, `prepare`: uint8 `(N, C, H, W)`, and what makes the network's input from them.
    - `sds`: above 0, by layer; over channels, positions and images, as `LayerStats.sd` in evaluation mode.

    **Returns:** a changed copy, in the same mode.

    **Raises:** `StudyError` as `rescale`, for a layer whose outputs do not vary, and for no images.
    """
    if not len(images):
        raise StudyError("there are no images to run the network on; give at least one")
    for layer in sds:
        _with_next(model, layer)  # refuses what cannot be rescaled
    evaluated = copy.deepcopy(model).eval()
    # Another layer's scale does not reach a layer's outputs, so that all are measured at once.
    with torch.no_grad(), ActivationMonitor(evaluated, list(sds)) as monitor:
        for batch in images.split(BATCH):
            evaluated(prepare(batch))
    for layer, stats in monitor.compute().items():
        if stats.sd <= 2 * torch.finfo(torch.float32).eps * abs(stats.mean):  # constant to rounding
            raise StudyError(f"the outputs of {layer} do not vary on these images, at any scale")
        model = rescale(model, layer, sds[layer] / stats.sd)
    return model


def _with_next(
    model: nn.Sequential, layer: str
) -> tuple[nn.Conv2d | nn.Linear, nn.Conv2d | nn.Linear | nn.BatchNorm2d]:
    """The layer, and the next layer or batch norm, which compensates for its scale."""
    if not isinstance(model, nn.Sequential):
        raise StudyError(f"only a network in sequence is rescaled, not {type(model).__name__}")
    modules = dict(model.named_children())
    layers = {name: module for name, module in modules.items() if isinstance(module, nn.Conv2d | nn.Linear)}
    *known, _ = layers
    if layer not in known:
        raise StudyError(f"no layer '{layer}' to rescale; there are {', '.join(known)}")
    names = list(modules)
    for name in names[names.index(layer) + 1 :]:
        module = modules[name]
        if isinstance(module, nn.Conv2d | nn.Linear | nn.BatchNorm2d) and getattr(module, "groups", 1) == 1:
            return layers[layer], module
        if not isinstance(module, COMMUTING):
            raise StudyError(f"{name} after {layer} does not commute with factors: {type(module).__name__}")
    raise AssertionError("there is a layer after every one but the last")
