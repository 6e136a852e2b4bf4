"""Character-level language models with Sparseout: exploratory, our reading of arXiv 1904.08050.

A `LanguageExperiment` describes a model, and `study.train` trains it. Runs, queue and publication are shared
with all other runs; the profile is `language`.
"""

from sparsity_lib.study.language.experiment import DROPOUT, NO_NOISE, LanguageExperiment

__all__ = ["DROPOUT", "NO_NOISE", "LanguageExperiment"]
