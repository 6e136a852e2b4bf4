"""Strong L1 and L2, always on, delayed, and while gradients cohere (GCSR, as we read its abstract).

`gathered` picks the runs from curves, `outcomes` makes a table of them, which the rest takes; `told` puts it
in words.
"""

from sparsity_lib.study.analysis.coherent import told
from sparsity_lib.study.analysis.coherent.outcomes import (
    ALWAYS,
    DECAY,
    DELAYED,
    GATED,
    NONE,
    TERMS,
    WAYS,
    cell,
    cells,
    comparisons,
    described,
    experiments,
    gathered,
    outcomes,
    tolerance,
)

__all__ = [
    "ALWAYS",
    "DECAY",
    "DELAYED",
    "GATED",
    "NONE",
    "TERMS",
    "WAYS",
    "cell",
    "cells",
    "comparisons",
    "described",
    "experiments",
    "gathered",
    "outcomes",
    "told",
    "tolerance",
]
