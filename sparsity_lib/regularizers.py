"""Penalties to add to a loss: on activations (all but DecorrReg) or on filters (DecorrReg)."""

import math
from collections.abc import Callable, Mapping, Sequence
from numbers import Real
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from sparsity_lib import functional
from sparsity_lib._entropy import weighted_entropy
from sparsity_lib._hooks import Attachable, in_backward, outlived
from sparsity_lib._layers import Axes, Key, excluded, may_run, meant, named_layers
from sparsity_lib._outputs import Mask, Output, masked_sum
from sparsity_lib._settings import one_of
from sparsity_lib._weights import filters_of, has_filters, refuse_slices, used_weights

__all__ = ["DecorrReg", "PerplexityReg", "ScaleFreeReg", "SparsityReg", "VarianceReg"]

Layers = Mapping[Any, float]  # strengths by Key, as no type of keys but its own fits that of a Mapping
Reduction = Literal["mean", "sum"]


class _ActivationPenalty(Attachable):
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
        - `exclude`: names, modules, types or globs of layers that are left out again.
        - `reduction`: over positions, `"mean"` (a strength that does not depend on the image's size) or
            `"sum"` (TSR, Eq. 5). Over samples it is always the mean (T2).
        - `include_bias`: whether a layer's bias is part of its activations; `False` is TSR's literal
            Eq. 1 (T1).
        - `dim`: the channel axis of all these layers' outputs, or `{layer: axis}`; `None`: the axis as long
            as the module says it has channels, which is the last of linear, layer norm, recurrent layers and
            attention; for activation functions and others that do not say, the axis where layers of the
            model have theirs, or 1.
        - `output`: of outputs that are not one tensor, the part to take: an index or key; or a function that
            is given each output and returns the tensor. `0` fits `nn.LSTM` and `nn.MultiheadAttention`.
        - `mask`: the positions that count, such as tokens that are no padding: the name of an argument of the
            model's `forward`, `"attention_mask"`, or a function of its arguments; bool or 0 and 1,
            `(N, *spatial)` as the outputs without their channels. Outputs `(N, D)` count whole. Means are
            over what counts in the batch.
        - `compiled`: fuse the computation of entropies by torch.compile: faster, after some seconds the first
            time. Without a working compiler: a warning, and the same values to rounding.

        **Raises:** `ValueError` for an unknown or repeated layer, axis, strength, reduction or mask;
        `TypeError` for `nn.DataParallel`. The forward pass raises `ValueError` for an output in which the
        channel axis cannot be found, or that the mask does not fit, and `TypeError` for one that is not a
        dense tensor of floating point.
        """
        one_of("reduction", reduction, get_args(Reduction))
        self._strengths, modules = _strengths(model, layers, exclude, may_run)
        super().__init__(model, modules, dim, output, mask)
        self._settings |= {"reduction": reduction, "include_bias": include_bias}
        self._reduction = reduction
        self._include_bias = include_bias
        self._compiled = compiled
        self.losses: dict[str, Tensor] = {}
        self.reset()

    def _shown(self) -> str:
        return repr(self._strengths)

    def reset(self) -> None:
        """Drop what forward passes since the last call have collected, as where their step is skipped."""
        self._collected: dict[str, Tensor] = {}
        self._training: dict[str, bool] = {}

    def __call__(self) -> Tensor:
        """The penalty of the forward passes since the last call: a scalar to add to the loss.

        Reading it drops what was collected. Each forward pass counts with the mean over its samples; several
        are added, and of one that failed midway what it had reached: drop those of a skipped step with
        `reset`. Passes under `no_grad` are not collected; those in evaluation mode are dropped when the layer
        runs in training mode. Passes under `torch.func` count only within the same transform.

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
        return torch.stack([*collected.values()]).sum()

    def remove(self) -> None:
        """Stop listening, drop what was collected, and leave nothing on the model."""
        super().remove()
        self.reset()

    def _receive(self, name: str, module: nn.Module, output: Tensor, axis: int) -> None:
        if not torch.is_grad_enabled():
            return
        bias = getattr(module, "bias", None)
        if not self._include_bias and bias is not None:
            if bias.dim() != 1 or hasattr(bias, "full_tensor"):
                raise ValueError(f"the bias of layer {name!r} is sharded or no vector: use include_bias=True")
            exact = torch.promote_types(output.dtype, torch.float32)
            output = output.to(exact) - bias.view(-1, *[1] * (output.dim() - 1 - axis))
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
            share = len(output) / counted.sum().clamp(min=1) if self._reduction == "mean" else 1
            part = masked_sum(part, counted, share)
        before = self._collected.get(name)
        if before is None or outlived(before) or self._training[name] < module.training:
            self._collected[name], self._training[name] = part, module.training
        else:
            self._collected[name] = before + part

    def _penalty(self, activations: Tensor, dim: int, weight: float) -> Tensor:
        """The penalty at each position times `weight`, `(N, D, *spatial) -> (N, *spatial)`."""
        raise NotImplementedError


class SparsityReg(_ActivationPenalty):
    """-sum of strength x RFAV entropy over the layers (TSR, Eq. 5): it rewards entropy, so it is negative.

        L_s = -sum_i lambda_i sum_k H(a_k^i), for layers i and their positions k = 1 ... R_i

    H is the entropy of softmax(a) over D channels, in nats (TSR is arXiv 2002.09237). This sum over positions
    is `reduction="sum"`, as in the study's `Experiment`; the default here is their mean, by which the same
    lambda gives a layer 1/R of that, at most lambda ln D. Over samples it is always the mean.

    ```python
    sparsity = sl.SparsityReg(model, {"conv3": 0.25, "fc1": 1e-3})
    with sparsity:
        loss = cross_entropy(model(x), y) + sparsity()
        loss.backward()
    ```

    It sees a layer's output before an in-place ReLU can overwrite it, and computes in float32 under autocast.
    With non-reentrant activation checkpointing, run backward before detaching. torch.compile breaks its graph
    at each of the layers (with fullgraph=True it refuses); nn.DataParallel is refused.

    It keeps no activations: a second derivative (`create_graph=True`) needs those that are alive still, as
    before a batch norm or GELU; elsewhere it raises `RuntimeError` unless a hook of your own keeps them. All
    of torch.func works.
    """

    def _penalty(self, activations: Tensor, dim: int, weight: float) -> Tensor:
        return weighted_entropy(activations, dim, -weight, self._compiled)


class PerplexityReg(_ActivationPenalty):
    """Sum of strength x perplexity sparsity, 1 - (e^H - 1)/(D - 1), over the layers: it penalises sparsity.

    ```python
    perplexity = sl.PerplexityReg(model, {"conv3": 0.1, "fc1": 0.1})
    with perplexity:
        loss = cross_entropy(model(x), y) + perplexity()
        loss.backward()
    ```

    It is positive, and with a mean over positions at most the sum of the strengths; following it downhill
    makes activations denser. Our reading of arXiv 2104.06153, whose own formula is not in its abstract. The
    forward pass raises `ValueError` for a layer with fewer than two channels.

    It sees a layer's output before an in-place ReLU can overwrite it, and computes in float32 under autocast.
    Checkpointing must be non-reentrant; torch.compile breaks its graph at each of the layers.
    """

    def _penalty(self, activations: Tensor, dim: int, weight: float) -> Tensor:
        entropy = weighted_entropy(activations, dim, 1.0, self._compiled)
        channels = activations.shape[dim]
        if channels < 2:
            raise ValueError(f"perplexity sparsity needs at least 2 channels; axis {dim} has {channels}")
        return weight - entropy.expm1() * (weight / (channels - 1))


class VarianceReg(_ActivationPenalty):
    """Sum of strength x Var(a)/2 over the layers: SparsityReg for small logits, where H is ln D - Var(a)/2.

    It separates what entropy does from what scale does; our addition to TSR.

    ```python
    scale = sl.VarianceReg(model, {"conv3": 0.25, "fc1": 1e-3})
    with scale:
        loss = cross_entropy(model(x), y) + scale()
        loss.backward()
    ```

    It sees a layer's output before an in-place ReLU can overwrite it, and computes in float32 under autocast.
    Checkpointing must be non-reentrant; torch.compile breaks its graph at each of the layers.
    """

    def _penalty(self, activations: Tensor, dim: int, weight: float) -> Tensor:
        return functional.variance(activations, dim) * (weight / 2)


class ScaleFreeReg(_ActivationPenalty):
    """-sum of strength x scale-free entropy over the layers: SparsityReg without its effect on scale.

    Each position's activations are standardised over the channels first (`functional.standardize`), so that
    multiplying a layer's activations by a number does not change the penalty. Our addition to TSR, the
    converse of `VarianceReg`. One channel far below the others brings the entropy close to its maximum, ln D:
    a high scale-free entropy is no proof that many channels are active.

    ```python
    shape = sl.ScaleFreeReg(model, {"conv3": 0.25, "fc1": 1e-3}, include_bias=False)
    with shape:
        loss = cross_entropy(model(x), y) + shape()
        loss.backward()
    ```

    It sees a layer's output before an in-place ReLU can overwrite it, and computes in float32 under autocast.
    Checkpointing must be non-reentrant; torch.compile breaks its graph at each of the layers.
    """

    def _penalty(self, activations: Tensor, dim: int, weight: float) -> Tensor:
        standardized = functional.standardize(activations, dim)
        return weighted_entropy(standardized, dim, -weight, self._compiled, keep=True)


class DecorrReg:
    """Sum of strength x decorrelation penalty of the layers' filters (TSR, Eq. 6 and 7).

    ```python
    decorrelation = sl.DecorrReg(model, {"conv*": 1e-3})
    loss = cross_entropy(model(x), y) + decorrelation()
    loss.backward()
    ```

    Reads the weights that the layers compute with when called; needs no hook and no forward pass. Pruned and
    parametrised weights are read as masked and made, weights sharded by `fully_shard` whole on every process,
    and a weight that layers share counts once, in the first.
    """

    def __init__(
        self,
        model: nn.Module,
        layers: Layers,
        *,
        exclude: Sequence[Key] = (),
        center: functional.Center = "filters",
        penalty: functional.OfPair = "signed",
        filters: Callable[[nn.Module], Tensor] | None = None,
    ) -> None:
        """**Arguments:**

        - `model`: any module; wrappers' name prefixes (`module.`, `_orig_mod.`) may be left out or kept.
        - `layers`: `{layer: strength}`, a layer by dotted name, module, type of module or glob, which mean
            layers whose filters are known. A layer that is given by name or as a module has that strength,
            whatever type or glob it also matches. Strengths are at least 0; a layer needs at least two
            filters.
        - `exclude`: names, modules, types or globs of layers that are left out again.
        - `center`: what is subtracted from filters (T3): `"filters"`, the mean over filters of each
            component; `"components"`, each filter's own mean; `"none"`.
        - `penalty`: of a pair with correlation c (T4): `"signed"` c, `"absolute"` |c|, `"squared"` c^2, or
            `"local"` ln(1 + exp(10 (c - 1))).
        - `filters`: a function that returns a layer's filters `(D, ...)`, one per row, such as
            `lambda layer: layer.weight.T`; `None` knows those of convolutions, also transposed, of linear
            layers, and of the Conv1D of transformers.

        **Raises:** `ValueError` for an unknown layer, strength or reading, fewer than two filters, and layers
        of different strengths that share a weight; `TypeError` for a layer whose filters are not known, and
        for a model wrapped in `nn.DataParallel` or `FullyShardedDataParallel`.
        """
        one_of("center", center, functional.CENTERS)
        one_of("penalty", penalty, functional.PENALTIES)
        refuse_slices(model)
        fits = has_filters if filters is None else lambda module: True
        self._strengths, modules = _strengths(model, layers, exclude, fits)
        self._modules: dict[str, nn.Module] = {}
        self._center = center
        self._penalty = penalty
        self._filters = filters_of if filters is None else filters
        self.losses: dict[str, Tensor] = {}
        first: dict[tuple[Any, ...], str] = {}
        for name, module in modules.items():
            try:
                count = len(self._filters(module))
            except TypeError as error:
                raise TypeError(f"the filters of layer {name!r}, {type(module).__name__}: {error}") from error
            if count < 2:
                raise ValueError(
                    f"layer {name!r}, {type(module).__name__}, has no two filters to decorrelate"
                )
            weight = used_weights(module).get("weight")
            key = (type(module), *weight.sources) if weight and not filters else (name,)
            other = first.setdefault(key, name)
            if other == name:
                self._modules[name] = module
            elif self._strengths[other] != self._strengths[name]:
                raise ValueError(f"layers {other!r} and {name!r} share one weight: give them one strength")

    @property
    def layers(self) -> list[str]:
        """The names of the layers whose filters are read."""
        return list(self._modules)

    def __repr__(self) -> str:
        return f"DecorrReg({self._strengths}, center={self._center!r}, penalty={self._penalty!r})"

    def reset(self) -> None:
        """Do nothing, as weights are read when called: for loops that reset all penalties."""

    def __call__(self) -> Tensor:
        """The penalty of the weights as they are: a scalar to add to the loss.

        `losses` then holds the layers' parts, detached.
        """
        parts = {
            name: functional.decorrelation(self._filters(module), self._center, self._penalty)
            * self._strengths[name]
            for name, module in self._modules.items()
        }
        self.losses = {name: part.detach() for name, part in parts.items()}
        return torch.stack([*parts.values()]).sum()


def _strengths(
    model: nn.Module, layers: Layers, exclude: Sequence[Key], fits: Callable[[nn.Module], bool]
) -> tuple[dict[str, float], dict[str, nn.Module]]:
    """Strengths and modules by layer name, once each is seen to be sound."""
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
