"""The weights with which layers compute: whole if they are sharded, masked if they are pruned; filters."""

import sys
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from sparsity_lib._layers import CONVOLUTIONS, conv1d_of_transformers


class Used(NamedTuple):
    """A tensor that a layer's forward pass computes with.

    `sources` are what it is made of, usually one parameter; tied tensors have the same. `made` returns it,
    with its gradient, and changes nothing in the layer.
    """

    sources: tuple[Any, ...]
    made: Callable[[], Tensor]

    def read(self) -> Tensor:
        """The tensor, whole."""
        return whole(self.made()).to_dense()


def used_weights(module: nn.Module) -> dict[str, Used]:
    """Weights of a layer, by name: its own parameters, or what pruning and parametrisation make of them."""
    if hasattr(module, "_packed_params"):  # quantised
        packed = {name: getattr(module, name) for name in ("weight", "bias") if hasattr(module, name)}
        return {
            name: Used(((module, name),), lambda read=read: read().dequantize())  # type: ignore[misc]
            for name, read in packed.items()
            if read() is not None
        }
    if hasattr(module, "_all_weight_values") or hasattr(module, "_packed_weight_ih"):  # quantised, recurrent
        tensors = module.get_weight() | module.get_bias()  # type: ignore[operator]
        return {name: Used(((module, name),), tensor.dequantize) for name, tensor in tensors.items()}
    parameters = dict(module.named_parameters(recurse=False))
    used = {}
    for hook in module._forward_pre_hooks.values():
        made: Callable[[], Tensor]
        if isinstance(hook, BasePruningMethod):
            name, made = hook._tensor_name, partial(hook.apply_mask, module)
        elif isinstance(hook, SpectralNorm):
            name, made = hook.name, partial(hook.compute_weight, module, do_power_iteration=False)
        elif isinstance(hook, WeightNorm):
            name, made = hook.name, partial(hook.compute_weight, module)
        else:
            continue
        parts = [name + part for part in ("_orig", "_g", "_v") if name + part in parameters]
        used[name] = Used(tuple(map(parameters.pop, parts)), made)
    if is_parametrized(module):
        for name, maker in module.parametrizations.items():  # type: ignore[operator, union-attr]
            used[name] = Used(tuple(maker.parameters()), partial(_parametrised, module, name, maker))
    return {name: Used((p,), lambda p=p: p) for name, p in parameters.items()} | used  # type: ignore[misc]


def has_filters(module: nn.Module) -> bool:
    """Whether `filters_of` knows its filters."""
    known = isinstance(module, (*CONVOLUTIONS, nn.Linear, *conv1d_of_transformers()))
    return known and "weight" in used_weights(module)


def is_transposed(module: nn.Module) -> bool:
    """Whether its filters are not along the weight's first axis."""
    return bool(getattr(module, "transposed", False)) or isinstance(module, conv1d_of_transformers())


def filters_of(module: nn.Module) -> Tensor:
    """The weight with one filter per row, `(D, ...)`.

    A transposed convolution keeps its filters along axis 1 of each group, the Conv1D of transformers along
    axis 1.

    **Raises:** `TypeError` for a layer whose filters are not known.
    """
    if not has_filters(module):
        raise TypeError("known are those of nn.Conv*, nn.ConvTranspose*, nn.Linear; for others give filters=")
    weight = used_weights(module)["weight"].read()
    if isinstance(module, conv1d_of_transformers()):
        return weight.T
    if isinstance(module, tuple(CONVOLUTIONS)) and module.transposed:
        return weight.unflatten(0, (module.groups, -1)).transpose(1, 2).flatten(0, 1)
    return weight


def refuse_slices(model: nn.Module) -> None:
    """Raise `TypeError` if a wrapper has left each process a slice of the weights, of no known shape."""
    wrapper = getattr(sys.modules.get("torch.distributed.fsdp"), "FullyShardedDataParallel", ())
    if any(isinstance(module, wrapper) for module in model.modules()):
        raise TypeError(
            "the weights within FullyShardedDataParallel are slices: shard the model with "
            "torch.distributed.fsdp.fully_shard, whose weights can be read"
        )


def whole(parameter: Tensor) -> Tensor:
    """All of a parameter, where this process holds a part."""
    if nn.parameter.is_lazy(parameter) or parameter.is_meta:
        raise ValueError("a layer that is lazy or on the meta device has no weights yet: run the model once")
    if getattr(parameter, "ds_numel", parameter.numel()) != parameter.numel():
        raise TypeError("the weights are slices: read them within deepspeed.zero.GatheredParameters")
    return parameter.full_tensor() if hasattr(parameter, "full_tensor") else parameter


def _parametrised(module: nn.Module, name: str, maker: nn.Module) -> Tensor:
    """The weight, in evaluation mode: in training, spectral norm would take a step each time it is read."""
    modes = [each.training for each in maker.modules()]
    maker.eval()
    try:
        return getattr(module, name)
    finally:
        for each, training in zip(maker.modules(), modes, strict=True):
            each.training = training
