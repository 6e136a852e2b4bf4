"""Costs of the study's code against plain training and against code written without it."""
