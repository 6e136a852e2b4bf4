"""Rescaling of layers without a change of the network's function, which changes activation entropy.

Let a = W x + b be the output of a layer, and c > 0 a factor for each of its channels. With c W and c b the
output is c a. ReLU, max-pooling, flattening and dropout with the same mask act on each channel separately and
commute with c: relu(c a) = c relu(a). The next layer, V h + d, receives c h (zero padding stays zero); with
V/c its output is V/c (c h) + d, as before, and later layers do not change either. A power of two changes
exponents only, so that rounding is the same: logits are equal to the bit, apart from under- and overflow. A
batch norm in between compensates c with mean c m and variance c^2 (v + eps) - eps: its output
(c a - c m)/sqrt(c^2 (v + eps)) is (a - m)/sqrt(v + eps). Yet H(softmax(c a)) falls from ln D to 0 as c grows,
if one channel is largest.

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
    """Copy of a network with the same logits, in which the output of one layer is multiplied by `factor`.

    The next layer compensates the factor, or a batch norm in between, in evaluation mode only.

    **Arguments:**

    - `model`: a sequential ReLU network, such as `models.vanilla_net(...)`; it does not change.
    - `layer`: the name of a convolution or linear layer.
    - `factor`: above 0; a number, or `(D,)`, one for each channel.

    **Returns:** the copy, in the same mode.

    **Raises:** `StudyError` for a factor that is not above 0, another kind of network, a missing layer or the
    last one, or a layer followed by a module that does not commute with factors.
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
    """Copy of a network with the same logits, in which layers have the given SDs of outputs on the images.

    **Arguments:**

    - `model`: as for `rescale`.
    - `images`, `prepare`: uint8 `(N, C, H, W)`, and the function that makes network inputs from them.
    - `sds`: above 0, by layer; over channels, positions and images, as `LayerStats.sd` in evaluation mode.

    **Returns:** the copy, in the same mode.

    **Raises:** `StudyError` as `rescale`, and for constant outputs of a layer.
    """
    for layer in sds:
        _with_next(model, layer)  # raises if the layer cannot be rescaled
    evaluated = copy.deepcopy(model).eval()
    # The scale of one layer does not affect the outputs of another: one pass measures all.
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
    """Return the layer, and the next layer or batch norm, which compensates its scale."""
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
