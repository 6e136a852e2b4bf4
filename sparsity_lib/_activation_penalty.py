"""Base of the penalties on activations: layers, strengths, masks, and what forward passes collect."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from numbers import Real
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from sparsity_lib._hooks import Attachable, in_backward, outlived
from sparsity_lib._layers import Axes, Key, excluded, may_have_channels_on, may_run, meant, named_layers
from sparsity_lib._outputs import Mask, Output, masked_sum
from sparsity_lib._settings import one_of

Layers = Mapping[Any, float]  # strengths by Key, as no type of keys but its own fits that of a Mapping
Reduction = Literal["mean", "sum"]


class ActivationPenalty(Attachable):
    """A penalty on layers' outputs; a subclass defines it at each position."""

    def __init__(
        self,
        model: nn.Module,
        layers: Layers,
        *,
        exclude: Sequence[Key] = (),
        reduction: Reduction = "mean",
        include_bias: bool = True,
        dim: Axes = None,
        output: Output = None,
        mask: Mask = None,
        compiled: bool = False,
    ) -> None:
        """**Arguments:**

        - `model`: any module; wrappers' name prefixes (`module.`, `_orig_mod.`) may be left out or kept.
        - `layers`: `{layer: strength}`, a layer by dotted name, module, type of module (`nn.ReLU`), or a
            glob: of the convolution, linear and norm layers that match it, or where there are none, of the
            matching modules without children. A layer that is given by name or as a module has that
            strength, whatever type or glob it also matches. Strengths are at least 0.
        - `exclude`: names, modules, types or globs of layers that are left out again, with all modules in
            them.
        - `reduction`: `"mean"` over all positions of the batch that count by `mask` (a strength that does not
            depend on the image's size), or `"sum"` over positions (TSR, Eq. 5), of which the mean is taken
            over all samples (T2), also those where nothing counts. Each use of a module in a pass adds its
            own penalty.
        - `include_bias`: whether a layer's bias is part of its activations; `False` is TSR's literal
            Eq. 1 (T1), for layers that add a vector `bias` last or have none.
        - `dim`: the channel axis of all these layers' outputs, or `{layer: axis}`; `None`: the axis whose
            length is the module's channel count (the last of linear, layer norm, recurrent layers and
            attention); for activation functions and others without a count, the axis where layers of the
            model have theirs, or 1.
        - `output`: of outputs that are not one tensor, the part to take: an index or key; or a function that
            is given each output and returns the tensor. `0` fits `nn.LSTM` and `nn.MultiheadAttention`,
            whose samples are found by their `batch_first`; axis 0 of all other outputs must be samples, so
            `nn.TransformerEncoderLayer` needs `batch_first=True`.
        - `mask`: the positions that count, such as tokens that are no padding: the name of an argument of
            the model's `forward`, `"attention_mask"`, given by name where `forward` takes any; or a
            function of its arguments; bool or 0 and 1, `(N, *spatial)` as the outputs without their
            channels. Outputs `(N, D)` count whole unless the mask has one value a sample, and outputs
            `(N*T, D)` have a mask `(N, T)` sample by sample. One mask applies to all layers: where encoder
            and decoder have different masks, name the layers of one. Where a mask leaves out NaN or
            infinity, gradients are NaN. Do not run the model in several threads at once.
        - `compiled`: fuse the computation of entropies by torch.compile: faster, after some seconds the first
            time. Without a working compiler: a warning, and the same values to rounding.

        **Raises:** `ValueError` for an unknown or repeated layer, axis, strength, reduction or mask;
        `TypeError` for `nn.DataParallel`. The forward pass raises `ValueError` for an output in which the
        channel axis cannot be found, that the mask does not fit, or whose bias cannot be left out, and
        `TypeError` for one that is not a dense tensor of floating point.
        """
        one_of("reduction", reduction, get_args(Reduction))
        self._strengths, modules = strengths_of(model, layers, exclude, may_run)
        super().__init__(model, modules, dim, output, mask)
        self._settings |= {"reduction": reduction, "include_bias": include_bias}
        self._reduction = reduction
        self._include_bias = include_bias
        self._compiled = compiled
        self.losses: dict[str, Tensor] = {}
        self.reset()

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"_collected": {}, "_training": {}}

    def _shown(self) -> str:
        return repr(self._strengths)

    def reset(self) -> None:
        """Drop what forward passes since the last call have collected, as where their step is skipped."""
        self._collected: dict[str, Tensor] = {}
        self._training: dict[str, bool] = {}

    def __call__(self) -> Tensor:
        """The penalty of the forward passes since the last call: a scalar to add to the loss.

        Reading it drops what was collected. Each forward pass counts with the mean over its samples.
        Several passes add up; a failed pass counts for the layers it reached. Drop those of a skipped step
        with `reset`. Passes under `no_grad` are not collected; those in evaluation mode are dropped when
        the layer runs in training mode. Passes under `torch.func` count only within the same transform. In a
        model on several devices, the penalty is on that of the first layer.

        `losses` then holds the layers' parts, detached.

        **Raises:** `RuntimeError` if not attached, or if a layer did not run with gradients enabled.
        """
        if not self._handles:
            raise RuntimeError(
                f"{type(self).__name__} is not attached: run the model inside `with` or attach()"
            )
        collected = {name: part for name, part in self._collected.items() if not outlived(part)}
        self.reset()
        if missing := [name for name in self._modules if name not in collected]:
            raise RuntimeError(
                f"nothing was collected from {', '.join(missing)}: no forward pass with gradients enabled "
                "since the last call (reentrant checkpointing disables them: use use_reentrant=False); "
                "layers whose weights the model reads without calling them are left out by exclude="
            )
        self.losses = {name: collected[name].detach() for name in self._modules}
        return total(collected.values())

    def remove(self) -> None:
        """Stop listening, drop what was collected, and leave nothing on the model."""
        super().remove()
        self.reset()

    def _receive(self, name: str, module: nn.Module, output: Tensor, axis: int) -> None:
        if not torch.is_grad_enabled():
            return
        if not self._include_bias:
            bias, channels = getattr(module, "bias", None), output.shape[axis]
            fits = not hasattr(bias, "full_tensor") and (
                callable(self._output) or may_have_channels_on(axis, module, output)
            )
            if isinstance(bias, Tensor) and bias.shape == (channels,) and fits:
                exact = torch.promote_types(output.dtype, torch.float32)
                output = output.to(exact) - bias.view(-1, *[1] * (output.dim() - 1 - axis))
            elif any("bias" in parameter for parameter, _ in module.named_parameters()):
                raise ValueError(
                    f"layer {name!r}, {type(module).__name__}, has no bias that is a whole vector of one "
                    f"number for each of {channels} channels on axis {axis}: use include_bias=True"
                )
        positions = output.numel() // max(output.shape[axis], 1)
        count = positions if self._reduction == "mean" and self._mask is None else len(output)
        part = self._penalty(output, axis, self._strengths[name] / max(count, 1))
        # Checkpointing needs the same operations when it repeats the forward pass, but they count once.
        if in_backward():
            return
        if self._mask is None:
            part = part.sum()
        else:
            mask = self._counted(name, output, axis)
            counted = torch.ones_like(part, dtype=torch.bool) if mask is None else mask
            share = (
                len(output) / counted.sum().clamp(min=1).to(part.dtype) if self._reduction == "mean" else 1
            )
            part = masked_sum(part, counted, share)
        before = self._collected.get(name)
        if before is None or outlived(before) or self._training[name] < module.training:
            self._collected[name], self._training[name] = part, module.training
        else:
            self._collected[name] = before + part

    def _penalty(self, activations: Tensor, dim: int, weight: float) -> Tensor:
        """The penalty at each position times `weight`, `(N, D, *spatial) -> (N, *spatial)`."""
        raise NotImplementedError


def total(parts: Iterable[Tensor]) -> Tensor:
    """The sum of scalars, on the device of the first."""
    first, *others = parts
    return torch.stack([first, *(part.to(first.device) for part in others)]).sum()


def strengths_of(
    model: nn.Module, layers: Layers, exclude: Sequence[Key], fits: Callable[[nn.Module], bool]
) -> tuple[dict[str, float], dict[str, nn.Module]]:
    """Strengths and modules by layer name; `TypeError` or `ValueError` for any that is not sound."""
    if not isinstance(layers, Mapping):
        raise TypeError(f"layers must map each layer to its strength, not be a {type(layers).__name__}")
    if not layers:
        raise ValueError("no layer is named; give {layer: strength}")
    strengths: dict[str, float] = {}
    modules: dict[str, nn.Module] = {}
    known = named_layers(model)
    without = excluded(known, exclude)
    for module, ((name, key), *others) in meant(known, layers, fits).items():
        if module in without:
            continue
        if others:
            raise ValueError(f"layer {name!r} is named twice")
        strength = layers[key]
        if not isinstance(strength, Real) or not 0 <= float(strength) < math.inf:
            raise ValueError(f"the strength of layer {name!r} must be a number >= 0, not {strength!r}")
        strengths[name], modules[name] = float(strength), module
    if not modules:
        raise ValueError("all layers are excluded")
    return strengths, modules
