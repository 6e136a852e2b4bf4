"""Runs in TensorBoard: during training, or from their files."""

import contextlib
import math
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sparsity_lib import ActivationMonitor
from sparsity_lib._layers import named_layers
from sparsity_lib._settings import needs
from sparsity_lib.study.errors import StudyError
from sparsity_lib.study.experiment import Experiment
from sparsity_lib.study.runs.contents import channels_of
from sparsity_lib.study.runs.dimensions import BINS, CENTERS, SPLITS
from sparsity_lib.study.runs.file import Run
from sparsity_lib.study.training.loop import MAPS
from sparsity_lib.study.training.preparation import untrained
from sparsity_lib.tensorboard import SCALARS, map_sheet, sheet, write_layer

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

CURVES = {
    "train_loss": "loss/train",
    "val_loss": "loss/validation",
    "train_accuracy": "accuracy/train",
    "val_accuracy": "accuracy/validation",
    "penalty_sparsity": "penalty/sparsity",
    "penalty_variance": "penalty/variance",
    "penalty_scale_free": "penalty/scale_free",
    "penalty_decorrelation": "penalty/decorrelation",
}
_MONITOR, _FILTERS = SPLITS.index("monitor"), CENTERS.index("filters")
_CORRELATIONS = np.linspace(-1, 1, BINS)  # at the centres of the bins


class Board:
    """A run's folder of TensorBoard events: called with each epoch's record, as `train(on_epoch=...)` does.

    Layers as `sparsity_lib.write_to_tensorboard` writes them, on the held-out monitor images; losses,
    accuracies and penalties; and the images that the maps belong to. An epoch that is written again
    replaces those from there on.
    """

    def __init__(self, path: Path, channels: Mapping[str, int], images: np.ndarray) -> None:
        """`channels` by layer, and the `images` of the maps, uint8 `(n, height, width, channels)`."""
        self.path, self.channels, self.images = path, channels, images
        self.writer: SummaryWriter | None = None

    @classmethod
    def of_training(cls, experiment: Experiment, folder: str | Path) -> "Board":
        """A board in `folder/<run's id>` for an experiment that is about to be trained."""
        data, model = untrained(experiment)
        layers = named_layers(model)
        return cls(
            Path(folder) / experiment.id,
            {layer: channels_of(layers[layer]) for layer in ActivationMonitor(model).layers},
            data.monitor.images[:MAPS].permute(0, 2, 3, 1).numpy(),
        )

    def __call__(self, record: Mapping[str, Any]) -> None:
        """Write an epoch; `StudyError` without TensorBoard, or where the folder cannot be written to."""
        epoch = record["epoch"]
        if self.writer is None:
            self.writer = _open(self.path, epoch)
            pictures = np.broadcast_to(self.images, (*self.images.shape[:3], 3))  # grey has one channel
            self.writer.add_image("images", sheet(pictures), epoch, dataformats="HWC")
        for name, tag in CURVES.items():
            if name in record and not math.isnan(record[name]):
                self.writer.add_scalar(tag, float(record[name]), epoch)
        for layer, channels in self.channels.items():
            seen = (name for name in SCALARS if f"{layer}/{name}" in record)
            scalars = {name: float(record[f"{layer}/{name}"][_MONITOR]) for name in seen}
            maps, counts = record.get(f"{layer}/maps"), record.get(f"{layer}/correlation_histogram")
            if maps is not None and not np.isfinite(np.asarray(maps)).all():
                maps = None  # they cannot be drawn; training goes on, or raises an error of its own
            write_layer(
                self.writer,
                layer,
                epoch,
                scalars,
                None if maps is None else map_sheet(layer, np.asarray(maps), channels),
                None if counts is None else np.repeat(_CORRELATIONS, np.asarray(counts[_FILTERS])),
            )
        self.writer.flush()

    def close(self) -> None:
        """Close the file, if one was opened; `StudyError` if the disk fails."""
        if self.writer is not None:
            with writing(self.path):
                self.writer.close()


def export(run: Run, folder: str | Path) -> Path:
    """Write a finished run into `folder/<run's id>`, which is returned; maps are those that its file keeps.

    Raises `StudyError` as a `Board`.
    """
    channels = {layer: int(run.layer(layer).attrs["channels"]) for layer in run.layers}
    board = Board(Path(folder) / run.id, channels, run.root["images"].to_numpy())
    with writing(board.path), contextlib.closing(board):
        for record in _records(run):
            board(record)
    return board.path


@contextlib.contextmanager
def writing(path: str | Path) -> Iterator[None]:
    """Raise `StudyError` for a disk that is full or fails; TensorBoard's thread does not print it."""
    usual = threading.excepthook
    threading.excepthook = lambda raised: None if isinstance(raised.exc_value, OSError) else usual(raised)
    try:
        yield
    except OSError as error:
        raise StudyError(f"cannot write in {path}: {error.strerror}") from None
    finally:
        threading.excepthook = usual


def _records(run: Run) -> Iterator[dict[str, Any]]:
    """Return the records that `train` passes to `on_epoch`, as far as the file keeps them."""
    layers = {layer: run.layer(layer) for layer in run.layers}
    for epoch in run.root["epoch"].to_numpy().tolist():
        here = run.root.sel(epoch=epoch)
        record = {"epoch": epoch} | {name: here[name].to_numpy() for name in CURVES if name in here}
        for layer, observed in layers.items():
            here = observed.sel(epoch=epoch)
            names = (name for name in (*SCALARS, "correlation_histogram") if name in here)
            record |= {f"{layer}/{name}": here[name].to_numpy() for name in names}
            if epoch in observed["saved_epoch"]:
                record[f"{layer}/maps"] = observed["heatmap"].sel(saved_epoch=epoch).to_numpy()
        yield record


def _open(path: Path, epoch: int) -> "SummaryWriter":
    try:
        with needs("study"):
            from torch.utils.tensorboard import SummaryWriter
        return SummaryWriter(path, purge_step=epoch)
    except ImportError as error:
        raise StudyError(str(error)) from None
