"""Receptive fields: the parts of the image and of a layer's input that each position of its output sees."""

import contextlib
import copy
import math
import operator
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from sparsity_lib._hooks import without_modes
from sparsity_lib._layers import Key, channel_axis, chosen_layers, named_layers
from sparsity_lib._weights import whole

__all__ = ["ReceptiveField", "receptive_fields"]

BATCH = 16  # inputs at a time
CHECKS = 4  # places on each axis at which it is checked that a NaN shows what a change shows

# The outputs of layers for a batch of inputs, one number for each position, `(N, h, w)` by name.
Run = Callable[[Tensor], Mapping[str, Tensor]]


class ReceptiveField(NamedTuple):
    """The part that the `h` rows and `w` columns of a layer's output see: each a first, and one past a last.

    ```python
    field = sl.receptive_fields(model, (3, 32, 32))["conv2"]
    top, bottom = field.rows[0]  # of the image, seen by the first row of positions
    ```

    A layer without spatial axes has a single position. One that sees nothing but padding has (0, 0).

    **Fields:**

    - `rows`, `columns`: of the image, in pixels, `(h, 2)` and `(w, 2)` int.
    - `input_rows`, `input_columns`: of the layer's direct input, in its positions, `(h, 2)` and `(w, 2)` int:
        the proximate receptive field (TSR, section 3).
    - `input_size`: height and width of that input; (1, 1) without spatial axes.
    """

    rows: np.ndarray
    columns: np.ndarray
    input_rows: np.ndarray
    input_columns: np.ndarray
    input_size: tuple[int, int]


class _Call(NamedTuple):
    """The arguments of a layer's call; `input` is its first argument."""

    input: Tensor
    others: tuple[Any, ...]
    named: dict[str, Any]


def receptive_fields(
    model: nn.Module, shape: Sequence[int], layers: Sequence[Key] | None = None
) -> dict[str, ReceptiveField]:
    """Return the part of the input that each position of the layers' outputs sees, by layer in order.

    ```python
    fields = sl.receptive_fields(model, (3, 32, 32), ["conv1", "conv2"])
    ```

    Found by trying: rows and columns of the input are made NaN one after the other, with the model in
    evaluation mode, on the CPU, in float32; where a NaN comes out, it was seen. So all connections count,
    whatever their weights, and gaps (of a dilated convolution) count as seen. A layer that normalises over
    positions, as group norm does, sees its whole input. The last run of a layer counts.

    Operations that hide a NaN, such as `torch.where` and comparisons, are patched to pass NaN on. Whether
    others hide one is checked by changes of a random image: then there is an error. The model is afterwards
    as it was, with what it keeps of its own passes.

    **Arguments:**

    - `model`: any module that maps `(N, *shape)`.
    - `shape`: channels, height and width of an image in pixels, `(3, 32, 32)`; the network runs on
        height + width images.
    - `layers`: a list of dotted names, modules, types of modules (`nn.Conv2d`) and globs (`"conv*"`).
        `None`: the convolution, linear and norm layers but the last linear one, as far as they run and put
        out `(N, D, h, w)` or `(N, D)`.

    **Returns:** `{layer: ReceptiveField}`, ranges of rows and columns in pixels of the image, and in
    positions of the layer's direct input.

    **Raises:** `ValueError` for an unknown layer, a shape that is not three positive numbers or that the
    model cannot take, NaN weights, a layer asked for that does not run or puts out anything else, and one
    whose field cannot be found; `TypeError` for a scripted or sharded model.
    """
    shape = _checked(shape)
    modules = chosen_layers(model, layers)
    network = named_layers(model)[""]
    with torch.no_grad(), torch.random.fork_rng(devices=[]), _lent(network):
        clean = _clean((1, *shape))
        calls, outputs = _calls(network, modules, clean)
        if layers is not None and (missing := [name for name in modules if name not in outputs]):
            raise ValueError(
                f"layer {missing[0]!r} did not run, or has no receptive field: "
                "its input and output must be (N, D, h, w) or (N, D), with a known axis of channels"
            )
        if undefined := [name for name, output in outputs.items() if output.isnan().any()]:
            raise ValueError(f"layer {undefined[0]!r} puts out NaN for an input without any")
        modules = {name: module for name, module in modules.items() if name in outputs}
        of_image = _seen(lambda x: _calls(network, modules, x)[1], clean, (2, 3))
        fields = {}
        for name, module in modules.items():
            of_input, size = _of_input(name, module, calls[name])
            fields[name] = ReceptiveField(*of_image[name], *of_input, size)
        return fields


def _checked(shape: Sequence[int]) -> tuple[int, ...]:
    try:
        sizes = tuple(operator.index(size) for size in shape)
    except TypeError:
        sizes = ()
    if len(sizes) != 3 or min(sizes) < 1:
        raise ValueError(f"shape must be three positive numbers, channels, height and width, not {shape!r}")
    return sizes


@contextlib.contextmanager
def _lent(network: nn.Module) -> Iterator[None]:
    """Have a network compute on the CPU, in float32, in evaluation mode; then all is put back as it was.

    Its hooks are copies, so that those of the library do not take what happens for data.
    """
    scripted = any(isinstance(module, torch.jit.ScriptModule) for module in network.modules())
    if scripted or any(hasattr(parameter, "full_tensor") for parameter in network.parameters()):
        kind = "scripted" if scripted else "sharded"
        raise TypeError(f"a {kind} model has no receptive fields: give the model that it was made from")
    before = {module: dict(vars(module)) for module in network.modules()}
    try:
        for module, state in before.items():
            vars(module).update({name: _own(value) for name, value in state.items()}, training=False)
            for hooks in ("_forward_hooks", "_forward_pre_hooks"):
                copies = ((key, copy.copy(hook)) for key, hook in vars(module)[hooks].items())
                vars(module)[hooks] = OrderedDict(copies)
            if isinstance(module, nn.RNNBase):
                module._flat_weights = [getattr(module, name) for name in module._flat_weights_names]
        yield
    finally:
        for module, state in before.items():
            vars(module).clear()
            vars(module).update(state)


def _own(value: Any) -> Any:
    """A tensor as a converted copy, and a container with its tensors so; all else as it is."""
    if isinstance(value, Tensor):
        value = whole(value).detach()
        return value.to("cpu", torch.float32 if value.is_floating_point() else value.dtype, copy=True)
    if type(value) in (dict, OrderedDict):
        return type(value)((key, _own(each)) for key, each in value.items())
    if type(value) in (list, set, deque):
        return type(value)(_own(each) for each in value)
    return value


def _clean(shape: Sequence[int]) -> Tensor:
    """An input without NaN; not a constant, which the model may divide by its norm or its SD."""
    return torch.linspace(-1, 1, math.prod(shape), dtype=torch.float32, device="cpu").reshape(*shape)


def _random(clean: Tensor) -> Tensor:
    """An input of the same shape with magnitudes from 0.1 to 1000, so that thresholds are passed."""
    generator = torch.Generator("cpu").manual_seed(0)
    signs, powers = torch.rand(2, *clean.shape, dtype=clean.dtype, device="cpu", generator=generator)
    return (2 * signs - 1) * 10 ** (4 * powers - 1)


_ATEN = torch.ops.aten
_CONDITIONS = {  # by operation, which of its arguments are truth values
    _ATEN.where: (0,),
    _ATEN.masked_fill: (1,),
    _ATEN.masked_fill_: (1,),
    **dict.fromkeys((_ATEN.logical_not, _ATEN.bitwise_not), (0,)),
    **dict.fromkeys((_ATEN.logical_and, _ATEN.logical_or, _ATEN.bitwise_and, _ATEN.bitwise_or), (0, 1)),
}
_HIDE_NAN = {
    *_CONDITIONS,
    *(_ATEN.gt, _ATEN.ge, _ATEN.lt, _ATEN.le, _ATEN.eq, _ATEN.ne, _ATEN.isnan, _ATEN.isfinite),
    *(_ATEN.sign, _ATEN.sgn, _ATEN.nan_to_num, _ATEN.nan_to_num_, _ATEN.fmax, _ATEN.fmin, _ATEN._to_copy),
    _ATEN.fake_quantize_per_tensor_affine_cachemask,
    _ATEN.fake_quantize_per_channel_affine_cachemask,
}


class _NaNKept(TorchDispatchMode):
    """Makes operations that hide a NaN return it; booleans and integers that depend on it become floats."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func.overloadpacket not in _HIDE_NAN:
            return func(*args, **kwargs)
        undefined = [each.isnan() for each in args if isinstance(each, Tensor)]
        if not any(each.any() for each in undefined):
            return func(*args, **kwargs)
        given = list(args)
        for index in _CONDITIONS.get(func.overloadpacket, ()):
            given[index] = given[index].bool()
        output = func(*given, **kwargs)
        first, *rest = output if isinstance(output, tuple) else (output,)
        first = first if first.is_floating_point() else first.float()
        for each in undefined:
            if each.any():
                first.masked_fill_(each, torch.nan)
        return (first, *rest) if rest else first


def _calls(
    network: nn.Module, modules: Mapping[str, nn.Module], x: Tensor
) -> tuple[dict[str, _Call], dict[str, Tensor]]:
    """Return the arguments of the layers that have a field, and their outputs, one number a position."""
    calls: dict[str, _Call] = {}
    outputs: dict[str, Tensor] = {}

    def receive(name: str, module: nn.Module, inputs: Any, named: dict[str, Any], output: Any) -> None:
        if inputs and all(_spatial_axes(name, module, each, len(x)) for each in (inputs[0], output)):
            calls[name] = _Call(inputs[0], inputs[1:], named)
            outputs[name] = _summed(name, module, output)  # now, as what follows may work in place

    handles = [
        module.register_forward_hook(partial(receive, name), with_kwargs=True)
        for name, module in modules.items()
    ]
    torch.default_generator.manual_seed(0)  # noise that is always there is then the same each time
    try:
        network(x.clone())
    except Exception as error:  # whatever a user's code raises
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise ValueError(f"the model cannot take an input of shape {tuple(x.shape[1:])}: {reason}") from error
    finally:
        for handle in handles:
            handle.remove()
    return calls, outputs


Ranges = tuple[np.ndarray, np.ndarray]


def _of_input(name: str, module: nn.Module, call: _Call) -> tuple[Ranges, tuple[int, int]]:
    """Rows and columns of its direct input that a layer's positions see, and that input's size."""
    axes = _spatial_axes(name, module, call.input, samples=1)
    vector = call.input.dim() == 2
    shape = (*call.input.shape, 1, 1) if vector else call.input.shape

    def run(x: Tensor) -> dict[str, Tensor]:
        torch.default_generator.manual_seed(0)
        given = x.flatten(1) if vector else x.clone()
        # `forward` alone: hooks on the layer had their turn when the whole model ran
        return {name: _summed(name, module, module.forward(given, *call.others, **call.named))}

    return _seen(run, _clean((1, *shape[1:])), axes)[name], (shape[axes[0]], shape[axes[1]])


def _spatial_axes(name: str, module: nn.Module, x: Any, samples: int) -> tuple[int, ...]:
    """The two axes of positions in a layer's input or output; of a vector, those that follow its channels.

    None where it is neither, not one for each sample, or the axis of its channels is not known.
    """
    if not isinstance(x, Tensor) or x.dim() not in (2, 4) or len(x) != samples:
        return ()
    try:
        channels = channel_axis(name, module, x, None) if x.dim() == 4 else 1
    except (TypeError, ValueError):
        return ()
    return tuple(axis for axis in (1, 2, 3) if axis != channels)


def _summed(name: str, module: nn.Module, output: Tensor) -> Tensor:
    """The output's channels in one number that shows a change or a NaN of any, `(N, h, w)`."""
    axis = 1 if output.dim() == 2 else channel_axis(name, module, output, None)
    # By roots of whole numbers, so that changes of several channels do not cancel out.
    roots = torch.arange(1, output.shape[axis] + 1, dtype=torch.float64, device="cpu").sqrt()
    with without_modes():  # _NaNKept would look at each operation
        bounded = output.nan_to_num(torch.nan, 1e30, -1e30).double().movedim(axis, 1)
        if bounded.dim() == 2:
            return (bounded @ roots)[:, None, None]
        return (roots @ bounded.flatten(2)).unflatten(-1, bounded.shape[2:])


def _seen(run: Run, clean: Tensor, axes: Sequence[int]) -> dict[str, Ranges]:
    """The rows and columns of an input that positions of outputs see, `(h, 2)` and `(w, 2)` by layer."""
    rows = _seen_along(run, clean, axes[0], other=2)
    columns = _seen_along(run, clean, axes[1], other=1)
    return {name: (rows[name], columns[name]) for name in rows}


def _seen_along(run: Run, clean: Tensor, axis: int, other: int) -> dict[str, np.ndarray]:
    """The ranges along one axis of the input that are seen along the outputs' axis that is not `other`."""
    singly = torch.eye(clean.shape[axis], dtype=torch.bool, device="cpu")
    undefined = torch.full_like(clean, torch.nan)

    def run_keeping_nan(x: Tensor) -> Mapping[str, Tensor]:
        with _NaNKept():
            return run(x)

    try:
        touched = _changes(run_keeping_nan, clean, undefined, singly, axis, other)
    except Exception:  # as where a mask that is now of floats picks elements
        touched = _changes(run, clean, undefined, singly, axis, other)
    # A NaN at one place has to touch each value that changes with all places before it, or from it on.
    places = torch.arange(len(singly), device="cpu")
    before = torch.stack([places < len(places) * part // CHECKS for part in range(CHECKS)])
    groups = torch.cat([before, ~before])  # the first is empty
    changed = _changes(run, clean, _random(clean), groups, axis, other)
    for name, found in changed.items():
        if found[0].any():
            raise ValueError(f"layer {name!r} puts out something else each time for the same input")
        if (found & ~(groups.double() @ touched[name].double() > 0)).any():
            raise ValueError(
                f"the receptive field of layer {name!r} cannot be found: an operation before it hides NaN in "
                "the input, but not a change of it"
            )
    return {name: _ranges(found.numpy()) for name, found in touched.items()}


def _changes(
    run: Run, image: Tensor, other_image: Tensor, groups: Tensor, axis: int, other: int
) -> dict[str, Tensor]:
    """Where outputs change along one axis, `(groups, places)`, if places along an axis of the image do.

    Each group, `(groups, n)` bool, are the places that are taken from the other image.
    """
    found: dict[str, list[Tensor]] = {}
    size = [-1 if each == axis else 1 for each in range(4)]
    before: Mapping[str, Tensor] = {}
    for some in groups.split(BATCH):
        if len(some) != len(next(iter(before.values()), ())):  # bit-equal outputs need batches of equal size
            before = run(image.expand(len(some), -1, -1, -1))
        mixed = torch.cat([torch.where(group.reshape(size), other_image, image) for group in some])
        for name, output in run(mixed).items():
            found.setdefault(name, []).append((output != before[name]).any(other))
    return {name: torch.cat(parts) for name, parts in found.items()}


def _ranges(seen: np.ndarray) -> np.ndarray:
    """First and one past the last true place per column, `(places, n)` bool `-> (n, 2)`; 0, 0 for none."""
    first, past = seen.argmax(0), len(seen) - seen[::-1].argmax(0)
    return (np.stack([first, past]) * seen.any(0)).T
