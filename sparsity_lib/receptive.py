"""What each position of a layer's output sees: of the image, and of the layer's own input."""

import copy
import operator
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from sparsity_lib._layers import channel_axis, named_layers
from sparsity_lib.monitor import chosen_layers

__all__ = ["ReceptiveField", "receptive_fields"]

BATCH = 16  # inputs at a time

# Where a NaN is in the outputs of layers, `(N, h, w)` by name, for a batch of inputs.
Spread = Callable[[Tensor], Mapping[str, Tensor]]


class ReceptiveField(NamedTuple):
    """What the `h` rows and `w` columns of a layer's output see: each a first, and one past a last.

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
    """What a layer was called with; `input` is its first argument."""

    input: Tensor
    others: tuple[Any, ...]
    named: dict[str, Any]


def receptive_fields(
    model: nn.Module, shape: Sequence[int], layers: Sequence[str | nn.Module] | None = None
) -> dict[str, ReceptiveField]:
    """What each position of the layers' outputs sees, by layer in the network's order.

    Found by trying: rows and columns of the input are made NaN one after the other, in a copy of the model
    in evaluation mode, on the CPU, in float64; where a NaN comes out, it was seen. So all connections count,
    whatever their weights, and gaps (of a dilated convolution) count as seen. What normalises over positions,
    as group norm does, sees its whole input. Of a layer that runs more than once, the last time counts.

    **Arguments:**

    - `model`: any module that maps `(N, *shape)`.
    - `shape`: channels, height and width of an image; the network runs height + width times.
    - `layers`: as for `ActivationMonitor`; but with `None`, layers that do not run, or put out neither
        `(N, D, h, w)` nor `(N, D)`, are left out.

    **Raises:** `ValueError` for an unknown layer, a shape that is not three positive numbers or that the
    model cannot take, NaN weights, and a layer asked for that does not run or puts out anything else.
    """
    channels, height, width = _checked(shape)
    names = list(chosen_layers(model, layers))
    # float64, as the fast convolutions there are for float32 may smear a NaN over positions
    network = copy.deepcopy(named_layers(model)[""]).to("cpu", torch.float64).eval()
    copies = named_layers(network)
    modules = {name: copies[name] for name in names}
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        clean = _clean((1, channels, height, width))
        calls, outputs = _calls(network, modules, clean)
        if layers is not None and (missing := [name for name in names if name not in outputs]):
            raise ValueError(
                f"layer {missing[0]!r} did not run, or has no receptive field: "
                "its input and output must be (N, D, h, w) or (N, D)"
            )
        if undefined := [name for name, nan in outputs.items() if nan.any()]:
            raise ValueError(f"layer {undefined[0]!r} puts out NaN for an input without any")
        modules = {name: module for name, module in modules.items() if name in outputs}
        of_image = _seen(lambda x: _calls(network, modules, x)[1], clean, (2, 3))
        fields = {}
        for name, module in modules.items():
            rows, columns, size = _of_input(name, module, calls[name])
            fields[name] = ReceptiveField(*of_image[name], rows, columns, size)
        return fields


def _checked(shape: Sequence[int]) -> tuple[int, ...]:
    try:
        sizes = tuple(operator.index(size) for size in shape)
    except TypeError:
        sizes = ()
    if len(sizes) != 3 or min(sizes) < 1:
        raise ValueError(f"shape must be three positive numbers, channels, height and width, not {shape!r}")
    return sizes


def _clean(shape: Sequence[int]) -> Tensor:
    """An input without NaN; not a constant, which the model may divide by its norm or its SD."""
    return torch.linspace(-1, 1, int(np.prod(shape)), dtype=torch.float64, device="cpu").reshape(*shape)


def _calls(
    network: nn.Module, modules: Mapping[str, nn.Module], x: Tensor
) -> tuple[dict[str, _Call], dict[str, Tensor]]:
    """What the layers that have a field were called with, and where NaN is in what they put out."""
    calls: dict[str, _Call] = {}
    spread: dict[str, Tensor] = {}

    def receive(name: str, module: nn.Module, inputs: Any, named: dict[str, Any], output: Any) -> None:
        if inputs and all(_spatial_axes(name, module, each, len(x)) for each in (inputs[0], output)):
            calls[name] = _Call(inputs[0], inputs[1:], named)
            spread[name] = _nan(name, module, output)  # now, as what follows may work in place

    handles = [
        module.register_forward_hook(partial(receive, name), with_kwargs=True)
        for name, module in modules.items()
    ]
    try:
        network(x)
    except Exception as error:  # whatever somebody's own code raises
        told = f"{type(error).__name__}: {error}".splitlines()[0]
        raise ValueError(f"the model cannot take an input of shape {tuple(x.shape[1:])}: {told}") from error
    finally:
        for handle in handles:
            handle.remove()
    return calls, spread


def _of_input(name: str, module: nn.Module, call: _Call) -> tuple[np.ndarray, np.ndarray, tuple[int, int]]:
    """Rows and columns of its direct input that a layer's positions see, and that input's size."""
    axes = _spatial_axes(name, module, call.input, samples=1)
    vector = call.input.dim() == 2
    shape = (*call.input.shape, 1, 1) if vector else call.input.shape

    def spread(x: Tensor) -> dict[str, Tensor]:
        given = x.flatten(1) if vector else x
        # `forward` alone: hooks on the layer had their turn when the whole model ran
        return {name: _nan(name, module, module.forward(given, *call.others, **call.named))}

    rows, columns = _seen(spread, _clean((1, *shape[1:])), axes)[name]
    return rows, columns, (shape[axes[0]], shape[axes[1]])


def _spatial_axes(name: str, module: nn.Module, x: Any, samples: int) -> tuple[int, ...]:
    """The two axes of positions in a layer's input or output; of a vector, those that follow its channels.

    None where it is neither, or not one for each sample.
    """
    if not isinstance(x, Tensor) or x.dim() not in (2, 4) or len(x) != samples:
        return ()
    channels = channel_axis(name, module, x, None) if x.dim() == 4 else 1
    return tuple(axis for axis in (1, 2, 3) if axis != channels)


def _nan(name: str, module: nn.Module, output: Tensor) -> Tensor:
    """Where any channel is NaN, `(N, h, w)`; `(N, 1, 1)` for vectors."""
    if output.dim() == 2:
        return output.isnan().any(1)[:, None, None]
    return output.isnan().any(channel_axis(name, module, output, None))


def _seen(spread: Spread, clean: Tensor, axes: Sequence[int]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The rows and columns of an input that positions of outputs see, `(h, 2)` and `(w, 2)` by layer."""
    vertical, horizontal = axes
    rows = _seen_along(spread, clean, vertical, other=2)
    columns = _seen_along(spread, clean, horizontal, other=1)
    return {name: (rows[name], columns[name]) for name in rows}


def _seen_along(spread: Spread, clean: Tensor, axis: int, other: int) -> dict[str, np.ndarray]:
    """The ranges along one axis of the input that are seen along the outputs' axis that is not `other`."""
    found: dict[str, list[Tensor]] = {}
    for places in torch.arange(clean.shape[axis], device="cpu").split(BATCH):
        x = clean.repeat(len(places), 1, 1, 1)
        for sample, place in zip(x, places, strict=True):
            sample.select(axis - 1, int(place)).fill_(torch.nan)
        for name, nan in spread(x).items():
            found.setdefault(name, []).append(nan.any(other))
    return {name: _ranges(torch.cat(parts).numpy()) for name, parts in found.items()}


def _ranges(seen: np.ndarray) -> np.ndarray:
    """First and one past the last true place per column, `(places, n)` bool `-> (n, 2)`; 0, 0 for none."""
    first, past = seen.argmax(0), len(seen) - seen[::-1].argmax(0)
    return (np.stack([first, past]) * seen.any(0)).T
