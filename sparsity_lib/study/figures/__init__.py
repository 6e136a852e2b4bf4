"""Figures and tables of the study, drawn from curves, tables or runs."""

from sparsity_lib.study.figures.choices import (
    decorrelation_descents,
    learning_rates,
    reading_effects,
    response_curve,
    trained_correlations,
    tuned_baselines,
)
from sparsity_lib.study.figures.coherence import (
    accuracy_against_compression,
    coherence_curves,
    gradient_norms,
    strength_sweep,
)
from sparsity_lib.study.figures.curves import entropy_curves, loss_curves, validation_against_training
from sparsity_lib.study.figures.differences import paired_differences
from sparsity_lib.study.figures.maps import correlation_histograms, heatmap_strip
from sparsity_lib.study.figures.scale import (
    capacity,
    entropy_against_noise,
    filter_correlations,
    noise_residuals,
)
from sparsity_lib.study.figures.schemes import architectures, receptive_field, widths_table
from sparsity_lib.study.figures.sparseout import (
    language_curves,
    language_sparsity,
    noise_variances,
    penalty_ratios,
)
from sparsity_lib.study.figures.tables import (
    accuracies,
    accuracy_table,
    difference_table,
    entropy_table,
)
from sparsity_lib.study.figures.warning import detectors_in_runs, gap_curves, warning_leads

__all__ = [
    "accuracies",
    "accuracy_against_compression",
    "accuracy_table",
    "architectures",
    "capacity",
    "coherence_curves",
    "correlation_histograms",
    "decorrelation_descents",
    "detectors_in_runs",
    "difference_table",
    "entropy_against_noise",
    "entropy_curves",
    "entropy_table",
    "filter_correlations",
    "gap_curves",
    "gradient_norms",
    "heatmap_strip",
    "language_curves",
    "language_sparsity",
    "learning_rates",
    "loss_curves",
    "noise_residuals",
    "noise_variances",
    "paired_differences",
    "penalty_ratios",
    "reading_effects",
    "receptive_field",
    "response_curve",
    "strength_sweep",
    "trained_correlations",
    "tuned_baselines",
    "validation_against_training",
    "warning_leads",
    "widths_table",
]
