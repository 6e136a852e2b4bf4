"""Character-level language models with Sparseout: exploratory, our reading of arXiv 1904.08050.

from sparsity_lib.study import language
run = language.train_language(language.LanguageExperiment(q=1.0))
"""

from sparsity_lib.study.language.experiment import DROPOUT, NO_NOISE, LanguageExperiment
from sparsity_lib.study.language.grid import GRIDS, run_all, select
from sparsity_lib.study.language.publication import publish, published, verify
from sparsity_lib.study.language.runs import LanguageRun, curves, find, load
from sparsity_lib.study.language.training import train_language

__all__ = [
    "DROPOUT",
    "GRIDS",
    "NO_NOISE",
    "LanguageExperiment",
    "LanguageRun",
    "curves",
    "find",
    "load",
    "publish",
    "published",
    "run_all",
    "select",
    "train_language",
    "verify",
]
