"""`rescale_control`: a slider for the scale of one layer, and its effect on entropy and logits."""

import io
from typing import Any

import numpy as np
import torch
from IPython.display import HTML
from matplotlib.figure import Figure
from torch import Tensor, nn

from sparsity_lib import functional
from sparsity_lib._viridis import VIRIDIS
from sparsity_lib.explorer.page import page
from sparsity_lib.explorer.payload import base64_of, packed, packed_images
from sparsity_lib.explorer.still import Still
from sparsity_lib.study.errors import StudyError
from sparsity_lib.study.explorers.recordings import run_labels
from sparsity_lib.study.runs.file import Run, load
from sparsity_lib.study.runs.networks import trained_network
from sparsity_lib.study.runs.results import published_runs
from sparsity_lib.study.training.observation import layer_outputs

LAYER, NEXT = "conv4", "fc1"
FOLLOWING = (nn.ReLU, nn.MaxPool2d, nn.Flatten, nn.Linear, nn.ReLU, nn.Linear)  # what the page computes
IMAGES = 2
FACTORS = (0.25, 1.0, 4.0)  # of the still picture
SENTENCE = "A still picture. Where scripts run, a slider sets the factor."


def rescale_control(run: Run | None = None) -> HTML:
    """A slider that multiplies conv4's activations by a factor c and divides fc1's weights by c.

    ```python
    study.rescale_control()
    ```

    For two images it shows the map of conv4's entropy, its mean, its mean at unit variance, and the class
    probabilities. The page computes all of them at each factor, from stored activations, of 16 bits, and
    the weights of fc1 and fc2, rounded to 8 bits: entropies change, logits do not (Dinh et al. 2017,
    arXiv 1703.04933).

    **Arguments:**

    - `run`: a run of vanillaNet, or of another network whose conv4 is followed by ReLU, 2 x 2 max-pooling
        and two dense layers; by default the published run of vanillaNet.

    **Raises:** `StudyError` where the run's network was not kept, or is another one.
    """
    run = run or _published()
    model, prepare = trained_network(run)
    lowest, _ = trained_network(run, "lowest_loss")
    modules = dict(model.named_children())
    following = list(modules.values())[list(modules).index(LAYER) + 1 :] if LAYER in modules else []
    if [type(module) for module in following] != list(FOLLOWING):
        raise StudyError(
            f"{run.id}: the control shows networks whose {LAYER} is followed by two dense layers"
        )
    images = run.root["images"].to_numpy()[:IMAGES]
    inputs = prepare(torch.from_numpy(images).movedim(-1, 1))
    outputs, at_lowest = (layer_outputs(network, [LAYER], inputs)[LAYER] for network in (model, lowest))
    (label,), setting = run_labels([run.experiment])
    _, channels, height, width = outputs.shape
    top = outputs.abs().max().item()
    words = (outputs.movedim(1, -1) * (32767 / top)).round().numpy().astype("<i2")
    labels = run.root["image_label"].to_numpy()[:IMAGES]
    captions = [f"class {run.classes[index]}" for index in labels]
    data = {
        "label": f"{label}, {setting}",
        "layer": LAYER,
        "next": NEXT,
        "channels": channels,
        "height": height,
        "width": width,
        "images": packed_images(images, captions),
        "activations": {"top": top, "words": packed(words)},
        "linears": [_linear(module) for module in following if isinstance(module, nn.Linear)],
        "classes": run.classes,
        "lowest": round((at_lowest.std() / outputs.std()).item(), 4),
        "colours": base64_of(VIRIDIS),
    }
    still = _still(images[0], outputs[0], f"{label}, image 1, {captions[0]}")
    return HTML(page({"data": data, "exponent": 0}, still, SENTENCE, ["rescale.js"]))


def _published() -> Run:
    for path in published_runs("registered"):
        if (run := load(path)).experiment.network == "vanillaNet":
            return run
    raise StudyError("no run of vanillaNet is published in 'registered'; give rescale_control a run")


def _linear(layer: nn.Linear) -> dict[str, Any]:
    """A dense layer with its weights in signed bytes, with a step for each output."""
    weight = layer.weight.detach()
    steps = weight.abs().amax(1, keepdim=True) / 127
    return {
        "outputs": layer.out_features,
        "inputs": layer.in_features,
        "levels": packed((weight / steps).round().numpy().astype("int8")),
        "steps": [float(f"{step:.6g}") for step in steps.flatten().tolist()],
        "bias": [float(f"{value:.6g}") for value in layer.bias.tolist()],
    }


def _still(image: np.ndarray, output: Tensor, what: str) -> Still:
    """The image and the map of its output, (D, y, x), at each of FACTORS."""
    maps = [functional.rfav_entropy(factor * output[None]).numpy()[0] for factor in FACTORS]
    most = np.log(len(output))
    figure = Figure(figsize=(7.4, 2.1), dpi=100, layout="compressed", facecolor="white")
    axes = figure.subplots(1, 1 + len(FACTORS))
    axes[0].imshow(image.squeeze(), cmap="gray", vmin=0, vmax=255)
    axes[0].set_title("image", fontsize=10)
    for axis, factor, entropies in zip(axes[1:], FACTORS, maps, strict=True):
        axis.imshow(entropies, cmap="viridis", vmin=0, vmax=most)
        axis.set_title(f"{LAYER} × {factor:g}: {entropies.mean():.2f} nats", fontsize=10)
    for axis in axes:
        axis.set_axis_off()
    png = io.BytesIO()
    figure.savefig(png, format="png", metadata={"Software": None})
    means = ", ".join(
        f"{entropies.mean():.2f} at × {factor:g}" for factor, entropies in zip(FACTORS, maps, strict=True)
    )
    described = (
        f"{what}: maps of the entropy of {LAYER} with its activations multiplied by a factor and the weights "
        f"of {NEXT} divided by it, in colours from 0 to {most:.2f} nats. Means are {means}. The network's "
        "logits are the same at each."
    )
    return Still(png.getvalue(), described)
