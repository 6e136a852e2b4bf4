"""Penalties to add to a loss: on activations (all but DecorrReg) or on filters (DecorrReg)."""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from sparsity_lib import functional
from sparsity_lib._activation_penalty import ActivationPenalty, Layers, strengths_of, total
from sparsity_lib._entropy import weighted_entropy
from sparsity_lib._layers import Key
from sparsity_lib._settings import one_of
from sparsity_lib._weights import filters_of, has_filters, is_transposed, refuse_slices, used_weights

__all__ = ["DecorrReg", "PerplexityReg", "ScaleFreeReg", "SparsityReg", "VarianceReg"]


class SparsityReg(ActivationPenalty):
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
    before a batch norm or GELU; elsewhere it raises `RuntimeError` unless a hook of your own keeps them, and
    with `include_bias=False` always. All of torch.func works.
    """

    def _penalty(self, activations: Tensor, dim: int, weight: float) -> Tensor:
        return weighted_entropy(activations, dim, -weight, self._compiled)


class PerplexityReg(ActivationPenalty):
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


class VarianceReg(ActivationPenalty):
    """Sum of strength x Var(a)/2 over the layers: SparsityReg for small logits, where H is ln D - Var(a)/2.

    It acts on scale alone; our addition to TSR. At small activations it nearly coincides with SparsityReg;
    `ScaleFreeReg` tells the two apart.

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


class ScaleFreeReg(ActivationPenalty):
    """-sum of strength x scale-free entropy over the layers: SparsityReg without its effect on scale.

    Each position's activations are standardised over the channels first (`functional.standardize`), so that
    multiplying a layer's activations by a positive number does not change the penalty. Our addition to TSR,
    the converse of `VarianceReg`. One channel far below the others brings the entropy close to its maximum,
    ln D: a high scale-free entropy is no proof that many channels are active.

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
    and a weight that layers share counts once, in the first. Make it anew where layers of the model are
    replaced by others.
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
        - `exclude`: names, modules, types or globs of layers that are left out again, with all modules in
            them.
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
        self._strengths, modules = strengths_of(model, layers, exclude, fits)
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
            key = (is_transposed(module), *weight.sources) if weight and not filters else (name,)
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
        """The penalty of the weights as they are: a scalar to add to the loss, on the first layer's device.

        `losses` then holds the layers' parts, detached.
        """
        parts = {
            name: functional.decorrelation(self._filters(module), self._center, self._penalty)
            * self._strengths[name]
            for name, module in self._modules.items()
        }
        self.losses = {name: part.detach() for name, part in parts.items()}
        return total(parts.values())
