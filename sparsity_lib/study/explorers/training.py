"""TrainingExplorer: maps and curves of a training in progress."""

import time
from typing import Any

import numpy as np
from torch import Tensor

from sparsity_lib._layers import named_layers
from sparsity_lib.explorer.recording import MEASURES, RecordedLayer, Recording, known_fields
from sparsity_lib.explorer.widget import Explorer
from sparsity_lib.monitor import ActivationMonitor
from sparsity_lib.study.data import Split
from sparsity_lib.study.experiment import Experiment
from sparsity_lib.study.explorers.recordings import run_labels
from sparsity_lib.study.runs.contents import channels_of, is_saved
from sparsity_lib.study.runs.dimensions import MAPS
from sparsity_lib.study.training.loop import MAPS as IMAGES
from sparsity_lib.study.training.loop import EpochRecord
from sparsity_lib.study.training.preparation import untrained

REST = 19  # pause after a redrawing, in durations of it: redrawing takes at most a twentieth of the time


class TrainingExplorer(Explorer):
    """Entropy maps and curves of a training, which grow while it runs.

    ```python
    explorer = study.TrainingExplorer(experiment)  # shown by a cell's last line; waits for the first epoch
    run = study.train(experiment, on_epoch=explorer.on_epoch)  # in the next cell
    ```

    A view of the last epoch moves on to each new one; a view of another epoch stays there. Maps are shown
    of the epochs that a run's file keeps, and of the last epoch. Epochs before a training was resumed are
    not shown. A finished training shows nothing here, as `study.train` only loads it; `study.explore(run)`
    shows it, with its moment of overfitting.

    The view has the attributes of `HeatmapExplorer`; none can be set before the first epoch.

    **Arguments:**

    - `experiment`: what is trained.
    - `every_seconds`: the shortest time between two redrawings; the first and the last epoch are always
        drawn.

    **Raises:** `StudyError` where the experiment's data are missing, or its network cannot be built.
    """

    def __init__(self, experiment: Experiment, *, every_seconds: float = 1.0) -> None:
        loaded, model = untrained(experiment)
        self._experiment, self._every_seconds = experiment, every_seconds
        self._images = Split(loaded.monitor.images[:IMAGES], loaded.monitor.labels[:IMAGES])
        self._classes = list(loaded.classes)
        _, channels, height, width = self._images.images.shape
        modules = named_layers(model)
        self._layers = {name: channels_of(modules[name]) for name in ActivationMonitor(model).layers}
        self._fields = known_fields(model, (channels, height, width))
        self._records: dict[int, dict[str, Tensor]] = {}
        self._due = 0.0  # on the clock of time.monotonic
        super().__init__(waiting="Waiting for the first epoch.")

    def __repr__(self) -> str:
        return f"TrainingExplorer({self._experiment.id})"

    def on_epoch(self, record: EpochRecord) -> None:
        """Add the observations of an epoch; `study.train` calls it."""
        self._remember(record)
        last = record["epoch"] == self._experiment.epochs - 1
        if last or len(self._records) == 1 or time.monotonic() >= self._due:
            start = time.monotonic()
            self._redraw()
            now = time.monotonic()
            self._due = now + max(self._every_seconds, REST * (now - start))

    def _remember(self, record: EpochRecord) -> None:
        """Keep the record, and earlier records without a gap before it: a training may start again."""
        epoch = int(record["epoch"])
        observed = {
            name: value
            for name, value in record.items()
            if isinstance(value, Tensor) and not name.startswith("val_image_")  # large, and not drawn
        }
        before = {}
        if epoch - 1 in self._records:
            before = {each: kept for each, kept in self._records.items() if each < epoch}
            if not is_saved(epoch - 1):
                before[epoch - 1] = {n: v for n, v in before[epoch - 1].items() if not n.endswith(MAPS)}
        self._records = before | {epoch: observed}

    def _redraw(self) -> None:
        begins = not self.data["runs"]
        at_end = begins or self.epoch == self._entry["saved"][-1]
        (label,), setting = run_labels([self._experiment])
        with self.hold_sync():
            self._explore([self._recording(label)], setting)
            if begins:
                self.layer = self._first_layer()
        epoch = self._last_epoch() if at_end else self._nearest(self.epoch)
        # Not sent: the page moves on by itself, since its reader may have moved while this process trained.
        with self._lock_property(epoch=epoch):
            self.epoch = epoch

    def _recording(self, label: str) -> Recording:
        records, first = list(self._records.values()), next(iter(self._layers))
        saved = [epoch for epoch, record in self._records.items() if f"{first}/maps" in record]
        return Recording(
            images=self._images.images.movedim(1, -1).numpy(),
            label=label,
            captions=[f"class {self._classes[index]}" for index in self._images.labels.tolist()],
            fields=self._fields,
            layers={
                layer: RecordedLayer(
                    channels=channels,
                    maps={
                        measure: np.stack([_map(self._records[epoch][f"{layer}/{maps}"]) for epoch in saved])
                        for measure, maps in MEASURES.items()
                    },
                    means={
                        measure: np.array([float(record[f"{layer}/{measure}"][0]) for record in records])
                        for measure in MEASURES
                    },
                )
                for layer, channels in self._layers.items()
            },
            epochs=list(self._records),
            saved=saved,
            loss=np.array([float(record["val_loss"]) for record in records]),
        )

    def _accepted(self, name: str, value: Any) -> Any:
        # The page may request an epoch that was the last one while this process was busy.
        if name == "epoch" and value in self._records:
            return self._nearest(value)
        return super()._accepted(name, value)


def _map(values: Tensor) -> np.ndarray:
    """Entropies (image, y, x) of (image, *spatial)."""
    return values.reshape(len(values), *(values.shape[1:] if values.dim() == 3 else (-1, 1))).numpy()
