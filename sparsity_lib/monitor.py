"""ActivationMonitor: what happens inside a network, streaming, on any torch model."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

from sparsity_lib._entropy import entropy_of_shifted
from sparsity_lib._fusion import fused
from sparsity_lib._layers import LAYERS, Attachable, in_backward, named_layers, select
from sparsity_lib._noise_curve import interpolated, noise_curve
from sparsity_lib.functional import exact_dtype

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["ActivationMonitor", "LayerStats"]

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
BINS = 512  # of entropy over [0, ln D], from which the quantiles are read: exact to ln D / 512


@dataclass(frozen=True, eq=False)
class LayerStats:
    """What one layer put out. Entropies are in nats; averages are over samples and positions.

    **Fields:**

    - `samples`: how many; `positions`: per sample (1 without spatial axes; rounded down if sizes vary);
        `channels`: D.
    - `entropy`: mean RFAV entropy (TSR, Eq. 4); `entropy_quantiles`: by probability,
        over samples and positions.
    - `noise_entropy`: mean of `functional.noise_entropy(s, D)` over vectors, s^2 the unbiased variance over
        their channels; NaN for one channel. An entropy that noise has too says nothing but scale. Gaussian
        activations themselves have slightly less, at 32 channels by up to 0.03 nats: s is estimated.
    - `scale_free_entropy`: mean entropy of each vector standardised over its channels.
    - `perplexity_sparsity`: mean of 1 - (e^H - 1)/(D - 1); NaN for one channel.
    - `mean`, `sd` (population), `max`: over all elements; `zero_share`: share of exact zeros, in [0, 1].
    - `dead_channels`: channels that were never above zero.
    - `effective_rank`: participation ratio (tr C)^2 / tr(C^2) of the channels' covariance over samples and
        positions, in [1, D]; 0 where nothing varies.
    - `maps`, `scale_free_maps`: entropy and scale-free entropy of the first samples, `(n, *spatial)`
        float32, or None if none were asked for.
    """

    samples: int
    positions: int
    channels: int
    entropy: float
    entropy_quantiles: dict[float, float]
    noise_entropy: float
    scale_free_entropy: float
    perplexity_sparsity: float
    mean: float
    sd: float
    max: float
    zero_share: float
    dead_channels: int
    effective_rank: float
    maps: np.ndarray | None
    scale_free_maps: np.ndarray | None


class ActivationMonitor(Attachable):
    """Statistics of layers' outputs over all forward passes while attached.

    ```python
    with ActivationMonitor(model, layers=["conv*", "fc1"]) as monitor:  # one monitor per set of images
        model(x)
    stats = monitor.compute()
    ```

    Nothing is kept per batch: sums stay on the layer's device until `compute`. It sees a layer's output
    before an in-place ReLU can overwrite it, changes neither outputs nor random state, and works under
    `no_grad` and in training. What activation checkpointing repeats in backward is not counted again.
    torch.compile breaks its graph at each of the layers (with fullgraph=True it refuses); nn.DataParallel is
    refused.
    """

    def __init__(
        self,
        model: nn.Module,
        layers: Sequence[str | nn.Module] | None = None,
        *,
        every: int = 1,
        maps: int = 0,
        dim: int | None = None,
        compiled: bool = False,
    ) -> None:
        """**Arguments:**

        - `model`: any module; wrappers' name prefixes (`module.`, `_orig_mod.`) may be left out or kept.
        - `layers`: dotted names, modules, or globs over convolution, linear and norm layers; `None`: all of
            those but the last linear layer.
        - `every`: each layer's first, then every n-th output counts.
        - `maps`: of how many samples, from the first on, the maps of both entropies are kept.
        - `dim`: the channel axis of all these layers' outputs; `None` follows the module: the last axis of
            linear and layer norm, else 1.
        - `compiled`: fuse the computation by torch.compile: faster, after some seconds the first time.
            Without a working compiler: a warning, and the same values to rounding.

        **Raises:** `ValueError` for an unknown layer, `every` < 1 or `maps` < 0; `TypeError` for
        `nn.DataParallel`.
        """
        if every < 1 or maps < 0:
            raise ValueError(f"every must be at least 1 and maps at least 0, not {every} and {maps}")
        super().__init__(chosen_layers(model, layers), dim)
        self._every = every
        self._maps = maps
        self._compiled = compiled
        self.reset()

    def reset(self) -> None:
        """Forget everything seen so far."""
        self._sums: dict[str, _Sums] = {}
        self._seen = dict.fromkeys(self._modules, 0)

    def compute(self) -> dict[str, LayerStats]:
        """The statistics since the last reset, by layer in the network's order.

        **Raises:** `RuntimeError` naming the layers that did not run.
        """
        if missing := [name for name in self._modules if name not in self._sums]:
            raise RuntimeError(
                f"no output was seen from {', '.join(missing)}: the model did not run them while attached"
            )
        return {name: self._sums[name].stats() for name in self._modules}

    def to_dataframe(self) -> "pd.DataFrame":
        """`compute()` as a pandas table, a row per layer; quantiles as columns, maps left out."""
        import pandas as pd

        rows = {}
        for layer, stats in self.compute().items():
            row = {f.name: getattr(stats, f.name) for f in fields(stats)}
            del row["maps"], row["scale_free_maps"]
            quantiles = row.pop("entropy_quantiles")
            rows[layer] = row | {f"entropy_q{100 * q:02.0f}": value for q, value in quantiles.items()}
        return pd.DataFrame.from_dict(rows, orient="index").rename_axis("layer")

    @torch.inference_mode(False)  # its tensors could not be added to outside of it
    @torch.no_grad()
    def _receive(self, name: str, module: nn.Module, output: Tensor, axis: int) -> None:
        if in_backward():
            return
        self._seen[name] += 1
        if (self._seen[name] - 1) % self._every or not output.numel():
            return
        # In pieces that stay in a CPU's cache (twice as fast), and that bound the memory elsewhere.
        elements = 2**18 if output.device.type == "cpu" else 2**26
        for samples in output.movedim(axis, -1).split(max(1, elements // output[0].numel())):
            if name not in self._sums:
                self._sums[name] = _Sums(samples.float(), self._maps, self._compiled)
            self._sums[name].add(samples.float())


class _Sums:
    """Running sums of one layer, on its device."""

    def __init__(self, first: Tensor, maps: int, compiled: bool) -> None:
        """`first` are the first of the activations that `add` takes."""
        self.of_vectors = fused(_of_vectors, first.device) if compiled else _of_vectors
        self.exact = exact_dtype(first.device)
        zeros = partial(torch.zeros, dtype=self.exact, device=first.device)
        self.channels = channels = first.shape[-1]
        self.samples = self.vectors = 0
        self.entropy, self.scale_free, self.perplexity_less_1 = zeros(()), zeros(()), zeros(())
        self.noise, self.noise_curve = zeros(()), noise_curve(channels, first.dtype, first.device)
        self.unbiased = math.sqrt(channels / max(channels - 1, 1))  # SD from the population's
        self.histogram = zeros(BINS, dtype=torch.int64)
        self.nonzeros = zeros((), dtype=torch.int64)
        self.alive = zeros(channels, dtype=torch.bool)
        self.max = torch.tensor(-math.inf, device=first.device)
        # Sums of squares lose precision where the mean is large, so they are taken about the first mean.
        self.shift = first.flatten(0, -2).mean(0)
        self.sum, self.products = zeros(channels), zeros(channels, channels)
        self.maps_wanted = maps
        self.maps: list[tuple[Tensor, Tensor]] = []  # entropy, scale-free entropy

    def add(self, activations: Tensor) -> None:
        """Take activations `(N, *spatial, D)`, float32."""
        x = activations.reshape(-1, self.channels)  # (vectors, D)
        self.samples += len(activations)
        self.vectors += len(x)
        entropy, scale_free, sd, *sums, nonzeros, top = self.of_vectors(x)
        self._add_to_histogram(entropy)
        self._add_maps(entropy.view(activations.shape[:-1]), scale_free.view(activations.shape[:-1]))
        self.entropy += sums[0]
        self.perplexity_less_1 += sums[1]
        self.scale_free += sums[2]
        self.noise += interpolated(self.noise_curve, sd * self.unbiased).sum(dtype=self.exact)
        self.nonzeros += nonzeros
        self.max = torch.maximum(self.max, top)
        self.alive |= x.relu().sum(0) > 0  # several times faster than the channels' maxima
        x = x - self.shift
        self.sum += x.sum(0)
        self.products += x.T @ x

    def _add_to_histogram(self, entropy: Tensor) -> None:
        bins = self._bin(entropy)
        self.histogram.index_add_(0, bins, torch.ones_like(bins))

    def _add_maps(self, *of_samples: Tensor) -> None:
        if (missing := self.maps_wanted - sum(len(part) for part, _ in self.maps)) > 0:
            entropy, scale_free = (values[:missing].clone() for values in of_samples)
            self.maps.append((entropy, scale_free))

    def _bin(self, entropy: Tensor) -> Tensor:
        width = max(math.log(self.channels), 1e-9) / BINS
        return (entropy / width).long().clamp(0, BINS - 1)

    def stats(self) -> LayerStats:
        """The statistics of what was added."""
        n, d = self.vectors, self.channels
        rest = self.sum / n  # of the means, after the shift
        means = self.shift + rest
        covariance = self.products / n - rest.outer(rest)
        rounding = (2 * torch.finfo(torch.float32).eps) ** 2 * means.square().sum()
        trace = covariance.trace()
        maps, scale_free_maps = self._joined_maps()
        return LayerStats(
            samples=self.samples,
            positions=n // self.samples,
            channels=d,
            entropy=(self.entropy / n).item(),
            entropy_quantiles=self._quantiles(),
            noise_entropy=(self.noise / n).item() if d > 1 else math.nan,
            scale_free_entropy=(self.scale_free / n).item(),
            perplexity_sparsity=1 - (self.perplexity_less_1 / n).item() / (d - 1) if d > 1 else math.nan,
            mean=means.mean().item(),
            sd=(trace.clamp_min(0) / d + means.var(correction=0)).sqrt().item(),
            max=self.max.item(),
            zero_share=1 - self.nonzeros.item() / (n * d),
            dead_channels=d - int(self.alive.sum()),
            effective_rank=0.0 if trace <= rounding else (trace**2 / covariance.square().sum()).item(),
            maps=maps,
            scale_free_maps=scale_free_maps,
        )

    def _quantiles(self) -> dict[float, float]:
        """Read off the histogram, linearly within a bin."""
        cumulative = np.concatenate([[0], np.cumsum(self.histogram.cpu().numpy())])
        edges = np.linspace(0, math.log(self.channels), BINS + 1)
        return {q: float(np.interp(q * self.vectors, cumulative, edges)) for q in QUANTILES}

    def _joined_maps(self) -> tuple[np.ndarray, np.ndarray] | tuple[None, None]:
        if not self.maps_wanted:
            return None, None
        sizes = {tuple(part.shape[1:]) for part, _ in self.maps}
        if len(sizes) > 1:
            raise ValueError(
                f"maps of sizes {sorted(sizes)} cannot be joined: use inputs of one size, or maps=0"
            )
        entropy, scale_free = (torch.cat(parts).cpu().numpy() for parts in zip(*self.maps, strict=True))
        return entropy, scale_free


def _of_vectors(x: Tensor) -> tuple[Tensor, ...]:
    """Each vector's two entropies and SD; sums of entropy, perplexity - 1, scale-free; nonzeros; the maximum.

    Takes vectors `(V, D)`.
    """
    exact = exact_dtype(x.device)
    top = x.amax(1, keepdim=True)
    shifted = x - top
    entropy = entropy_of_shifted(shifted)
    # Standardised activations less their maximum are the shifted ones over their SD.
    centred = shifted - shifted.mean(1, keepdim=True)
    sd = centred.square_().mean(1, keepdim=True).sqrt()
    scale_free = entropy_of_shifted(shifted.div_(sd.masked_fill(sd == 0, 1)))
    sums = (values.sum(dtype=exact) for values in (entropy, entropy.expm1(), scale_free))
    return entropy, scale_free, sd.squeeze(1), *sums, x.count_nonzero(), top.max()


def chosen_layers(model: nn.Module, layers: Sequence[str | nn.Module] | None) -> dict[str, nn.Module]:
    """The layers asked for, by name in the network's order."""
    known = named_layers(model)
    if layers is None:
        default = {name: module for name, module in known.items() if isinstance(module, LAYERS)}
        # Multi-head attention reads this layer's weights and never calls it.
        default = {n: m for n, m in default.items() if not isinstance(m, NonDynamicallyQuantizableLinear)}
        linear = [name for name, module in default.items() if isinstance(module, nn.Linear)]
        wanted = {module: name for name, module in default.items() if name not in linear[-1:]}
    else:
        if isinstance(layers, str):
            raise TypeError(f"layers must be a list of names, such as [{layers!r}], not a string")
        wanted = {module: name for key in layers for name, module in select(known, key).items()}
    if not wanted:
        raise ValueError("there is no layer to monitor")
    return {name: module for name, module in known.items() if wanted.get(module) == name}
