"""Dimensions of a run file: selected epochs, image sets, filter correlations, shares of ablated channels."""

from typing import Final

MOMENTS = ("lowest_loss", "best_accuracy", "chosen", "last")  # on validation images; chosen on monitor images
KEPT: Final = ("lowest_loss", "last")  # moments whose weights are kept
SPLITS = ("monitor", "train")  # held-out images, and as many training images
KNOCKED_OUT = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9)  # shares of a layer's channels
CENTERS: Final = ("filters", "components")  # T19: Figure 7 is drawn for both readings of Eq. 6
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
BINS = 201  # correlations rounded to two decimals, from -1.00 to 1.00 (TSR, Figure 7)
MAPS = ("maps", "scale_free_maps")
