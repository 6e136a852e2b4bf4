"""Sparseout and gradient-coherent strong regularisation: tables of their published runs."""
