"""Explorers: entropy maps of networks, layer by layer, image by image, epoch by epoch.

`HeatmapExplorer` shows recordings of training, `ImageExplorer` images of your own. Each is a widget where a
kernel runs and a page of its own where none does; one ES module draws both. They need anywidget, ipywidgets,
Pillow and matplotlib, which the extras `study` and `book` bring.
"""

try:
    from sparsity_lib.explorer.heatmaps import HeatmapExplorer
    from sparsity_lib.explorer.own_image import ImageExplorer
    from sparsity_lib.explorer.recording import Recording
except ImportError as error:
    raise ImportError(f"HeatmapExplorer needs {error.name}: pip install '.[study,book]' brings it") from None

__all__ = ["HeatmapExplorer", "ImageExplorer", "Recording"]
