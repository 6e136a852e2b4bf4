"""Schemes of the networks and of the measure: counterparts of TSR's Figures 1 and 2, and its Table 1."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Patch, Rectangle
from torch import Tensor, nn

from sparsity_lib import functional
from sparsity_lib.models import WIDTHS
from sparsity_lib.study import paper
from sparsity_lib.study.errors import StudyError
from sparsity_lib.study.experiment import Experiment
from sparsity_lib.study.figures.data import record, record_map
from sparsity_lib.study.figures.panels import first_of, grid, no_runs
from sparsity_lib.study.figures.style import WIDTH, figure
from sparsity_lib.study.recipes import LAYERS
from sparsity_lib.study.runs.file import Run
from sparsity_lib.study.runs.networks import initial_network
from sparsity_lib.study.runs.results import label
from sparsity_lib.study.training.preparation import untrained
from sparsity_lib.study.training.random_streams import random_stream

# Kinds of modules: name in the legend, colour, and a block's width.
_KINDS: dict[type[nn.Module], tuple[str, str, float]] = {
    nn.Conv2d: ("convolution", "#9ECAE1", 1.0),
    nn.BatchNorm2d: ("batch normalisation", "#A1D99B", 0.8),
    nn.ReLU: ("ReLU", "#BDBDBD", 0.22),
    nn.MaxPool2d: ("max-pooling", "#FDAE6B", 0.8),
    nn.Dropout: ("dropout", "#FDD0A2", 0.8),
    nn.Linear: ("dense", "#BCBDDC", 1.0),
}
_INPUT, _OTHER = ("input", "#FFFFFF", 1.0), ("other", "#F0F0F0", 0.8)
_RED = "#D62728"
_BOX: dict[str, Any] = {"fill": False, "edgecolor": _RED, "linewidth": 1.8}


@figure
def architectures(runs: Run | Sequence[Run | Experiment]) -> Figure:
    """TSR's Figure 2: the networks as they are built, one row each, with the shapes of their outputs.

    A red frame marks the layers on which a penalty acts. An experiment needs no run; its data are loaded.
    """
    chosen = [runs] if isinstance(runs, Run) else list(runs)
    if not chosen:
        return no_runs()
    rows = [_blocks(run) for run in chosen]
    gap = 0.18
    longest = max(sum(width + gap for _, (*_, width), _ in row) for row in rows)
    experiments = [run if isinstance(run, Experiment) else run.experiment for run in chosen]
    fig, axes = grid(len(rows), 1, 0.5 + 1.75 * len(rows))
    for ax, experiment, row in zip(axes.flat, experiments, rows, strict=True):
        x, penalised = 0.0, {name for layers in experiment.strengths().values() for name in layers}
        for name, (_, color, width), shape in row:
            frame = (_RED, 2.4) if name in penalised else ("0.35", 0.8)
            ax.add_patch(Rectangle((x, 0), width, 1, facecolor=color, edgecolor=frame[0], linewidth=frame[1]))
            if width > 0.5:
                ax.text(x + width / 2, 0.5, name, rotation=90, ha="center", va="center", fontsize=9)
                ax.text(x + width / 2, -0.06, _shape(shape), ha="center", va="top", fontsize=7.5)
            x += width + gap
        ax.set(xlim=(-0.1, longest), ylim=(-0.42, 1.05))
        ax.set_title(f"{label(experiment)}, {experiment.size}", loc="left")
        ax.axis("off")
    kinds = dict.fromkeys(kind for row in rows for _, kind, _ in row)
    handles = [Patch(facecolor=color, edgecolor="0.35", label=name) for name, color, _ in kinds]
    if any(layers for experiment in experiments for layers in experiment.strengths().values()):
        handles.append(Patch(facecolor="white", edgecolor=_RED, linewidth=2, label="under a penalty"))
    fig.legend(handles=handles, loc="outside lower left", ncols=5, columnspacing=1.2, handlelength=1.2)
    return fig


def _shape(shape: tuple[int, ...]) -> str:
    channels, *spatial = shape
    return "\n".join([str(channels), " × ".join(map(str, spatial))])


def _blocks(run: Run | Experiment) -> list[tuple[str, tuple[str, str, float], tuple[int, ...]]]:
    """The modules in the order in which they run: name, kind in `_KINDS`, shape of the output."""
    if isinstance(run, Experiment):
        loaded, model = untrained(run)
        model, images = model.eval(), loaded.monitor.images
    else:
        model, images = _before_training(run)
    blocks = [("image", _INPUT, tuple(images.shape[1:]))]

    def note(name: str, module: nn.Module, _: object, output: Tensor) -> None:
        blocks.append((name, _KINDS.get(type(module), _OTHER), tuple(output.shape[1:])))

    for name, module in model.named_modules():
        if not list(module.children()) and not isinstance(module, nn.Flatten):
            module.register_forward_hook(partial(note, name))
    with torch.no_grad():
        model(images[:1] / 255)
    return blocks


def _before_training(run: Run) -> tuple[nn.Module, Tensor]:
    """The run's network with its initial weights, and the run's images, (N, C, H, W) uint8."""
    images = torch.from_numpy(run.root["images"].to_numpy()).permute(0, 3, 1, 2)
    return initial_network(run, random_stream(run.experiment.seed, "initialisation")).eval(), images


@figure
def receptive_field(runs: Run | Sequence[Run], layer: str = "conv3") -> Figure:
    """TSR's Figure 1: an image, one proximate receptive field, the activations, and the map of entropies.

    The position has the layer's lowest entropy for the run's first image after training. Input and
    activations are from the network before training, rebuilt from the run's seed, as a run keeps maps and not
    weights. The first of several runs is drawn; without runs, a line of text.

    Raises `StudyError` for a layer that the run does not keep, a layer that is no convolution, and inputs
    that are scaled otherwise than to [0, 1].
    """
    run = first_of(runs)
    if run is None:
        return no_runs()
    pixels, maps = run.root["images"][0].to_numpy(), run.layer(layer)["heatmap"]
    if run.experiment.input_scaling != "unit":
        raise StudyError(f"run {run.id} has standardised inputs; this figure needs pixels from 0 to 1")
    before, after = (maps.isel(saved_epoch=at, image=0).to_numpy() for at in (0, -1))
    y, x = (int(i) for i in np.unravel_index(int(after.argmin()), after.shape))
    seen, activations, convolution = _input_and_output(run, layer)
    vector, kernel, center = activations[:, y, x], convolution.kernel_size, _center(convolution, y, x)

    fig, axes = plt.subplot_mosaic(
        [["image", "input", "before", "after"], ["vector"] * 4],
        figsize=(WIDTH, 4.4),
        height_ratios=[1.1, 1],
        layout="constrained",
    )
    _map(axes["image"], pixels.squeeze(), "image")
    _map(axes["input"], seen.mean(0).numpy(), f"input of {layer}\n(mean of channels)")
    record_map(axes["image"], "image", pixels)
    record_map(axes["input"], f"input of {layer} (mean of channels)", seen.mean(0))
    scale = pixels.shape[0] / seen.shape[1]
    _box(axes["image"], [scale * (c + 0.5) - 0.5 for c in center], [scale * side for side in kernel])
    _box(axes["input"], center, kernel)
    norm = Normalize(min(before.min(), after.min()), max(before.max(), after.max()))
    last = int(maps["saved_epoch"][-1])
    for name, values, when in (("before", before, "before training"), ("after", after, f"epoch {last}")):
        shown = _map(axes[name], values, f"entropy of {layer},\n{when}", cmap="viridis", norm=norm)
        _box(axes[name], (y, x), (1, 1))
        record_map(axes[name], f"entropy of {layer} (nats)", values, when=when)
    fig.colorbar(shown, ax=axes["after"], label="nats", shrink=0.75)
    axes["vector"].bar(np.arange(1, len(vector) + 1), vector.numpy(), color="#0072B2")
    axes["vector"].axhline(0, color="0.3", linewidth=0.8)
    place = {"when": "before training", "row": y, "column": x}
    record(
        axes["vector"], f"activation of {layer}", **place, filter=np.arange(1, len(vector) + 1), value=vector
    )
    entropy, most = float(functional.rfav_entropy(vector[None])), float(np.log(len(vector)))
    axes["vector"].set_title(
        f"activations of {layer} there, before training: entropy {entropy:.3f} nats, at most {most:.3f}",
        loc="left",
    )
    axes["vector"].set(xlabel="filter", ylabel="activation", xlim=(0.3, len(vector) + 0.7))
    axes["vector"].grid(axis="x", visible=False)
    return fig


def _input_and_output(run: Run, layer: str) -> tuple[Tensor, Tensor, nn.Conv2d]:
    # Input (C, H, W) and output (D, A, B) of the layer for the first image before training, and the layer.
    model, images = _before_training(run)
    module = model.get_submodule(layer)
    if not isinstance(module, nn.Conv2d):
        raise StudyError(f"layer '{layer}' of run {run.id} is no convolution: it has no receptive fields")
    kept: list[Tensor] = []
    module.register_forward_hook(lambda _, inputs, output: kept.extend((inputs[0][0], output[0])))
    with torch.no_grad():
        model(images[:1] / 255)
    return kept[0], kept[1], module


def _center(convolution: nn.Conv2d, *position: int) -> list[float]:
    # Centre of the receptive field of an output position, in the layer's input.
    padding = [0 if convolution.padding == "valid" else (side - 1) / 2 for side in convolution.kernel_size]
    if not isinstance(convolution.padding, str):
        padding = list(convolution.padding)
    sides = zip(position, convolution.stride, padding, convolution.kernel_size, strict=True)
    return [at * stride - pad + (side - 1) / 2 for at, stride, pad, side in sides]


def _map(ax: Axes, values: np.ndarray, title: str, cmap: str = "gray", **style: Any) -> AxesImage:
    ax.set_title(title, fontsize=9.5)
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
    return ax.imshow(values, cmap=cmap, **style)


def _box(ax: Axes, center: Sequence[float], sides: Sequence[float]) -> None:
    # Centre and sides as (y, x), in pixels, cut at the border of the picture.
    lowest, highest = -0.5, np.array(ax.images[0].get_size()) - 0.5
    start, end = (np.clip(np.add(center, np.multiply(sides, half)), lowest, highest) for half in (-0.5, 0.5))
    (y, x), (height, width) = start, end - start
    ax.add_patch(Rectangle((x, y), width, height, **_BOX, clip_on=False))


def widths_table() -> pd.DataFrame:
    """TSR's Table 1: filters and neurons by size, ours and the paper's, and the number of parameters.

    Parameters are counted in vanillaNet for images of 3 x 32 x 32 and 100 classes, as CIFAR-100's.
    """
    rows = []
    for size, ours in WIDTHS.items():
        with torch.device("meta"):  # sizes without numbers
            model = Experiment(dataset="cifar100", size=size).build(3, (32, 32), 100)
        rows.append(
            {"size": size}
            | dict(zip(LAYERS, ours, strict=False))
            | {"in the paper": ", ".join(map(str, paper.WIDTHS[size]))}
            | {"parameters": f"{sum(weight.numel() for weight in model.parameters()):,}"}
        )
    return pd.DataFrame(rows).set_index("size")
