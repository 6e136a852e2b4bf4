"""The statistics of a layer by slow float64 formulas, to compare with ActivationMonitor's."""

import math

import numpy as np
import pytest
from torch import Tensor, nn

import sparsity_lib as sl
from sparsity_lib import functional as f
from sparsity_lib.monitor import LayerStats

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def monitored(model: nn.Module, *batches: Tensor, **options: object) -> dict[str, LayerStats]:
    """The statistics of a model's layers over batches."""
    with sl.ActivationMonitor(model, **options) as monitor:
        for batch in batches:
            model(batch)
    stats = monitor.compute()
    assert list(stats) == monitor.layers
    return stats


def of_batches(layer: nn.Module, *batches: Tensor, **options: object) -> LayerStats:
    """The statistics of a single layer over batches."""
    return monitored(layer, *batches, layers=[layer], **options)[""]


def assert_is_reference(stats: LayerStats, activations: Tensor) -> None:
    """Compare with float64 formulas over all of the activations, `(N, D, *spatial)`, at once."""
    a = activations.detach().double()
    samples, channels = a.shape[:2]
    vectors = a.movedim(1, -1).reshape(-1, channels)
    entropy = f.rfav_entropy(a)
    covariance = np.cov(vectors.numpy(), rowvar=False, bias=True).reshape(channels, channels)
    assert (stats.samples, stats.positions, stats.channels) == (samples, len(vectors) // samples, channels)
    close = {
        "entropy": entropy.mean(),
        "noise_entropy": f.noise_entropy(a.std(1), channels).mean(),
        "scale_free_entropy": f.rfav_entropy(f.standardize(a)).mean(),
        "perplexity_sparsity": f.perplexity_sparsity(a).mean(),
        "mean": a.mean(),
        "sd": a.std(correction=0),
        "max": a.max(),
        "zero_share": (a == 0).double().mean(),
        "nonpositive_share": (a <= 0).double().mean(),
        "dead_channels": (vectors.amax(0) <= 0).sum(),
        "effective_rank": np.trace(covariance) ** 2 / np.trace(covariance @ covariance),
    }
    for name, value in close.items():
        assert getattr(stats, name) == pytest.approx(float(value), rel=1e-4, abs=1e-6), name
    assert tuple(stats.entropy_quantiles) == QUANTILES
    # A quantile read off 512 bins is out by a bin at most, given an order statistic on either side of it.
    values = entropy.flatten().sort().values
    for q, quantile in stats.entropy_quantiles.items():
        rank = q * (len(values) - 1)
        bin_width = math.log(channels) / 512
        below, above = values[max(math.floor(rank) - 1, 0)], values[min(math.ceil(rank) + 1, len(values) - 1)]
        assert below - bin_width <= quantile <= above + bin_width
