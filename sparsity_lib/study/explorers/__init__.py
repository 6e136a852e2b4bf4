"""Explorers of the study: of runs, of a training in progress, and of a user's images in a run's network."""

from collections.abc import Sequence
from typing import Any

from torch import nn

from sparsity_lib.explorer import HeatmapExplorer, ImageExplorer
from sparsity_lib.explorer.widget import Explorer
from sparsity_lib.study.explorers.recordings import recordings_of, run_labels
from sparsity_lib.study.explorers.rescaling import rescale_control
from sparsity_lib.study.explorers.training import TrainingExplorer
from sparsity_lib.study.runs.file import Run
from sparsity_lib.study.runs.networks import trained_network
from sparsity_lib.study.text import NO_RUNS

__all__ = ["TrainingExplorer", "explore", "image_explorer", "of_run", "recordings_of", "rescale_control"]


def explore(runs: Run | Sequence[Run], *, images: int = 8, **shown: Any) -> Explorer:
    """Entropy maps of runs, with the curves of validation loss and mean entropy under them.

    ```python
    study.explore(runs, compare=1, layer="conv3")
    ```

    Receptive fields are outlined where the run's network can be built; channels at a position are drawn where
    its weights are kept, at the lowest validation loss and after the last epoch; the moment of overfitting by
    validation loss (T10) is marked on the curves.

    **Arguments:**

    - `runs`: a `study.Run` or several; those with the same images share them on the page. Without
        any, the explorer is one line.
    - `images`: the number of images, from the first on, at most as many as all runs have; a page grows with
        it.
    - `shown`: `run`, `compare`, `layer`, `image`, `measure`, `stretched`, `epoch`: the first view, as for
        `HeatmapExplorer`; epochs with maps are the saved epochs of the run's file.

    **Raises:** `ValueError` for no images, and for a run, layer, image, measure or epoch that is
    not there (the line names those that are); `TypeError` for other objects than runs.
    """
    runs = [runs] if isinstance(runs, Run) else list(runs)
    if not runs:
        return Explorer(waiting=NO_RUNS)
    if others := [type(other).__name__ for other in runs if not isinstance(other, Run)]:
        raise TypeError(f"runs are study.Run objects, not {others[0]}; study.load opens a file")
    recordings, setting = recordings_of(runs, images)
    return HeatmapExplorer(recordings, setting=setting, **shown)


def image_explorer(run: Run, *, layers: Sequence[str | nn.Module] | None = None) -> ImageExplorer:
    """Entropy maps of your own images in a run's network, by default in the run's layers.

    ```python
    study.image_explorer(run)  # of the class sl.ImageExplorer
    ```

    Raises `StudyError` where the run's network was not kept (few published runs have one) or cannot be
    built, and `ValueError` for an unknown layer.
    """
    return ImageExplorer(**of_run(run) | ({"layers": layers} if layers else {}))


def of_run(run: Run) -> dict[str, Any]:
    """The arguments of `ImageExplorer` for a run's network."""
    model, prepare = trained_network(run)
    _, height, width, channels = run.root["images"].shape
    (label,), setting = run_labels([run.experiment])
    described = {"label": label, "setting": setting, "classes": run.classes, "layers": run.layers}
    return {"model": model, "prepare": prepare, "size": (height, width), "channels": channels, **described}
