"""Correlations of filters, compared with random filters of the same number and size."""

import functools
import itertools

import numpy as np
import pandas as pd
import torch
import xarray as xr
from torch import nn

from sparsity_lib.functional import filter_correlation
from sparsity_lib.study.analysis import hidden_layers, labels, only, runs_with
from sparsity_lib.study.analysis.comparison import Description, describe
from sparsity_lib.study.errors import StudyError
from sparsity_lib.study.experiment import Experiment

# Channels, pixels per side and classes of the images, as published.
IMAGES = {
    "digits": (1, 8, 10),
    "cifar10": (3, 32, 10),
    "cifar10-jpeg": (3, 32, 10),
    "cifar100": (3, 32, 100),
    "tiny32-100": (3, 32, 100),
    "tiny-imagenet": (3, 64, 200),
}


def filter_shapes(experiment: Experiment) -> dict[str, tuple[int, int]]:
    """Number of filters and number of weights per filter, by layer, without data or memory for weights.

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
    """Mean absolute correlation of random filters with n weights each, drawn with a fixed seed.

    About sqrt(2/(pi n)) for many filters; larger for few, because their mean is subtracted.
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
    """Lower bound of the root mean square cosine between `filters` directions in n dimensions."""
    return float(np.sqrt((filters - n) / (n * (filters - 1)))) if filters > n else 0.0


def correlations(curves: xr.Dataset) -> pd.DataFrame:
    """Mean absolute correlation of the filters of each network and layer, and of random filters.

    **Arguments:** `curves` of one data set and size; runs without correlations are left out.

    **Returns:** one row per network, layer and `moment` (`start` before training, `end` the last epoch): n
    runs, mean, SD and 95 % t interval of the correlation; `expected`, the correlation of random filters;
    `welch`, the bound on the root mean square.
    """
    curves = runs_with(curves, "correlation")
    shapes = _shapes(curves)
    measured = curves["correlation"].sel(center="filters")
    moments = {"start": measured.sel(epoch=-1), "end": measured.sel(epoch=curves["epochs"] - 1)}
    rows = []
    for label, layer in itertools.product(labels(curves), hidden_layers(curves)):
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
    """Correlation of the filters of a layer at the end of training, divided by the one of random filters."""
    runs = runs_with(only(curves, label=label), "correlation")
    end = runs["correlation"].sel(center="filters", layer=layer).sel(epoch=runs["epochs"] - 1)
    return describe(end / random_correlation(*_shapes(runs)[layer]))


def _shapes(curves: xr.Dataset) -> dict[str, tuple[int, int]]:
    first = curves.isel(run=0)
    network, size, dataset = (str(first[name].item()) for name in ("network", "size", "dataset"))
    return filter_shapes(Experiment(network=network, size=size, dataset=dataset))
