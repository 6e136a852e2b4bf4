"""Runs: a run's file, many runs as one data set, the published results, and how each was made."""
