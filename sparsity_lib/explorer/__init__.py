"""The explorer: entropy maps of runs, layer by layer, image by image, epoch by epoch.

`HeatmapExplorer(runs)` is a widget where a kernel runs and a page of its own where none does; one ES module
draws both. It needs the extra `book`.
"""

from collections.abc import Sequence
from typing import Any

try:
    import anywidget
    import traitlets

    from sparsity_lib.explorer.still import still
except ImportError as error:
    raise ImportError(f"HeatmapExplorer needs {error.name}: pip install '.[study,book]' brings it") from None

from sparsity_lib.explorer.page import module, page
from sparsity_lib.explorer.payload import payload
from sparsity_lib.study import Run

__all__ = ["HeatmapExplorer"]

_SHOWN = ("run", "beside", "layer", "image", "measure", "epoch")


class HeatmapExplorer(anywidget.AnyWidget):
    """Entropy maps of runs, with the curves of validation loss and mean entropy under them.

    What is shown is an attribute each, to be read and set, and changes with the page and the page with it:

    - `run`: the run's place in `runs`; `beside`: that of the one shown beside it, or None
    - `layer`: one of the run's layers, by name
    - `image`: the image's place among the run's images
    - `measure`: `"entropy"`, or `"scale_free_entropy"` of the vectors at unit variance
    - `epoch`: one whose maps the run's file keeps; -1 is before training
    - `playing`: whether the epochs are stepped through

    With another run, what it lacks becomes its first layer, its last image, its nearest epoch. Maps of a
    layer have one colour scale in all runs, images and epochs. What a position sees of the image is outlined
    there (`receptive_fields`); the moment of overfitting by validation loss is marked on the curves.

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

    _esm = module()

    data = traitlets.Dict().tag(sync=True)
    run = traitlets.Int().tag(sync=True)
    beside = traitlets.Int(None, allow_none=True).tag(sync=True)
    layer = traitlets.Unicode().tag(sync=True)
    image = traitlets.Int().tag(sync=True)
    measure = traitlets.Unicode("entropy").tag(sync=True)
    epoch = traitlets.Int().tag(sync=True)
    playing = traitlets.Bool().tag(sync=True)

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
        # In this order, as each is checked against those before it; and before the widget opens, so that
        # refusing one leaves nothing behind.
        self.data = payload(self._runs, images)
        shown = {"run": run, "beside": beside, "layer": layer, "image": image, "measure": measure}
        for name, value in (shown | {"epoch": epoch}).items():
            if value is not None:
                setattr(self, name, value)
        super().__init__()

    def __repr__(self) -> str:
        return f"HeatmapExplorer({', '.join(run.id for run in self._runs)})"

    @property
    def _entry(self) -> dict[str, Any]:
        return self.data["runs"][self.run]

    def _there_are(self, name: str) -> Sequence[int | str]:
        """All values that the run shown allows for the trait, None aside."""
        if name in ("run", "beside"):
            return range(len(self._runs))
        if name == "measure":
            return list(self.data["measures"])
        if name == "layer":
            return [layer["name"] for layer in self._entry["layers"]]
        if name == "image":
            return range(len(self.data["images"][self._entry["images"]]["classes"]))
        return self._entry["saved"]

    @traitlets.default("layer")
    def _first_layer(self) -> str:
        return self._entry["layers"][0]["name"]

    @traitlets.default("epoch")
    def _last_epoch(self) -> int:
        return self._entry["saved"][-1]

    @traitlets.validate(*_SHOWN)
    def _exists(self, proposal: traitlets.Bunch) -> Any:
        name, value = proposal.trait.name, proposal.value
        if value is not None and value not in (known := self._there_are(name)):
            raise ValueError(f"there is no {name} {value!r} to show; there are {', '.join(map(str, known))}")
        return value

    @traitlets.observe("run")
    def _settle(self, _: traitlets.Bunch) -> None:
        # as `shown` in data.js does for the page
        if self.layer not in self._there_are("layer"):
            self.layer = self._first_layer()
        self.image = min(self.image, len(self._there_are("image")) - 1)
        self.epoch = min(self._entry["saved"], key=lambda epoch: abs(epoch - self.epoch))

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """The widget for where a kernel runs, and HTML for everywhere else."""
        data, metadata = super()._repr_mimebundle_(**kwargs) or ({}, {})
        return {**data, "text/html": self._html()}, metadata

    def _html(self) -> str:
        entry = self._entry
        layer = next(layer for layer in entry["layers"] if layer["name"] == self.layer)
        class_name = self.data["images"][entry["images"]]["classes"][self.image]
        state = {key: getattr(self, key) for key in ("data", *_SHOWN)}
        picture = still(self._runs[self.run], entry["label"], layer, self.measure, self.image, class_name)
        return page(state | {"playing": False}, picture)  # no page starts to move by itself
