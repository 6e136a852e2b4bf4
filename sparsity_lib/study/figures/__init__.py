"""The figures of the study: each takes curves or runs, and returns a matplotlib `Figure`."""

from sparsity_lib.study.figures.accuracies import accuracies, accuracy_table
from sparsity_lib.study.figures.curves import entropy_curves, loss_curves, validation_against_training
from sparsity_lib.study.figures.maps import correlation_histograms, heatmap_strip

__all__ = [
    "accuracies",
    "accuracy_table",
    "correlation_histograms",
    "entropy_curves",
    "heatmap_strip",
    "loss_curves",
    "validation_against_training",
]
