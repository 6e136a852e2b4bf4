"""Explorers: entropy maps of networks, layer by layer, image by image, epoch by epoch.

`HeatmapExplorer` shows runs, `TrainingExplorer` a training while it runs, `ImageExplorer` images of your own.
Each is a widget where a kernel runs and a page of its own where none does; one ES module draws both. They
need the extras `study` and `book`.
"""

try:
    from sparsity_lib.explorer.own_image import ImageExplorer
    from sparsity_lib.explorer.runs import HeatmapExplorer
    from sparsity_lib.explorer.watch import TrainingExplorer
except ImportError as error:
    raise ImportError(f"HeatmapExplorer needs {error.name}: pip install '.[study,book]' brings it") from None

__all__ = ["HeatmapExplorer", "ImageExplorer", "TrainingExplorer"]
