"""Correlations of a layer's filters compared with those of random filters, as many and as large."""

import functools
import itertools

import numpy as np
import pandas as pd
import torch
import xarray as xr
from torch import nn

from sparsity_lib.functional import filter_correlation
from sparsity_lib.study.analysis.comparison import Description, describe
from sparsity_lib.study.analysis.summary import having, labels, only, penalised_layers
from sparsity_lib.study.errors import StudyError
from sparsity_lib.study.experiment import Experiment

# Channels, pixels a side and classes of the images, as their makers give them.
IMAGES = {
    "digits": (1, 8, 10),
    "cifar10": (3, 32, 10),
    "cifar10-jpeg": (3, 32, 10),
    "cifar100": (3, 32, 100),
    "tiny32-100": (3, 32, 100),
    "tiny-imagenet": (3, 64, 200),
}


def filter_shapes(experiment: Experiment) -> dict[str, tuple[int, int]]:
    """Number of filters and of the weights of each, by layer; the network is built without memory or data.

    **Raises:** `StudyError` for a data set whose images have no known size.
    """
    if experiment.dataset not in IMAGES:
        raise StudyError(
            f"the images of '{experiment.dataset}' have no known size; known: {', '.join(IMAGES)}"
        )
    channels, pixels, classes = IMAGES[experiment.dataset]
    side = experiment.image_size or pixels
    with torch.device("meta"):
        model = experiment.build(channels, (side, side), classes)
    layers = {name: m for name, m in model.named_children() if isinstance(m, nn.Conv2d | nn.Linear)}
    return {name: (len(layer.weight), layer.weight[0].numel()) for name, layer in layers.items()}


@functools.cache
def random_correlation(filters: int, n: int) -> float:
    """Mean absolute correlation of so many random filters of n weights, drawn with a fixed seed.

    About sqrt(2/(pi n)) for many filters; of few, taking their mean away leaves more.
    """
    generator = torch.Generator().manual_seed(0)
    pairs = filters * (filters - 1) // 2
    draws = -(-20_000 // pairs)
    total = 0.0
    for _ in range(draws):
        drawn = filter_correlation(torch.randn(filters, n, generator=generator), center="filters")
        total += float(drawn.tril(-1).abs().sum())
    return total / (draws * pairs)


def welch_bound(filters: int, n: int) -> float:
    """Least root mean square of the cosines between so many directions in n dimensions; 0 if they fit."""
    return float(np.sqrt((filters - n) / (n * (filters - 1)))) if filters > n else 0.0


def correlations(curves: xr.Dataset) -> pd.DataFrame:
    """Mean absolute correlation of a layer's filters, and that of random ones, by network and layer.

    **Arguments:** `curves` of one data set and size; runs without correlations are left out.

    **Returns:** one row per network, layer and `moment` (`start` before training, `end` the last epoch): n
    runs, mean, SD and 95 % t interval of the correlation; what is `expected` of random filters; the `welch`
    bound on the root mean square.
    """
    curves = having(curves, "correlation")
    shapes = _shapes(curves)
    measured = curves["correlation"].sel(center="filters")
    moments = {"start": measured.sel(epoch=-1), "end": measured.sel(epoch=curves["epochs"] - 1)}
    rows = []
    for label, layer in itertools.product(labels(curves), penalised_layers(curves)):
        filters, n = shapes[layer]
        lines = {"expected": random_correlation(filters, n), "welch": welch_bound(filters, n)}
        rows += [
            {"label": label, "layer": layer, "moment": moment}
            | describe(values.sel(layer=layer)[curves["label"] == label])._asdict()
            | lines
            for moment, values in moments.items()
        ]
    return pd.DataFrame(rows)


def factor_over_random(curves: xr.Dataset, label: str, layer: str) -> Description:
    """Factor by which a layer's filters of a network are more correlated than random ones at the end."""
    runs = having(only(curves, label=label), "correlation")
    end = runs["correlation"].sel(center="filters", layer=layer).sel(epoch=runs["epochs"] - 1)
    return describe(end / random_correlation(*_shapes(runs)[layer]))


def _shapes(curves: xr.Dataset) -> dict[str, tuple[int, int]]:
    first = curves.isel(run=0)
    network, size, dataset = (str(first[name].item()) for name in ("network", "size", "dataset"))
    return filter_shapes(Experiment(network=network, size=size, dataset=dataset))
