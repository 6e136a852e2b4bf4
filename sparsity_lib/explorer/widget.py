"""The widget that all explorers are: what is shown, kept in step with the page, and its HTML."""

import math
from collections.abc import Sequence
from typing import Any

import anywidget
import traitlets

from sparsity_lib.explorer.page import SENTENCE, module, page
from sparsity_lib.explorer.payload import payload
from sparsity_lib.explorer.recording import Recording
from sparsity_lib.explorer.still import still

SHOWN = ("run", "compare", "layer", "image", "measure", "stretched", "epoch")


class NotThereError(ValueError, traitlets.TraitError):
    """There is nothing of that name to show; as a TraitError, so that traitlets take the value back."""


class Explorer(anywidget.AnyWidget):
    """Entropy maps of networks; `waiting` is shown until there are any.

    The attributes of the view are those of `HeatmapExplorer`. Setting one to what does not exist raises
    `NotThereError`, a `ValueError`, whose line names what does.
    """

    _esm = module()
    _sentence = SENTENCE  # under the still picture

    data = traitlets.Dict().tag(sync=True)
    run = traitlets.Int().tag(sync=True)
    compare = traitlets.Int(None, allow_none=True).tag(sync=True)
    layer = traitlets.Unicode().tag(sync=True)
    image = traitlets.Int().tag(sync=True)
    measure = traitlets.Unicode("entropy").tag(sync=True)
    stretched = traitlets.Bool().tag(sync=True)
    epoch = traitlets.Int().tag(sync=True)
    playing = traitlets.Bool().tag(sync=True)

    def __init__(
        self, recordings: Sequence[Recording] = (), setting: str = "", waiting: str = "", **shown: Any
    ) -> None:
        self._explore(recordings, setting, waiting)
        # In SHOWN's order, as each is checked against those before it; and before the widget opens, so that
        # refusing one leaves nothing behind.
        for name in SHOWN:
            if shown.get(name) is not None:
                setattr(self, name, shown[name])
        super().__init__()

    def _explore(self, recordings: Sequence[Recording], setting: str, waiting: str = "") -> None:
        """Show these from now on."""
        self._recordings = recordings
        self.data = payload(recordings, setting, waiting)

    @property
    def _entry(self) -> dict[str, Any]:
        return self.data["runs"][self.run]

    def _there_are(self, name: str) -> Sequence[int | str]:
        """All values that the run shown allows for the trait, None aside."""
        if not self.data["runs"]:
            return []
        if name == "run":
            return range(len(self.data["runs"]))
        if name == "compare":  # maps of different images cannot be compared
            return [i for i, run in enumerate(self.data["runs"]) if run["images"] == self._entry["images"]]
        if name == "stretched":
            return [False, True]
        if name == "measure":
            return list(self.data["measures"])
        if name == "layer":
            return [layer["name"] for layer in self._entry["layers"]]
        if name == "image":
            return range(len(self.data["images"][self._entry["images"]]["captions"]))
        return self._entry["saved"]

    @traitlets.default("layer")
    def _first_layer(self) -> str:
        return self._entry["layers"][0]["name"] if self.data["runs"] else ""

    @traitlets.default("epoch")
    def _last_epoch(self) -> int:
        return self._entry["saved"][-1] if self.data["runs"] else -1

    @traitlets.validate(*SHOWN)
    def _exists(self, proposal: traitlets.Bunch) -> Any:
        return self._accepted(proposal.trait.name, proposal.value)

    def _accepted(self, name: str, value: Any) -> Any:
        """The value as the trait takes it."""
        if value is not None and value not in (known := self._there_are(name)):
            there_are = f"there are {', '.join(map(str, known))}" if known else "there is nothing yet"
            raise NotThereError(f"there is no {name} {value!r} to show; {there_are}")
        return value

    @traitlets.observe("run")
    def _settle(self, _: traitlets.Bunch) -> None:
        # as `shown` in data.js does for the page
        if self.compare not in self._there_are("compare"):
            self.compare = None
        if self.layer not in self._there_are("layer"):
            self.layer = self._first_layer()
        self.image = min(self.image, len(self._there_are("image")) - 1)
        self.epoch = self._nearest(self.epoch)

    def _nearest(self, epoch: int) -> int:
        """The one nearest to it of the epochs with maps."""
        return min(self._entry["saved"], key=lambda other: abs(other - epoch))

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """The widget for where a kernel runs, and HTML for everywhere else."""
        data, metadata = super()._repr_mimebundle_(**kwargs) or ({}, {})
        return {**data, "text/html": self.as_html()}, metadata

    def as_html(self) -> str:
        """The explorer as a part of a page that needs no other file, as it is shown now; "" without maps."""
        if not self.data["runs"]:
            return ""
        layer = next(layer for layer in self._entry["layers"] if layer["name"] == self.layer)
        whole = (0, math.log(layer["channels"]) or 0.01)
        scale = layer["scales"][self.measure] if self.stretched else whole
        picture = still(self._recordings[self.run], self.layer, self.measure, self.image, scale)
        state = {key: getattr(self, key) for key in ("data", *SHOWN)}
        return page(state | {"playing": False}, picture, self._sentence)  # no page starts to move by itself
