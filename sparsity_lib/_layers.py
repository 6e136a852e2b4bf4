"""Which layers of a model are meant, and where the channels of their outputs are."""

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

CONVOLUTIONS = {
    nn.Conv1d: 1,
    nn.Conv2d: 2,
    nn.Conv3d: 3,
    nn.ConvTranspose1d: 1,
    nn.ConvTranspose2d: 2,
    nn.ConvTranspose3d: 3,
}
CHANNELS_FIRST_NORMS = {
    nn.BatchNorm1d: 0,
    nn.BatchNorm2d: 2,
    nn.BatchNorm3d: 3,
    nn.SyncBatchNorm: 0,
    nn.GroupNorm: 0,
    nn.InstanceNorm1d: 1,
    nn.InstanceNorm2d: 2,
    nn.InstanceNorm3d: 3,
}
CHANNELS_LAST = (nn.Linear, nn.LayerNorm, nn.RMSNorm)
ALSO_LAST = (*CHANNELS_LAST, nn.RNNBase, nn.MultiheadAttention)
SPATIAL_AXES = CONVOLUTIONS | CHANNELS_FIRST_NORMS  # the least number that a batch must have
LAYERS = (*SPATIAL_AXES, *CHANNELS_LAST)
# Attributes in which modules say how many channels they put out.
WIDTHS = ("out_features", "out_channels", "num_features", "num_channels", "embedding_dim", "nf")

_CHECKPOINT = "torch.distributed.algorithms._checkpoint.checkpoint_wrapper"
# By name, as importing them all would take seconds; and what each calls the model in it.
WRAPPERS = {
    "torch.nn.parallel.distributed.DistributedDataParallel": "module",
    "torch.distributed.fsdp.fully_sharded_data_parallel.FullyShardedDataParallel": "_fsdp_wrapped_module",
    f"{_CHECKPOINT}.CheckpointWrapper": "_checkpoint_wrapped_module",
    "torch._dynamo.eval_frame.OptimizedModule": "_orig_mod",
    "torch.optim.swa_utils.AveragedModel": "module",
    "deepspeed.runtime.engine.DeepSpeedEngine": "module",
}

Key = str | nn.Module | type[nn.Module]
Widths = tuple[set[int | None], ...]  # numbers of channels on axis 1, last, and last on vectors or tokens
Axes = int | Mapping[Key, int] | Mapping[str, int] | None


def is_layer(module: nn.Module) -> bool:
    """Whether it is a convolution, linear or norm layer, or a lazy one that becomes it when it first runs."""
    kind = getattr(module, "cls_to_become", None) or type(module)
    return issubclass(kind, (*LAYERS, *conv1d_of_transformers()))


def may_run(module: nn.Module) -> bool:
    """Whether it may be called: multi-head attention reads the weights of its last layer alone."""
    return not isinstance(module, getattr(nn.modules.linear, "NonDynamicallyQuantizableLinear", ()))


def is_linear(module: nn.Module) -> bool:
    """Whether it is a linear layer, also by the name of Conv1D, as in GPT-2."""
    return isinstance(module, (nn.Linear, *conv1d_of_transformers()))


def conv1d_of_transformers() -> tuple[type[nn.Module], ...]:
    """The Conv1D of transformers, where it is in use."""
    library = sys.modules.get("transformers.pytorch_utils")
    return (library.Conv1D,) if library else ()


def named_layers(model: nn.Module) -> dict[str, nn.Module]:
    """All modules of the model by dotted name, in its order, without the names that wrappers add.

    A module used under two names has both.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, not {type(model).__name__}")
    modules = dict(model.named_modules(remove_duplicate=False))
    if any(isinstance(module, nn.DataParallel) for module in modules.values()):
        raise TypeError(
            "nn.DataParallel is not supported: it discards what hooks collect on its replicas; "
            "use torch.nn.parallel.DistributedDataParallel"
        )
    shown = {"": ""}
    for name in [*modules][1:]:
        parent, _, child = name.rpartition(".")
        inside = shown[parent]
        shown[name] = inside if child == _wrapped(modules[parent]) else f"{inside}.{child}".lstrip(".")
    return {shown[name]: module for name, module in modules.items()}  # what is wrapped follows its wrapper


def _wrapped(module: nn.Module) -> str | None:
    """The name of a wrapper's only child; None for other modules."""
    names = (f"{kind.__module__}.{kind.__qualname__}" for kind in type(module).__mro__)
    return next((WRAPPERS[name] for name in names if name in WRAPPERS), None)


def meant(
    modules: Mapping[str, nn.Module], keys: Iterable[Key], fits: Callable[[nn.Module], bool]
) -> dict[nn.Module, list[tuple[str, Key]]]:
    """The modules that the keys mean, each with its name and key; with several of them if it is named again.

    A key is a dotted name or a module, which override the others, a type of module, or a glob: of the
    convolution, linear and norm layers that match, or where there are none, of the matching modules without
    children. A type or glob leaves out those that do not fit, unless none does.
    """
    by_group: dict[nn.Module, list[tuple[str, Key]]] = {}
    exact: dict[nn.Module, list[tuple[str, Key]]] = {}
    for key in keys:
        one, found = _select(modules, key)
        if not one:
            found = {name: module for name, module in found.items() if fits(module)} or found
        for name, module in found.items():
            by_group.setdefault(module, [])
            (exact if one else by_group).setdefault(module, []).append((name, key))
    return {module: exact.get(module, names) for module, names in by_group.items()}


def excluded(modules: Mapping[str, nn.Module], keys: Sequence[Key]) -> set[nn.Module]:
    """The modules that the keys mean, with the modules in them."""
    if isinstance(keys, (str, nn.Module, type)):
        raise TypeError(f"exclude must be a list, such as [{keys!r}]")
    result: set[nn.Module] = set()
    for key in keys:
        _, found = _select(modules, key, every=True)
        for module in found.values():
            result |= set(module.modules())
    return result


def axes_of(modules: Mapping[str, nn.Module], layers: Iterable[str], dim: Axes) -> dict[str, int | None]:
    """The channel axis that is given for each of the layers; None where none is."""
    layers = [*layers]
    if dim is None:
        return dict.fromkeys(layers)
    axes: dict[Any, int] = dict(dim) if isinstance(dim, Mapping) else {"*": dim}
    for axis in axes.values():
        if isinstance(axis, bool) or not isinstance(axis, int):
            raise TypeError(f"dim must be a whole number, or map layers to whole numbers, not {axis!r}")
    given: dict[nn.Module, dict[bool, set[int]]] = {}
    for key, axis in axes.items():
        one, found = _select(modules, key, every=True)
        if not any(modules[name] in found.values() for name in layers):
            raise ValueError(f"dim: {key!r} is none of the layers {', '.join(layers)}")
        for module in found.values():
            given.setdefault(module, {}).setdefault(one, set()).add(axis)
    result: dict[str, int | None] = {}
    for name in layers:
        by_key = given.get(modules[name], {})
        own = sorted(by_key.get(True) or by_key.get(False) or ())
        if len(own) > 1:
            raise ValueError(f"dim: layer {name!r} is given the axes {own}")
        result[name] = own[0] if own else None
    return result


def _select(
    modules: Mapping[str, nn.Module], key: Key, every: bool = False
) -> tuple[bool, dict[str, nn.Module]]:
    """Whether the key means one module, and what it means, at least one; `every`: a glob means all."""
    if isinstance(key, nn.Module):
        wanted = key
        while child := _wrapped(wanted):
            wanted = wanted.get_submodule(child)
        found = {name: module for name, module in modules.items() if module is wanted}
        if not found:
            raise ValueError(f"{type(key).__name__} is not a module of the model")
        return True, dict([*found.items()][:1])
    if isinstance(key, type) and issubclass(key, nn.Module):
        if found := {name: module for name, module in modules.items() if isinstance(module, key)}:
            return False, _once(found)
        raise ValueError(f"no module of type {key.__name__} in the model")
    if not isinstance(key, str):
        kind = key.__name__ if isinstance(key, type) else type(key).__name__
        raise TypeError(f"a layer is named by a string, a module or a type of module, not {kind}")
    added = {"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
    bare = ".".join(part for part in key.split(".") if part not in added)
    while bare.startswith("module."):
        bare = bare.removeprefix("module.")
    for pattern in (key, bare):  # a prefix counts as a wrapper's where nothing has it
        if pattern in modules:
            return True, {pattern: modules[pattern]}
        matching = {name: module for name, module in modules.items() if fnmatchcase(name, pattern)}
        layers = {name: module for name, module in matching.items() if is_layer(module)}
        leaves = {name: module for name, module in matching.items() if not [*module.children()]}
        if found := matching if every else layers or leaves:
            return False, _once(found)
    known = [name for name, module in modules.items() if is_layer(module)]
    more = f" and {len(known) - 20} more" if len(known) > 20 else ""
    raise ValueError(f"no layer {key!r} in the model; it has {', '.join(known[:20]) or 'no layers'}{more}")


def _once(modules: Mapping[str, nn.Module]) -> dict[str, nn.Module]:
    """Each module by its first name."""
    names: dict[nn.Module, str] = {}
    for name, module in modules.items():
        names.setdefault(module, name)
    return {name: module for module, name in names.items()}


def known_widths(modules: Mapping[str, nn.Module]) -> Widths:
    """Numbers of channels of the model's layers with channels on axis 1, and of those with channels last.

    In a model of convolutions without layer norm, the latter are of vectors or tokens alone: they count as
    none, and the third set has them in every model.
    """
    first = {_width(module) for module in modules.values() if isinstance(module, tuple(SPATIAL_AXES))}
    kinds = (*CHANNELS_LAST, *conv1d_of_transformers())
    last = {_width(module) for module in modules.values() if isinstance(module, kinds)}
    norms = any(isinstance(module, (nn.LayerNorm, nn.RMSNorm)) for module in modules.values())
    return first, last if norms or not first else set(), last


def channel_axis(
    name: str,
    module: nn.Module,
    output: Any,
    dim: int | None,
    widths: Widths = (set(), set(), set()),
) -> int:
    """The axis of the output's channels, the first being its samples; an error where it cannot be found.

    A module without children that does not say how many channels it has, as an activation function, has them
    where `known_widths` of the model fit.
    """
    _check(name, output)
    axes, shape = output.dim(), tuple(output.shape)
    least = 2 + next((n for kind, n in SPATIAL_AXES.items() if isinstance(module, kind)), 0)
    if axes < least:
        raise ValueError(f"layer {name!r} returned shape {shape}: no batch axis, {least} axes are needed")
    if dim is not None:
        if not (-axes < dim < axes and dim != 0):
            raise ValueError(f"layer {name!r} returned shape {shape}: dim={dim} is no channel axis of it")
        return dim % axes
    axis = _usual_axis(module, shape, widths)
    if axis is None:
        raise ValueError(
            f"layer {name!r}, {type(module).__name__}, returned shape {shape}, in which the channels may be "
            f"on any axis from 1 to {axes - 1}; say which, by dim={{{name!r}: axis}}"
        )
    return axis


def may_have_channels_on(axis: int, module: nn.Module, output: Tensor) -> bool:
    """Whether the channels of the module's output may be on this axis; most of torch's layers fix it."""
    own = _usual_axis(module, tuple(output.shape), (set(), set(), set())) if _is_torchs_own(module) else None
    return own in (axis, None)


def check_width(name: str, module: nn.Module, channels: int) -> None:
    """Raise `ValueError` if one of torch's own layers returned only part of its channels."""
    width = _width(module)
    if is_layer(module) and _is_torchs_own(module) and width not in (None, channels):
        raise ValueError(
            f"layer {name!r}, {type(module).__name__}, returned {channels} of its {width} channels; "
            "to take them without the others, say dim="
        )


def _check(name: str, output: Any) -> None:
    """Raise `TypeError` unless the output is a dense tensor of floating-point numbers."""
    if not isinstance(output, Tensor):
        raise TypeError(
            f"layer {name!r} returned {type(output).__name__}, not a tensor: take one from it by output="
        )
    dtype, kind = output.dtype, type(output)
    faults = {
        "a nested tensor": output.is_nested,
        f"a tensor of layout {output.layout}": output.layout != torch.strided,
        f"a tensor of {dtype}": not dtype.is_floating_point or dtype.itemsize < 2,
        f"{kind.__module__}.{kind.__name__}": kind.__torch_dispatch__ is not Tensor.__torch_dispatch__,
    }
    if fault := next((fault for fault, found in faults.items() if found), None):
        raise TypeError(f"layer {name!r} returned {fault}; a dense floating-point tensor is needed")


def _usual_axis(module: nn.Module, shape: tuple[int, ...], widths: Widths) -> int | None:
    """The channel axis by the module's own attributes; None if they leave a choice."""
    axes, last = len(shape), isinstance(module, ALSO_LAST)
    first = isinstance(module, tuple(SPATIAL_AXES))
    normalized = getattr(module, "normalized_shape", ())
    if len(normalized) > 1:
        return 1 if 4 <= axes == len(normalized) + 1 else None  # (C, H, W), or there is a choice
    if axes == 2:
        return 1
    if last and _is_torchs_own(module):
        return axes - 1
    width = _width(module)
    fitting = [axis for axis in range(1, axes) if shape[axis] == width]
    if len(fitting) == 1:
        return fitting[0]
    if first:
        return 1
    if width is None and not [*module.children()]:
        places = [axis for axis, known in zip((1, axes - 1), widths[:2], strict=True) if shape[axis] in known]
        may_be_last = places != [axes - 1] and shape[-1] in widths[2] - {1}
        square = axes == 4 and shape[2] == shape[3]  # as maps (N, D, H, W) mostly are
        if len(places) > 1 or (may_be_last and (axes == 3 or not (places or square))):
            return None  # as (N, D, T) or (N, T, D)
        if places:
            return places[0]
    if fitting or last or axes == 3:
        return None
    return None if any(isinstance(each, CHANNELS_LAST) for each in module.modules()) else 1


def _width(module: nn.Module) -> int | None:
    """Number of output channels by the module's attributes."""
    normalized = getattr(module, "normalized_shape", ())
    widths = normalized if len(normalized) == 1 else (getattr(module, each, None) for each in WIDTHS)
    return next((width for width in widths if isinstance(width, int)), None)


def _is_torchs_own(module: nn.Module) -> bool:
    """Whether its forward pass is as torch wrote it."""
    return type(module).forward.__module__.startswith("torch.nn.")


def chosen_layers(
    model: nn.Module, layers: Sequence[Key] | None, exclude: Sequence[Key] = ()
) -> dict[str, nn.Module]:
    """The requested layers, by name in the network's order; by default all but the last linear layer."""
    known = named_layers(model)
    without = excluded(known, exclude)
    if layers is None:
        wanted = default_layers(known)
        linear = [name for name, module in wanted.items() if is_linear(module)]
        wanted = {name: module for name, module in wanted.items() if name not in linear[-1:]}
    else:
        if isinstance(layers, (str, nn.Module, type)):
            raise TypeError(f"layers must be a list, such as [{layers!r}]")
        names = {found[0][0] for found in meant(known, layers, may_run).values()}
        wanted = {name: module for name, module in known.items() if name in names}
    wanted = {name: module for name, module in wanted.items() if module not in without}
    if not wanted:
        raise ValueError("there is no layer to monitor")
    return wanted


def default_layers(known: Mapping[str, nn.Module]) -> dict[str, nn.Module]:
    """The convolution, linear and norm layers, each by its first name."""
    return _once({name: module for name, module in known.items() if is_layer(module) and may_run(module)})
