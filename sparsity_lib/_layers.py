"""Which layers of a model are meant, where their channels are, and the life of the hooks on them."""

import contextlib
import re
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch._C import _len_torch_dispatch_stack
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils.module_tracker import ModuleTracker

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
SPATIAL_AXES = CONVOLUTIONS | CHANNELS_FIRST_NORMS  # the least number that a batch must have
LAYERS = (*SPATIAL_AXES, *CHANNELS_LAST)

_BACKWARD = ModuleTracker()


def named_layers(model: nn.Module) -> dict[str, nn.Module]:
    """All modules of the model by dotted name, in its order, without the names that wrappers add.

    A module used under two names has both.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, not {type(model).__name__}")
    if any(isinstance(module, nn.DataParallel) for module in model.modules()):
        raise TypeError(
            "nn.DataParallel is not supported: it discards what hooks collect on its replicas; "
            "use torch.nn.parallel.DistributedDataParallel"
        )
    while list(dict(model.named_children())) in (["module"], ["_orig_mod"]):
        (model,) = model.children()
    return {
        ".".join(part for part in name.split(".") if part != "_orig_mod"): module
        for name, module in model.named_modules(remove_duplicate=False)
    }


def select(modules: Mapping[str, nn.Module], key: str | nn.Module) -> dict[str, nn.Module]:
    """The modules meant by a dotted name or a module (any), or a glob (among `LAYERS`); at least one."""
    if isinstance(key, nn.Module):
        wanted = getattr(key, "_orig_mod", key)
        found = {name: module for name, module in modules.items() if module is wanted}
        if not found:
            raise ValueError(f"{type(key).__name__} is not a module of the model")
        return dict([*found.items()][:1])
    if not isinstance(key, str):
        raise TypeError(f"a layer is named by a string or a module, not {type(key).__name__}")
    bare = re.sub(r"^(module\.|_orig_mod\.)+", "", key)
    for name in (key, bare):
        if name in modules:
            return {name: modules[name]}
    layers = {name: module for name, module in modules.items() if isinstance(module, LAYERS)}
    matching: dict[nn.Module, str] = {}
    for name, module in layers.items():
        if fnmatchcase(name, key) or fnmatchcase(name, bare):
            matching.setdefault(module, name)
    if not matching:
        raise ValueError(f"no layer {key!r} in the model; it has {', '.join(layers) or 'no layers'}")
    return {name: module for module, name in matching.items()}


def channel_axis(name: str, module: nn.Module, output: Any, dim: int | None) -> int:
    """The axis of the output's channels, the first being its samples; an error where it cannot be told."""
    if not isinstance(output, Tensor):
        raise TypeError(f"layer {name!r} returned {type(output).__name__}; only tensors can be used")
    axes, shape = output.dim(), tuple(output.shape)
    least = 2 + next((n for kind, n in SPATIAL_AXES.items() if isinstance(module, kind)), 0)
    if axes < least:
        raise ValueError(f"layer {name!r} returned shape {shape}: no batch axis, {least} axes are needed")
    if dim is not None:
        if not (-axes < dim < axes and dim != 0):
            raise ValueError(f"layer {name!r} returned shape {shape}: dim={dim} is no channel axis of it")
        return dim % axes
    if isinstance(module, CHANNELS_LAST) and len(getattr(module, "normalized_shape", (0,))) == 1:
        return axes - 1
    if axes == 3 and not isinstance(module, tuple(SPATIAL_AXES)):
        raise ValueError(
            f"layer {name!r}, {type(module).__name__}, returned shape {shape}, in which the channels may be "
            "axis 1 or 2; say which with dim="
        )
    return 1


def in_backward() -> bool:
    """Whether a backward pass is running: activation checkpointing calls layers again inside it."""
    return _BACKWARD.is_bw


Receive = Callable[[nn.Module, Any], None]


class _Hook:
    """A forward hook of which copies of the model, and files it is pickled to, get only an inert stand-in."""

    def __init__(self, receive: Receive) -> None:
        # Traced by torch.compile, a hook could not tell whether a backward pass is running.
        self._receive = torch.compiler.disable(receive)

    def __call__(self, module: nn.Module, inputs: Any, output: Any) -> None:
        self._receive(module, output)

    def __reduce__(self) -> tuple[Any, ...]:
        # Takes any arguments, returns None, and is in the standard library of whoever reads the file.
        return getattr, (contextlib.nullcontext(), "__exit__")


class Attachable:
    """Base of what listens to layers' outputs while attached: `with x:`, or `x.attach()` ... `x.remove()`."""

    def __init__(self, layers: dict[str, nn.Module], dim: int | None) -> None:
        self._modules = layers
        self._dim = dim
        self._hooks = {name: _Hook(self._receiver(name)) for name in layers}
        self._handles: list[torch.utils.hooks.RemovableHandle] = []

    @property
    def layers(self) -> list[str]:
        """The names of the layers listened to."""
        return list(self._modules)

    def attach(self) -> Self:
        """Listen from now on. Raises `RuntimeError` if attached already."""
        if self._handles:
            raise RuntimeError(f"this {type(self).__name__} is attached already")
        _let_compiled_code_see_hooks()
        self._handles = [
            module.register_forward_hook(self._hooks[name]) for name, module in self._modules.items()
        ]
        return self

    def remove(self) -> None:
        """Stop listening and leave nothing on the model."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def __enter__(self) -> Self:
        return self.attach()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()

    def _receiver(self, name: str) -> Receive:
        def receive(module: nn.Module, output: Any) -> None:
            if getattr(module, "_is_replica", False):  # wrapped after this object was made
                raise RuntimeError(
                    "nn.DataParallel is not supported; use torch.nn.parallel.DistributedDataParallel"
                )
            axis = channel_axis(name, module, output, self._dim)
            with contextlib.ExitStack() as stack:  # entering them where there is no need costs time
                if torch.is_autocast_enabled(output.device.type):
                    stack.enter_context(torch.autocast(output.device.type, enabled=False))
                if _len_torch_dispatch_stack():
                    # Selective checkpointing is a mode: it would mix up our operations with the model's.
                    stack.enter_context(_disable_current_modes())
                self._receive(name, module, output, axis)

        return receive

    def _receive(self, name: str, module: nn.Module, output: Tensor, axis: int) -> None:
        """Take one output of one layer, `axis` being its channels."""
        raise NotImplementedError


def _let_compiled_code_see_hooks() -> None:
    """Have torch.compile check for hooks, which by default it does only where there were some when it traced.

    Code it compiled before would go on without ours, so it is dropped, once per process.
    """
    from torch._dynamo import config  # takes seconds to import, and is there since the first hook was made

    if config.skip_nnmodule_hook_guards:
        config.skip_nnmodule_hook_guards = False
        torch.compiler.reset()
