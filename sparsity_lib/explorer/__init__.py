"""Explorers: entropy maps of networks, layer by layer, image by image, epoch by epoch.

`HeatmapExplorer` shows recordings of training, `ImageExplorer` images of your own. Each is a widget where a
kernel runs and a page of its own where none does; one ES module draws both. They need anywidget, ipywidgets,
Pillow and matplotlib, which the extra `explorer` brings.
"""

from sparsity_lib._settings import needs

with needs("explorer"):
    from sparsity_lib.explorer.heatmaps import HeatmapExplorer
    from sparsity_lib.explorer.own_image import ImageExplorer
    from sparsity_lib.explorer.recording import Recording

__all__ = ["HeatmapExplorer", "ImageExplorer", "Recording"]
