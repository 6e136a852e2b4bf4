"""The statistics of a layer's activations, from running sums that stay on its device."""

import math
from dataclasses import dataclass, field, fields, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sparsity_lib._filters import exact_dtype, largest, power_of_two
from sparsity_lib._fusion import Computation, fused
from sparsity_lib._noise_curve import interpolated, noise_curve

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
BINS = 512  # of entropy over [0, ln D], from which the quantiles are read: exact to ln D / 512


@dataclass(frozen=True, eq=False)
class LayerStats:
    """Activation statistics of one layer. Entropies are in nats; averages are over samples and positions.

    ```python
    with sl.ActivationMonitor(model, ["conv3"]) as monitor:
        model(x)
    stats = monitor.compute()["conv3"]
    stats.entropy - stats.noise_entropy  # nats; near 0 where scale explains the entropy
    ```

    Where any activation is NaN or infinite, all numbers that are floats are NaN; in maps, those of the
    vectors concerned. Float64 activations are computed in float64, others in float32.

    **Fields:**

    - `samples`: how many, along axis 0; each use of a module in a pass counts.
    - `positions`: per sample (1 without spatial axes; rounded down if sizes vary); `channels`: D.
    - `entropy`: mean RFAV entropy (TSR, Eq. 4); `entropy_quantiles`: by probability,
        over samples and positions.
    - `noise_entropy`: mean of `functional.noise_entropy(s, D)` over vectors, s^2 the unbiased variance over
        their channels; NaN for one channel. Scale explains an entropy that noise has too; below an SD of
        about 1 every vector nearly has it. Gaussian activations themselves have slightly less, at 32 channels
        by less than 0.04 nats: s is estimated.
    - `scale_free_entropy`: mean entropy of each vector standardised over its channels.
    - `perplexity_sparsity`: mean of 1 - (e^H - 1)/(D - 1); NaN for one channel.
    - `mean`, `sd` (population), `max`: over all elements; `zero_share`: share of exact zeros, in [0, 1];
        `nonpositive_share`: share of elements <= 0, which a ReLU makes zeros.
    - `dead_channels`: channels that were never above zero, nor NaN.
    - `effective_rank`: participation ratio (tr C)^2 / tr(C^2) of the channels' covariance over samples and
        positions, in [1, D]; 0 where nothing varies, NaN above `rank_channels`.
    - `maps`, `scale_free_maps`: entropy and scale-free entropy of the first samples, `(n, *spatial)`
        float32, NaN where a mask leaves positions out, be it all of a sample; or None if none were asked for.
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
    nonpositive_share: float
    dead_channels: int
    effective_rank: float
    maps: np.ndarray | None = field(repr=False)
    scale_free_maps: np.ndarray | None = field(repr=False)


class Sums:
    """Running sums of one layer, on its device."""

    def __init__(self, first: Tensor, maps: int, compiled: bool, ranked: bool = True) -> None:
        """`first` is shaped as the activations that `add` takes; `ranked`: with an effective rank."""
        self.of_vectors: Computation = fused(_of_vectors, first.device) if compiled else _of_vectors
        self.exact = exact_dtype(first.device)
        zeros = partial(torch.zeros, dtype=self.exact, device=first.device)
        self.channels = channels = first.shape[-1]
        self.samples = self.vectors = 0
        self.totals = zeros(6)  # entropy, perplexity - 1, scale-free and noise entropy; signs, and nonzeros
        self.noise_curve = noise_curve(channels, first.dtype, first.device)
        self.unbiased = math.sqrt(channels / max(channels - 1, 1))  # SD from the population's
        self.bin_width = max(math.log(channels), 1e-9) / BINS
        self.histogram = zeros(BINS, dtype=torch.int64)
        self.highest = torch.full((channels,), -math.inf, device=first.device)
        limits = torch.finfo(first.dtype)
        self.unit, self.eps = first.new_full((), limits.tiny), limits.eps  # of the sums, and of rounding
        # Sums of squares lose precision where the mean is large, so they are taken about the first mean.
        self.shift = first.new_zeros(channels)
        self.sum = zeros(channels)
        self.products = zeros(channels, channels) if ranked else zeros(channels)  # or squares alone
        self.maps_wanted = maps
        self.maps: list[tuple[Tensor, Tensor]] = []  # entropy, scale-free entropy

    def add(self, activations: Tensor, mask: Tensor | None = None) -> None:
        """Take activations `(N, *spatial, D)`, float32 or float64, at the positions that a mask has True.

        Samples without such positions do not count.
        """
        # Channels first, (D, vectors), as convolutions have them: vectors of those would have to be copied.
        x = activations.movedim(-1, 0).flatten(1).to(self.shift.dtype)
        if mask is None:
            self.samples += len(activations)
        else:
            x = x[:, mask.flatten()]
            self.samples += int(mask.view(len(mask), -1).any(1).sum())
        if not x.numel():
            return self._add_maps(activations.shape[:-1], mask, *x.new_empty(2, 0))
        self._grow(power_of_two(largest(x)))  # or squares would leave the type's range
        if not self.vectors:
            self.shift = x.div(self.unit).mean(1)
        self.vectors += x.shape[1]
        entropy, scale_free, sd, *counts = self.of_vectors(x.T)
        bins = (entropy / self.bin_width).long().clamp(0, BINS - 1)
        self.histogram.index_add_(0, bins, torch.ones_like(bins))
        self._add_maps(activations.shape[:-1], mask, entropy, scale_free)
        noise = interpolated(self.noise_curve, sd * self.unbiased)
        averaged = torch.stack([entropy, entropy.expm1(), scale_free, noise])
        self.totals += torch.cat([averaged.sum(1, dtype=self.exact), torch.stack(counts)])
        self.highest = torch.maximum(self.highest, x.amax(1))
        x = x.div(self.unit).sub_(self.shift[:, None])
        self.sum += x.sum(1)
        if _rounds_products():
            x = x.to(self.exact)
        self.products += (x @ x.T if self.products.dim() == 2 else x.square().sum(1)).to(self.exact)

    def _grow(self, unit: Tensor) -> None:
        """Express the sums in this unit if it is larger than theirs; as powers of two, both are exact."""
        before, self.unit = self.unit, torch.maximum(self.unit, unit)
        ratio = before / self.unit
        self.shift = self.shift * ratio
        self.sum *= ratio
        self.products *= ratio.to(self.exact) ** 2

    def _add_maps(self, shape: torch.Size, mask: Tensor | None, *of_vectors: Tensor) -> None:
        if not self._maps_missing():
            return
        if mask is not None:
            filled = (values.new_full(shape, math.nan) for values in of_vectors)
            of_vectors = tuple(f.masked_scatter_(mask, v) for f, v in zip(filled, of_vectors, strict=True))
        self._keep_maps(*(values.view(shape) for values in of_vectors))

    def _maps_missing(self) -> int:
        return self.maps_wanted - sum(len(part) for part, _ in self.maps)

    def _keep_maps(self, *maps: Tensor) -> None:
        """Copies of both entropies' maps, of as many samples as are still wanted."""
        wanted = self._maps_missing()
        entropy, scale_free = (each[:wanted].to(self.sum.device, torch.float32, copy=True) for each in maps)
        self.maps.append((entropy, scale_free))

    def merge(self, other: "Sums") -> None:
        """Add the sums of another with as many channels; its maps follow this one's."""
        there = {name: v.to(self.sum.device) for name, v in vars(other).items() if isinstance(v, Tensor)}
        self._grow(there["unit"])
        if not self.vectors:
            self.shift = there["shift"].to(self.shift.dtype)
        n, ratio = other.vectors, (there["unit"] / self.unit).to(self.exact)
        # In units of self, activations minus its shift are those minus the other's, by the ratio, plus this.
        moved = ratio * there["shift"].to(self.exact) - self.shift.to(self.exact)
        own = ratio * there["sum"]
        crossed = self._products(own, moved) + self._products(moved, own) + n * self._products(moved, moved)
        self.products += ratio**2 * there["products"] + crossed
        self.sum += own + n * moved
        self.totals += there["totals"]
        self.histogram += there["histogram"]
        self.highest = torch.maximum(self.highest, there["highest"])
        self.eps = max(self.eps, other.eps)
        self.samples, self.vectors = self.samples + other.samples, self.vectors + n
        for maps in other.maps:
            if self._maps_missing():
                self._keep_maps(*maps)

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"of_vectors": _of_vectors}  # a compiled one cannot be pickled

    def _products(self, one: Tensor, other: Tensor) -> Tensor:
        """Products of pairs of channels, `(D, D)`, or of each with itself where there is no rank, `(D,)`."""
        return one.outer(other) if self.products.dim() == 2 else one * other

    def stats(self, with_maps: bool = True) -> LayerStats:
        """The statistics of what was added."""
        n, d = self.vectors, self.channels
        rest = self.sum / n  # of the means, after the shift
        means = self.shift + rest
        covariance = self.products / n - self._products(rest, rest)
        rounding = (2 * self.eps) ** 2 * means.square().sum()
        trace = (covariance.diagonal() if covariance.dim() == 2 else covariance).sum()
        rank = 0.0 if trace <= rounding else (trace**2 / covariance.square().sum()).item()
        entropy, perplexity_less_1, scale_free, noise, signs, nonzeros = (self.totals / n).tolist()
        maps, scale_free_maps = self._joined_maps() if with_maps else (None, None)
        stats = LayerStats(
            samples=self.samples,
            positions=n // self.samples,
            channels=d,
            entropy=entropy,
            entropy_quantiles=self._quantiles(),
            noise_entropy=noise if d > 1 else math.nan,
            scale_free_entropy=scale_free,
            perplexity_sparsity=1 - perplexity_less_1 / (d - 1) if d > 1 else math.nan,
            mean=(self.unit * means.mean()).item(),
            sd=(self.unit * (trace.clamp_min(0) / d + means.var(correction=0)).sqrt()).item(),
            max=self.highest.max().item(),
            zero_share=1 - nonzeros / d,
            nonpositive_share=1 - (nonzeros + signs) / 2 / d,
            dead_channels=int((self.highest <= 0).sum()),
            effective_rank=rank if covariance.dim() == 2 else math.nan,
            maps=maps,
            scale_free_maps=scale_free_maps,
        )
        if math.isfinite(stats.scale_free_entropy):
            return stats
        averages: dict[str, Any] = {each.name: math.nan for each in fields(stats) if each.type is float}
        return replace(stats, **averages, entropy_quantiles=dict.fromkeys(QUANTILES, math.nan))

    def _quantiles(self) -> dict[float, float]:
        """Quantiles of the histogram, interpolated linearly within a bin."""
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


def _of_vectors(vectors: Tensor) -> tuple[Tensor, ...]:
    """Each vector's two entropies and SD; the sum of all elements' signs, and the number of nonzeros.

    Takes vectors `(V, D)`, which may lie in memory channel by channel.
    """
    x = vectors.T
    top = x.amax(0)
    # Numbers above 2^100 are 2^77 or more apart, and still far apart once divided by 2^30.
    fitting = torch.ones_like(top).masked_fill_(top > 2.0**100, 2.0**-30)
    shifted = (x * fitting).sub_(top * fitting)
    below = shifted.sign()  # 0 at each maximum, else -1
    others = below.sum(0).add_(len(x) - 1)
    entropy = _entropy(shifted, below, others)
    # Standardised activations minus their maximum are the shifted ones over their SD.
    unit = _unit(shifted.sum(0).neg_())
    shifted.div_(unit)
    sd = (shifted - shifted.mean(0)).square_().mean(0).sqrt_()
    scale_free = _entropy(shifted.div_(sd.masked_fill(sd == 0, 1)), below, others)
    entropy = torch.where(scale_free.isnan(), scale_free, entropy)
    # By position first: a float32 counts no further than 2^24.
    count = partial(torch.sum, dtype=exact_dtype(x.device))
    signs = x.sign()
    balance = count(signs.sum(0))
    return entropy, scale_free, sd * unit / fitting, balance, count(signs.square_().sum(0))


def _entropy(shifted: Tensor, below: Tensor, others: Tensor) -> Tensor:
    """Entropy of the softmax along axis 0 of logits whose maximum there is 0.

    Given are the logits' signs, and how many maxima there are beyond one.
    """
    negative = (shifted * math.log2(math.e)).exp2_().mul_(below)  # -e^z but at the maxima; exp is slower
    rest = others - negative.sum(0)
    mean = negative.mul_(shifted).sum(0).div_(1 + rest)
    return rest.log1p_().add_(mean)


def _unit(size: Tensor) -> Tensor:
    """A divisor of numbers of this size, after which their squares are finite and not 0; usually 1."""
    limits = torch.finfo(size.dtype)
    usual = size.clamp(2.0**-40, 2.0**60) == size
    return size.clamp(limits.tiny, limits.max / 2).masked_fill_(usual, 1)


def _rounds_products() -> bool:
    """Whether torch may round factors of matrix products, to TF32 or bfloat16."""
    try:
        return torch.get_float32_matmul_precision() != "highest"
    except RuntimeError:  # set for each backend
        return True
