"""Character-level language models with Sparseout: exploratory, our reading of arXiv 1904.08050.

A `LanguageExperiment` describes one, and `study.train` trains it. Runs, queue and
publication are those of all runs, under the profile `language`.
"""

from sparsity_lib.study.language.experiment import DROPOUT, NO_NOISE, LanguageExperiment

__all__ = ["DROPOUT", "NO_NOISE", "LanguageExperiment"]
