"""Does sparsity warn of overfitting? Claim A of arXiv 2104.06153, and `EntropyDropDetector` on runs."""

from sparsity_lib.study.analysis.warning import told
from sparsity_lib.study.analysis.warning.rise import (
    SHORTLY,
    WINDOWS,
    acceleration,
    feature_layers,
    feature_sparsity,
    rise_table,
    rises,
    speeds,
)
from sparsity_lib.study.analysis.warning.transfer import (
    AS_IT_COMES,
    PLANS,
    Transfer,
    blinded,
    every_run,
    stored,
    transfers,
)

__all__ = [
    "AS_IT_COMES",
    "PLANS",
    "SHORTLY",
    "WINDOWS",
    "Transfer",
    "acceleration",
    "blinded",
    "every_run",
    "feature_layers",
    "feature_sparsity",
    "rise_table",
    "rises",
    "speeds",
    "stored",
    "told",
    "transfers",
]
