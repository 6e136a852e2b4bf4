"""The explorer of finished runs."""

from collections.abc import Sequence

from sparsity_lib.explorer.explored import explored_runs
from sparsity_lib.explorer.widget import Explorer
from sparsity_lib.study import Run


class HeatmapExplorer(Explorer):
    """Entropy maps of runs, with the curves of validation loss and mean entropy under them.

    What is shown is an attribute each, to be read and set, and changes with the page and the page with it:

    - `run`: the run's place in `runs`; `beside`: that of the one shown beside it, or None
    - `layer`: one of the run's layers, by name
    - `image`: the image's place among the run's images
    - `measure`: `"entropy"`, or `"scale_free_entropy"` of the vectors at unit variance
    - `epoch`: one whose maps the run's file keeps; -1 is before training
    - `playing`: whether the epochs are stepped through

    With another run, what it lacks becomes its first layer, its last image, its nearest epoch; a run that was
    shown other images cannot be beside it. Maps of a layer have one colour scale in all runs in which it has
    as many channels, for all images and epochs. What a position sees of the image is outlined there
    (`receptive_fields`); the moment of overfitting by validation loss is marked on the curves.

    Args:
        runs: a `study.Run` or several; those with the same images share them on the page.
        images: how many of the runs' images, from the first on; a page grows with them.
        run, beside, layer, image, measure, epoch: what is shown first; by default the first run alone, its
            first layer and its last epoch.

    Raises:
        ValueError: no runs, or no images; no such run, layer, image, measure or epoch (the line says which
            there are).
        TypeError: something in `runs` is not a run.
    """

    def __init__(
        self,
        runs: Run | Sequence[Run],
        *,
        images: int = 8,
        run: int = 0,
        beside: int | None = None,
        layer: str | None = None,
        image: int = 0,
        measure: str = "entropy",
        epoch: int | None = None,
    ) -> None:
        self._runs = [runs] if isinstance(runs, Run) else list(runs)
        if not self._runs:
            raise ValueError("there are no runs to explore; give at least one study.Run")
        if images < 1:
            raise ValueError(f"images = {images}: show at least one")
        if others := [other for other in self._runs if not isinstance(other, Run)]:
            raise TypeError(
                f"runs are study.Run objects, not {type(others[0]).__name__}; study.load opens a file"
            )
        super().__init__(
            *explored_runs(self._runs, images),
            run=run,
            beside=beside,
            layer=layer,
            image=image,
            measure=measure,
            epoch=epoch,
        )

    def __repr__(self) -> str:
        return f"HeatmapExplorer({', '.join(run.id for run in self._runs)})"
