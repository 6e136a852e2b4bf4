"""The life of forward hooks on layers, and which of their calls are forward passes of data."""

import contextlib
import sys
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor, nn

from sparsity_lib._layers import Axes, axes_of, channel_axis, check_width, known_widths, named_layers
from sparsity_lib._outputs import Mask, MaskOfPass, Output, padded, taken, without_compiler

# Parts of torch that it does not promise to keep: without one of them, what it is for is not recognised.
_in_graph_task = getattr(torch._C, "_current_graph_task_id", lambda: -1)
_functorch: Any = getattr(torch._C, "_functorch", None)
_is_exporting = getattr(torch.compiler, "is_exporting", lambda: False)
_proxies = sys.modules.get("torch.fx.experimental.proxy_tensor")  # `import torch` imports it
_proxy_mode: Callable[[], Any] = getattr(
    _proxies, "get_proxy_mode", getattr(_proxies, "get_innermost_proxy_mode", lambda: None)
)
_modes = getattr(torch._C, "_len_torch_dispatch_stack", lambda: 0)
without_modes = getattr(torch.utils._python_dispatch, "_disable_current_modes", contextlib.nullcontext)

Receive = Callable[..., None]


def in_backward() -> bool:
    """Whether a backward pass is running: activation checkpointing calls layers again inside it."""
    return bool(_in_graph_task() != -1)


def is_transformed(tensor: Tensor) -> bool:
    """Whether it is transformed by torch.func, as under `vmap` and `grad`."""
    return _functorch is not None and bool(_functorch.is_functorch_wrapped_tensor(tensor))


def outlived(tensor: Tensor) -> bool:
    """Whether it is from a transform of torch.func that has ended."""
    if torch.compiler.is_compiling() or not is_transformed(tensor):
        return False
    level = _functorch.maybe_get_level(tensor)
    return bool(level < 0 or level > (_functorch.maybe_current_level() or 0))


def is_data(output: Any) -> bool:
    """Whether a forward pass computed it: not while torch exports or traces, nor on the meta device."""
    if isinstance(output, torch.fx.Proxy) or torch.jit.is_tracing():
        return False
    if getattr(torch.jit._trace, "_trace_module_map", None) is not None:  # torch.jit.trace checks its trace
        return False
    if _proxy_mode() is not None:
        return False
    if not isinstance(output, Tensor):
        return True
    fake = any(kind.__module__.startswith("torch._subclasses") for kind in type(output).__mro__)
    return not (fake or output.is_meta)


class Hook:
    """A forward hook or forward pre-hook that copies and pickles as a no-op."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive

    def __call__(self, *given: Any) -> None:
        if not torch.compiler.is_compiling():
            self._receive(*given)
        elif not _is_exporting():
            _receive_apart(self._receive, *given)

    @property
    def __name__(self) -> str:
        raise AttributeError("torch.jit.script cannot compile hooks: call it before attaching")

    def __reduce__(self) -> tuple[Any, ...]:
        # Takes any arguments, returns None, and is in the standard library of whoever reads the file.
        return getattr, (contextlib.nullcontext(), "__exit__")


@without_compiler
def _receive_apart(receive: Receive, *given: Any) -> None:
    """Traced by torch.compile, a hook could not tell whether a backward pass is running."""
    receive(*given)


class Attachable:
    """Base of receivers of layers' outputs while attached: `with x:`, or from `attach` to `remove`."""

    _takes_nested = False

    def __init__(
        self, model: nn.Module, layers: dict[str, nn.Module], dim: Axes, output: Output, mask: Mask
    ) -> None:
        self._modules = layers
        self._settings: dict[str, Any] = {"dim": dim, "output": output, "mask": mask}
        known = named_layers(model)
        self._axes = axes_of(known, layers, dim)
        self._widths = known_widths(known)
        self._output = output
        self._hooks = [(module, Hook(self._receiver(name))) for name, module in layers.items()]
        self._mask = None if mask is None else MaskOfPass(known[""], mask)
        self._handles: list[Any] = []
        self._present: Tensor | None = None  # the positions of a nested output

    def __repr__(self) -> str:
        settings = "".join(
            f", {name}={value!r}" for name, value in self._settings.items() if value is not None
        )
        return f"{type(self).__name__}({self._shown()}{settings})"

    def _shown(self) -> str:
        return repr(self.layers)

    @property
    def layers(self) -> list[str]:
        """The names of the layers listened to."""
        return list(self._modules)

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_hooks": [], "_handles": []}

    def attach(self) -> Self:
        """Listen from now on.

        Where torch.compile was used before, its setting `torch._dynamo.config.skip_nnmodule_hook_guards` is
        set to False, and what it compiled is compiled anew, once per process: it would not see the hooks.

        **Raises:** `RuntimeError` if attached already, or if it was pickled or copied.
        """
        if self._handles:
            raise RuntimeError(f"this {type(self).__name__} is attached already")
        if not any(isinstance(hook, Hook) for _, hook in self._hooks):
            raise RuntimeError(
                f"this {type(self).__name__} was pickled or copied, and has no model to listen to"
            )
        _let_compiled_code_see_hooks()
        self._handles = [module.register_forward_hook(hook) for module, hook in self._hooks]
        if self._mask:
            self._mask.reset()
            begin, end, model = Hook(self._mask.begin), Hook(self._mask.end), self._mask.model
            self._handles.append(model.register_forward_pre_hook(begin, with_kwargs=True))
            self._handles.append(model.register_forward_hook(end, always_call=True))
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
        dim = self._axes[name]

        def receive(module: nn.Module, inputs: Any, output: Any) -> None:
            if getattr(module, "_is_replica", False):  # wrapped after this object was made
                raise RuntimeError(
                    "nn.DataParallel is not supported; use torch.nn.parallel.DistributedDataParallel"
                )
            if not is_data(output):
                return
            try:
                if self._output is not None:
                    output = taken(name, module, output, self._output)
                    if not is_data(output):
                        return
                self._present = None
                if self._takes_nested and isinstance(output, Tensor) and output.is_nested:
                    output, self._present = padded(name, output)
                axis = channel_axis(name, module, output, dim, self._widths)
                if dim is None:
                    check_width(name, module, output.shape[axis])
            except (TypeError, ValueError) as error:
                return self._refuse(name, error)
            with contextlib.ExitStack() as stack:  # entering them where there is no need costs time
                if torch.is_autocast_enabled(output.device.type):
                    stack.enter_context(torch.autocast(output.device.type, enabled=False))
                if _modes():
                    # Selective checkpointing is a mode: it would mix up our operations with the model's.
                    stack.enter_context(without_modes())
                self._receive(name, module, output, axis)

        return receive

    def _receive(self, name: str, module: nn.Module, output: Tensor, axis: int) -> None:
        """Take one output of one layer, `axis` being its channels."""
        raise NotImplementedError

    def _counted(self, name: str, output: Tensor, axis: int) -> Tensor | None:
        """The positions that the mask keeps, `(N, *spatial)` bool; None for all."""
        present = self._present
        mask = self._mask.of(name, output, axis, present is not None) if self._mask else None
        return mask if present is None else present if mask is None else mask & present

    def _refuse(self, name: str, error: Exception) -> None:
        """Record that a layer returned an output that cannot be used."""
        raise error


def _let_compiled_code_see_hooks() -> None:
    """Have torch.compile check for hooks, which by default it does only where there were some when it traced.

    Code that it compiled before would ignore ours, so it is dropped, once per process.
    """
    dynamo = sys.modules.get("torch._dynamo")
    if dynamo is None or not dynamo.config.skip_nnmodule_hook_guards:
        return
    codes = getattr(dynamo.convert_frame, "input_codes", None)
    if codes is None or codes.seen:
        dynamo.config.skip_nnmodule_hook_guards = False
        torch.compiler.reset()
