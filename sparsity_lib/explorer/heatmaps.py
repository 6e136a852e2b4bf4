"""HeatmapExplorer: recordings of one or several networks' training."""

from collections.abc import Sequence

import sparsity_lib
from sparsity_lib.explorer.recording import Recording
from sparsity_lib.explorer.widget import Explorer


class HeatmapExplorer(Explorer):
    """Entropy maps of recordings, with the curves of validation loss and mean entropy under them.

    ```python
    sl.HeatmapExplorer([first, second], compare=1)  # each a sl.Recording
    ```

    The attributes of the view can be read and set, and follow the page as the page follows them:

    - `run`: the recording's place in `recordings`; `compare`: that of the one compared with it, or None
    - `layer`: one of the network's layers, by name
    - `image`: the image's place among the recording's images
    - `measure`: `"entropy"`, or `"scale_free_entropy"` of the vectors at unit variance
    - `stretched`: whether colours end at the layer's extreme values; else they go from 0 to ln D
    - `epoch`: one with maps; -1 is before training
    - `playing`: whether the epochs are stepped through

    With another recording, what it lacks becomes its first layer, its last image, its nearest epoch; one of
    other images cannot be shown with it. Maps of a layer have one colour scale in all recordings in which it
    has as many channels, for all images and epochs. The channels at a position are drawn where
    `Recording.add` was given them. The receptive field of a position is outlined there if
    `Recording.fields` is given; the moment of overfitting is marked on the curves if `Recording.onset` is.

    **Arguments:**

    - `recordings`: a `Recording` or several; those with the same images share them on the page.
    - `setting`: a line about what the recordings have in common, shown next to their labels.
    - `run`, `compare`, `layer`, `image`, `measure`, `stretched`, `epoch`: what is shown first; by
        default the first recording alone, its first layer and its last epoch with maps.
    - `images`: the number of images of each run, where `recordings` are runs of the study, which version 0.1
        took; `study.explore(runs, images=...)` is its successor. It goes with version 0.3.

    **Raises:** `ValueError` for no recordings, or one without epochs, and for a run, layer, image, measure or
    epoch that is not there (the line names those that are); `TypeError` for other objects than recordings.
    """

    def __init__(
        self,
        recordings: Recording | Sequence[Recording],
        *,
        setting: str = "",
        run: int = 0,
        compare: int | None = None,
        layer: str | None = None,
        image: int = 0,
        measure: str = "entropy",
        stretched: bool = False,
        epoch: int | None = None,
        images: int = 8,
    ) -> None:
        given = list(recordings) if isinstance(recordings, Sequence) else [recordings]
        if not given:
            raise ValueError("there is nothing to explore; give at least one Recording")
        if all(type(each).__module__.startswith("sparsity_lib.study.") for each in given):
            given, setting = sparsity_lib._recordings_of(given, images)  # until version 0.3
        if others := [type(other).__name__ for other in given if not isinstance(other, Recording)]:
            raise TypeError(
                f"recordings are Recording objects, not {others[0]}; study.explore(runs) shows runs"
            )
        if empty := [each.label for each in given if not each.saved]:
            raise ValueError(f"recording {empty[0]!r} has no epoch with maps; Recording.add appends one")
        super().__init__(
            given,
            setting,
            run=run,
            compare=compare,
            layer=layer,
            image=image,
            measure=measure,
            stretched=stretched,
            epoch=epoch,
        )

    def __repr__(self) -> str:
        return f"HeatmapExplorer({'; '.join(recording.label for recording in self._recordings)})"
