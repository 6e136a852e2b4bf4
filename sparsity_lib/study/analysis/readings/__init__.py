"""One thing changed at a time: readings of the papers, strengths of penalties, tuned baselines.

The runs of a profile's grid "readings" are set, seed by seed, beside those of the grid "networks".
"""

from sparsity_lib.study.analysis.readings import told
from sparsity_lib.study.analysis.readings.changes import (
    contrast,
    effects,
    statements,
    strengths,
    tuned,
    unit_variance,
)
from sparsity_lib.study.analysis.readings.filters import against_floor, correlations, descents, trained_floors
from sparsity_lib.study.analysis.readings.outcomes import (
    experiments,
    fresh,
    gathered,
    measured,
    name_of,
    outcomes,
)
from sparsity_lib.study.analysis.readings.rules import judged_by_rule, onsets

__all__ = [
    "against_floor",
    "contrast",
    "correlations",
    "descents",
    "effects",
    "experiments",
    "fresh",
    "gathered",
    "judged_by_rule",
    "measured",
    "name_of",
    "onsets",
    "outcomes",
    "statements",
    "strengths",
    "told",
    "trained_floors",
    "tuned",
    "unit_variance",
]
